"""NCFM: characteristic functions in place of means, in networks between random and trained (Wang et al. 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

import ddbench
from ddbench_plugins.methods.dm.distiller import DM, DmOptions, check_factor
from ddbench_plugins.methods.selection import ipc_of
from ddbench_plugins.training.whitening import refuse_whitening

if TYPE_CHECKING:
    from ddbench_plugins.matching.images import RealImages, SyntheticImages
    from ddbench_plugins.methods.dm.matching import DistributionMatching
    from ddbench_plugins.methods.dm.pairs import PairRecipe


class NcfmOptions(DmOptions):
    """Options of NCFM; the defaults are those of the released configurations."""

    batch_real: int = Field(1024, ge=1, description=DmOptions.model_fields["batch_real"].description)
    lr_img: float = Field(0.01, gt=0, description="learning rate of the pixels")
    factor: int = Field(
        2, ge=1, description="factor × factor training images in each stored image, which networks see one by one"
    )
    distance: Literal["characteristic", "means"] = Field(
        "characteristic", description="of the features of a class: of their characteristic functions, or of their means"
    )
    frequencies: int = Field(
        4096, ge=1, description="at which the functions are compared, drawn anew; 1024 in the paper"
    )
    networks: Literal["interpolated", "random"] = Field(
        "interpolated", description="at a random place between a random network and the same trained; or random ones"
    )
    pool: int = Field(20, ge=1, description="networks that are trained on the real images beforehand")
    pretrain_epochs: int = Field(60, ge=1, description="epochs of each")
    pretrain_batch: int = Field(128, ge=1, description="images per step")
    pretrain_lr: float = Field(0.01, gt=0, description="their learning rate (SGD, momentum 0.9, decay 5e-4)")
    calibration: float = Field(
        1.0,
        ge=0,
        description="weight of the cross-entropy of the images in the trained network, in a step of its own; without"
        " effect on random networks, of which none is trained",
    )
    optimiser: Literal["adamw", "sgd"] = Field("adamw", description="of the pixels: AdamW, or SGD with momentum 0.5")
    weight_decay: float = Field(5e-4, ge=0, description="of AdamW")
    patience: int = Field(500, ge=0, description="steps without a lower loss after which the rate is halved; 0: never")
    step_per_class: bool = Field(True, description="a step after each class; off: one for all classes")
    augment: Literal["idc", "dsa", "none"] = Field(  # type: ignore[assignment]
        "idc", description="of a class's real and synthetic images alike: colour, crop and cutout; one operation (dsa)"
    )
    unit: bool = Field(True, description="hold the pixels in the [0, 1] scale and clamp them before each iteration")


class NCFM(DM):
    """Neural characteristic function matching, without the sampling network that the released settings leave off."""

    Options: ClassVar[type[DmOptions]] = NcfmOptions
    presets: ClassVar[tuple[str, ...]] = ("presets.toml", "ncfm.toml")

    def check(self, ctx: ddbench.Context) -> None:
        """Refuse whitened images, and more than an image can hold, or a class has."""
        refuse_whitening(ctx, "NCFM")
        check_factor(ctx)

    def holds(self, ctx: ddbench.Context) -> tuple[str, ...]:
        """Return that images hold several, where they do."""
        return ("tiles",) if ctx.options.factor > 1 else ()

    def needs(self, ctx: ddbench.Context) -> list[ddbench.StepCall]:
        """Return the networks that are trained beforehand."""
        from ddbench_plugins.methods.dm.pairs import network_pair

        options: NcfmOptions = ctx.options
        numbers = range(options.pool if options.networks == "interpolated" else 0)
        return [*super().needs(ctx), *(network_pair.of(ctx, self._recipe(ctx), number) for number in numbers)]

    @staticmethod
    def _recipe(ctx: ddbench.Context) -> PairRecipe:
        from ddbench_plugins.methods.dm.pairs import PairRecipe

        options: NcfmOptions = ctx.options
        return PairRecipe(options.network, options.pretrain_epochs, options.pretrain_lr, options.pretrain_batch)

    def space(self, ctx: ddbench.Context) -> str:
        """Return the space that the images are in."""
        return "unit" if ctx.options.unit else super().space(ctx)

    def images(self, ctx: ddbench.Context, real: RealImages) -> SyntheticImages:
        """Return DM's images, several in each."""
        import torch

        from ddbench_plugins.methods.dm.tiled import TiledImages, UnitTiles, initial_tiles

        options, ipc = ctx.options, ipc_of(ctx)
        begun = initial_tiles(real, ipc, options.factor, options.init, ctx.seed("dm init"))
        if options.unit:
            images: TiledImages = UnitTiles(begun, ipc, options.lr_img, options.factor, real)
        else:
            images = TiledImages(begun, ipc, options.lr_img, options.factor)
        if options.optimiser == "adamw":
            decay = options.weight_decay
            images.optimiser = torch.optim.AdamW([images.images], options.lr_img, weight_decay=decay)
        return images

    def matching(self, ctx: ddbench.Context, images: SyntheticImages, real: RealImages) -> DistributionMatching:
        """Return DM's matching with NCFM's distance, networks and calibration."""
        from dataclasses import replace

        from ddbench_plugins.matching.draws import fresh_networks
        from ddbench_plugins.methods.dm.characteristic import Characteristic, CharacteristicMatching
        from ddbench_plugins.methods.dm.pairs import network_pair, states
        from ddbench_plugins.training.recipe import from_options

        options: NcfmOptions = ctx.options
        recipe, device = self._recipe(ctx), ctx.machine.device
        numbers = range(options.pool if options.networks == "interpolated" else 0)
        settings = replace(self.settings(ctx), step_per_class=options.step_per_class)
        if options.augment == "idc":
            settings = replace(settings, strategy=("color", "crop", "cutout"), variant="idc")
        return CharacteristicMatching(
            *(images, real, fresh_networks(ctx, options.network), settings),
            from_options(Characteristic, options),
            [states(network_pair(ctx, recipe, number), device) for number in numbers],
        )
