"""Minimax diffusion: a diffusion transformer fine-tuned with the minimax criterion, then sampled (Gu et al. 2024)."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from ddbench import step
from ddbench_plugins.diffusion.dit.backbone import TRANSFORMER, base_dit, dit_facts
from ddbench_plugins.methods.dit.distiller import DiT
from ddbench_plugins.methods.minimax.options import MinimaxOptions

if TYPE_CHECKING:
    from ddbench import Context, Step, StepCall
    from ddbench_plugins.diffusion.dit.backbone import DiTBackbone
    from ddbench_plugins.methods.minimax.finetune import FinetuneSettings

FINETUNING = (
    *("finetune_steps", "finetune_batch_size", "finetune_learning_rate"),
    *("lambda_r", "lambda_d", "memory", "ema_decay", "trainable"),
)


class Minimax(DiT):
    """Fine-tune the transformer once for all IPCs, then sample it as the method ``dit`` samples its base."""

    Options = MinimaxOptions
    presets = "presets.toml"

    def parts(self, ctx: Context) -> list[tuple[int, int]]:
        """Return the classes, from and to, of each fine-tuned model."""
        together, count = ctx.options.together, ctx.dataset.num_classes
        return [(start, min(start + together, count)) for start in range(0, count, together)]

    def sampled_from(self, ctx: Context, start: int, stop: int) -> StepCall:
        """Return the step of the fine-tuned model."""
        return self.minimax.of(ctx, start, stop)

    def model(self, ctx: Context, start: int, stop: int) -> DiTBackbone:
        """Return the model fine-tuned on the images of some classes."""
        base, done = base_dit(ctx), self.minimax(ctx, start, stop)
        about = {**base.about, "finetuned": {**done.info["settings"], **done.info["report"]}}
        return replace(base, source=str(done.dir / "model"), revision=None, about=about)

    @step(
        options=(*TRANSFORMER, *FINETUNING),
        ignore=["batch_size"],
        seeds=["minimax finetune"],
        needs=lambda self, ctx, start, stop: [dit_facts.of(ctx)],
        version=3,
        work=lambda self, ctx, start, stop: ctx.options.finetune_steps,
    )
    def minimax(self, ctx: Context, out: Step, start: int, stop: int) -> None:
        """Fine-tune the model on the images of some classes; it depends on the seed, not on IPC."""
        import numpy as np
        import torch

        from ddbench_plugins.diffusion.class_latents import batch_size
        from ddbench_plugins.diffusion.dit import pipeline as dit
        from ddbench_plugins.diffusion.posteriors import encode
        from ddbench_plugins.methods.minimax.finetune import finetune
        from ddbench_plugins.training.engine import Loop

        options: MinimaxOptions = ctx.options
        data, base, classes = ctx.dataset, base_dit(ctx), range(start, stop)
        own, settings = base.labels(), finetuning(options)
        pipeline, size = base.load(), base.resolution()
        rows = np.flatnonzero(np.isin(data.train.labels, classes))
        labels = torch.from_numpy(data.train.labels[rows])
        with ctx.progress("encoding", len(rows)) as advance:
            posteriors = encode(
                pipeline.vae,
                data.train.images,
                size,
                flip=data.flip,
                batch_size=batch_size(options, size),
                rows=rows.tolist(),
                progress=advance,
            )
        with ctx.progress("fine-tuning", settings.steps) as advance:
            report = finetune(
                pipeline.transformer,
                pipeline.scheduler.betas,
                posteriors,
                torch.tensor(own)[labels],
                labels,
                settings,
                seed=ctx.seed("minimax finetune"),
                loop=Loop.of(ctx, advance, out),
            )
        dit.save_dit(pipeline, out.dir / "model", base.class_ids())
        out.info.update(settings=asdict(settings), report=report)


def finetuning(options: MinimaxOptions) -> FinetuneSettings:
    """Return how the model is fine-tuned."""
    from ddbench_plugins.methods.minimax.finetune import FinetuneSettings

    return FinetuneSettings(
        steps=options.finetune_steps,
        batch_size=options.finetune_batch_size,
        learning_rate=options.finetune_learning_rate,
        lambda_r=options.lambda_r,
        lambda_d=options.lambda_d,
        memory=options.memory,
        ema_decay=options.decay,
        trainable=options.trainable,
    )
