"""The optimisation loop behind every diffusion training here: resumable, seeded by step, with an optional EMA."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ddbench import DivergedError
from ddbench_plugins.training.runtime import LossScaler, Precision, autocast
from ddbench_plugins.training.saving import Saving

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ddbench_plugins.diffusion.replicas import Replica
    from ddbench_plugins.training.saving import Checkpoint


class NoCheckpoint:
    """A checkpoint that keeps nothing."""

    def load(self) -> None:
        """Nothing was kept."""

    def save(self, state: dict[str, Any]) -> None:
        """Keep nothing."""


class ReadOnly:
    """A checkpoint that another process writes."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    def load(self) -> dict[str, Any] | None:
        """The last state that was kept."""
        return self._checkpoint.load()

    def save(self, state: dict[str, Any]) -> None:
        """Keep nothing."""


class Section:
    """One named part of a checkpoint; parts finished earlier in the same run stay beside it."""

    def __init__(self, checkpoint: Checkpoint, name: str) -> None:
        self._checkpoint, self._name = checkpoint, name
        self._all: dict[str, Any] = checkpoint.load() or {}

    def load(self) -> dict[str, Any] | None:
        """The last saved state of this part."""
        return self._all.get(self._name)

    def save(self, state: dict[str, Any]) -> None:
        """Keep ``state`` for this part."""
        self._all[self._name] = state
        self._checkpoint.save(self._all)


def no_progress(done: int, total: int, info: str = "") -> None:
    """A progress callable that shows nothing."""


@dataclass(frozen=True)
class Optimisation:
    """How a model is optimised: AdamW (diffusers' defaults) with clipping, warm-up and a constant or cosine rate."""

    steps: int
    learning_rate: float
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    clip_norm: float = 1.0
    warmup: int = 0
    schedule: str = "constant"
    accumulate: int = 1
    precision: Precision = "fp32"

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


def optimise(
    parameters: Sequence[torch.nn.Parameter],
    loss_at: Callable[[int, int], torch.Tensor],
    settings: Optimisation,
    *,
    device: str,
    ema: Ema | None = None,
    checkpoint: Checkpoint | None = None,
    checkpoint_seconds: float = 60.0,
    progress: Callable[..., None] = no_progress,
    label: str = "",
    replica: Replica | None = None,
) -> float:
    """Minimise ``loss_at(step, part)`` for ``settings.steps`` steps and return the mean loss of the last tenth.

    ``replica`` is the model where each of several processes has one: gradients and losses are averaged over them, and
    only one of them need have ``ema`` and write to ``checkpoint``.

    ``loss_at`` must draw all its random numbers from (seed, step, part): then a run interrupted and resumed from
    ``checkpoint`` gives the same parameters, bit for bit, as one that was never interrupted.
    """
    checkpoint = checkpoint or NoCheckpoint()
    optimiser = torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    scaler = LossScaler(settings.precision, device)
    state = checkpoint.load()
    first, losses = 0, []
    if state is not None:
        first, losses = state["step"], list(state["losses"])
        _restore(state, parameters, optimiser, scaler, ema)
    saving = Saving(checkpoint, checkpoint_seconds)
    for step in range(first, settings.steps):
        for group in optimiser.param_groups:
            group["lr"] = settings.rate(step)
        total = 0.0
        for part in range(settings.accumulate):
            with replica.alone() if replica and part + 1 < settings.accumulate else nullcontext():
                with autocast(settings.precision, device):
                    loss = loss_at(step, part) / settings.accumulate
                scaler.scale(loss).backward()
            total += replica.mean(loss.detach()) if replica else float(loss.detach())
        scaler.unscale_(optimiser)
        torch.nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
        scaler.step(optimiser)
        scaler.update()
        optimiser.zero_grad(set_to_none=True)
        if ema is not None:
            ema.update(parameters)
        if not math.isfinite(total):
            raise DivergedError(
                f"{label}: the loss is {total} at step {step + 1}.",
                hint="Lower the learning rate, or try --precision fp32.",
            )
        scaler.check(label)
        losses = [*losses, total][-max(1, settings.steps // 10) :]
        if (step + 1) % 10 == 0 or step + 1 == settings.steps:
            progress(step + 1, settings.steps, f"{label} loss {sum(losses) / len(losses):.4g}".strip())
        if saving.due() or step + 1 == settings.steps:
            saving.save(_snapshot(step + 1, losses, parameters, optimiser, scaler, ema))
    return sum(losses) / max(1, len(losses))


def copied(value: Any) -> Any:
    """``value`` with every tensor copied to the CPU, so that later training does not change it."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [copied(item) for item in value]
    return value


def _snapshot(
    step: int,
    losses: list[float],
    parameters: Sequence[torch.nn.Parameter],
    optimiser: torch.optim.Optimizer,
    scaler: LossScaler,
    ema: Ema | None,
) -> dict[str, Any]:
    return {
        "step": step,
        "losses": losses,
        "parameters": copied(list(parameters)),
        "optimiser": copied(optimiser.state_dict()),
        "scaler": scaler.state_dict(),
        "ema": {"updates": ema.updates, "shadow": copied(ema.shadow)} if ema is not None else None,
    }


def _restore(
    state: dict[str, Any],
    parameters: Sequence[torch.nn.Parameter],
    optimiser: torch.optim.Optimizer,
    scaler: LossScaler,
    ema: Ema | None,
) -> None:
    with torch.no_grad():
        for parameter, kept in zip(parameters, state["parameters"], strict=True):
            parameter.copy_(kept)
    optimiser.load_state_dict(copied(state["optimiser"]))
    scaler.load_state_dict(state["scaler"])
    if ema is not None:
        ema.updates = state["ema"]["updates"]
        ema.shadow = [
            kept.to(shadow.device) for kept, shadow in zip(copied(state["ema"]["shadow"]), ema.shadow, strict=True)
        ]
