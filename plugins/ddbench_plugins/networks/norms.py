"""Normalisation layers under the names dataset-distillation code gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch.nn.functional as F
from torch import nn

from ddbench_plugins.networks import native

if TYPE_CHECKING:
    from torch import Tensor

Norm = Literal["instance", "batch", "group", "layer", "none"]


class InstanceNorm(nn.GroupNorm):
    """GroupNorm with one channel per group: what every dataset-distillation repository calls instance norm.

    Affine, eps 1e-5, no running statistics. Same numbers as ``nn.GroupNorm(C, C)``, whose CPU kernel is up to three
    times slower on channels-last bfloat16; ``F.instance_norm`` is not, and inside :func:`native.kernels` it is twice as
    fast.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel of each image over its pixels; ``[B, C, H, W] -> [B, C, H, W]``."""
        if x.shape[2] * x.shape[3] == 1:  # F.instance_norm refuses single pixels, GroupNorm returns the bias
            return super().forward(x)
        if native.fits(x, self.weight, self.bias):
            return native.instance_norm(x, self.weight, self.bias, self.eps)
        return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)


def make_norm(kind: Norm, channels: int, side: int | None = None) -> nn.Module:
    """Build one normalisation layer.

    ``side`` (pixels) is needed by "layer" only, whose affine parameters have the shape of the feature map.
    Raises ``ValueError`` for an unknown kind.
    """
    match kind:
        case "instance":
            return InstanceNorm(channels)
        case "batch":
            return nn.BatchNorm2d(channels)
        case "group":
            return nn.GroupNorm(4, channels)
        case "layer":
            if side is None:
                raise ValueError("layer norm needs the side of the feature map")
            return nn.LayerNorm([channels, side, side])
        case "none":
            return nn.Identity()
    raise ValueError(f"unknown norm {kind!r}; choose one of {', '.join(get_args(Norm))}")
