"""MGD3: a diffusion transformer whose samples are led to the modes of their class (Chan-Santiago et al., ICML 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ddbench import step
from ddbench_plugins.diffusion.dit.backbone import TRANSFORMER, dit_facts
from ddbench_plugins.methods.dit.distiller import SAMPLED, DiT, decoder_identity, sampling_work
from ddbench_plugins.methods.mgd3.modes import modes
from ddbench_plugins.methods.mgd3.options import MGD3Options
from ddbench_plugins.methods.selection import ipc_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ddbench import Context, Step
    from ddbench_plugins.diffusion.dit.sample import Adjust


class MGD3(DiT):
    """Sample as ``dit`` does, image k of a class led to mode k of the class; nothing is trained."""

    Options = MGD3Options
    presets = "presets.toml"

    @step(
        options=(*TRANSFORMER, *SAMPLED, "mode_guidance", "stop"),
        ignore=["batch_size"],
        facts=["ipc"],
        seeds=["dit sampling"],
        needs=lambda self, ctx, start, stop: [dit_facts.of(ctx), modes.of(ctx)],
        identity=decoder_identity,
        work=sampling_work,
    )
    def sampled(self, ctx: Context, out: Step, start: int, stop: int) -> None:
        """Sample the images of some classes, the first steps guided."""
        from ddbench_plugins.diffusion.dit.images import sample

        options: MGD3Options = ctx.options
        targets = np.load(modes(ctx).dir / "modes.npy", allow_pickle=False)[start * ipc_of(ctx) : stop * ipc_of(ctx)]
        last = round(options.stop * options.steps)
        sample(
            ctx,
            out,
            self.model(ctx, start, stop),
            self.labels(ctx, start, stop),
            lambda rows: towards(targets[rows.start : rows.stop], options.mode_guidance, last),
        )


def towards(targets: NDArray[np.float32], weight: float, last: int) -> Adjust:
    """Return what leads images to ``targets`` [n, 4, h, w]: λ·σ·(m − x̂₀) in the steps of an index above ``last``.

    That is the paper's Algorithm 1; its equation 6, taken literally, leads away from the mode.
    """
    import torch

    def adjust(index: int, clean: Tensor, deviation: Tensor, rows: slice) -> Tensor:
        if index <= last:
            return torch.zeros_like(clean)
        return weight * deviation * (torch.from_numpy(targets[rows]).to(clean) - clean)

    return adjust
