"""From a context to a distilled set: the loop with everything the context offers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ddbench_plugins.matching.loop import run

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ddbench import Context, DistilledSet
    from ddbench_plugins.matching.loop import Work
    from ddbench_plugins.matching.options import PixelOptions
    from ddbench_plugins.matching.synthetic import SyntheticImages


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
