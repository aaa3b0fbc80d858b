"""Expert trajectories of both branches: their parameters after each epoch on the training pairs (MVL buffer.py)."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

import ddbench
from ddbench_plugins.pairs.branches import Pairs, Recipe, Training
from ddbench_plugins.pairs.features import steps
from ddbench_plugins.pairs.identity import identity
from ddbench_plugins.pairs.options import PairOptions
from ddbench_plugins.pairs.setting import Setting
from ddbench_plugins.training.engine import Loop

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class ExpertRecipe:
    """How experts are trained: InfoNCE, plain SGD at one rate for both branches."""

    epochs: int
    lr: float
    batch_size: int
    pairs: dict[str, object]
    """Options of encoders and captions; see :class:`PairOptions`."""
    count: int = field(default=1, compare=False)  # how many there are, of which a single one does not depend

    @property
    def options(self) -> PairOptions:
        """Encoders and captions."""
        return PairOptions.model_validate(
            {name: str(v) if isinstance(v, Path) else v for name, v in self.pairs.items()}
        )


@ddbench.step(
    needs=lambda ctx, recipe, number: steps(ctx, recipe.options, test=False),
    identity=lambda ctx, recipe, number: identity(ctx, recipe.options),
    work=lambda ctx, recipe, number: len(ctx.dataset.train) * recipe.epochs,
)
def pair_expert(ctx: ddbench.Context, out: ddbench.Step, recipe: ExpertRecipe, number: int) -> None:
    """Train one expert, and keep the parameters of its branches before the first epoch and after each."""
    options, seed = recipe.options, ddbench.derive_seed(0, "mvl expert", number)
    setting = Setting(ctx, options, seed)
    known, branches = setting.captions, setting.branches(seed)
    pairs = Pairs(setting.real("train"), known.owners, setting.texts(known.vectors))
    training = Training(branches, pairs, Recipe(recipe.epochs, recipe.batch_size, recipe.lr, recipe.lr), seed)

    def keep(epoch: int) -> None:
        for name, branch in (("image", branches.image), ("text", branches.text)):
            _save(_file(out.dir, name, epoch), branch)

    keep(0)
    with ctx.progress(f"expert {number + 1} of {recipe.count}", recipe.epochs) as advance:
        training.run(Loop.of(ctx, advance, out), keep)


def parameters(folder: Path, name: str, epoch: int, device: str) -> Tensor:
    """Return the parameters float32 [P] of a branch, ``image`` or ``text``, after some epochs."""
    return torch.from_numpy(np.load(_file(folder, name, epoch), allow_pickle=False)).to(device)


def _save(path: Path, branch: nn.Module) -> None:
    file = io.BytesIO()
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in branch.parameters()])
    np.save(file, flat.float().cpu().numpy(), allow_pickle=False)
    ddbench.write_atomic(path, file.getvalue())


def _file(folder: Path, name: str, epoch: int) -> Path:
    return folder / f"{name}-{epoch:03d}.npy"
