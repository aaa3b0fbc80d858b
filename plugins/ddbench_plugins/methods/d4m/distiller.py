"""D4M: prototypes of latents, denoised under the class's name (Su et al., CVPR 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ddbench import DistilledSet
from ddbench_plugins.diffusion.method import ImageToImage
from ddbench_plugins.methods.d4m.options import D4MOptions

if TYPE_CHECKING:
    from ddbench import Context, Embedding, StepCall


class D4M(ImageToImage):
    """Disentangled diffusion: nothing is trained but, without Stable Diffusion, the small model that stands in for it.

    Latents are a cached step shared by all IPCs and with other methods; prototypes and images are steps, too.
    """

    Options = D4MOptions
    presets = "presets.toml"
    draws = ("safety_checker",)

    def check(self, ctx: Context) -> None:
        """Refuse what cannot be clustered."""
        from ddbench_plugins.methods.d4m.prototypes import chunks_of_classes
        from ddbench_plugins.methods.selection import ipc_of

        chunks_of_classes(ctx, ipc_of(ctx))

    def prototypes(self, ctx: Context) -> StepCall:
        """Return the step of the clusters."""
        from ddbench_plugins.methods.d4m.prototypes import prototypes

        return prototypes.of(ctx)

    def distill(self, ctx: Context) -> DistilledSet:
        """Return ``ctx.ipc`` generated images per class, with their prompts."""
        from ddbench_plugins.diffusion.synthesis import read_prototypes

        images, prototypes = self.images(ctx), read_prototypes(self.prototypes(ctx).done())
        extra: dict[str, Any] = {"backbone": self.model(ctx).about, "clustered": list(prototypes.counts)}
        if ctx.options.checks_images:
            extra["acceptance"] = dict(self.acceptance(ctx).info)
        return DistilledSet(images=images, labels=prototypes.labels, prompts=prototypes.prompts, extra=extra)

    def embedding(self, ctx: Context, label: int) -> Embedding:
        """Return one class's latents with its prototypes; what the released code leaves out is in no cluster."""
        import numpy as np

        from ddbench import Embedding
        from ddbench_plugins.diffusion.class_latents import class_latents, latents_of
        from ddbench_plugins.diffusion.synthesis import read_prototypes
        from ddbench_plugins.methods.d4m.prototypes import arrival_order, prototypes

        options: D4MOptions = ctx.options
        clustered = read_prototypes(prototypes(ctx))
        centres = clustered.centres[clustered.labels == label][:: options.repeats]
        points = latents_of(class_latents(ctx), label).astype(np.float32)
        kept = np.zeros(len(points), bool)
        kept[arrival_order(ctx)[label][: clustered.counts[label]]] = True
        distances = [np.square(points - centre).reshape(len(points), -1).sum(1) for centre in centres]
        clusters = np.where(kept, np.argmin(distances, axis=0), -1)
        return Embedding("latents", points, kept, clusters, centres)
