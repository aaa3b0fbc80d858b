"""DELT: CDA from real images, some of which begin later and so stay closer to real ones (Shen et al. 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

import ddbench
from ddbench_plugins.methods.selection import ipc_of
from ddbench_plugins.methods.sre2l.cda import CdaOptions
from ddbench_plugins.methods.sre2l.start import INIT, FromImages, Init

if TYPE_CHECKING:
    from torch import Tensor


class DeltOptions(CdaOptions):
    """Options of DELT; init=noise, round=iterations is CDA."""

    init: Init = Field("median", description=INIT)
    iterations: int = Field(4000, ge=1, description="steps of Adam of the images that begin first")
    round: int = Field(500, ge=1, description="steps after which the next images begin; the last get as many")
    fewest: int = Field(
        0,
        ge=0,
        description="draw for each class how many steps its first images get: rounds from so many steps to iterations;"
        " 0: iterations",
    )
    jitter: int = Field(0, ge=0, description=CdaOptions.model_fields["jitter"].description)
    together: Literal["classes", "set", "class"] = Field(
        "class", description=CdaOptions.model_fields["together"].description
    )
    shared_steps: bool = Field(
        False,
        description="all images of a chunk share Adam's step counter, as released: those that begin later lack its bias"
        " correction",
    )

    @model_validator(mode="after")
    def _rounds_fit(self) -> Self:
        if self.fewest > self.iterations:
            raise ValueError(f"fewest={self.fewest} is more than iterations={self.iterations}, which it is drawn up to")
        return self


class DELT(FromImages):
    """Early-late training."""

    Options = DeltOptions
    presets = ("presets.toml", "delt.toml")

    def work(self, ctx: ddbench.Context) -> float:
        """Images × iterations of each."""
        options: DeltOptions = ctx.options
        own = first_iterations(ctx.ipc or 1, rounds_of(options), options)
        return ctx.dataset.num_classes * float(sum(options.iterations - first for first in own))

    def starts(self, ctx: ddbench.Context) -> Tensor:
        """Return the first iteration that changes each image."""
        import torch

        options: DeltOptions = ctx.options
        most = rounds_of(options)
        least = min(most, -(-options.fewest // options.round)) or most
        starts: list[int] = []
        for label in range(ctx.dataset.num_classes):
            own = most if least == most else int(ctx.rng("delt rounds", label).integers(least, most + 1))
            starts += first_iterations(ipc_of(ctx), own, options)
        return torch.tensor(starts)


def rounds_of(options: DeltOptions) -> int:
    """Return how many rounds there are."""
    return max(1, options.iterations // options.round)


def first_iterations(ipc: int, rounds: int, options: DeltOptions) -> list[int]:
    """Return the first iterations of the images of a class, spread over the last ``rounds`` rounds.

    Each round begins ⌊ipc/rounds⌋ images, and each of the first ones another until none remains (DELT recover.py).
    """
    each, rest = divmod(ipc, rounds)
    skipped = rounds_of(options) - rounds
    sizes = [each + (number < rest) for number in range(rounds)]
    return [(skipped + number) * options.round for number, size in enumerate(sizes) for _ in range(size)]
