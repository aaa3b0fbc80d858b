"""The statistics of layers' inputs in a forward pass, compared with those of real images.

SRe2L compares what batch norms see with their running statistics (Yin et al. 2023, recover/utils.py). G-VBSM also
compares what convolutions see, with statistics of the training set, over several steps (Shao et al. 2024,
recover/utils.py); EDC also with those of the classes in the batch (Shao et al. 2024, recover/utils.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor

    Values = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Matching:
    """What is compared, and how; see the options of the methods. The defaults are what SRe2L does."""

    first_bn: float = 10.0
    variance_weight: float = 1.0
    convolutions: bool = False
    patch: int = 4
    drop: float = 0.0
    memory: float = 0.0
    memory_from_zero: bool = False
    class_share: float = 0.0
    exchanged_patches: bool = False


def layers(network: nn.Module, convolutions: bool = False) -> dict[str, nn.Module]:
    """Return the network's two-dimensional batch norms, and on request its convolutions, in order."""
    kinds = (nn.BatchNorm2d, nn.Conv2d) if convolutions else nn.BatchNorm2d
    return {name: module for name, module in network.named_modules() if isinstance(module, kinds)}


def measured(x: Tensor, layer: nn.Module, patch: int, *, each: bool = False) -> Values:
    """Return variances and means of the channels of an input [B, C, H, W], [C]; of a convolution's also of patches [P].

    A patch is ``patch`` × ``patch`` places of all channels. ``each``: of every image by itself, [B, C] and [B, P].
    """
    variance, mean = torch.var_mean(x, dim=(2, 3) if each else (0, 2, 3), correction=0)
    found = {"variance": variance, "mean": mean}
    if isinstance(layer, nn.Conv2d):
        variance, mean = torch.var_mean(tiles(x, patch), dim=(1, 3, 5) if each else (0, 1, 3, 5), correction=0)
        found |= {"patch_variance": variance.flatten(-2), "patch_mean": mean.flatten(-2)}
    return found


def tiles(x: Tensor, patch: int) -> Tensor:
    """Return [B, C, H, W] as [B, C, H/p, p, W/p, p]; sides that p does not divide are enlarged (bilinearly)."""
    sides = [-(-side // patch) * patch for side in x.shape[2:]]
    if sides != list(x.shape[2:]):
        x = F.interpolate(x, sides, mode="bilinear")
    return x.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))


