"""CaO2: samples of a diffusion transformer, chosen by a classifier and refined (Wang et al., ICCV 2025)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ddbench import DistilledSet, step
from ddbench_plugins.diffusion.dit.backbone import TRANSFORMER, base_dit, dit_facts
from ddbench_plugins.methods.cao2.options import CaO2Options
from ddbench_plugins.methods.dit.distiller import SAMPLED, DiT, decoder_identity, sampling_work
from ddbench_plugins.methods.selection import ipc_of

if TYPE_CHECKING:
    from ddbench import Context, Step, StepCall

REFINED = ("refine_steps", "refine_rate", "refine_label", "refine_times", "largest", "raw_times")


def _selector(ctx: Context) -> StepCall:
    from ddbench_plugins.teachers.observers import teacher_of

    return teacher_of(ctx, ctx.options.selector)


class CaO2(DiT):
    """Sample as ``dit`` does, more images than are needed; keep those a classifier is sure of, and refine them."""

    Options = CaO2Options
    presets = "presets.toml"

    @step(
        options=(*TRANSFORMER, *SAMPLED, "candidates"),
        ignore=["batch_size"],
        facts=["ipc"],
        seeds=["dit sampling"],
        needs=lambda self, ctx, start, stop: [dit_facts.of(ctx)],
        identity=decoder_identity,
        work=lambda self, ctx, start, stop: ctx.options.candidates * sampling_work(self, ctx, start, stop),
    )
    def drawn(self, ctx: Context, out: Step, start: int, stop: int) -> None:
        """Sample the images of some classes that are chosen from."""
        from ddbench_plugins.diffusion.dit.images import sample

        labels = np.repeat(np.arange(start, stop), ipc_of(ctx) * ctx.options.candidates)
        sample(ctx, out, base_dit(ctx), labels)

    @step(
        options=(*TRANSFORMER, *SAMPLED, "candidates", "selector", "order", *REFINED),
        ignore=["batch_size"],
        facts=["ipc"],
        seeds=["cao2 refinement"],
        needs=lambda self, ctx, start, stop: [dit_facts.of(ctx), self.drawn.of(ctx, start, stop), _selector(ctx)],
        identity=decoder_identity,
        work=lambda self, ctx, start, stop: 3 * (stop - start) * (ctx.ipc or 1) * (1 + ctx.options.refine_steps),
    )
    def sampled(self, ctx: Context, out: Step, start: int, stop: int) -> None:
        """Choose among the samples of some classes and refine what was chosen."""
        from ddbench_plugins.diffusion.acceptance import as_data
        from ddbench_plugins.diffusion.class_latents import batch_size
        from ddbench_plugins.diffusion.dit import images
        from ddbench_plugins.diffusion.dit.pipeline import null_label
        from ddbench_plugins.diffusion.synthesis import read_images
        from ddbench_plugins.methods.cao2.refine import Refinement, chosen, refine
        from ddbench_plugins.teachers.observers import get_teacher
        from ddbench_plugins.training.seeding import make_generator

        options: CaO2Options = ctx.options
        drawn, model = self.drawn(ctx, start, stop), base_dit(ctx)
        labels = np.repeat(np.arange(start, stop), ipc_of(ctx) * options.candidates)
        selector = get_teacher(ctx, options.selector, floor=False)
        sure = selector.probabilities(as_data(read_images(drawn), ctx.dataset.channels))
        places = chosen(sure, labels, ipc_of(ctx), least=options.order == "least sure")
        right = sure.argmax(1) == labels
        out.info.update(
            candidates_recognised=round(float(right.mean()), 4), chosen_recognised=round(float(right[places].mean()), 4)
        )
        latents, pipeline = images.read_latents(drawn)[places], images.loaded(ctx, model)
        own = np.asarray(model.labels())[labels[places]]
        if options.refine_label == "none":
            own = np.full(len(own), null_label(pipeline.transformer))
        ranks, seed = np.arange(len(places)) % ipc_of(ctx), ctx.seed("cao2 refinement")
        how = Refinement(
            steps=options.refine_steps,
            rate=options.refine_rate,
            sampling_steps=options.steps,
            times=options.refine_times,
            largest=options.largest,
            raw_times=options.raw_times,
        )
        with ctx.progress("refining", len(places)) as advance:
            for start in range(0, len(places), images.CHUNK):
                if (out.dir / f"{start:07d}.npy").exists():
                    continue  # of a run that was interrupted
                rows = slice(start, start + images.CHUNK)
                pairs = zip(labels[places][rows], ranks[rows], strict=True)
                refined = refine(
                    pipeline,
                    latents[rows],
                    own[rows].tolist(),
                    [make_generator(seed, *map(int, pair)) for pair in pairs],
                    how,
                    batch_size=batch_size(options, model.resolution()),
                    progress=lambda done, before=start: advance(before + done, len(places)),
                )
                images.decode(ctx, out, pipeline, refined, first=start)

    def distill(self, ctx: Context) -> DistilledSet:
        """Return ``ctx.ipc`` chosen images per class, and how many are recognised by what chose them."""
        found = super().distill(ctx)
        chosen = self.sampled(ctx, *self.parts(ctx)[0]).info
        return replace(found, extra={**found.extra, "selection": dict(chosen)})
