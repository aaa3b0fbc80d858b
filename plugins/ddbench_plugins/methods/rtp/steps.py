"""One step of RTP: a new network is trained on the memory, and its loss on real images goes back through all of it.

Deng and Russakovsky 2022, models/compressor_bptt_standard.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from ddbench_plugins.methods.mtt.trajectories import FlatNetwork, flat
from ddbench_plugins.networks.native import kernels
from ddbench_plugins.training.seeding import make_generator
from ddbench_plugins.training.unroll import Unroll

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from ddbench_plugins.matching.images import RealImages
    from ddbench_plugins.methods.rtp.memory import Pixels


@dataclass(frozen=True)
class Settings:
    """How one step is made; see the options of the method."""

    inner: int
    lr_net: float
    momentum: float
    batch_syn: int
    batch_real: int
    classes: int | None
    clip: float
    reg: float
    seed: int


class Remembering:
    """One step: ``inner`` steps of SGD from new weights, there and back."""

    def __init__(
        self, memory: Pixels, real: RealImages, networks: Callable[[int], nn.Module], settings: Settings
    ) -> None:
        self.memory, self.real, self.networks, self.settings = memory, real, networks, settings

    def step(self, number: int) -> float:
        """Do one step and return the loss on real images."""
        settings, memory = self.settings, self.memory
        generator = make_generator(settings.seed, number + 1)
        everyone = self.real.classes
        count = min(settings.classes or everyone, everyone)
        chosen = torch.randperm(everyone, generator=generator)[:count].sort().values.tolist()
        drawn = [self.real.draw(label, settings.batch_real, generator) for label in chosen]
        wanted = torch.cat([torch.full((len(part),), label) for part, label in zip(drawn, chosen, strict=True)])
        network = self.networks(number)
        whole = FlatNetwork(network)
        with kernels():
            walk = self.walk(whole, flat(network), chosen, generator)
            end = walk.end.clone().requires_grad_()
            loss = F.cross_entropy(whole.logits(end, torch.cat(drawn)), wanted.to(self.real.device))
            found = walk.gradients(*torch.autograd.grad(loss, end))
        memory.optimiser.zero_grad()
        for tensor, gradient in zip(memory.learned, found.learned, strict=True):
            tensor.grad = gradient
        if settings.reg:
            (settings.reg * memory.images.square().sum()).backward()
        torch.nn.utils.clip_grad_norm_(memory.learned, settings.clip)
        memory.optimiser.step()
        return float(loss.detach())

    def walk(self, network: FlatNetwork, start: Tensor, classes: Sequence[int], generator: torch.Generator) -> Unroll:
        """Return the steps of the network on rows of the memory, of every class as many, drawn anew for each."""
        memory, settings = self.memory, self.settings
        rows, labels = [], []
        for _ in range(settings.inner):
            parts = [
                label * memory.ipc + torch.randperm(memory.ipc, generator=generator)[: settings.batch_syn]
                for label in classes
            ]
            rows.append(torch.cat(parts).to(start.device))
            labels.append(memory.labels[rows[-1]])

        def loss(number: int, weights: Tensor, learned: Sequence[Tensor]) -> Tensor:
            return F.cross_entropy(network.logits(weights, memory.at(rows[number], learned)), labels[number])

        rates = torch.full((settings.inner,), settings.lr_net, device=start.device)
        return Unroll(loss, start, memory.learned, rates, settings.momentum)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs; networks live for a step only."""
        return self.memory.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.memory.restore(state)
