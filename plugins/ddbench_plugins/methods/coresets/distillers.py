"""Forgetting, EL2N, GraNd and CCS: real images of each class by what recorded trainings show of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

import ddbench
from ddbench_plugins.methods.coresets import scores
from ddbench_plugins.methods.selection import ipc_of, select

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.random import Generator
    from numpy.typing import NDArray


class CoresetOptions(ddbench.Options):
    """Options of all coresets."""

    network: str = Field(
        "convnet-3-bn",
        description="network whose training on all images is recorded",
        json_schema_extra={"names": "network", "fresh": True},
    )
    epochs: int | None = Field(None, ge=1, description="of that training; as many as the data set's recipe when none")


class RankedOptions(CoresetOptions):
    """Options of those that rank images."""

    keep: Literal["hardest", "easiest"] = Field(
        "hardest", description="end of the ranking that is kept; the papers, which keep a large share, keep the hardest"
    )


class EarlyOptions(RankedOptions):
    """Options of those that look at early networks."""

    early: int | None = Field(None, ge=1, description="epoch after which networks are asked; a tenth of all when none")
    runs: int = Field(1, ge=1, description="networks, each from an initialisation of its own, that are averaged")


class CCSOptions(CoresetOptions):
    """Options of CCS."""

    prune: float = Field(0.3, ge=0, lt=1, description="share of the hardest images of each class that is left out (β)")
    strata: int = Field(50, ge=1, description="equally wide intervals of the margin that are sampled alike")


class Coreset(ddbench.Distiller):
    """Selects real images of each class by how hard they are, from the easiest to the hardest."""

    Options: ClassVar[type[CoresetOptions]] = CoresetOptions
    presets: ClassVar[Sequence[Mapping[str, Any]]] = (
        {
            "when": {"scale": "paper"},
            "set": {"network": "modified-resnet-18", "epochs": 200},
            "source": "ResNet-18 on CIFAR-10, 200 epochs: Toneva et al. 2019, Paul et al. 2021, Zheng et al. 2023",
        },
    )

    def asked(self, ctx: ddbench.Context) -> list[tuple[Any, ...]]:
        """Return the arguments of the recorded trainings."""
        options = ctx.options
        early = getattr(options, "early", None)
        return [(options.network, options.epochs, early, run) for run in range(getattr(options, "runs", 1))]

    def needs(self, ctx: ddbench.Context) -> list[ddbench.StepCall]:
        """Return the recorded trainings."""
        from ddbench_plugins.methods.coresets.recording import recorded

        return [recorded.of(ctx, *arguments) for arguments in self.asked(ctx)]

    def hardness(self, ctx: ddbench.Context, arguments: tuple[Any, ...]) -> NDArray[np.floating]:
        """Return how hard each training image is [n] by one recorded training."""
        raise NotImplementedError

    def choice(
        self, ctx: ddbench.Context, hardness: NDArray[np.floating], budget: int, rng: Generator
    ) -> NDArray[np.int64]:
        """Return the indices of ``budget`` of n images of a class."""
        order = scores.ranked(hardness, rng)
        return (order if ctx.options.keep == "easiest" else order[::-1])[:budget]

    def distill(self, ctx: ddbench.Context) -> ddbench.DistilledSet:
        """Select ``ctx.ipc`` images per class."""
        from ddbench_plugins.methods.coresets.recording import recorded

        budget, asked = ipc_of(ctx), self.asked(ctx)
        hardness = np.mean([self.hardness(ctx, arguments) for arguments in asked], axis=0)

        def choose(label: int, members: NDArray[np.int64]) -> NDArray[np.int64]:
            return self.choice(ctx, hardness[members], budget, ctx.rng("coreset", label))

        trained = {"network": ctx.options.network, **recorded(ctx, *asked[0]).info}
        return select(ctx, choose, {"recorded": trained})


class Forgetting(Coreset):
    """Images that a training forgets most often, or least often (Toneva et al. 2019); among equals the seed draws."""

    Options = RankedOptions

    def hardness(self, ctx: ddbench.Context, arguments: tuple[Any, ...]) -> NDArray[np.floating]:
        """Count forgetting events."""
        return scores.forgetting_events(_kept(ctx, arguments, "correct")).astype(float)


class EL2N(Coreset):
    """Images with the largest, or smallest, error of early networks (Paul et al. 2021, ``data_diet/scores.py``)."""

    Options = EarlyOptions
    seeded = False  # trainings have seeds of their own, and are shared by all runs
    presets: ClassVar[Sequence[Mapping[str, Any]]] = (
        *Coreset.presets,
        {
            "when": {"scale": "paper"},
            "set": {"runs": 10},
            "source": "mansheej/data_diet, README: at least 10 runs",
        },
    )

    def hardness(self, ctx: ddbench.Context, arguments: tuple[Any, ...]) -> NDArray[np.floating]:
        """Measure the norm of the error."""
        from ddbench_plugins.methods.coresets.recording import early_probabilities, recorded

        probabilities = early_probabilities(ctx, recorded(ctx, *arguments), arguments[0])
        return scores.error_norms(probabilities, ctx.dataset.train.labels)


class GraNd(EL2N):
    """Images with the largest, or smallest, gradients in early networks (Paul et al. 2021)."""

    def needs(self, ctx: ddbench.Context) -> list[ddbench.StepCall]:
        """Return the recorded trainings and the gradients in their early networks."""
        from ddbench_plugins.methods.coresets.recording import gradient_norms

        return [*super().needs(ctx), *(gradient_norms.of(ctx, *arguments) for arguments in self.asked(ctx))]

    def hardness(self, ctx: ddbench.Context, arguments: tuple[Any, ...]) -> NDArray[np.floating]:
        """Return the norms of the gradients."""
        from ddbench_plugins.methods.coresets.recording import gradient_norms

        norms: NDArray[np.float32] = np.load(gradient_norms(ctx, *arguments).dir / "norms.npy", allow_pickle=False)
        return norms


class CCS(Coreset):
    """Coverage-centric selection: without the hardest, evenly from all margins (Zheng et al. 2023, ``Coreset.py``)."""

    Options = CCSOptions

    def hardness(self, ctx: ddbench.Context, arguments: tuple[Any, ...]) -> NDArray[np.floating]:
        """Return the margins, negated."""
        return -_kept(ctx, arguments, "margin")

    def choice(
        self, ctx: ddbench.Context, hardness: NDArray[np.floating], budget: int, rng: Generator
    ) -> NDArray[np.int64]:
        """Leave out the hardest, as far as enough remain, and sample the strata of the others."""
        order = scores.ranked(hardness, rng)
        left = order[: max(budget, len(order) - int(ctx.options.prune * len(order)))]
        return left[scores.stratified(hardness[left], budget, ctx.options.strata, rng)]


def _kept(ctx: ddbench.Context, arguments: tuple[Any, ...], name: str) -> NDArray[Any]:
    from ddbench_plugins.methods.coresets.recording import recorded

    kept: NDArray[Any] = np.load(recorded(ctx, *arguments).dir / f"{name}.npy", allow_pickle=False)
    return kept
