"""MGD3: a diffusion model whose samples are led to the modes of their class (Chan-Santiago et al., ICML 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ddbench import UsageError, step
from ddbench_plugins.diffusion.backbone import base_model, model_facts
from ddbench_plugins.diffusion.dit.backbone import TRANSFORMER
from ddbench_plugins.diffusion.hub import STABLE_DIFFUSION, is_hub
from ddbench_plugins.methods.dit.distiller import SAMPLED, DiT, decoder_identity, sampling_work
from ddbench_plugins.methods.mgd3.modes import modes
from ddbench_plugins.methods.mgd3.options import MGD3Options
from ddbench_plugins.methods.selection import ipc_of

if TYPE_CHECKING:
    from ddbench import Context, Step, StepCall
    from ddbench_plugins.diffusion.backbone import Backbone
    from ddbench_plugins.diffusion.dit.backbone import DiTBackbone


class MGD3(DiT):
    """Sample as ``dit`` does, image k of a class led to mode k of the class; nothing is trained."""

    Options = MGD3Options
    presets = "presets.toml"

    def check(self, ctx: Context) -> None:
        """Refuse options of the transformer where there is none, and a preset's weights of it."""
        options: MGD3Options = ctx.options
        if options.conditioning != "text":
            return
        for name in ctx.resolved.explicit.keys() & {"cfg_channels", "small_dit_steps"}:
            raise UsageError(
                f"conditioning=text samples from no transformer, which {name} is an option of.",
                hint=f"Leave method.{name} out.",
            )
        for name, instead in (("backbone", "benjamin-paine/stable-diffusion-v1-5"), ("decoder", "''")):
            if is_hub(getattr(options, name)) and name not in ctx.resolved.explicit:
                raise UsageError(
                    f"conditioning=text samples from no transformer, which the preset's {name}"
                    f" {getattr(options, name)} belongs to.",
                    hint=f"Say -o method.{name}={instead}.",
                )

    def files(self, ctx: Context) -> tuple[str, ...]:
        """Return which files are read of a model on the hub."""
        return STABLE_DIFFUSION if ctx.options.conditioning == "text" else super().files(ctx)

    def sampled_from(self, ctx: Context, start: int, stop: int) -> StepCall:
        """Return the step of the model."""
        return model_facts.of(ctx) if ctx.options.conditioning == "text" else super().sampled_from(ctx, start, stop)

    def model(self, ctx: Context, start: int, stop: int) -> DiTBackbone | Backbone:
        """Return the model."""
        return base_model(ctx) if ctx.options.conditioning == "text" else super().model(ctx, start, stop)

    @step(
        options=(*TRANSFORMER, *SAMPLED, "mode_guidance", "stop"),
        ignore=["batch_size", "conditioning"],
        facts=["ipc"],
        seeds=["dit sampling"],
        needs=lambda self, ctx, start, stop: [self.sampled_from(ctx, start, stop), modes.of(ctx)],
        identity=decoder_identity,
        work=sampling_work,
    )
    def sampled(self, ctx: Context, out: Step, start: int, stop: int) -> None:
        """Sample the images of some classes, the first steps guided."""
        from ddbench_plugins.diffusion.dit.images import sample
        from ddbench_plugins.methods.mgd3.guide import Towards

        options: MGD3Options = ctx.options
        targets = np.load(modes(ctx).dir / "modes.npy", allow_pickle=False)[start * ipc_of(ctx) : stop * ipc_of(ctx)]
        last = round(options.stop * options.steps)
        sample(
            ctx,
            out,
            self.model(ctx, start, stop),
            self.labels(ctx, start, stop),
            lambda rows: Towards(targets[rows.start : rows.stop], options.mode_guidance, last),
        )
