"""The two branches that bring images and texts into one space, and their training on pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from ddbench_plugins.pairs.losses import LOSSES
from ddbench_plugins.training.seeding import make_generator, seeded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Generator, Tensor

    from ddbench_plugins.training.engine import Loop

DROPOUT = 0.1
#: By which cosines are multiplied in the training of networks: exp(ln(1 / 0.07)).
SCALE = 1 / 0.07


class Head(nn.Module):
    """Vectors [n, D] to embeddings [n, E]: a linear layer, a second one with a way around it, and a layer norm."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, embedding), nn.Linear(embedding, embedding)
        self.norm = nn.LayerNorm(embedding)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return embeddings; ``keep`` [n, E] are the factors of dropout."""
        a = self.first(x)
        h = self.second(F.gelu(a))
        out: Tensor = self.norm(a + (h if keep is None else h * keep))
        return out


class Encoder(nn.Module):
    """A network without its classifier, as a branch."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.requires_grad_()
        setattr(network, str(network.head_name), nn.Identity())

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return its features [n, E]."""
        out: Tensor = self.network.embed(x)
        return out


class Branches(nn.Module):
    """Both branches; each is trained at a learning rate of its own."""

    def __init__(self, image: nn.Module, text: nn.Module) -> None:
        super().__init__()
        self.image, self.text = image, text

    @classmethod
    def begun(cls, image: nn.Module | int, width: int, embedding: int, seed: int) -> Branches:
        """Return them as they begin: heads on vectors of ``image`` and ``width`` numbers, or the encoder itself."""
        with seeded(seed):
            text = Head(width, embedding)
            return cls(Head(image, embedding) if isinstance(image, int) else Encoder(image), text)


class Flat:
    """A branch as a function of all its parameters in one vector.

    Raises:
        ValueError: it has buffers (batch norm), which the vector would leave out.
    """

    def __init__(self, branch: nn.Module) -> None:
        if any(True for _ in branch.buffers()):
            raise ValueError("its state is more than its parameters (batch norm)")
        self.branch = branch
        self.shapes = {name: parameter.shape for name, parameter in branch.named_parameters()}

    def __call__(self, vector: Tensor, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return embeddings [n, E] of inputs, with parameters [P]."""
        parts = vector.split([math.prod(shape) for shape in self.shapes.values()])
        named = {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}
        out: Tensor = functional_call(self.branch, named, (x, keep))
        return out


def cosines(images: Tensor, texts: Tensor) -> Tensor:
    """Return the cosines [n, m] of embeddings [n, E] and [m, E]."""
    return F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T


def kept(count: int, width: int, generator: Generator, device: Any) -> Tensor:
    """Draw the factors of dropout [count, width] on the CPU."""
    return (torch.rand(count, width, generator=generator) >= DROPOUT).float().div(1 - DROPOUT).to(device)


@dataclass(frozen=True)
class Pairs:
    """What branches are trained on.

    Attributes:
        inputs: gives what the image branch takes of the images at some places.
        owners: int64 [M], the image of each text.
        texts: float32 [M, D].
        similarity: how alike image and text of each pair and each other are, [M, M]; the identity when None.
    """

    inputs: Callable[[Tensor], Tensor]
    owners: Tensor
    texts: Tensor
    similarity: Tensor | None = None


@dataclass(frozen=True)
class Recipe:
    """How branches are trained: SGD with a rate for each, divided by ten once."""

    epochs: int
    batch_size: int
    lr_image: float
    lr_text: float
    loss: str = "infonce"
    momentum: float = 0.0
    weight_decay: float = 0.0
    drop_at: int | None = None


class Training:
    """Training of branches; a step is an epoch. See :class:`ddbench_plugins.training.engine.Work`."""

    def __init__(self, branches: Branches, pairs: Pairs, recipe: Recipe, seed: int) -> None:
        self.branches, self.pairs, self.recipe, self.seed = branches, pairs, recipe, seed
        groups = (
            {"params": list(branch.parameters()), "lr": rate}
            for branch, rate in ((branches.image, recipe.lr_image), (branches.text, recipe.lr_text))
        )
        self.optimiser = torch.optim.SGD(
            list(groups), lr=recipe.lr_image, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )

    def run(self, loop: Loop, after: Callable[[int], None] = lambda done: None) -> None:
        """Train to the end; errors as of :meth:`Loop.run`."""
        loop.run(self, self.recipe.epochs, name="the branches", after=after, keep_end=False)

    def step(self, number: int) -> dict[str, float]:
        """Train one epoch, whose random numbers come from the seed and its number; return the mean loss."""
        recipe, pairs = self.recipe, self.pairs
        if number == recipe.drop_at:
            for group in self.optimiser.param_groups:
                group["lr"] /= 10
        generator = make_generator(self.seed, "epoch", number)
        losses = []
        for rows in torch.randperm(len(pairs.owners), generator=generator).split(recipe.batch_size):
            texts = pairs.texts[rows]
            images = pairs.inputs(pairs.owners[rows])
            masks = [kept(len(rows), self.branches.text.first.out_features, generator, texts.device) for _ in range(2)]
            wanted = (
                torch.eye(len(rows), device=texts.device)
                if pairs.similarity is None
                else pairs.similarity[rows][:, rows]
            )
            logits = SCALE * cosines(self.branches.image(images, masks[0]), self.branches.text(texts, masks[1]))
            loss = LOSSES[recipe.loss](logits, wanted)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            losses.append(loss.detach())
        return {"loss": float(torch.stack(losses).mean())}

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return {"branches": self.branches.state_dict(), "optimiser": self.optimiser.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.branches.load_state_dict(state["branches"])
        self.optimiser.load_state_dict(state["optimiser"])
