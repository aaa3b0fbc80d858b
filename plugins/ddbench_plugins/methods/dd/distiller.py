"""DD and SLDD: images, in an order and with a step size for each step, on which a network is trained in no time."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

import ddbench
from ddbench_plugins.matching.options import PixelOptions
from ddbench_plugins.methods.selection import ipc_of
from ddbench_plugins.training.whitening import whitening_steps

if TYPE_CHECKING:
    from torch import Tensor

    from ddbench_plugins.methods.dd.steps import OrderedImages, Plan

#: Batches that DD divides its images into, if it can.
BATCHES = 10


class DdOptions(PixelOptions):
    """Options of DD; the defaults are those of the released code, for MNIST."""

    network: str = Field(
        "lenet",
        description="network that is trained on the images",
        json_schema_extra={"names": "network", "fresh": True},
    )
    initial: Literal["random", "fixed"] = Field(
        "random", description="the initial weights: new ones in every iteration, or always the same"
    )
    iterations: int = Field(23_600, ge=1, description="steps of the images; 400 epochs of MNIST")
    batches: int | None = Field(
        None, ge=1, description="that the images of a class are divided into; at most ten, by IPC, when none"
    )
    passes: int = Field(3, ge=1, description="over all batches")
    lr_net: float = Field(0.02, gt=0, description="step size that all steps begin with")
    lr_img: float = Field(0.01, gt=0, description="learning rate of pixels, step sizes and labels (Adam)")
    decay: float = Field(0.5, gt=0, le=1, description="factor of that learning rate")
    decay_every: int = Field(2360, ge=1, description="iterations between two decays; 40 epochs of MNIST")
    decay_early: int = Field(
        0, ge=0, description="iterations by which decays come early; an epoch in the released code"
    )
    batch_real: int = Field(1024, ge=1, description="training images per iteration; all where there are fewer")
    augment: bool = Field(False, description="training images are shifted by up to four pixels and mirrored")
    shuffle_steps: bool = Field(False, description="batches in another order in every pass and iteration")


class SlddOptions(DdOptions):
    """Options of SLDD."""

    learn_labels: bool = Field(True, description="learn the labels, too, as real numbers")
    label_softmax: bool = Field(False, description="labels are the softmax of what is learned")
    label_init: Literal["one-hot", "zeros", "uniform", "normal", "smoothed"] = Field(
        "one-hot", description="what labels begin as; smoothed: 0.9 and 0.1 shared by the other classes"
    )
    classes: tuple[int, ...] | None = Field(
        None, description="classes that images begin as, one image of each per batch; all when none"
    )
    freeze_data: bool = Field(False, description="leave the pixels as they begin")

    @model_validator(mode="after")
    def _labels_are_learned_or_of_classes(self) -> Self:
        if not self.learn_labels and (self.label_init != "one-hot" or self.label_softmax):
            raise ValueError("label_init and label_softmax are of labels that are learned, and learn_labels is false")
        return self


class DD(ddbench.Distiller):
    """Dataset distillation."""

    Options: ClassVar[type[DdOptions]] = DdOptions
    presets: ClassVar[tuple[str, ...]] = ("dd.toml",)

    def holds(self, ctx: ddbench.Context) -> tuple[str, ...]:
        """Return that steps are in an order."""
        return ("schedule",)

    def check(self, ctx: ddbench.Context) -> None:
        """Refuse classes that there are not, images that batches cannot share equally, and networks with batch norm."""
        self.classes(ctx)
        self._batches(ctx)
        if "network" in ctx.resolved.explicit:  # those of presets fit, and need no torch to be built
            from ddbench_plugins.methods.mtt.experts import flat_network

            flat_network(ctx, ctx.options.network)

    def needs(self, ctx: ddbench.Context) -> list[ddbench.StepCall]:
        """Return the step that whitens, where that is asked for."""
        return whitening_steps(ctx)

    def work(self, ctx: ddbench.Context) -> float:
        """Images that go through a network."""
        options: DdOptions = ctx.options
        images = ctx.dataset.num_classes * (ctx.ipc or 1)
        return options.iterations * (options.batch_real + 4 * options.passes * images)

    def distill(self, ctx: ddbench.Context) -> ddbench.DistilledSet:
        """Return the images, normalised and not clamped, with the schedule of their steps."""
        import torch

        from ddbench_plugins.matching.images import RealImages
        from ddbench_plugins.matching.optimise import optimise
        from ddbench_plugins.methods.dd.steps import Distillation, Plan, Settings
        from ddbench_plugins.training.recipe import from_options
        from ddbench_plugins.training.replay import begun

        options: DdOptions = ctx.options
        data, fixed = ctx.dataset, ctx.seed("dd network")
        classes = self.classes(ctx)
        per_class = ipc_of(ctx)
        count = self._batches(ctx)
        labels = torch.tensor(classes).repeat_interleave(per_class)
        part = per_class // count
        batches = tuple(
            tuple(place for place in range(len(labels)) if place % per_class // part == batch) for batch in range(count)
        )
        seed = fixed if options.initial == "fixed" else None
        plan = Plan(batches, options.passes, options.lr_net, options.network, seed)
        real = RealImages.of(ctx)
        images = self.images(ctx, labels.to(real.device), plan, real.shape)

        def networks(number: int) -> torch.nn.Module:
            made: torch.nn.Module = begun(ctx, plan.schedule, ctx.seed("dd network", number + 1))
            return made

        settings = from_options(Settings, options, mirrored=data.flip, seed=ctx.seed("dd steps"))
        work = Distillation(images, real, torch.tensor(data.train.labels), networks, settings)
        return optimise(ctx, "distilling steps", work, images, iterations=options.iterations)

    @staticmethod
    def _batches(ctx: ddbench.Context) -> int:
        per_class = ipc_of(ctx)
        count: int = ctx.options.batches or max(n for n in range(1, BATCHES + 1) if per_class % n == 0)
        if per_class % count:
            raise ddbench.UsageError(
                f"{per_class} images per class cannot be divided into {count} batches.", hint="-o method.batches=…"
            )
        return count

    def classes(self, ctx: ddbench.Context) -> list[int]:
        """Return the classes that there are images of."""
        return list(range(ctx.dataset.num_classes))

    def images(self, ctx: ddbench.Context, labels: Tensor, plan: Plan, shape: tuple[int, int, int]) -> OrderedImages:
        """Return images of these labels, from noise."""
        import torch.nn.functional as F

        from ddbench_plugins.methods.dd.steps import OrderedImages

        targets = F.one_hot(labels, ctx.dataset.num_classes).float()
        return OrderedImages(noise(ctx, labels, shape), labels, targets, plan, ctx.options.lr_img)


class SLDD(DD):
    """Soft-label dataset distillation: the labels are learned as well, and there may be fewer images than classes."""

    Options = SlddOptions
    presets = ("dd.toml", "sldd.toml")

    def holds(self, ctx: ddbench.Context) -> tuple[str, ...]:
        """Return that steps are in an order, and what labels are where they are learned."""
        options: SlddOptions = ctx.options
        learned = ("soft_labels", *(() if options.label_softmax else ("free",))) if options.learn_labels else ()
        return (*super().holds(ctx), *learned)

    def classes(self, ctx: ddbench.Context) -> list[int]:
        """Return the classes that images begin as."""
        options: SlddOptions = ctx.options
        every = super().classes(ctx)
        chosen = every if options.classes is None else sorted(options.classes)
        if not chosen or not set(chosen) <= set(every) or len(set(chosen)) < len(chosen):
            raise ddbench.UsageError(
                f"Images cannot begin as the classes {list(options.classes or ())}.",
                hint=f"Name some of 0 to {every[-1]}, each once.",
            )
        return chosen

    def images(self, ctx: ddbench.Context, labels: Tensor, plan: Plan, shape: tuple[int, int, int]) -> OrderedImages:
        """Return images with learned labels."""
        from ddbench_plugins.methods.dd.steps import OrderedImages

        options: SlddOptions = ctx.options
        return OrderedImages(
            noise(ctx, labels, shape),
            labels,
            begun_labels(options.label_init, labels, ctx.dataset.num_classes, ctx.seed("dd labels")),
            plan,
            options.lr_img,
            frozen=options.freeze_data,
            soft=options.learn_labels,
            activated=options.learn_labels and options.label_softmax,
            counted="images" if options.classes is None else "numbers",
        )


def noise(ctx: ddbench.Context, labels: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Return images of N(0, 1), one for each label."""
    import torch

    from ddbench_plugins.training.seeding import make_generator

    drawn = torch.randn((len(labels), *shape), generator=make_generator(ctx.seed("dd init")))
    return drawn.to(labels.device)


def begun_labels(init: str, labels: Tensor, classes: int, seed: int) -> Tensor:
    """Return what learned labels [N, K] begin as."""
    import torch
    import torch.nn.functional as F

    from ddbench_plugins.training.seeding import make_generator

    generator, shape = make_generator(seed), (len(labels), classes)
    match init:
        case "zeros":
            drawn = torch.zeros(shape)
        case "uniform":
            drawn = torch.rand(shape, generator=generator)
        case "normal":
            drawn = torch.randn(shape, generator=generator)
        case _:
            drawn = F.one_hot(labels.cpu(), classes).float()
            if init == "smoothed" and classes > 1:
                drawn = 0.1 / (classes - 1) + (0.9 - 0.1 / (classes - 1)) * drawn
    return drawn.to(labels.device)
