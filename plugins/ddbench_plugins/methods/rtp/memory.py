"""What RTP stores: small bases, and for each image the coefficients of their sum, which is enlarged; or the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from ddbench import Bases, UsageError
from ddbench_plugins.matching.images import SyntheticImages
from ddbench_plugins.training.pixels import finite
from ddbench_plugins.training.seeding import make_generator

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from ddbench import DistilledSet

    Optimiser = Callable[[list[Tensor]], torch.optim.Optimizer]


def rows_per_class(ipc: int, classes: int, shape: tuple[int, int, int], bases: int, scale: int) -> int:
    """Return the images of a class for which bases and coefficients are no more numbers than ``ipc`` images of each.

    Raises:
        UsageError: the bases alone are more, or a base is no whole number of pixels wide.
    """
    numbers = shape[0] * shape[1] * shape[2]
    if shape[1] % scale:
        raise UsageError(f"Images of {shape[1]} pixels are no bases enlarged {scale} times.", hint="-o method.scale=…")
    found = (ipc * classes * numbers - bases * numbers // scale**2) // (classes * bases)
    if found < 1:
        raise UsageError(
            f"{bases} bases leave no room for coefficients in the numbers of {ipc} images per class.",
            hint="Take fewer (-o method.bases=…), or smaller ones (-o method.scale=…).",
        )
    return found


def begun(rows: int, columns: int, seed: int, part: int) -> Tensor:
    """Return a matrix [rows, columns], Xavier-uniform, as all that is learned begins."""
    return torch.nn.init.xavier_uniform_(torch.empty(rows, columns), generator=make_generator(seed, part))


class Pixels(SyntheticImages):
    """Images [K·r, C, S, S], class by class, that ``optimiser`` changes: RTP without bases."""

    def __init__(self, images: Tensor, rows: int, optimiser: Optimiser) -> None:
        super().__init__(images, rows, 0.0)
        self.optimiser = optimiser([*self.learned])

    @classmethod
    def noise(
        cls,
        shape: tuple[int, int, int],
        classes: int,
        rows: int,
        optimiser: Optimiser,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> Pixels:
        """Return ``rows`` images of each class as they begin."""
        channels, height, width = shape
        flat = begun(classes * rows, channels * height * width, seed, 1)
        return cls(flat.view(-1, *shape).to(device), rows, optimiser)

    @property
    def learned(self) -> tuple[Tensor, ...]:
        """What has gradients."""
        return (self.images,)

    def at(self, rows: Tensor, learned: Sequence[Tensor]) -> Tensor:
        """Return the images [n, C, S, S] of some rows of what is learned; differentiable."""
        return learned[0][rows]


class Memory(Pixels):
    """Bases [B, C, h, w] and coefficients [K·r, B], class by class, that ``optimiser`` changes."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        rows: int,
        bases: int,
        scale: int,
        optimiser: Optimiser,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        channels, height, width = shape
        self.scale, self.small = scale, (channels, height // scale, width // scale)
        flat = begun(bases, channels * (height // scale) * (width // scale), seed, 1)
        self.bases = flat.view(bases, *self.small).to(device).requires_grad_()
        # its images are the coefficients
        super().__init__(begun(classes * rows, bases, seed, 2).to(device), rows, optimiser)

    @property
    def learned(self) -> tuple[Tensor, ...]:
        """Coefficients and bases."""
        return self.images, self.bases

    def at(self, rows: Tensor, learned: Sequence[Tensor]) -> Tensor:
        """Return the images [n, C, S, S] of some rows of coefficients; differentiable."""
        coefficients, bases = learned
        return self.decode(coefficients[rows], bases)

    def decode(self, coefficients: Tensor, bases: Tensor) -> Tensor:
        """Return the images [n, C, S, S] of coefficients [n, B]; differentiable."""
        small = (coefficients @ bases.flatten(1)).view(len(coefficients), *self.small)
        return F.interpolate(small, scale_factor=self.scale, mode="bilinear", align_corners=False)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return super().state() | {"bases": self.bases.detach().cpu()}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        super().restore(state)
        with torch.no_grad():
            self.bases.copy_(state["bases"])

    @property
    def shown(self) -> Tensor:
        """The images that are the result."""
        return self.decode(self.images, self.bases).detach()

    def distilled(self, space: str = "normalized", **fields: Any) -> DistilledSet:
        """Return bases and coefficients as they are now, with their images."""
        arrays: Sequence[Any] = [finite(tensor.detach(), "the bases").cpu().numpy() for tensor in self.learned]
        bases = Bases(np.ascontiguousarray(arrays[1].transpose(0, 2, 3, 1)), arrays[0].copy(), self.scale)
        return super().distilled(space, bases=bases, counted="numbers", **fields)