class Statistics:
    """The distances of one network's layers, of a forward pass.

    Args:
        network: its layers are hooked.
        settings: what is compared.
        real: statistics of real images, of :class:`Gathering`; without them only batch norms are compared.
    """

    def __init__(self, network: nn.Module, settings: Matching, real: Values | None = None) -> None:
        self.settings = settings
        self.real: dict[str, Values] = {}
        for key, value in (real or {}).items():
            name, _, statistic = key.rpartition("/")
            self.real.setdefault(name, {})[statistic] = value
        self.averages: Values = {}
        self.labels, self.generator = torch.empty(0, dtype=torch.long), torch.Generator()
        self.distances: list[Tensor] = []
        hooked, weight = layers(network, settings.convolutions and bool(real)), settings.first_bn
        self.hooks = []
        for name, layer in hooked.items():
            self.hooks.append(layer.register_forward_pre_hook(partial(self._compare, name, weight)))
            weight = 1.0

    def begin(self, labels: Tensor, generator: Generator) -> None:
        """Say what the next forward pass sees, and where its random numbers come from."""
        self.labels, self.generator = labels, generator

    def forget(self) -> None:
        """Begin with other images."""
        if not self.settings.memory_from_zero:
            self.averages = {}

    def _compare(self, name: str, weight: float, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        settings = self.settings
        if isinstance(layer, nn.Conv2d):
            if settings.drop and float(torch.rand((), generator=self.generator)) < settings.drop:
                return
            goal = self.real[name]
        else:
            goal = {"variance": layer.running_var, "mean": layer.running_mean}
        found = measured(inputs[0].float(), layer, settings.patch)
        now = {key: self._remembered(f"{name}/{key}", value) for key, value in found.items()}
        distance, share = self._distance(now, goal), settings.class_share if self.real else 0.0
        if share:
            distance = (1 - share) * distance + share * self._distance(now, self._of_classes(name))
        self.distances.append(weight * distance)

    def _remembered(self, key: str, now: Tensor) -> Tensor:
        """Return the average over the steps so far, with the gradient of this step's values."""
        memory, before = self.settings.memory, self.averages.get(key)
        if not memory:
            return now
        if before is None:
            before = torch.zeros_like(now) if self.settings.memory_from_zero else now.detach()
        self.averages[key] = average = torch.lerp(now.detach(), before, memory)
        return average + now - now.detach()

    def _of_classes(self, name: str) -> Values:
        """Return the mean of the statistics of the classes, over the images of the batch."""
        goal = {key: value[self.labels].mean(0) for key, value in self.real[f"{name}/classes"].items()}
        if self.settings.exchanged_patches and "patch_mean" in goal:
            goal |= {"patch_mean": goal["patch_variance"], "patch_variance": goal["patch_mean"]}
        return goal

    def _distance(self, now: Values, goal: Values) -> Tensor:
        # Plain norms over the channels, not squared.
        apart = {key: (goal[key] - value).norm(2) for key, value in now.items()}
        total = self.settings.variance_weight * apart.pop("variance") + apart.pop("mean")
        return sum(apart.values(), total)

    def loss(self) -> Tensor:
        """Return the weighted sum over the layers of the last forward pass."""
        total = sum(self.distances)
        self.distances = []
        return total if isinstance(total, torch.Tensor) else torch.zeros(())

    def remove(self) -> None:
        """Leave the network as it was."""
        for hook in self.hooks:
            hook.remove()


class Gathering:
    """Work that averages the statistics of real images: over batches, as batch norms do, and by class over images.

    Args:
        network: the teacher, in evaluation mode.
        batch_of: number of a step → its images as the teacher sees them [B, C, S, S], and their labels [B].
        num_classes: how many classes there are.
        patch: side of the patches.
    """

    def __init__(
        self, network: nn.Module, batch_of: Callable[[int], tuple[Tensor, Tensor]], num_classes: int, patch: int
    ) -> None:
        self.network, self.batch_of, self.patch = network, batch_of, patch
        self.sums: Values = {}
        self.counts = torch.zeros(num_classes)

    def step(self, number: int) -> dict[str, float]:
        """Look at one batch."""
        images, labels = self.batch_of(number)

        def look(name: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].float()
            for key, value in measured(x, layer, self.patch).items():
                self._add(f"{name}/{key}", value * len(x))
            for key, value in measured(x, layer, self.patch, each=True).items():
                by_class = value.new_zeros(len(self.counts), value.shape[1])
                self._add(f"{name}/classes/{key}", by_class.index_add(0, labels, value))

        hooked = layers(self.network, convolutions=True)
        hooks = [layer.register_forward_pre_hook(partial(look, name)) for name, layer in hooked.items()]
        try:
            with torch.no_grad():
                self.network(images)
        finally:
            for hook in hooks:
                hook.remove()
        self.counts += labels.cpu().bincount(minlength=len(self.counts))
        return {}

    def _add(self, name: str, value: Tensor) -> None:
        self.sums[name] = self.sums[name] + value if name in self.sums else value

    def means(self) -> Values:
        """Return ``layer/statistic`` and, by class, ``layer/classes/statistic`` [K, …]."""
        return {
            name: total.cpu() / (self.counts[:, None] if "/classes/" in name else self.counts.sum())
            for name, total in self.sums.items()
        }

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return {"sums": {name: total.cpu() for name, total in self.sums.items()}, "counts": self.counts}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        device = next(self.network.parameters()).device
        self.sums = {name: total.to(device) for name, total in state["sums"].items()}
        self.counts = state["counts"]


def densification(images: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return how unlike each other the images of a class are (data densification, G-VBSM).

    The sum over the classes of KL(softmax(l/T) ‖ softmax(l)), where l are the eigenvalues of the products of its images
    [n, C, S, S], and the first distribution is held fixed; above 32 pixels of smaller ones.
    """
    side = min(images.shape[-1], 32)
    flat = F.adaptive_avg_pool2d(images.float(), side).flatten(1)
    terms = []
    for label in labels.unique():
        own = flat[labels == label]
        values = torch.linalg.eigvalsh(own @ own.T)
        target = (values / temperature).softmax(0).detach()
        terms.append(F.kl_div(values.log_softmax(0), target, reduction="sum"))
    return torch.stack(terms).sum()
