"""VLCP: captions, fine-tuned diffusion model, image and text prototypes, synthesis (Zou et al., ICCV 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ddbench import DistilledSet, UsageError
from ddbench_plugins.diffusion.method import ImageToImage
from ddbench_plugins.diffusion.replicas import processes
from ddbench_plugins.methods.vlcp import stages
from ddbench_plugins.methods.vlcp.information import caption_information
from ddbench_plugins.methods.vlcp.options import VLCPOptions

if TYPE_CHECKING:
    from ddbench import Context, Embedding, StepCall, Weights
    from ddbench_plugins.diffusion.backbone import Backbone


class VLCP(ImageToImage):
    """Dataset distillation via vision-language category prototypes.

    Every stage is a cached step: captions are shared by all seeds, everything up to the latents by all IPCs.
    """

    Options = VLCPOptions
    presets = "presets.toml"
    draws = ("pad_prompts",)
    chooses = ("finetune",)

    def check(self, ctx: Context) -> None:
        """Refuse prompts that cannot be swapped, stop words that cannot be read, and no number of processes."""
        options: VLCPOptions = ctx.options
        if options.finetune:
            processes(ctx.machine.device)
        if options.text == "swapped" and ctx.ipc == 1:
            raise UsageError(
                "Prompts cannot be swapped between the clusters of a class at IPC 1.", hint="Choose a larger IPC."
            )
        if options.text != "label" and options.stop_words not in ("sklearn", "none"):
            stages.text_rules(options)

    def identity(self, ctx: Context) -> dict[str, Any]:
        """Return what the captioner reads, and which weights the backbone has."""
        facts = super().identity(ctx)
        if _is_captioned(ctx):
            _, _, entry = ctx.use("captioner", ctx.options.captioner)
            facts["captioner"] = {"version": entry.spec.cache_version, **_captioner_reads(ctx)}
        return facts

    def weights(self, ctx: Context) -> list[Weights]:
        """Return the published diffusion model, and what the captioner reads."""
        models = super().weights(ctx)
        if _is_captioned(ctx):
            captioner, mine, _ = ctx.use("captioner", ctx.options.captioner)
            models += captioner.weights(mine)
        return models

    def needs(self, ctx: Context) -> list[StepCall]:
        """Return the images, and what is measured on them and on the captions."""
        return [*super().needs(ctx), *([caption_information.of(ctx)] if _is_captioned(ctx) else [])]

    def prototypes(self, ctx: Context) -> StepCall:
        """Return the step of the clusters and their texts."""
        return stages.prototypes.of(ctx)

    def drawn_by(self, ctx: Context) -> StepCall:
        """Return the step of the fine-tuned model, if it is to be fine-tuned."""
        if not ctx.options.finetune:
            return super().drawn_by(ctx)
        return stages.finetuned.of(ctx)

    def model(self, ctx: Context) -> Backbone:
        """Return the fine-tuned model, if it is to be fine-tuned."""
        return stages.finetuned_model(ctx) if ctx.options.finetune else super().model(ctx)

    def distill(self, ctx: Context) -> DistilledSet:
        """Return ``ctx.ipc`` generated images per class, with their text prototypes as prompts."""
        from ddbench_plugins.diffusion.synthesis import read_prototypes

        options: VLCPOptions = ctx.options
        images, prototypes = self.images(ctx), read_prototypes(self.prototypes(ctx).done())
        extra: dict[str, Any] = {
            "backbone": self.model(ctx).about,
            "captioner": options.captioner if _is_captioned(ctx) else None,
            "inliers": list(prototypes.counts),
        }
        if _is_captioned(ctx):
            if reads := _captioner_reads(ctx):  # an option only names a folder, or a model that may change
                extra["captioner_reads"] = reads
            extra["caption_information"] = dict(caption_information(ctx).info)
        if options.checks_images:
            extra["acceptance"] = dict(self.acceptance(ctx).info)
        return DistilledSet(images=images, labels=prototypes.labels, prompts=prototypes.prompts, extra=extra)

    def embedding(self, ctx: Context, label: int) -> Embedding:
        """Return one class's latents with its prototypes, with and without outlier removal."""
        import numpy as np

        from ddbench import Embedding, derive_seed
        from ddbench_plugins.diffusion.class_latents import class_latents, latents_of
        from ddbench_plugins.methods.vlcp import prototypes

        options: VLCPOptions = ctx.options
        points = latents_of(class_latents(ctx), label).astype(np.float32)
        kept = prototypes.inliers(points, options.contamination, options.neighbours)
        name, seed = ctx.dataset.class_names[label], derive_seed(ctx.seed("vlcp clusters"), label)
        after = prototypes.cluster(points[kept], ctx.ipc or 1, seed, name)
        clusters = np.full(len(points), -1, np.int64)
        clusters[kept] = after.members
        before = None
        if len(kept) < len(points):
            everything = prototypes.cluster(points, ctx.ipc or 1, seed, name)
            before = (everything.members, everything.centres)
        return Embedding("latents", points, clusters >= 0, clusters, after.centres, before)


def _captioner_reads(ctx: Context) -> dict[str, Any]:
    """Return which weights or files the captioner reads; nothing of one that reads none."""
    captioner, mine, _ = ctx.use("captioner", ctx.options.captioner)
    return dict(captioner.identity(mine))


def _is_captioned(ctx: Context) -> bool:
    options: VLCPOptions = ctx.options
    return options.text != "label" or options.finetune
