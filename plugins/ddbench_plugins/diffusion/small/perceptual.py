"""What the small autoencoder should keep besides pixels: the features that a network trained on the data set sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from ddbench_plugins.teachers.observers import Observer


def teacher_features(teacher: Observer) -> Callable[[Tensor], Tensor]:
    """Return what maps pixels [n, 3, H, W] in [-1, 1] to the inputs of the teacher's last linear layer, [n, d]."""
    network, device = teacher.module(), teacher.ctx.machine.device
    side, channels = teacher.ctx.dataset.image_size, teacher.ctx.dataset.channels
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (teacher.mean, teacher.std))

    def features(pixels: Tensor) -> Tensor:
        pixels = (pixels + 1) / 2
        if channels == 1:
            pixels = pixels.mean(1, keepdim=True)
        if pixels.shape[-1] != side:
            pixels = F.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
        embedded: Tensor = network.embed((pixels - mean) / std)
        return embedded.float()

    return features


def feature_loss(features: Callable[[Tensor], Tensor], decoded: Tensor, pixels: Tensor) -> Tensor:
    """Squared error of the features of ``decoded`` [n, 3, H, W], relative to the size of those of ``pixels``."""
    with torch.no_grad():
        wanted = features(pixels)
    return F.mse_loss(features(decoded), wanted) / wanted.square().mean()
