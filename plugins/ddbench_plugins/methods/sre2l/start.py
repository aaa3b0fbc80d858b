"""What images begin as instead of noise: real ones, by chance or of medium difficulty, or RDED's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import ddbench
from ddbench_plugins.methods.selection import ipc_of
from ddbench_plugins.methods.sre2l.distiller import SRe2L

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

Init = Literal["noise", "random", "median", "rded"]
INIT = (
    "what the images begin as: noise, random training images, those around the median of the teacher's confidence in"
    " their class, or what RDED makes of them with its own options (-o method/rded.pool=…)"
)
TEACHER = ("network", "normalisation", "teacher_file")


class FromImages(SRe2L):
    """SRe2L that may begin with real images; its options have ``init``."""

    def identity(self, ctx: ddbench.Context) -> dict[str, Any]:
        """Return which teacher is asked, and what RDED does where it begins."""
        if ctx.options.init != "rded":
            return super().identity(ctx)
        rded = _rded(ctx)
        return {**super().identity(ctx), "rded": {**rded.ctx.options_by_content(), **rded.plugin.identity(rded.ctx)}}

    def needs(self, ctx: ddbench.Context) -> list[ddbench.StepCall]:
        """Return the teacher, and what the images begin as."""
        first = {"median": confidences, "rded": rded_images}.get(ctx.options.init)
        return [*super().needs(ctx), *([first.of(_neutral(ctx))] if first else [])]

    def initial(self, ctx: ddbench.Context) -> Tensor | None:
        """Return the images to begin with, class by class."""
        import torch

        data, ipc = ctx.dataset, ipc_of(ctx)
        match ctx.options.init:
            case "noise":
                return None
            case "rded":
                pixels = np.load(rded_images(_neutral(ctx)).dir / "images.npy", allow_pickle=False)
            case init:
                pixels = data.train.images.batch(self._chosen(ctx, init, ipc).tolist(), data.image_size)
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))

    @staticmethod
    def _chosen(ctx: ddbench.Context, init: str, ipc: int) -> NDArray[np.int64]:
        """Return positions of ``ipc`` training images of each class."""
        members = [ctx.dataset.train.of_class(label) for label in range(ctx.dataset.num_classes)]
        if init == "random":
            return np.concatenate(
                [ctx.rng("sre2l start", label).permutation(own)[:ipc] for label, own in enumerate(members)]
            )
        confidence = np.load(confidences(_neutral(ctx)).dir / "confidences.npy", allow_pickle=False)
        return np.concatenate([own[around_median(confidence[own], ipc)] for own in members])


def around_median(confidence: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return indices of ``count`` values from the middle of their order outwards, by turns above and below it.

    The middle of n values is that of rank ⌈n/2⌉, the least being of rank 0 (DELT data_selection.py).
    """
    ranks = np.arange(len(confidence)) - (len(confidence) + 1) // 2
    outwards = np.lexsort((ranks < 0, abs(ranks)))
    order: NDArray[np.int64] = np.argsort(confidence, kind="stable")[outwards[:count]]
    return order


def _teacher(ctx: ddbench.Context) -> ddbench.StepCall:
    from ddbench_plugins.teachers.observers import teacher_of

    return teacher_of(ctx, *(getattr(ctx.options, name) for name in TEACHER))


@ddbench.step(
    options=TEACHER,
    needs=lambda ctx: [_teacher(ctx)],
    work=lambda ctx: len(ctx.dataset.train),
    version=2,  # of which images begin by them
)
def confidences(ctx: ddbench.Context, out: ddbench.Step) -> None:
    """Keep the teacher's probability of the true class of every training image, float32 [N]."""
    import torch

    from ddbench_plugins.teachers.observers import get_teacher
    from ddbench_plugins.training.engine import Functions, Loop

    train, classes, size = ctx.dataset.train, ctx.dataset.num_classes, ctx.dataset.image_size
    teacher = get_teacher(ctx, *(getattr(ctx.options, name) for name in TEACHER))
    confidence = torch.zeros(len(train))

    def judge(label: int) -> dict[str, float]:
        members = train.of_class(label)
        probabilities = teacher.probabilities(train.images.batch(members.tolist(), size))
        confidence[members] = torch.from_numpy(probabilities[:, label])
        return {}

    with ctx.progress("judging images", classes) as advance:
        work = Functions(judge, lambda: {"confidence": confidence}, lambda state: confidence.copy_(state["confidence"]))
        Loop.of(ctx, advance, out).run(work, classes, name="the confidences")
    np.save(out.dir / "confidences.npy", confidence.numpy())


def _neutral(ctx: ddbench.Context) -> ddbench.Context:
    """Return a context in which ``-o method.…`` is not meant for RDED."""
    return ctx.without_options_of("method")


def _rded(ctx: ddbench.Context) -> Any:
    return _neutral(ctx).use("method", "rded")


@ddbench.step(
    uses=[("method", "rded")],
    needs=lambda ctx: _rded(ctx).steps(),
    seeds=("rded pool", "rded crops"),
    facts=("ipc",),
    work=lambda ctx: _rded(ctx).plugin.work(_rded(ctx).ctx),
)
def rded_images(ctx: ddbench.Context, out: ddbench.Step) -> None:
    """Keep RDED's distilled images, uint8 [K·ipc, S, S, C], class by class."""
    plugin, mine, _ = ctx.use("method", "rded")
    np.save(out.dir / "images.npy", plugin.distill(mine).images)
