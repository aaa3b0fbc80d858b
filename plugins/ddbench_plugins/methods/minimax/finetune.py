"""Fine-tuning of a diffusion transformer with the minimax criterion (Gu et al. 2024, train_dit.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from ddbench_plugins.diffusion.dit.noise import Noise
from ddbench_plugins.diffusion.dit.pipeline import null_label
from ddbench_plugins.diffusion.dit.train import draw, noised_loss
from ddbench_plugins.diffusion.loop import WRITTEN_OUT, Ema, Optimisation, optimise
from ddbench_plugins.methods.minimax.scales import add_scales, fold_scales, trained
from ddbench_plugins.methods.minimax.terms import Memories, remember, terms
from ddbench_plugins.training.engine import Loop
from ddbench_plugins.training.seeding import batch_indices, make_generator, stream_seed

if TYPE_CHECKING:
    from ddbench_plugins.diffusion.posteriors import Posteriors


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

    def add(self, step: int, **figures: Tensor) -> None:
        """Note the figures of a step (from 0); those in between are not read, for that waits for the device."""
        for end, inside in enumerate((step < self.tenth, step >= self.steps - self.tenth)):
            for name, value in figures.items():
                sums = self.sums.setdefault(name, [0.0, 0.0])
                if inside:
                    sums[end] += float(value.detach())

    def state_dict(self) -> dict[str, list[float]]:
        """Return what a checkpoint needs."""
        return self.sums

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        """Resume from a checkpoint."""
        self.sums = {name: list(values) for name, values in state.items()}

    def ends(self) -> dict[str, list[float]]:
        """Return [first, last] for every figure."""
        return {name: [round(value / self.tenth, 5) for value in values] for name, values in self.sums.items()}


def finetune(
    transformer: Any,
    betas: Tensor,
    posteriors: Posteriors,
    conditions: Tensor,
    classes: Tensor,
    settings: FinetuneSettings,
    *,
    seed: int,
    loop: Loop | None = None,
) -> dict[str, Any]:
    """Fine-tune the transformer in place; it ends with its averaged weights, and without added scales.

    Image i of the ``posteriors`` has the transformer's label ``conditions[i]`` and memories ``classes[i]`` (both int64
    [N]). Returns the number of trained ``parameters`` and the ``curve``: means over the first and the last tenth of the
    steps of the base loss, of 1 − the smallest cosine to real latents, and of the largest cosine to earlier
    predictions, neither weighted.
    """
    loop = loop or Loop()
    transformer.eval().requires_grad_(False)
    if settings.trainable == "difffit":
        add_scales(transformer)
    for name, value in transformer.named_parameters():
        value.requires_grad_(settings.trainable == "all" or trained(name))
    parameters = [value for value in transformer.parameters() if value.requires_grad]
    ema = Ema(parameters, settings.ema_decay, warm_up=False)
    noise, posteriors = Noise(betas.to(loop.device)), posteriors.on(loop.device)
    memories, curve = Memories(settings.memory, loop.device), Curve(settings.steps)

    def loss_at(step: int, part: int) -> Tensor:
        rows = batch_indices(len(posteriors), settings.batch_size, step, stream_seed(seed, "minimax"))
        stream = make_generator(seed, "minimax noise", step)
        drawn = draw(posteriors.draw(rows, stream), conditions[rows], null_label(transformer), noise, stream)
        losses, predicted = noised_loss(transformer, noise, drawn)
        predicted = predicted.flatten(1)
        base, (represent, diversify) = losses.mean(), terms(predicted, classes[rows], memories)
        remember(memories, classes[rows], drawn.clean.flatten(1), predicted)
        curve.add(step, base=base, representativeness=represent, diversity=diversify)
        return base + settings.lambda_r * represent + settings.lambda_d * diversify

    optimise(
        parameters,
        loss_at,
        Optimisation(
            steps=settings.steps,
            learning_rate=settings.learning_rate,
            weight_decay=0.0,
            clip_norm=float("inf"),
            plain_attention=posteriors.mean.shape[-1] <= WRITTEN_OUT,
        ),
        loop,
        name="minimax",
        ema=ema,
        beside={"memories": memories, "curve": curve},
    )
    ema.copy_to(parameters)
    count = sum(value.numel() for value in parameters)
    fold_scales(transformer)
    return {"parameters": count, "curve": curve.ends()}
