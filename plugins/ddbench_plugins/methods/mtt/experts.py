"""Expert trajectories: the parameters of networks after each epoch on the real images (MTT buffer.py).

Each expert is a cached step of its own, with a seed of its own, so all methods, budgets and distillation seeds that ask
for the same recipe share it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

import ddbench
from ddbench_plugins.matching.draws import strategy_for
from ddbench_plugins.methods.mtt.flat import flat_step
from ddbench_plugins.methods.mtt.trajectories import FlatNetwork, flat
from ddbench_plugins.training import optimisers
from ddbench_plugins.training.augment import compose, normalise
from ddbench_plugins.training.dsa import dsa
from ddbench_plugins.training.engine import Loop
from ddbench_plugins.training.loop import trainer
from ddbench_plugins.training.normalisation import ZCA, constants
from ddbench_plugins.training.numbers import moved
from ddbench_plugins.training.seeding import stream_seed
from ddbench_plugins.training.students import whitened
from ddbench_plugins.training.whitening import whitening_of, whitening_steps

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from ddbench_plugins.training.augment import Augment
    from ddbench_plugins.training.runtime import Precision


@dataclass(frozen=True)
class ExpertRecipe:
    """How experts are trained: plain SGD at a constant rate, cross-entropy.

    A ``rho`` other than 0 flattens their path, as :func:`ddbench_plugins.methods.mtt.flat.flat_step` does.
    """

    network: str
    epochs: int
    lr: float
    batch_size: int
    augment: Literal["dsa", "none"]
    normalisation: str
    rho: float = 0.0
    alpha: float = 0.0
    adaptive: bool = True
    count: int = field(default=1, compare=False)  # how many there are, of which a single one does not depend

    @property
    def flattened(self) -> bool:
        """Whether each step takes two passes."""
        return bool(self.rho)


class Experts:
    """Finished trajectories of so many epochs in folders."""

    def __init__(self, folders: Sequence[Path], epochs: int, device: str = "cpu") -> None:
        self.folders, self.epochs, self.device = folders, epochs, device

    def __len__(self) -> int:
        return len(self.folders)

    def at(self, number: int, epoch: int) -> Tensor:
        """Return the parameters float32 [P] of an expert after ``epoch`` epochs (0: before the first)."""
        kept = torch.from_numpy(np.load(_file(self.folders[number], epoch), allow_pickle=False))
        parameters: Tensor = moved(kept, self.device)
        return parameters


@ddbench.step(
    needs=lambda ctx, recipe, number: whitening_steps(ctx),
    work=lambda ctx, recipe, number: len(ctx.dataset.train) * recipe.epochs * (1 + recipe.flattened),
)
def expert(ctx: ddbench.Context, out: ddbench.Step, recipe: ExpertRecipe, number: int) -> None:
    """Train one expert, and keep its parameters after each epoch.

    Plain SGD has no state, so these snapshots are the checkpoints as well.

    Raises:
        UsageError: the network has batch norm.
    """
    data, seed = ctx.dataset, ddbench.derive_seed(0, "mtt expert", number)
    network = flat_network(ctx, recipe.network, seed=seed).network
    first = max((epoch for epoch in range(recipe.epochs + 1) if _file(out.dir, epoch).exists()), default=None)
    if first is None:
        first = 0
        _save(out.dir, 0, flat(network))
    start = torch.from_numpy(np.load(_file(out.dir, first), allow_pickle=False))
    torch.nn.utils.vector_to_parameters(start, network.parameters())
    pixels, labels = data.arrays("train")
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    normalisation = recipe.normalisation
    if whitening := whitening_of(ctx):
        images, normalisation = whitened(images, whitening), ZCA
    train = trainer(
        [network],
        images=images,
        labels=torch.tensor(labels),
        epochs=1,
        batch_size=recipe.batch_size,
        optimiser=optimisers.sgd(recipe.lr, momentum=0.0, weight_decay=0.0),
        augment=augmentation(data, recipe.augment, normalisation),
        step=flat_step(recipe.rho, recipe.alpha, recipe.adaptive) if recipe.flattened else None,
        compile="never",
        loop=Loop(ctx.machine.device, ctx.machine.precision),
    )
    with ctx.progress(f"expert {number + 1} of {recipe.count}", recipe.epochs) as advance:
        for epoch in range(first, recipe.epochs):
            (result,) = train([stream_seed(seed, epoch + 1)])
            _save(out.dir, epoch + 1, flat(network))
            advance(epoch + 1, recipe.epochs, {"loss": result.losses[-1]})


def flat_network(
    ctx: ddbench.Context, name: str, *, seed: int = 0, device: str = "cpu", precision: Precision = "fp32"
) -> FlatNetwork:
    """Return a new network whose state is its parameters.

    Raises:
        UsageError: it has batch norm.
    """
    try:
        return FlatNetwork(ctx.build_network(name, seed=seed).to(device), precision)
    except ValueError as error:
        raise ddbench.UsageError(
            f"{name} has no trajectory of parameters: {error}.", hint="Choose a network without batch norm: convnet-3."
        ) from error


def augmentation(data: ddbench.Dataset, kind: str, normalisation: str) -> Augment:
    """Return normalisation, then DSA with parameters per image if asked for."""
    scaled = normalise(*constants(data, normalisation))
    return compose(scaled, dsa("dc", strategy_for(data))) if kind == "dsa" else scaled


def _save(folder: Path, epoch: int, parameters: Tensor) -> None:
    file = io.BytesIO()
    np.save(file, parameters.float().cpu().numpy(), allow_pickle=False)
    ddbench.write_atomic(_file(folder, epoch), file.getvalue())


def _file(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch:03d}.npy"
