"""D3HR: images denoised from latents that represent their class where it is nearly normal (Zhao et al., ICML 2025)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench import DistilledSet, UsageError, step
from ddbench_plugins.diffusion.arrays import save_array
from ddbench_plugins.diffusion.class_latents import batch_size
from ddbench_plugins.diffusion.dit.backbone import TRANSFORMER, base_dit, dit_facts
from ddbench_plugins.diffusion.dit.latents import dit_latents, latents_of
from ddbench_plugins.diffusion.small.preset import small_preset
from ddbench_plugins.methods.d3hr.options import D3HROptions
from ddbench_plugins.methods.dit.distiller import SAMPLED, DiT, decoder_identity
from ddbench_plugins.methods.selection import ipc_of

if TYPE_CHECKING:
    from ddbench import Context, Step

#: What the way from an image to noise depends on besides the transformer.
INVERTED = ("steps", "guidance_scale", "cfg_channels", "inversion")


def _images(ctx: Context) -> int:
    options: D3HROptions = ctx.options
    counts = ctx.dataset.train.counts(ctx.dataset.num_classes)
    return sum(min(count, options.inverted or count) for count in counts)


@step(
    options=(*TRANSFORMER, *INVERTED, "inverted"),
    ignore=["batch_size"],
    needs=[dit_facts, dit_latents],
    work=lambda ctx: _images(ctx) * ctx.options.inversion * (1 + (ctx.options.guidance_scale > 1)),
)
def inverted(ctx: Context, out: Step) -> None:
    """Write mean and deviation of each class's inverted latents, ``<label>.npy`` float32 [2, d], for all IPCs."""
    import torch

    from ddbench_plugins.methods.d3hr.domain import Path

    options: D3HROptions = ctx.options
    model, found, done = base_dit(ctx), dit_latents(ctx), 0
    pipeline, batch = model.load(model.compute_dtype), batch_size(options, model.resolution())
    path = Path(pipeline, options.steps, options.guidance_scale, options.cfg_channels)
    with ctx.progress("inverting", _images(ctx)) as advance:
        for label, own in enumerate(model.labels()):
            latents = latents_of(found, label)
            kept = np.linspace(0, len(latents) - 1, min(options.inverted or len(latents), len(latents))).astype(int)
            if not (file := out.dir / f"{label:05d}.npy").exists():
                ends = []
                for start in range(0, len(kept), batch):
                    rows = torch.from_numpy(latents[kept[start : start + batch]]).to(pipeline.transformer.device)
                    ends.append(path.invert(rows, [own] * len(rows), options.inversion).flatten(1).cpu())
                    advance(done + start + len(rows))
                flat = torch.cat(ends)
                save_array(file, torch.stack([flat.mean(0), flat.std(0)]).numpy())
            done += len(kept)


def _identity(self: D3HR, ctx: Context, *classes: int) -> dict[str, Any]:
    """Return which weights a published decoder has, and what is done otherwise than at first, where it matters."""
    options: D3HROptions = ctx.options
    side = options.size or ctx.dataset.image_size
    fits = options.backbone == "small" and not options.small_vae_side and small_preset(ctx, options).resolution == side
    resizing = {} if fits else {"resized": "lanczos"}
    return {**decoder_identity(self, ctx), **resizing, **({"ends": 1} if options.misaligned else {})}


class D3HR(DiT):
    """Denoise, for each class, the group of IPC latents that is most like the class after DDIM inversion."""

    Options = D3HROptions
    presets = "presets.toml"

    def check(self, ctx: Context) -> None:
        """Refuse classes of a single image, which have no deviation."""
        counts = ctx.dataset.train.counts(ctx.dataset.num_classes)
        if few := [name for name, count in zip(ctx.dataset.class_names, counts, strict=True) if count < 2]:
            raise UsageError(
                f"D3HR draws from the mean and deviation of a class's latents, and {few[0]} has a single training"
                " image, which has no deviation."
            )

    @step(
        options=(*TRANSFORMER, *SAMPLED, "inversion", "groups", "skewness", "shared_draws", "misaligned"),
        ignore=["batch_size"],
        facts=["ipc"],
        seeds=["d3hr groups"],
        needs=lambda self, ctx, start, stop: [dit_facts.of(ctx), inverted.of(ctx)],
        identity=_identity,
        work=lambda self, ctx, start, stop: (
            (stop - start) * (ctx.ipc or 1) * ctx.options.inversion * (1 + (ctx.options.guidance_scale > 1))
        ),
    )
    def sampled(self, ctx: Context, out: Step, start: int, stop: int) -> None:
        """Draw groups for some classes, and denoise the best."""
        import torch

        from ddbench_plugins.diffusion.dit.images import decode, loaded
        from ddbench_plugins.methods.d3hr.domain import Path, best_group
        from ddbench_plugins.training.engine import Saving
        from ddbench_plugins.training.pixels import finite
        from ddbench_plugins.training.seeding import make_generator

        options: D3HROptions = ctx.options
        model, ipc, seed = base_dit(ctx), ipc_of(ctx), ctx.seed("d3hr groups")
        pipeline, batch = loaded(ctx, model), batch_size(options, model.resolution())
        path = Path(pipeline, options.steps, options.guidance_scale, options.cfg_channels)
        shape = (-1, pipeline.transformer.config.in_channels, *[pipeline.transformer.config.sample_size] * 2)
        done, own, saving = inverted(ctx), model.labels(), Saving(out, ctx.checkpoint_seconds)
        state = out.load() or {"ends": [], "scores": []}  # of the classes that are done
        ends, scores = state["ends"], state["scores"]
        with ctx.progress("denoising", (stop - start) * ipc) as advance:
            for label in range(start + len(scores), stop):
                mean, std = torch.from_numpy(np.load(done.dir / f"{label:05d}.npy", allow_pickle=False))
                stream = make_generator(seed, "groups", 0 if options.shared_draws else label)
                group, every = best_group(mean, std, ipc, options.groups, options.skewness, stream)
                clean = []
                for rows in group.reshape(shape).split(batch):
                    rows = rows.to(pipeline.transformer.device)
                    labels = [own[label]] * len(rows)
                    clean.append(path.denoise(rows, labels, options.inversion, misaligned=options.misaligned).cpu())
                ends.append(torch.cat(clean))
                scores.append([float(every.min()), float(every.mean())])
                if saving.due():
                    saving.save(state)
                advance((label + 1 - start) * ipc)
        out.info.update(score=_mean(scores, 0), score_of_all=_mean(scores, 1))
        decode(ctx, out, pipeline, finite(torch.cat(ends).numpy(), "denoised latents"), lanczos=True)

    def distill(self, ctx: Context) -> DistilledSet:
        """Return ``ctx.ipc`` images per class, and how like their class the chosen groups are (lower is better)."""
        found = super().distill(ctx)
        groups = self.sampled(ctx, *self.parts(ctx)[0]).info
        return replace(found, extra={**found.extra, "groups": dict(groups)})


def _mean(values: list[list[float]], column: int) -> float:
    return round(float(np.mean([row[column] for row in values])), 5)
