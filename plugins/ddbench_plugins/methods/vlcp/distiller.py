"""VLCP: captions, fine-tuned diffusion model, image and text prototypes, synthesis (Zou et al., ICCV 2025)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ddbench import DistilledSet, Distiller, UsageError
from ddbench_plugins.methods.vlcp.options import VLCPOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ddbench import Context, Embedding, Stage, Weights


class VLCP(Distiller):
    """Dataset distillation via vision-language category prototypes.

    Every stage is a cached step: captions are shared by all seeds, everything up to the latents by all IPCs.
    """

    Options = VLCPOptions
    presets = "presets.toml"

    def identity(self, ctx: Context) -> Mapping[str, Any]:
        """Return what the captioner reads, and which weights the backbone has."""
        from ddbench_plugins.diffusion.backbone import backbone_identity

        options: VLCPOptions = ctx.options
        facts: dict[str, Any] = backbone_identity(ctx, options)
        if options.text == "prototype" or options.finetune:
            _, _, entry = ctx.use("captioner", options.captioner)
            facts["captioner"] = {"version": entry.spec.cache_version, **_captioner_reads(ctx)}
        return facts

    def weights(self, ctx: Context) -> list[Weights]:
        """Return the published diffusion model, and what the captioner reads."""
        from ddbench_plugins.diffusion.hub import backbone_weights

        options: VLCPOptions = ctx.options
        found = backbone_weights(options)
        if options.text == "prototype" or options.finetune:
            captioner, mine, _ = ctx.use("captioner", options.captioner)
            found += captioner.weights(mine)
        return found

    def stages(self, ctx: Context) -> list[Stage]:
        """Return the cached steps of the method."""
        from ddbench_plugins.methods.vlcp.stages import all_stages

        return all_stages(ctx)

    def distill(self, ctx: Context) -> DistilledSet:
        """Return ``ctx.ipc`` generated images per class, with their text prototypes as prompts."""
        from ddbench_plugins.diffusion.acceptance import acceptance
        from ddbench_plugins.diffusion.backbone import base_model
        from ddbench_plugins.diffusion.captions import caption_training_images
        from ddbench_plugins.diffusion.latents import class_latents
        from ddbench_plugins.diffusion.synthesis import grey, read_images, synthesise
        from ddbench_plugins.methods.vlcp import stages
        from ddbench_plugins.methods.vlcp.information import caption_information

        options: VLCPOptions = ctx.options
        data = ctx.dataset
        if ctx.ipc is None:
            raise UsageError("VLCP needs a number of images per class.", hint="Give it with --ipc.")
        size = options.size or data.image_size
        with_text = options.text == "prototype"
        base = base_model(ctx, options)
        native = base.resolution()  # asked first: a model that is not there shows before hours of captioning
        resolution = options.resolution or native
        captions = caption_training_images(ctx, options.captioner) if with_text or options.finetune else None
        latents = class_latents(ctx, base, resolution)
        prototypes = stages.clustered(ctx, latents, captions if with_text else None, ctx.ipc)
        model = base
        if options.finetune and captions is not None:
            model = stages.finetuned_model(ctx, base, captions, resolution)
        found = stages.read_prototypes(ctx, prototypes, ctx.ipc)
        draw = partial(synthesise, ctx, model, size=size, pad_prompts=options.pad_prompts)
        images = read_images(draw("synthesis", found, found.prompts))
        if data.channels == 1:
            images = grey(images)
        extra: dict[str, Any] = {
            "backbone": model.about,
            "captioner": captions.captioner if captions else None,
            "inliers": list(found.counts),
        }
        if captions:
            if reads := _captioner_reads(ctx):  # an option only names a folder, or a model that may change
                extra["captioner_reads"] = reads
            extra["caption_information"] = caption_information(ctx, captions)
        if options.checks_images:
            extra["acceptance"] = acceptance(ctx, model.digest(), found, images, draw)
        return DistilledSet(images=images, labels=found.labels, prompts=found.prompts, extra=extra)

    def embedding(self, ctx: Context, label: int) -> Embedding:
        """Return one class's latents with its prototypes, with and without outlier removal."""
        import numpy as np

        from ddbench import Embedding, derive_seed
        from ddbench_plugins.diffusion.backbone import base_model
        from ddbench_plugins.diffusion.latents import class_latents, latents_of
        from ddbench_plugins.methods.vlcp import prototypes

        options: VLCPOptions = ctx.options
        base = base_model(ctx, options)
        latents = class_latents(ctx, base, options.resolution or base.resolution())
        points = latents_of(latents, label).astype(np.float32)
        kept = prototypes.inliers(points, options.contamination, options.neighbours)
        name, seed = ctx.dataset.class_names[label], derive_seed(ctx.seed("vlcp clusters"), label)
        found = prototypes.cluster(points[kept], ctx.ipc or 1, seed, name)
        clusters = np.full(len(points), -1, np.int64)
        clusters[kept] = found.members
        before = None
        if len(kept) < len(points):
            everything = prototypes.cluster(points, ctx.ipc or 1, seed, name)
            before = (everything.members, everything.centres)
        return Embedding("latents", points, clusters >= 0, clusters, found.centres, before)


def _captioner_reads(ctx: Context) -> dict[str, Any]:
    """Return which weights or files the captioner reads; nothing of one that reads none."""
    captioner, mine, _ = ctx.use("captioner", ctx.options.captioner)
    return dict(captioner.identity(mine))
