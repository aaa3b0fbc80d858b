"""Minimax diffusion: a diffusion transformer fine-tuned with the minimax criterion, then sampled (Gu et al. 2024)."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ddbench import DistilledSet, Distiller
from ddbench_plugins.methods.minimax.options import MinimaxOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ddbench import Context, Effort, Stage, Step, Weights
    from ddbench_plugins.diffusion.dit.backbone import DiTBackbone


class Minimax(Distiller):
    """Fine-tune the transformer once for all IPCs, then sample it as the method ``dit`` samples its base."""

    Options = MinimaxOptions
    presets = "presets.toml"

    def identity(self, ctx: Context) -> Mapping[str, Any]:
        """Return which weights the backbone has."""
        from ddbench_plugins.diffusion.backbone import backbone_identity
        from ddbench_plugins.diffusion.hub import DIT

        return backbone_identity(ctx, ctx.options, DIT)

    def weights(self, ctx: Context) -> list[Weights]:
        """Return the published transformer."""
        from ddbench_plugins.diffusion.dit import ahead

        return ahead.weights(ctx.options)

    def stages(self, ctx: Context) -> list[Stage]:
        """Return the cached steps of the method."""
        from ddbench import Stage
        from ddbench_plugins.diffusion.dit import ahead

        options: MinimaxOptions = ctx.options
        models = -(-ctx.dataset.num_classes // options.together)
        return ahead.stages(ctx, [Stage("minimax", effort(ctx))] * models)

    def distill(self, ctx: Context) -> DistilledSet:
        """Return ``ctx.ipc`` sampled images per class."""
        from ddbench_plugins.diffusion.dit.backbone import base_dit
        from ddbench_plugins.diffusion.dit.images import distilled
        from ddbench_plugins.methods.selection import ipc_of

        options: MinimaxOptions = ctx.options
        ipc, base, count = ipc_of(ctx), base_dit(ctx, ctx.options), ctx.dataset.num_classes
        slices = [range(start, min(start + options.together, count)) for start in range(0, count, options.together)]
        return distilled(ctx, [(finetuned(ctx, base, classes), classes) for classes in slices], ipc)


def effort(ctx: Context) -> Effort:
    """Fine-tuning of one model: steps."""
    from ddbench import Effort
    from ddbench_plugins.diffusion.dit.backbone import facts

    options: MinimaxOptions = ctx.options
    alike = {"backbone": facts(ctx, options), "batch": options.finetune_batch_size, "trainable": options.trainable}
    return Effort(options.finetune_steps, alike)


def finetuned(ctx: Context, base: DiTBackbone, classes: range) -> DiTBackbone:
    """Return the model fine-tuned on the images of some classes; it depends on the seed, not on IPC."""
    import numpy as np

    from ddbench_plugins.diffusion.dit.backbone import DiTBackbone
    from ddbench_plugins.methods.minimax.finetune import FinetuneSettings

    options: MinimaxOptions = ctx.options
    data, own = ctx.dataset, base.labels()
    settings = FinetuneSettings(
        steps=options.finetune_steps,
        batch_size=options.finetune_batch_size,
        learning_rate=options.finetune_learning_rate,
        lambda_r=options.lambda_r,
        lambda_d=options.lambda_d,
        memory=options.memory,
        ema_decay=options.decay,
        trainable=options.trainable,
    )
    inputs = {
        "version": 2,
        "base": base.digest(),
        "dataset": data.fingerprint,
        "flip": data.flip,
        "classes": [classes.start, classes.stop],
        "labels": [own[label] for label in classes],
        "settings": asdict(settings),
        "seed": ctx.seed("minimax finetune"),
        "numerics": ctx.machine.numerics(),
    }

    def build(step: Step) -> None:
        import torch

        from ddbench_plugins.diffusion.dit import pipeline as dit
        from ddbench_plugins.diffusion.dit.posteriors import encode
        from ddbench_plugins.diffusion.latents import batch_size
        from ddbench_plugins.methods.minimax.finetune import finetune
        from ddbench_plugins.training.engine import Loop
        from ddbench_plugins.training.memory import keep_freed_memory

        keep_freed_memory()
        found, size = base.load(), base.resolution()
        rows = np.flatnonzero(np.isin(data.train.labels, classes))
        labels = torch.from_numpy(data.train.labels[rows])
        with ctx.progress("encoding", len(rows)) as advance:
            posteriors = encode(
                found.vae,
                data.train.images,
                size,
                flip=data.flip,
                batch_size=batch_size(options, size),
                rows=rows.tolist(),
                progress=advance,
            )
        with ctx.progress("fine-tuning", settings.steps) as advance:
            report = finetune(
                found.transformer,
                found.scheduler.betas,
                posteriors,
                torch.tensor(own)[labels],
                labels,
                settings,
                seed=inputs["seed"],
                loop=Loop.of(ctx, advance, step),
            )
        dit.save_dit(found, step.dir / "model", base.class_ids())
        step.info.update(report)

    done = ctx.step("minimax", inputs, build, effort=effort(ctx))
    about = {**base.about, "finetuned": {**asdict(settings), **done.info}}
    return DiTBackbone(ctx, str(done.dir / "model"), None, about)
