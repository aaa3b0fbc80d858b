"""What every diffusion training does: AdamW with clipping, warm-up and an optional average of the weights (EMA)."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ddbench_plugins.networks.native import plain_attention
from ddbench_plugins.training.engine import Functions
from ddbench_plugins.training.runtime import LossScaler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ddbench_plugins.diffusion.replicas import Replica
    from ddbench_plugins.training.engine import Loop


#: Steps between two reports.
REPORTED = 10
#: Side of the largest latents whose attention is written out. At 64, with the preset "long", one matrix of weights
#: (128 images, 4 heads, 1024² pairs, in float32) has 2 GB, and each of four layers keeps its own.
WRITTEN_OUT = 16


@dataclass(frozen=True)
class Optimisation:
    """How a model is optimised: AdamW (diffusers' defaults) with clipping, warm-up and a constant or cosine rate.

    ``plain_attention`` has a CPU write attention out in bf16: PyTorch's fused kernel takes six times as long to
    differentiate, half of a small U-Net's step, but needs no memory for every pair of positions.
    """

    steps: int
    learning_rate: float
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    clip_norm: float = 1.0
    warmup: int = 0
    schedule: str = "constant"
    accumulate: int = 1
    plain_attention: bool = False

    def rate(self, step: int) -> float:
        """The learning rate of ``step`` (0-based)."""
        scale = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.schedule == "cosine":
            scale *= 0.5 * (1 + math.cos(math.pi * step / max(1, self.steps)))
        elif self.schedule != "constant":
            raise ValueError(f"schedule must be 'constant' or 'cosine', not {self.schedule!r}")
        return self.learning_rate * scale


class Ema:
    """Exponential moving average of parameters with the warm-up of diffusers' ``EMAModel``.

    Decay at update n is ``min(decay, (1 + n) / (10 + n))``; without ``warm_up``, always ``decay``.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter], decay: float, warm_up: bool = True) -> None:
        self.decay, self.warm_up, self.updates = decay, warm_up, 0
        self.shadow = [parameter.detach().float().clone() for parameter in parameters]

    @torch.no_grad()
    def update(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Move the average towards the parameters' present values."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warm_up else self.decay
        torch._foreach_lerp_(self.shadow, [parameter.detach().float() for parameter in parameters], 1 - decay)

    @torch.no_grad()
    def copy_to(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Write the average into the parameters."""
        for parameter, shadow in zip(parameters, self.shadow, strict=True):
            parameter.copy_(shadow)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return {"updates": self.updates, "shadow": self.shadow}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.updates = state["updates"]
        self.shadow = [kept.to(old.device) for kept, old in zip(state["shadow"], self.shadow, strict=True)]


def optimise(
    parameters: Sequence[torch.nn.Parameter],
    loss_at: Callable[[int, int], torch.Tensor],
    settings: Optimisation,
    loop: Loop,
    *,
    name: str,
    ema: Ema | None = None,
    replica: Replica | None = None,
    beside: Mapping[str, Any] | None = None,
) -> float:
    """Minimise ``loss_at(step, part)`` for ``settings.steps`` steps and return the mean loss of the last tenth.

    ``replica`` is the model where each of several processes has one: gradients and losses are averaged over them, and
    only one of them need have ``ema`` and write to the checkpoint. Objects with a ``state_dict`` that change
    ``beside`` the parameters are kept there by name.

    ``loss_at`` must draw all its random numbers from (seed, step, part): then a run interrupted and resumed gives the
    same parameters, bit for bit, as one that was never interrupted.
    """
    optimiser = torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    scaler, losses, unread = LossScaler(loop.precision, loop.device), list[float](), list[list[torch.Tensor]]()
    # Reading a loss waits for a GPU, and a CPU has nothing else to do meanwhile.
    on_cpu = torch.device(loop.device).type == "cpu"
    every = 1 if on_cpu else REPORTED
    written_out = settings.plain_attention and on_cpu and loop.precision == "bf16"
    attention = plain_attention if written_out else nullcontext
    parts: dict[str, Any] = {
        "optimiser": optimiser,
        "scaler": scaler,
        **({"ema": ema} if ema else {}),
        **(beside or {}),
    }

    def step(number: int) -> dict[str, float]:
        for group in optimiser.param_groups:
            group["lr"] = settings.rate(number)
        unread.append([])
        for part in range(settings.accumulate):
            alone = replica.alone() if replica and part + 1 < settings.accumulate else nullcontext()
            with alone, attention():  # around the backward pass as well, which computes checkpointed parts again
                with loop.autocast():
                    loss = loss_at(number, part) / settings.accumulate
                scaler.scale(loss).backward()
            unread[-1].append(replica.mean(loss.detach()) if replica else loss.detach())
        scaler.unscale_(optimiser)
        torch.nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
        scaler.step(optimiser)
        scaler.update()
        optimiser.zero_grad(set_to_none=True)
        if ema is not None:
            ema.update(parameters)
        if (number + 1) % every and number + 1 < settings.steps:
            return {}
        scaler.check(name)
        read()
        return {f"{name} loss": sum(losses) / len(losses)}

    def read() -> None:
        """Read the losses of the last steps, the sums of their parts."""
        if unread:
            totals = map(sum, torch.stack([torch.stack(parts) for parts in unread]).tolist())
            losses[:] = [*losses, *totals][-max(1, settings.steps // 10) :]
        unread.clear()

    def state() -> dict[str, Any]:
        read()
        kept = {"losses": losses, "parameters": [parameter.detach() for parameter in parameters]}
        return kept | {key: part.state_dict() for key, part in parts.items()}

    def restore(state: dict[str, Any]) -> None:
        losses[:] = state["losses"]
        with torch.no_grad():
            for parameter, kept in zip(parameters, state["parameters"], strict=True):
                parameter.copy_(kept)
        for key, part in parts.items():
            part.load_state_dict(state[key])

    loop.run(Functions(step, state, restore), settings.steps, name=name, every=REPORTED, keep_end=True)
    return sum(losses) / max(1, len(losses))
