"""The loop of methods that optimise pixels, with snapshots."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

from ddbench_plugins.training.engine import Functions, Loop
from ddbench_plugins.training.whitening import whitening_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from torch import Tensor

    from ddbench import Context, DistilledSet
    from ddbench_plugins.matching.images import SyntheticImages
    from ddbench_plugins.matching.options import PixelOptions


#: Steps between two losses that are read from a GPU.
READ = 10


class Matching(Protocol):
    """What is done again and again; see :class:`ddbench_plugins.training.engine.Work`."""

    def step(self, number: int) -> float | Tensor:
        """Do step ``number`` (from 0) and return its loss; one on a GPU is read now and then, for that waits for it."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from what :meth:`state` returned."""


def run(
    work: Matching, steps: int, loop: Loop | None = None, after: Callable[[int], None] = lambda done: None
) -> float:
    """Do ``steps`` steps and return the last loss; arguments and errors as of :meth:`Loop.run`."""
    loss = math.nan

    def step(number: int) -> dict[str, float]:
        nonlocal loss
        found = work.step(number)
        if not isinstance(found, float) and found.is_cuda and (number + 1) % READ and number + 1 < steps:
            return {}
        loss = float(found)
        return {"loss": loss}

    hint = "Lower the learning rate of the pixels (-o method.lr_img=…)"
    functions = Functions(step, work.state, work.restore)
    (loop or Loop()).run(functions, steps, name="the images", hint=hint, after=after)
    return loss


def optimise(
    ctx: Context,
    description: str,
    work: Matching,
    images: SyntheticImages,
    *,
    iterations: int,
    steps: int = 1,
    space: str = "normalized",
    without: Mapping[str, Any] | None = None,
    also: Collection[int] = (),
    extra: Callable[[], Mapping[str, Any]] = dict,
) -> DistilledSet:
    """Run ``work`` with progress, checkpoints and snapshots, and return the images with the last loss.

    Args:
        ctx: the run; its options are :class:`PixelOptions`.
        description: text of the progress bar.
        work: the steps.
        images: what they change.
        iterations: how many in all.
        steps: of ``work`` per iteration.
        space: of the pixels; ``normalized`` ones are whitened where the data set is used so.
        without: options that a run which ends with a snapshot would not have (an additional last iteration).
        also: iterations that are kept besides those that the options name.
        extra: gives what the set tells of the work done so far.
    """
    options: PixelOptions = ctx.options
    shorter = {"snapshots": (), **(without or {})}

    whitening = whitening_of(ctx) if space == "normalized" else None

    def made(**more: Any) -> DistilledSet:
        distilled = images.distilled(space, extra={**extra(), **more})
        return distilled if whitening is None else whitening.made(distilled)

    def snapshot(done: int) -> None:
        iteration, inside = divmod(done, steps)
        # The last one is the result itself.
        if not inside and iteration in {*options.snapshots, *also} and iteration < iterations:
            ctx.keep(f"{iteration:06d}", made(), iterations=iteration, **shorter)

    with ctx.progress(description, iterations * steps) as advance:
        loss = run(work, iterations * steps, Loop.of(ctx, advance), snapshot)
    return made(loss=round(loss, 6))
