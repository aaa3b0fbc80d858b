"""Plain samples of a class-conditional diffusion transformer: the baseline of minimax diffusion (Gu et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ddbench import DistilledSet, Distiller
from ddbench_plugins.diffusion.dit.options import DiTOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ddbench import Context, Stage, Weights


class DiT(Distiller):
    """Sample every class with guidance; nothing is trained but, without DiT-XL/2, the small model in its place."""

    Options = DiTOptions
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
        from ddbench_plugins.diffusion.dit import ahead

        return ahead.stages(ctx)

    def distill(self, ctx: Context) -> DistilledSet:
        """Return ``ctx.ipc`` sampled images per class."""
        from ddbench_plugins.diffusion.dit.backbone import base_dit
        from ddbench_plugins.diffusion.dit.images import distilled
        from ddbench_plugins.methods.selection import ipc_of

        ipc = ipc_of(ctx)
        return distilled(ctx, [(base_dit(ctx, ctx.options), range(ctx.dataset.num_classes))], ipc)
