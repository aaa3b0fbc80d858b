"""RFAD: images for ridge regression with a ConvNet's kernel, which random networks approximate anew in every step."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

import ddbench
from ddbench_plugins.matching.options import PRECISIONS, PixelOptions
from ddbench_plugins.methods.selection import ipc_of
from ddbench_plugins.training.recipe import refuse_unused
from ddbench_plugins.training.whitening import whitening_steps

if TYPE_CHECKING:
    from torch import Tensor

    from ddbench_plugins.matching.optimise import Matching


class RfadOptions(PixelOptions):
    """Options of RFAD; the defaults are those of the released code."""

    iterations: int = Field(100_000, ge=1, description="steps of the images, at most")
    networks: int = Field(8, ge=1, description="random networks, new ones in every step")
    depth: int = Field(3, ge=1, description="blocks of a random network")
    width: int = Field(256, ge=1, description="channels of a random network")
    batch_real: int = Field(5120, ge=1, description="training images per step; all where there are fewer")
    lr_img: float = Field(1e-3, gt=0, description="learning rate of pixels and labels (AdaBelief)")
    lr_transform: float = Field(
        5e-5, ge=0, description="that of a matrix, the same for all images, by which they are multiplied; 0 for none"
    )
    lr_scale: float = Field(1e-2, gt=0, description="that of the logarithm of what makes predictions logits")
    ridge: float = Field(5e-3, ge=0, description="λ, relative to the mean of the kernel's diagonal")
    loss: Literal["platt", "mse"] = Field(
        "platt", description="cross-entropy of scaled predictions, or half their mean squared error"
    )
    learn_labels: bool = Field(False, description="learn the labels, too, as real numbers")
    init: Literal["real", "noise"] = Field("real", description="what the images begin as: training images or N(0, 1)")
    check: int = Field(
        40,
        ge=0,
        description="steps between two tests on held-out training images, the best of which counts; 0 for the last set",
    )
    patience: int = Field(1000, ge=1, description="steps without a better test that end the run")
    validation_networks: int = Field(16, ge=1, description="random networks of every test, always the same")
    validation_images: int | None = Field(
        None, ge=1, description="held-out images per class; 500, or 100 from 100 classes on, when none"
    )
    holdout: bool = Field(True, description="held-out images are in no training batch; in the released code they are")


class RFAD(ddbench.Distiller):
    """Random feature approximation for distillation."""

    Options = RfadOptions
    presets = "rfad.toml"
    precisions = PRECISIONS

    def holds(self, ctx: ddbench.Context) -> tuple[str, ...]:
        """Return that labels are learned, where they are."""
        return ("soft_labels", "centred") if ctx.options.learn_labels else ()

    def check(self, ctx: ddbench.Context) -> None:
        """Refuse images that are too small, and options that change nothing because of others."""
        from ddbench_plugins.kernels.images import check_depth

        options: RfadOptions = ctx.options
        check_depth(options.depth, ctx.dataset.image_size)
        if not options.check:
            unused = ("patience", "validation_networks", "validation_images", "holdout")
            refuse_unused(ctx, unused, "Without tests (check=0) no image is held out")
        if options.loss == "mse":
            refuse_unused(ctx, ("lr_scale",), "Predictions are not scaled with loss=mse")

    def needs(self, ctx: ddbench.Context) -> list[ddbench.StepCall]:
        """Return the step that whitens, where that is asked for."""
        return whitening_steps(ctx)

    def work(self, ctx: ddbench.Context) -> float:
        """Images that go through a network."""
        options: RfadOptions = ctx.options
        images = ctx.dataset.num_classes * (ctx.ipc or 1)
        return options.iterations * options.networks * (options.batch_real + 3 * images)

    def distill(self, ctx: ddbench.Context) -> ddbench.DistilledSet:
        """Return ``ctx.ipc`` optimised images per class, normalised and not clamped, with their labels if learned."""
        import torch

        from ddbench_plugins.kernels.random_features import RandomConvNets
        from ddbench_plugins.matching.images import RealImages, initial_images
        from ddbench_plugins.matching.optimise import optimise
        from ddbench_plugins.methods.rfad.regression import RandomFeatureRegression, Settings
        from ddbench_plugins.methods.rfad.support import Rates, TransformedSupport
        from ddbench_plugins.methods.rfad.validation import Validated
        from ddbench_plugins.training.recipe import from_options

        options: RfadOptions = ctx.options
        networks = RandomConvNets(options.networks, options.depth, options.width)
        ipc, real, labels = ipc_of(ctx), RealImages.of(ctx), torch.tensor(ctx.dataset.train.labels)
        support = TransformedSupport(
            initial_images(real, ipc, options.init, ctx.seed("rfad init")),
            ipc,
            from_options(Rates, options),
            learn_labels=options.learn_labels,
        )
        held_out = held_out_places(ctx)
        places = torch.arange(len(labels))
        if options.holdout and options.check:
            places = places[~torch.isin(places, held_out)]
        settings = from_options(Settings, options, precision=ctx.machine.precision, seed=ctx.seed("rfad steps"))
        work = RandomFeatureRegression(support, real, labels, places, networks, settings)
        validated: Matching = work
        if options.check:
            fixed = replace(networks, count=options.validation_networks)
            drawn = fixed.draw(real.shape[0], real.device, ctx.seed("rfad validation"))
            validated = Validated(work, held_out, drawn, options.check, options.patience)
        return optimise(ctx, "random feature regression", validated, support, iterations=options.iterations)


def held_out_places(ctx: ddbench.Context) -> Tensor:
    """Return the positions of the held-out training images: of every class the same number, at most a half of it."""
    import torch

    from ddbench_plugins.training.seeding import make_generator

    data, options = ctx.dataset, ctx.options
    count = options.validation_images or (100 if data.num_classes >= 100 else 500)
    generator = make_generator(ctx.seed("rfad held out"))
    found = []
    for label in range(data.num_classes):
        members = torch.from_numpy(data.train.of_class(label))
        found.append(members[torch.randperm(len(members), generator=generator)[: min(count, len(members) // 2)]])
    if options.check and not all(map(len, found)):
        raise ddbench.UsageError(
            "To hold some out for tests, at least two training images of a class are needed.",
            hint="Go without tests: -o method.check=0.",
        )
    return torch.cat(found)
