"""Fine-tuning of a diffusion transformer with the minimax criterion (Gu et al. 2024, train_dit.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from ddbench_plugins.diffusion.dit.noise import Noise
from ddbench_plugins.diffusion.dit.pipeline import null_label
from ddbench_plugins.diffusion.dit.train import draw, noised_loss
from ddbench_plugins.diffusion.loop import Ema, NoCheckpoint, Optimisation, no_progress, optimise
from ddbench_plugins.diffusion.seeding import batch_indices, stream_seed, torch_stream
from ddbench_plugins.methods.minimax.scales import add_scales, fold_scales, trained
from ddbench_plugins.methods.minimax.terms import Memories, remember, terms

if TYPE_CHECKING:
    from collections.abc import Callable

    from ddbench_plugins.diffusion.dit.posteriors import Posteriors
    from ddbench_plugins.training.saving import Checkpoint


@dataclass(frozen=True)
class FinetuneSettings:
    """How the transformer is fine-tuned: AdamW at a constant rate, without weight decay and clipping.

    ``lambda_r`` and ``lambda_d`` weigh representativeness and diversity; ``trainable`` is 'difffit' or 'all'.
    """

    steps: int
    batch_size: int
    learning_rate: float
    lambda_r: float
    lambda_d: float
    memory: int
    ema_decay: float
    trainable: Literal["difffit", "all"]


class Curve:
    """Means of figures over the first and over the last tenth of a training."""

    def __init__(self, steps: int) -> None:
        self.tenth = max(1, steps // 10)
        self.steps = steps
        self.sums: dict[str, list[float]] = {}

    def add(self, step: int, **figures: float) -> None:
        """Note the figures of a step (from 0)."""
        for end, inside in enumerate((step < self.tenth, step >= self.steps - self.tenth)):
            for name, value in figures.items():
                self.sums.setdefault(name, [0.0, 0.0])[end] += value if inside else 0.0

    def ends(self) -> dict[str, list[float]]:
        """Return [first, last] for every figure."""
        return {name: [round(value / self.tenth, 5) for value in values] for name, values in self.sums.items()}


class _Remembering:
    """A checkpoint that holds the memories and the curve besides the optimiser's state."""

    def __init__(self, checkpoint: Checkpoint, memories: Memories, curve: Curve, device: str) -> None:
        self.checkpoint, self.memories, self.curve, self.device = checkpoint, memories, curve, device

    def load(self) -> dict[str, Any] | None:
        """The optimiser's last state; memories and curve take theirs."""
        state = self.checkpoint.load()
        if state is not None:
            self.memories.restore(state["memories"], self.device)
            self.curve.sums = {name: list(values) for name, values in state["curve"].items()}
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Keep the state with memories and curve."""
        self.checkpoint.save({**state, "memories": self.memories.state(), "curve": self.curve.sums})


def finetune(
    transformer: Any,
    betas: Tensor,
    posteriors: Posteriors,
    conditions: Tensor,
    classes: Tensor,
    settings: FinetuneSettings,
    *,
    seed: int,
    device: str = "cpu",
    precision: str = "fp32",
    progress: Callable[..., None] = no_progress,
    checkpoint: Checkpoint | None = None,
    checkpoint_seconds: float = 60.0,
) -> dict[str, Any]:
    """Fine-tune the transformer in place; it ends with its averaged weights, and without added scales.

    Image i of the ``posteriors`` has the transformer's label ``conditions[i]`` and memories ``classes[i]`` (both int64
    [N]). Returns the number of trained ``parameters`` and the ``curve``: means over the first and the last tenth of the
    steps of the base loss, of 1 − the smallest cosine to real latents, and of the largest cosine to earlier
    predictions, neither weighted.
    """
    transformer.eval().requires_grad_(False)
    if settings.trainable == "difffit":
        add_scales(transformer)
    for name, value in transformer.named_parameters():
        value.requires_grad_(settings.trainable == "all" or trained(name))
    parameters = [value for value in transformer.parameters() if value.requires_grad]
    ema = Ema(parameters, settings.ema_decay, warm_up=False)
    noise, memories, curve = Noise(betas), Memories(settings.memory), Curve(settings.steps)

    def loss_at(step: int, part: int) -> Tensor:
        rows = batch_indices(len(posteriors), settings.batch_size, step, stream_seed(seed, "minimax"))
        stream = torch_stream(seed, "minimax noise", step)
        drawn = draw(posteriors.draw(rows, stream), conditions[rows], null_label(transformer), noise, stream)
        losses, predicted = noised_loss(transformer, noise, drawn, device)
        predicted = predicted.flatten(1)
        base, (represent, diversify) = losses.mean(), terms(predicted, classes[rows], memories)
        remember(memories, classes[rows], drawn.clean.flatten(1).to(device), predicted)
        figures = {"base": base, "representativeness": represent, "diversity": diversify}
        curve.add(step, **{name: float(value.detach()) for name, value in figures.items()})
        return base + settings.lambda_r * represent + settings.lambda_d * diversify

    optimise(
        parameters,
        loss_at,
        Optimisation(
            steps=settings.steps,
            learning_rate=settings.learning_rate,
            weight_decay=0.0,
            clip_norm=float("inf"),
            precision=precision,
        ),
        device=device,
        ema=ema,
        checkpoint=_Remembering(checkpoint or NoCheckpoint(), memories, curve, device),
        checkpoint_seconds=checkpoint_seconds,
        progress=progress,
        label="minimax",
    )
    ema.copy_to(parameters)
    count = sum(value.numel() for value in parameters)
    fold_scales(transformer)
    return {"parameters": count, "curve": curve.ends()}
