"""Networks before and after training on the real images, between which NCFM's lie (NCFM pretrain_script.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

import ddbench
from ddbench_plugins.training import optimisers
from ddbench_plugins.training.augment import compose, normalise
from ddbench_plugins.training.dsa import dsa
from ddbench_plugins.training.engine import Loop
from ddbench_plugins.training.loop import train
from ddbench_plugins.training.schedules import idc_multi_step
from ddbench_plugins.training.steps import hard_label_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

State = dict[str, "Tensor"]
INITIAL, TRAINED = "initial.safetensors", "trained.safetensors"


@dataclass(frozen=True)
class PairRecipe:
    """How a network is trained: SGD with momentum 0.9 and weight decay 5e-4, ÷5 at ⅔ and ⅚, colour and crop of each
    image, CutMix half of the time."""

    network: str
    epochs: int
    lr: float
    batch_size: int


@ddbench.step(version=2, work=lambda ctx, recipe, number: len(ctx.dataset.train) * recipe.epochs)
def network_pair(ctx: ddbench.Context, out: ddbench.Step, recipe: PairRecipe, number: int) -> None:
    """Keep a random network, and what it is after training; all methods, budgets and seeds share them."""
    from safetensors.torch import save_file

    data, seed = ctx.dataset, ddbench.derive_seed(0, "ncfm network", number)
    network = ctx.build_network(recipe.network, seed=seed)
    save_file({name: value.contiguous().clone() for name, value in network.state_dict().items()}, out.dir / INITIAL)
    pixels, labels = data.arrays("train")
    with ctx.progress(f"network {number + 1}", recipe.epochs) as advance:
        train(
            network,
            images=torch.from_numpy(pixels).permute(0, 3, 1, 2),
            labels=torch.tensor(labels),
            epochs=recipe.epochs,
            batch_size=recipe.batch_size,
            optimiser=optimisers.sgd(recipe.lr),
            schedule=idc_multi_step(recipe.epochs),
            # What matching has without cutout, of which CutMix takes the place.
            augment=compose(normalise(data.mean, data.std), dsa("idc", ("color", "crop"))),
            step=hard_label_step(cutmix_probability=0.5),
            seed=seed,
            compile="never",
            loop=Loop.of(ctx, advance, out),
        )
    trained = {name: value.contiguous().cpu() for name, value in network.state_dict().items()}
    save_file(trained, out.dir / TRAINED)


def states(done: ddbench.Done, device: str) -> tuple[State, State]:
    """Return both states of a finished step: initial, trained."""
    from safetensors.torch import load_file

    return load_file(done.dir / INITIAL, device=device), load_file(done.dir / TRAINED, device=device)


def between(pair: Sequence[State], share: float) -> State:
    """Return the state at ``share`` of the way from the trained (0) to the initial one (1)."""
    initial, trained = pair
    return {
        name: torch.lerp(value, initial[name], share) if value.is_floating_point() else value
        for name, value in trained.items()
    }
