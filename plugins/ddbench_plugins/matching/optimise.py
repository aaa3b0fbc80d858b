"""The loop of methods that optimise pixels: progress with the loss, checkpoints, snapshots."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

from ddbench import DivergedError
from ddbench_plugins.training.memory import keep_freed_memory
from ddbench_plugins.training.saving import Saving

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from ddbench import Context, DistilledSet
    from ddbench_plugins.matching.images import SyntheticImages
    from ddbench_plugins.matching.options import PixelOptions
    from ddbench_plugins.training.saving import Checkpoint


class Work(Protocol):
    """What is done again and again. All randomness of a step must come from a seed and its number."""

    def step(self, number: int) -> float:
        """Do step ``number`` (from 0) and return its loss."""

    def state(self) -> dict[str, Any]:
        """Return, between two steps, what a checkpoint needs: tensors and plain data."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` returned."""


def run(
    work: Work,
    steps: int,
    *,
    checkpoint: Checkpoint | None = None,
    checkpoint_seconds: float = 60.0,
    progress: Callable[[int, int, str], None] = lambda done, total, text: None,
    snapshots: Collection[int] = (),
    snapshot: Callable[[int], None] = lambda done: None,
) -> float:
    """Do ``steps`` steps and return the last loss; a killed and resumed run ends with the same images.

    Args:
        work: what a step is.
        steps: how many, counted from the very beginning.
        checkpoint, checkpoint_seconds: where and how often the state is kept.
        progress: gets steps done, steps in all, the loss in words.
        snapshots: numbers of steps done after which ``snapshot`` is called with that number. It may be called again
            after a resumption.
        snapshot: keeps the images somewhere.

    Raises:
        DivergedError: the loss is not finite.
    """
    keep_freed_memory()
    first, loss = 0, math.nan
    state = checkpoint.load() if checkpoint else None
    if state is not None:
        first, loss = state["done"], state["loss"]
        work.restore(state["work"])
        progress(first, steps, f"loss {loss:.4g}")
    saving = Saving(checkpoint, checkpoint_seconds)
    for done in range(first + 1, steps + 1):
        loss = work.step(done - 1)
        if not math.isfinite(loss):
            raise DivergedError(
                f"The matching loss is not finite in step {done} of {steps}.",
                hint="Lower the learning rate of the pixels (-o method.lr_img=…), or try --precision fp32.",
            )
        progress(done, steps, f"loss {loss:.4g}")
        if done in snapshots:
            snapshot(done)
        if done < steps and saving.due():
            saving.save({"done": done, "loss": loss, "work": work.state()})
    return loss


def optimise(
    ctx: Context,
    description: str,
    work: Work,
    images: SyntheticImages,
    *,
    iterations: int,
    steps: int = 1,
    space: str = "normalized",
    without: Mapping[str, Any] | None = None,
    also: Collection[int] = (),
) -> DistilledSet:
    """Run ``work`` with progress, checkpoints and snapshots, and return the images with the last loss.

    Args:
        ctx: the run; its options are :class:`PixelOptions`.
        description: what the progress bar says.
        work: the steps.
        images: what they change.
        iterations: how many in all.
        steps: of ``work`` per iteration.
        space: of the pixels.
        without: options that a run which ends with a snapshot would not have (an additional last iteration).
        also: iterations that are kept besides those that the options name.
    """
    options: PixelOptions = ctx.options
    shorter = {"snapshots": (), **(without or {})}

    def snapshot(done: int) -> None:
        iteration = done // steps
        ctx.keep(f"{iteration:06d}", images.distilled(space), iterations=iteration, **shorter)

    with ctx.progress(description, iterations * steps) as advance:
        loss = run(
            work,
            iterations * steps,
            checkpoint=ctx.checkpoint,
            checkpoint_seconds=ctx.checkpoint_seconds,
            progress=advance,
            # The last one is the result itself.
            snapshots={iteration * steps for iteration in (*options.snapshots, *also) if iteration < iterations},
            snapshot=snapshot,
        )
    return images.distilled(space, extra={"loss": round(loss, 6)})
