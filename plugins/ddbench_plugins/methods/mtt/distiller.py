"""MTT: images on which a few training steps lead where an expert gets in whole epochs on the real ones."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeVar

from pydantic import Field

import ddbench
from ddbench_plugins.matching.options import PRECISIONS, PixelOptions
from ddbench_plugins.methods.selection import ipc_of
from ddbench_plugins.training.recipe import refuse_unused
from ddbench_plugins.training.whitening import whitening_of, whitening_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from torch import Tensor

    from ddbench_plugins.matching.images import RealImages
    from ddbench_plugins.methods.mtt.experts import ExpertRecipe, Experts
    from ddbench_plugins.methods.mtt.matching import ImagesWithRate, Matching
    from ddbench_plugins.methods.mtt.trajectories import FlatNetwork


Images = TypeVar("Images", bound="ImagesWithRate")


class MttOptions(PixelOptions):
    """Options of MTT; the defaults are those of the released code."""

    network: str = Field(
        "convnet-3",
        description="network of experts and synthetic steps; without batch norm",
        json_schema_extra={"names": "network", "fresh": True},
    )
    normalisation: Literal["dataset", "cifar10"] = Field(
        "dataset", description="constants of all inputs; the released code uses CIFAR-10's on CIFAR-100"
    )
    augment: Literal["dsa", "none"] = Field(
        "dsa", description="of experts and synthetic steps: one operation per batch, parameters per image"
    )

    # Experts
    experts: int = Field(100, ge=1, description="networks trained on the real images")
    train_epochs: int = Field(
        50, ge=0, description="epochs of each expert; 0: as many as the latest start and its target need"
    )
    expert_lr: float = Field(0.01, gt=0, description="learning rate of the experts (SGD without momentum or decay)")
    expert_batch: int = Field(256, ge=1, description="images per step of the experts")

    # Matching
    iterations: int = Field(5000, ge=1, description="segments of experts that are matched, one after the other")
    syn_steps: int = Field(20, ge=1, description="steps on the synthetic images per segment (N)")
    expert_epochs: int = Field(3, ge=1, description="epochs of an expert per segment (M)")
    max_start_epoch: int = Field(25, ge=1, description="segments begin before this epoch of an expert")
    batch_syn: int | None = Field(None, ge=1, description="synthetic images per step; all when none")
    lr_img: float = Field(1000.0, gt=0, description="learning rate of the pixels (SGD, momentum 0.5)")
    lr_lr: float = Field(1e-5, ge=0, description="learning rate of the learned learning rate (SGD, momentum 0.5)")
    lr_init: float = Field(0.01, gt=0, description="what the learned learning rate begins as (lr_teacher)")
    gradient: Literal["unrolled", "tesla"] = Field(
        "unrolled",
        description="of the matching loss: through all steps, or as if a step did not depend on those before it"
        " (TESLA); both with memory that does not grow with the steps",
    )
    positive_lr: bool = Field(True, description="stop the learned learning rate at 1e-6; the released code does not")
    init: Literal["real", "noise"] = Field("real", description="what the images begin as: training images or N(0, 1)")

    # Which images are the result
    keep: Literal["last", "best_validation", "best_test"] = Field(
        "last",
        description="images of the last iteration, or the best ones seen: by held-out training images, or by the test"
        " split as the released code does",
    )
    evaluate_every: int = Field(100, ge=1, description="iterations between two candidates for the best")
    eval_networks: int = Field(5, ge=1, description="students per candidate")
    eval_epochs: int = Field(1000, ge=1, description="epochs of these students")


class Parts(NamedTuple):
    """What a matching is made of."""

    real: RealImages
    ipc: int
    experts: Experts
    network: FlatNetwork


class MTT(ddbench.Distiller):
    """Matching training trajectories."""

    Options: ClassVar[type[MttOptions]] = MttOptions
    presets: ClassVar[tuple[str, ...]] = ("presets.toml", "family.toml")
    precisions = PRECISIONS
    #: Images per step of the students that compare candidates.
    student_batch: ClassVar[int] = 256

    def check(self, ctx: ddbench.Context) -> None:
        """Refuse what has no trajectory to match, whitened candidates, and options that change nothing."""
        options: MttOptions = ctx.options
        if ctx.dataset.num_classes < 2:
            raise ddbench.UsageError(
                f"{ctx.dataset.name} has one class, of which networks learn nothing: experts stay where they begin."
            )
        if options.keep == "last":
            refuse_unused(
                ctx, ("evaluate_every", "eval_networks", "eval_epochs"), "With keep=last there are no candidates"
            )
        if ctx.dataset.zca and options.keep != "last":
            raise ddbench.UsageError(
                f"Candidates (keep={options.keep}) are compared on images that are not whitened.",
                hint="Say -o method.keep=last, or leave data.zca out.",
            )
        _check_epochs(options)
        if "network" in ctx.resolved.explicit:  # those of presets fit, and need no torch to be built
            from ddbench_plugins.methods.mtt.experts import flat_network

            flat_network(ctx, options.network)

    def needs(self, ctx: ddbench.Context) -> list[ddbench.CachedStep[Any] | ddbench.StepCall]:
        """Return the experts, each with a seed of its own, so that all budgets and distillation seeds share it.

        The students that choose among candidates follow once there are any.
        """
        from ddbench_plugins.methods.mtt.experts import expert
        from ddbench_plugins.methods.mtt.selection import mtt_student

        on, options, recipe = self._on(ctx), ctx.options, self.recipe(ctx)
        experts = [expert.of(on, recipe, number) for number in range(options.experts)]
        return [*whitening_steps(ctx), *experts, *([mtt_student] if options.keep != "last" else [])]

    def work(self, ctx: ddbench.Context) -> float:
        """Images × steps."""
        options: MttOptions = ctx.options
        return ctx.dataset.num_classes * (ctx.ipc or 1) * options.iterations * options.syn_steps

    def recipe(self, ctx: ddbench.Context) -> ExpertRecipe:
        """Return how experts are trained."""
        from ddbench_plugins.methods.mtt.experts import ExpertRecipe

        options: MttOptions = ctx.options
        return ExpertRecipe(
            network=options.network,
            epochs=_epochs(options),
            lr=options.expert_lr,
            batch_size=options.expert_batch,
            augment=options.augment,
            normalisation=options.normalisation,
            count=options.experts,
        )

    @staticmethod
    def _on(ctx: ddbench.Context) -> ddbench.Context:
        """Return the run on the images that it may see: without those that choose its result."""
        from ddbench_plugins.methods.mtt.selection import hold_out

        return ctx.with_dataset(hold_out(ctx.dataset)[0]) if ctx.options.keep == "best_validation" else ctx

    def distill(self, ctx: ddbench.Context) -> ddbench.DistilledSet:
        """Return ``ctx.ipc`` optimised images per class in the [0, 1] scale, not clamped, with a learning rate."""
        from ddbench_plugins.matching.images import RealImages
        from ddbench_plugins.matching.optimise import optimise
        from ddbench_plugins.methods.mtt.experts import Experts, expert, flat_network
        from ddbench_plugins.methods.mtt.matching import TrajectoryMatching
        from ddbench_plugins.methods.mtt.selection import hold_out

        options: MttOptions = ctx.options
        ipc = ipc_of(ctx)
        network = flat_network(ctx, options.network, device=ctx.machine.device, precision=ctx.machine.precision)
        data, judged_by = ctx.dataset, ctx.dataset.test
        if options.keep == "best_validation":
            data, judged_by = hold_out(data)
        ddbench.check_ipc(data, ipc)
        on, recipe = self._on(ctx), self.recipe(ctx)
        folders = [expert(on, recipe, number).dir for number in range(options.experts)]
        experts = Experts(folders, recipe.epochs, ctx.machine.device)
        with ctx.progress("reading images", len(data.train)) as advance:
            real = RealImages(
                data,
                normalisation=options.normalisation,
                whitening=whitening_of(ctx),
                device=ctx.machine.device,
                progress=advance,
            )
        images = self.images(ctx, Parts(real, ipc, experts, network))
        work = TrajectoryMatching(images, experts, network, self.settings(ctx, len(images.images)))
        best = options.keep != "last"
        candidates = range(options.evaluate_every, options.iterations, options.evaluate_every) if best else ()
        if best and not candidates:
            ctx.warn(
                f"keep={options.keep} has nothing to choose from: {options.iterations} iterations, a candidate after"
                f" every {options.evaluate_every}. Lower method.evaluate_every."
            )
        last = optimise(
            ctx,
            "matching trajectories",
            work,
            images,
            iterations=options.iterations,
            space="normalized" if data.zca else "unit",
            without={"evaluate_every": options.iterations} if best else {},  # no candidate but the end
            also=candidates,
        )
        return self._best(ctx, last, candidates, judged_by) if best else last

    def images(self, ctx: ddbench.Context, parts: Parts) -> ImagesWithRate:
        """Return what is optimised, as it begins."""
        from ddbench_plugins.methods.mtt.matching import ImagesWithRate

        return self.begun(ctx, parts, ImagesWithRate, self.initial(ctx, parts))

    def initial(self, ctx: ddbench.Context, parts: Parts) -> Tensor:
        """Return the pixels [K·ipc, C, S, S], class by class, that images begin as."""
        from ddbench_plugins.matching.images import initial_images

        return initial_images(parts.real, parts.ipc, ctx.options.init, ctx.seed("mtt init"))

    @staticmethod
    def begun(ctx: ddbench.Context, parts: Parts, kind: Callable[..., Images], initial: Tensor, **more: Any) -> Images:
        """Return images of a kind with MTT's settings and ``more`` of them."""
        options: MttOptions = ctx.options
        return kind(
            initial,
            parts.ipc,
            options.lr_img,
            rate=options.lr_init,
            lr_rate=options.lr_lr,
            positive=options.positive_lr,
            mean=parts.real.mean,
            std=parts.real.std,
            **more,
        )

    def settings(self, ctx: ddbench.Context, count: int) -> Matching:
        """Return how a step of the matching is made, of ``count`` images."""
        from ddbench_plugins.matching.draws import strategy_for
        from ddbench_plugins.methods.mtt.matching import Matching, Window

        options: MttOptions = ctx.options
        return Matching(
            syn_steps=options.syn_steps,
            expert_epochs=options.expert_epochs,
            window=Window(0, options.max_start_epoch, options.max_start_epoch, 0),
            batch_syn=min(options.batch_syn or count, count),
            strategy=strategy_for(ctx.dataset) if options.augment == "dsa" else (),
            seed=ctx.seed("mtt steps"),
            gradient=options.gradient,
        )

    def _best(
        self, ctx: ddbench.Context, last: ddbench.DistilledSet, candidates: Collection[int], judged_by: ddbench.Split
    ) -> ddbench.DistilledSet:
        from ddbench_plugins.methods.mtt.selection import Students, best

        options: MttOptions = ctx.options
        assert ctx.checkpoint is not None  # methods distil inside a step
        folder = ctx.checkpoint.dir / "snapshots"
        sets = {iterations: ddbench.load(folder / f"{iterations:06d}").distilled for iterations in candidates}
        sets[options.iterations] = last
        students = Students(
            options.network,
            options.eval_networks,
            options.eval_epochs,
            self.student_batch,
            options.augment,
            options.normalisation,
        )
        winner, scores = best(ctx, sets, judged_by, students)
        extra = {**last.extra, "iteration": winner, "accuracy": scores, "judged_by": options.keep}
        return replace(sets[winner], extra=extra)


def _epochs(options: MttOptions) -> int:
    """Return how long experts are trained."""
    return options.train_epochs or options.max_start_epoch - 1 + options.expert_epochs


def _check_epochs(options: MttOptions) -> None:
    needed = options.max_start_epoch - 1 + options.expert_epochs
    if _epochs(options) < needed:
        raise ddbench.UsageError(
            f"Segments reach epoch {needed} of an expert, but experts are trained for {_epochs(options)} epochs.",
            hint="Raise method.train_epochs (0: as many as needed), or lower method.max_start_epoch.",
        )
