"""Several networks of one kind as one: their channels side by side, each in groups of its own.

Student r has the channels r·C … (r+1)·C − 1 of every layer, so that its own forward pass, norms and their running
statistics included, is a part of one: as many kernels are launched as for a single network. Optimisers that work
element by element, and losses that are added up, are then those of each student.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn

from ddbench_plugins.training.numbers import Operation
from ddbench_plugins.training.runtime import forward_flops
from ddbench_plugins.training.steps import DrawnStep

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ddbench import Context
    from ddbench_plugins.training.recipe import StudentRecipe

#: How far outputs of a network may be from those of the same one among others, relative and absolute: rounding.
CLOSE = {"rtol": 1e-3, "atol": 1e-4}
#: Operations of a step with which a GPU is taken to be idle most of the time: half a millisecond of a large one.
IDLE = 2e11


def at_once(ctx: Context, recipe: StudentRecipe, images: Tensor, labels: Tensor, most: int | None) -> int:
    """Return how many students of a recipe are trained at once, at most ``most``; None: as many as pay.

    That is while a GPU would be idle, by counted operations, so that the same cell gets the same number; and where one
    graph is that of every step: as many as there are combinations of what several students draw would hardly be used
    twice. Networks that cannot be stacked, and fp16, whose losses would share a scale, go one after the other.
    """
    if ctx.machine.precision == "fp16" or (most is None and not recipe.one_layout):
        return 1
    side = ctx.dataset.image_size
    networks = [recipe.network(ctx, repeat) for repeat in range(2)]
    example = torch.randn(2, ctx.dataset.channels, side, side, generator=torch.Generator().manual_seed(0))
    if most is None:
        step = (
            3 * forward_flops(networks[0], example[:1]) * min(recipe.batch_size, len(recipe.decoded(images, labels)[0]))
        )
        most = int(IDLE // step)
    if most < 2:
        return 1
    own = recipe.training(ctx, recipe.network(ctx, 0), recipe.decoded(images, labels)[0], 0)
    try:
        if not isinstance(own["augment"], Operation) or not isinstance(own.get("step"), DrawnStep | None):
            raise NotStackableError("its steps draw random numbers where they use them")
        check(networks, example)
    except NotStackableError as error:
        ctx.warn(f"Repeats of {ctx.network} are trained one after the other: {error}.")
        return 1
    return most


class NotStackableError(ValueError):
    """Networks that cannot be one; the message says why."""


class Stacked(nn.Module):
    """Networks as one: lists of images [B, C, S, S], a batch for each of them, to a list of logits [B, K]."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        """Copy the networks' weights.

        Raises:
            NotStackableError: a layer mixes channels or draws random numbers, or is not known.
        """
        super().__init__()
        self.count = len(networks)
        self.joint = copy.deepcopy(networks[0])
        for name, module in self.joint.named_modules():
            each = [network.get_submodule(name) for network in networks]
            own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            if own:
                _widen(module, self.count)
            for key, value in own:
                parts = [getattr(one, key).detach() for one in each]
                joint = torch.cat(parts) if value.ndim else parts[0].clone()
                setattr(module, key, nn.Parameter(joint, value.requires_grad) if _trained(value) else joint)

    def forward(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Return the logits of every network for its own images."""
        x = torch.cat(list(images), 1).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.joint(x)
        return list(logits.unflatten(1, (self.count, -1)).unbind(1))

    @torch.no_grad()
    def give_back(self, networks: Sequence[nn.Module]) -> None:
        """Copy weights and statistics to the networks."""
        states = [network.state_dict() for network in networks]
        for name, joint in self.joint.state_dict().items():
            for state, part in zip(
                states, joint.chunk(self.count) if joint.ndim else [joint] * self.count, strict=True
            ):
                state[name].copy_(part)


class _Linears(nn.Linear):
    """Layers side by side: [B, R·F] → [B, R·K], weights [R·K, F]."""

    def forward(self, x: Tensor) -> Tensor:
        count = x.shape[1] // self.in_features
        each = x.unflatten(1, (count, -1)).transpose(0, 1)
        weight = self.weight.unflatten(0, (count, -1)).transpose(1, 2)
        y = torch.bmm(each, weight).transpose(0, 1).flatten(1)
        return y if self.bias is None else y + self.bias


def _widen(module: nn.Module, count: int) -> None:
    sizes: tuple[str, ...]
    match module:
        case nn.Conv2d():
            sizes = "in_channels", "out_channels", "groups"
        case nn.BatchNorm2d():
            sizes = ("num_features",)
        case nn.GroupNorm():  # instance norm is one
            sizes = "num_groups", "num_channels"
        case nn.Linear():
            sizes = ("out_features",)
            module.__class__ = _Linears
        case _:
            raise NotStackableError(f"it has a layer of another kind, {type(module).__name__}")
    for name in sizes:
        setattr(module, name, count * getattr(module, name))


def _trained(value: Tensor) -> bool:
    return isinstance(value, nn.Parameter)


def check(networks: Sequence[nn.Module], example: Tensor) -> None:
    """Refuse networks whose training as one would not be that of each; ``example`` [B, C, S, S] are images.

    Raises:
        NotStackableError: the reason.
    """
    copies = [copy.deepcopy(network).train() for network in networks]
    try:
        joint = Stacked(copies).train()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            found = joint([example.roll(number, -1) for number in range(len(copies))])
            wanted = [network(example.roll(number, -1)) for number, network in enumerate(copies)]
    except RuntimeError as error:
        raise NotStackableError(f"its forward pass depends on the number of channels ({error})") from error
    if not all(torch.allclose(mine, theirs, **CLOSE) for mine, theirs in zip(found, wanted, strict=True)):
        raise NotStackableError("its forward pass mixes channels, or draws random numbers")
    parts = [copy.deepcopy(network) for network in copies]
    joint.give_back(parts)
    for part, network in zip(parts, copies, strict=True):
        for name, value in network.state_dict().items():
            if not torch.allclose(part.state_dict()[name].double(), value.double(), **CLOSE):
                raise NotStackableError(f"its {name} is not kept for each network")
