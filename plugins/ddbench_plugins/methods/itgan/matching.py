"""Latents that give back their training images, and then the features of their class (Zhao and Bilen 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ddbench_plugins.matching.draws import draw_view
from ddbench_plugins.matching.images import SyntheticImages
from ddbench_plugins.methods.itgan.gan import batches
from ddbench_plugins.networks.native import kernels
from ddbench_plugins.training.augment import normalise
from ddbench_plugins.training.numbers import moved
from ddbench_plugins.training.runtime import Precision, autocast
from ddbench_plugins.training.seeding import make_generator

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from ddbench import DistilledSet
    from ddbench_plugins.matching.images import RealImages
    from ddbench_plugins.methods.itgan.networks import Generator
    from ddbench_plugins.training.dsa import Operator

_CHOICE, _REAL = 1, 2


class LatentImages(SyntheticImages):
    """Latents [K·ipc, z], class by class, each with a training image as its partner; Adam changes the latents.

    Adam goes number by number, so one of all classes is one per class.
    """

    def __init__(
        self, latents: Tensor, ipc: int, lr: float, generator: Generator, real: RealImages, partners: Tensor
    ) -> None:
        super().__init__(latents, ipc, lr)
        self.optimiser = torch.optim.Adam([self.images], lr)
        self.generator, self.real, self.partners = generator, real, partners
        self._scale, self._unused = normalise(real.mean, real.std), torch.Generator()

    def made(self, label: int, chosen: Tensor) -> Tensor:
        """Return the normalised images of some latents of a class; differentiable."""
        z = self.of_class(label)[chosen]
        return self._scale(self.generator(z, torch.full((len(z),), label, device=z.device)), self._unused)

    def partners_of(self, label: int, chosen: Tensor) -> Tensor:
        """Return the normalised training images of these latents."""
        return self.real.at(self.partners[label * self.ipc : (label + 1) * self.ipc][chosen.cpu()])

    @property
    def shown(self) -> Tensor:
        """What the latents are decoded to, in [0, 1]."""
        with torch.no_grad():
            return torch.cat([self.generator(*part) for part in batches(self.images.detach(), self.labels)])

    def distilled(self, space: str = "unit", **fields: Any) -> DistilledSet:
        """Return the decoded images as they are now."""
        return super().distilled(space, **fields)


@dataclass(frozen=True)
class Settings:
    """How a step is made; see the options of the method."""

    batch: int
    precision: Precision
    seed: int


class LatentMatching:
    """One step: a loss per class, and one step of all latents."""

    def __init__(self, images: LatentImages, settings: Settings) -> None:
        self.images, self.settings = images, settings

    def step(self, number: int) -> Tensor:
        """Do one step and return the mean loss of a class."""
        images = self.images
        images.optimiser.zero_grad()
        total = torch.zeros((), device=images.images.device)
        for label in range(images.classes):
            order = torch.randperm(
                images.ipc, generator=make_generator(self.settings.seed, _CHOICE, number + 1, label + 1)
            )
            loss = self._loss(label, number, moved(order[: self.settings.batch], images.images.device))
            loss.backward(inputs=[images.images])
            total += loss.detach()
        images.optimiser.step()
        return total / images.classes

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return self.images.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.images.restore(state)

    def _loss(self, label: int, number: int, chosen: Tensor) -> Tensor:
        raise NotImplementedError

    def _features(self, network: Any, x: Tensor) -> Tensor:
        with autocast(self.settings.precision, x.device), kernels():
            features: Tensor = network.embed(x.contiguous(memory_format=torch.channels_last))
        return features.float()


class Inversion(LatentMatching):
    """Pixels and features of a trained network, those of the image and of its partner; mean squared differences."""

    def __init__(self, images: LatentImages, settings: Settings, network: nn.Module) -> None:
        super().__init__(images, settings)
        self.network = network

    def _loss(self, label: int, number: int, chosen: Tensor) -> Tensor:
        made, partners = self.images.made(label, chosen), self.images.partners_of(label, chosen)
        with torch.no_grad():
            target = self._features(self.network, partners)
        features = self._features(self.network, made)
        return (features - target).square().mean() + (made - partners).square().mean()


class Informing(LatentMatching):
    """r · distance to the partner's features + (1 − r) · distance of the mean feature to that of other real images."""

    def __init__(
        self,
        images: LatentImages,
        settings: Settings,
        networks: Callable[[int], nn.Module],
        *,
        r: float,
        batch_real: int,
        strategy: tuple[Operator, ...],
    ) -> None:
        super().__init__(images, settings)
        self.networks, self.r, self.batch_real, self.strategy = networks, r, batch_real, strategy

    def _loss(self, label: int, number: int, chosen: Tensor) -> Tensor:
        images = self.images
        network = self.networks(number * images.classes + label).requires_grad_(False)
        generator = make_generator(self.settings.seed, _REAL, number + 1, label + 1)
        real = images.real.draw(label, self.batch_real, generator)
        view = draw_view(real.shape[-1], generator, self.strategy, device=real.device)
        with torch.no_grad():
            partners = self._features(network, view(images.partners_of(label, chosen)))
            target = self._features(network, view(real)).mean(0)
        features = self._features(network, view(images.made(label, chosen)))
        apart = (features - partners).square().sum(1).mean()
        return self.r * apart + (1 - self.r) * (features.mean(0) - target).square().sum()
