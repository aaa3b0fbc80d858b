"""Training images that stand for their class: those nearest to the centres of its features (DREAM new_strategy.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ddbench_plugins.methods.idc.matching import ClassMatching
from ddbench_plugins.methods.kmeans import cluster, nearest_distinct
from ddbench_plugins.networks.native import kernels
from ddbench_plugins.training.runtime import Precision, autocast
from ddbench_plugins.training.seeding import make_generator, stream_seed

if TYPE_CHECKING:
    from torch import Tensor

    from ddbench_plugins.matching.images import RealImages

#: Images that are embedded at once.
TOGETHER = 500
_CANDIDATES, _CLUSTERS = 1, 2


class Representatives:
    """Finds them among all images of a class, or so many random candidates; ``raw_pixels`` are not normalised."""

    def __init__(
        self, real: RealImages, candidates: int | None, precision: Precision, seed: int, *, raw_pixels: bool = False
    ) -> None:
        self.real, self.candidates, self.precision, self.seed = real, candidates, precision, seed
        self.raw_pixels = raw_pixels

    def __call__(self, network: Any, label: int, count: int, number: int) -> Tensor:
        """Return the positions of ``count`` images of a class, largest cluster first; of all where it has fewer."""
        place = number + 1, label + 1
        members = self.real.members(label)
        order = torch.randperm(len(members), generator=make_generator(self.seed, _CANDIDATES, *place))
        members = members[order[: self.candidates].sort().values]
        features = []
        with torch.no_grad(), autocast(self.precision, self.real.device), kernels():
            for positions in members.split(TOGETHER):
                x = self.real.at(positions)
                x = (self.real.plain(x) if self.raw_pixels else x).contiguous(memory_format=torch.channels_last)
                features.append(network.embed(x).float())
        points = torch.cat(features).cpu().numpy()
        seed = stream_seed(self.seed, _CLUSTERS, *place) % 2**32
        centres = cluster(points, min(count, len(points)), seed, restarts=1)
        return members[torch.from_numpy(nearest_distinct(points, centres))]


class RepresentativeMatching(ClassMatching):
    """IDC's step on representatives, which are found anew every ``every`` steps and in every new network."""

    def __init__(self, *parts: Any) -> None:
        *parents, self.find, self.every = parts
        super().__init__(*parents)
        self.chosen: dict[int, Tensor] = {}

    def real_batch(self, label: int, number: int) -> Tensor:
        """Return the positions of the representatives of a class, all of them in every step."""
        if number % self.settings.inner % self.every == 0:
            self.chosen[label] = self.find(self.network, label, self.settings.batch_real, number)
        return self.chosen[label]

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return super().state() | {"chosen": self.chosen}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        super().restore(state)
        self.chosen = dict(state["chosen"])
