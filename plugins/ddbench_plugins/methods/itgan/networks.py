"""A class-conditional generator and its discriminator: BigGAN's blocks without attention (Brock et al. 2019)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from ddbench import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

#: Side of the image that a latent becomes first, and width of the classes' vectors.
BOTTOM = 4
EMBEDDING = 128


class ConditionalNorm(nn.Module):
    """Batch norm whose scale and shift are linear in the class's vector."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width, affine=False)
        self.scale, self.shift = (nn.Linear(EMBEDDING, width, bias=False) for _ in range(2))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Normalise x [B, C, S, S] for class vectors y [B, E]."""
        return self.norm(x) * (1 + self.scale(y)[..., None, None]) + self.shift(y)[..., None, None]


class UpBlock(nn.Module):
    """Twice the side: two convolutions 3×3 beside a convolution 1×1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([ConditionalNorm(width), ConditionalNorm(width)])
        self.convs = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in range(2)])
        self.shortcut = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """[B, C, S, S] to [B, C, 2S, 2S]."""
        h = self.convs[0](F.interpolate(F.relu(self.norms[0](x, y)), scale_factor=2))
        h = self.convs[1](F.relu(self.norms[1](h, y)))
        return h + self.shortcut(F.interpolate(x, scale_factor=2))


class Generator(nn.Module):
    """Images [B, channels, size, size] in [0, 1] from latents [B, z] and classes [B].

    Blocks double the side until the image fits; what is more than ``size`` is cut off all around.
    """

    def __init__(self, *, z: int, width: int, classes: int, size: int, channels: int) -> None:
        super().__init__()
        self.z, self.size = z, size
        self.classes = nn.Embedding(classes, EMBEDDING)
        self.linear = nn.Linear(z, width * BOTTOM**2)
        self.blocks = nn.ModuleList([UpBlock(width) for _ in range(max(0, math.ceil(math.log2(size / BOTTOM))))])
        self.norm = nn.BatchNorm2d(width)
        self.output = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return images; differentiable in z."""
        y = self.classes(labels)
        x = self.linear(z).view(len(z), -1, BOTTOM, BOTTOM)
        for block in self.blocks:
            x = block(x, y)
        x = torch.tanh(self.output(F.relu(self.norm(x)))) * 0.5 + 0.5
        cut = (x.shape[-1] - self.size) // 2
        return x[..., cut : cut + self.size, cut : cut + self.size]


class DownBlock(nn.Module):
    """Half the side: two convolutions 3×3 beside a convolution 1×1."""

    def __init__(self, inputs: int, width: int, first: bool) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(inputs, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)])
        self.shortcut = nn.Conv2d(inputs, width, 1)
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, S, S] to [B, W, S/2, S/2]."""
        h = self.convs[0](x if self.first else F.relu(x))
        return F.avg_pool2d(self.convs[1](F.relu(h)), 2) + F.avg_pool2d(self.shortcut(x), 2)


class Discriminator(nn.Module):
    """How real images [B, channels, S, S] in [−1, 1] look for their classes: scores [B], by projection of the class."""

    def __init__(self, *, width: int, classes: int, size: int, channels: int) -> None:
        super().__init__()
        depth = max(1, min(3, int(math.log2(size / BOTTOM))))
        self.blocks = nn.Sequential(*[DownBlock(width if i else channels, width, not i) for i in range(depth)])
        self.linear, self.classes = nn.Linear(width, 1), nn.Embedding(classes, width)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Return the scores."""
        features = F.relu(self.blocks(x)).sum((2, 3))
        return self.linear(features)[:, 0] + (features * self.classes(labels)).sum(1)


def normalised(network: nn.Module) -> nn.Module:
    """Begin all weights as N(0, 0.02²) and let the spectral norm divide them; the same network."""
    for layer in list(network.modules()):
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.Embedding):
            nn.init.normal_(layer.weight, std=0.02)
            spectral_norm(layer, eps=1e-6)
    return network


def plain(network: nn.Module) -> nn.Module:
    """Write the divided weights into the layers; the same network, whose state is that of the plain class."""
    for layer in network.modules():
        if is_parametrized(layer):
            remove_parametrizations(layer, "weight")
    return network


def generator_of(state: Mapping[str, Any], *, classes: int, size: int, channels: int) -> Generator:
    """Return the generator with this state, frozen.

    Raises:
        ModelError: it is not the state of a generator of so many classes, pixels and channels.
    """
    try:
        known = state["classes.weight"].shape[0], state["output.weight"].shape[0]
        z, width = state["linear.weight"].shape[1], state["linear.weight"].shape[0] // BOTTOM**2
    except KeyError as missing:
        raise ModelError(
            f"This is not the state of a generator: it has no {missing}.",
            hint="Its layers are those of ddbench_plugins.methods.itgan.networks.Generator.",
        ) from None
    if known != (classes, channels):
        raise ModelError(
            f"The generator has {known[0]} classes and {known[1]} channels, the data set {classes} and {channels}.",
            hint="Give the file of a generator that was trained on this data set.",
        )
    generator = Generator(z=z, width=width, classes=classes, size=size, channels=channels)
    try:
        generator.load_state_dict(dict(state))
    except RuntimeError as error:
        raise ModelError(
            f"The weights do not fit a generator of {size} pixels: {str(error).splitlines()[-1].strip()}",
            hint="Give the file of a generator that was trained on this data set.",
        ) from error
    generator.eval().requires_grad_(False)
    return generator
