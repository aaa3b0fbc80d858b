"""D4M: prototypes of latents, denoised under the class's name (Su et al., CVPR 2024)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ddbench import DistilledSet, Distiller
from ddbench_plugins.methods.d4m.options import D4MOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ddbench import Context, Embedding, Stage, Weights


class D4M(Distiller):
    """Disentangled diffusion: nothing is trained but, without Stable Diffusion, the small model that stands in for it.

    Latents are a cached step shared by all IPCs and with other methods; prototypes and images are steps, too.
    """

    Options = D4MOptions
    presets = "presets.toml"

    def identity(self, ctx: Context) -> Mapping[str, Any]:
        """Return which weights the backbone has."""
        from ddbench_plugins.diffusion.backbone import backbone_identity

        return backbone_identity(ctx, ctx.options)

    def weights(self, ctx: Context) -> list[Weights]:
        """Return the published diffusion model."""
        from ddbench_plugins.diffusion.hub import backbone_weights

        return backbone_weights(ctx.options)

    def stages(self, ctx: Context) -> list[Stage]:
        """Return the cached steps of the method."""
        from ddbench import Stage
        from ddbench_plugins.diffusion import ahead
        from ddbench_plugins.diffusion.small.step import small_stages
        from ddbench_plugins.methods.d4m.prototypes import effort

        return [
            *small_stages(ctx, ctx.options),
            Stage("latents", ahead.latents_effort(ctx, ctx.options)),
            Stage("prototypes", effort(ctx)),
            *ahead.synthesis_stages(ctx, ctx.options),
            ahead.distilled_stage(ctx, ctx.options),
        ]

    def distill(self, ctx: Context) -> DistilledSet:
        """Return ``ctx.ipc`` generated images per class, with their prompts."""
        from ddbench_plugins.diffusion.acceptance import acceptance
        from ddbench_plugins.diffusion.backbone import base_model
        from ddbench_plugins.diffusion.latents import class_latents
        from ddbench_plugins.diffusion.synthesis import grey, read_images, synthesise
        from ddbench_plugins.methods.d4m.prototypes import chunks_of_classes, find_prototypes
        from ddbench_plugins.methods.selection import ipc_of

        options: D4MOptions = ctx.options
        data, ipc = ctx.dataset, ipc_of(ctx)
        chunks_of_classes(ctx, ipc)  # what cannot be clustered shows before a model is loaded
        model = base_model(ctx, options)
        latents = class_latents(ctx, model, options.resolution or model.resolution())
        found = find_prototypes(ctx, latents, ipc)
        draw = partial(
            synthesise, ctx, model, size=options.size or data.image_size, safety_checker=options.safety_checker
        )
        images = read_images(draw("synthesis", found, found.prompts))
        if data.channels == 1:
            images = grey(images)
        extra: dict[str, Any] = {"backbone": model.about, "clustered": list(found.counts)}
        if options.checks_images:
            extra["acceptance"] = acceptance(ctx, model.digest(), found, images, draw)
        return DistilledSet(images=images, labels=found.labels, prompts=found.prompts, extra=extra)

    def embedding(self, ctx: Context, label: int) -> Embedding:
        """Return one class's latents with its prototypes; what the released code leaves out is in no cluster."""
        import numpy as np

        from ddbench import Embedding
        from ddbench_plugins.diffusion.backbone import base_model
        from ddbench_plugins.diffusion.latents import class_latents, latents_of
        from ddbench_plugins.methods.d4m.prototypes import arrival_order, find_prototypes

        options: D4MOptions = ctx.options
        model = base_model(ctx, options)
        latents = class_latents(ctx, model, options.resolution or model.resolution())
        ipc = ctx.ipc or 1
        found = find_prototypes(ctx, latents, ipc)
        centres = found.centres[found.labels == label][:: options.repeats]
        points = latents_of(latents, label).astype(np.float32)
        kept = np.zeros(len(points), bool)
        kept[arrival_order(ctx)[label][: found.counts[label]]] = True
        distances = [np.square(points - centre).reshape(len(points), -1).sum(1) for centre in centres]
        clusters = np.where(kept, np.argmin(distances, axis=0), -1)
        return Embedding("latents", points, kept, clusters, centres)
