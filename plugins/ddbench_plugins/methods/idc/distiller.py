"""IDC and IDC-I: images whose gradients are those of their class, in networks in training on the real images."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

import ddbench
from ddbench_plugins.matching.options import PRECISIONS, PixelOptions
from ddbench_plugins.methods.selection import ipc_of
from ddbench_plugins.training.recipe import refuse_unused
from ddbench_plugins.training.whitening import refuse_whitening

if TYPE_CHECKING:
    from torch import Tensor

    from ddbench_plugins.matching.images import RealImages
    from ddbench_plugins.methods.idc.images import FormedImages
    from ddbench_plugins.methods.idc.matching import ClassMatching, Matching
    from ddbench_plugins.training.dsa import Operator

#: The data set with a cutout and a base size of its own.
MNIST = "mnist"


class IdcOneOptions(PixelOptions):
    """Options of IDC with one training image per stored image (IDC-I); defaults of the released code for CIFAR."""

    network: str = Field(
        "convnet-3",
        description="network whose gradients are matched",
        json_schema_extra={"names": "network", "fresh": True},
    )
    normalisation: Literal["dataset", "cifar10"] = Field(
        "dataset", description="constants of the networks' inputs; the released code uses CIFAR-10's on CIFAR-100"
    )
    factor: int | None = Field(
        1,
        ge=1,
        description="factor × factor training images in each stored image; 2 up to 64 pixels, else 3, when none",
    )
    formation: Literal["single", "multi", "bound"] = Field(
        "single",
        description="what is decoded while matching: single: factor² of each; multi: those of all factors from 1 on;"
        " bound: smaller factors for some, at most 128 per class",
    )
    init: Literal["real", "noise", "mix"] = Field(
        "real", description="what the images begin as: training images, noise, or factor² training images in each"
    )
    init_first: bool = Field(False, description="begin with the first training images of a class, as the released code")

    # The loop
    iterations: int = Field(2000, ge=1, description="networks, one after the other")
    inner: int = Field(100, ge=1, description="matching steps per network (inner_loop)")
    batch_real: int = Field(64, ge=1, description="real images per class and step, and per step of the network")
    lr_img: float = Field(
        5e-3,
        gt=0,
        description="base learning rate of the pixels (SGD, momentum 0.5), multiplied by IPC/10 and"
        " (size/base size)²: 32, 28 for MNIST, 224 above 64 pixels",
    )
    match: Literal["gradients", "features"] = Field(
        "gradients", description="match gradients of the convolutions, or the mean feature of a class"
    )
    metric: Literal["mse", "l1", "l1_mean", "rows"] = Field(
        "mse",
        description="summed squared or absolute differences, the mean absolute difference per output unit, or"
        " 1 − cosine per output unit (cos in the released code)",
    )
    biases: bool = Field(False, description="match gradients of biases and norms as well")
    classifier: bool = Field(False, description="match gradients of the last layer as well")
    cutout: bool | None = Field(
        None,
        description="cutout after colour and crop while matching; all but MNIST with several images in one when none",
    )
    step_per_class: bool = Field(
        True, description="a step of SGD after each class, as in the released code; off: one for all classes"
    )
    clamp_final: bool = Field(True, description="clamp the finished images to [0, 1]; the released code does not")

    # The network
    train_images: int = Field(2000, ge=0, description="real images it is trained on after each step (n_data)")
    early_epochs: int = Field(0, ge=0, description="epochs on all real images before it is used (early)")
    cutmix: float | None = Field(
        None, ge=0, le=1, description="share of CutMix batches in its training; 0.5 up to 64 pixels, else 1, when none"
    )
    lr_net: float = Field(0.01, gt=0, description="its learning rate (SGD, momentum 0.9)")
    weight_decay: float = Field(5e-4, ge=0, description="its weight decay")

    @model_validator(mode="after")
    def _features_have_no_rows(self) -> Self:
        if self.match == "features" and self.metric == "rows":
            raise ValueError("match=features compares vectors, which metric=rows leaves out; choose mse, l1 or l1_mean")
        return self


class IdcOptions(IdcOneOptions):
    """Options of IDC."""

    factor: int | None = Field(None, ge=1, description=IdcOneOptions.model_fields["factor"].description)
    init: Literal["real", "noise", "mix"] = Field("mix", description=IdcOneOptions.model_fields["init"].description)


class IDCOne(ddbench.Distiller):
    """Efficient dataset condensation without multi-formation."""

    Options: ClassVar[type[IdcOneOptions]] = IdcOneOptions
    presets: ClassVar[tuple[str, ...]] = ("presets.toml",)
    precisions = PRECISIONS

    def holds(self, ctx: ddbench.Context) -> tuple[str, ...]:
        """Return that images hold several, where they do."""
        return ("tiles",) if factor_of(ctx) > 1 else ()

    def check(self, ctx: ddbench.Context) -> None:
        """Refuse whitening, more images in a row than pixels, networks without what is matched, and unused options."""
        options: IdcOneOptions = ctx.options
        refuse_whitening(ctx, "IDC, IDC-I and DREAM")
        if factor_of(ctx) > ctx.dataset.image_size:
            raise ddbench.UsageError(
                f"Images of {ctx.dataset.image_size} pixels cannot hold {factor_of(ctx)} images in a row."
            )
        if options.match == "gradients" and "network" in ctx.resolved.explicit:  # those of presets fit
            from ddbench_plugins.methods.idc.matching import matched

            network = ctx.build_network(options.network, seed=0)
            matched(network, biases=options.biases, classifier=options.classifier)
        if options.match == "features":
            refuse_unused(ctx, ("biases", "classifier"), "No gradients are matched (match=features)")
        if factor_of(ctx) == 1:
            refuse_unused(ctx, ("formation",), "Each image holds one (factor=1)")
        if options.init == "noise":
            refuse_unused(ctx, ("init_first",), "No image begins as training images (init=noise)")
        if not options.train_images and not options.early_epochs:
            refuse_unused(ctx, ("cutmix", "lr_net", "weight_decay"), "Networks are not trained (train_images=0)")

    def identity(self, ctx: ddbench.Context) -> dict[str, str]:
        """Return the name that the released code asks for, which no other part of a key has; and how it bounds."""
        named = {"rules of": MNIST} if ctx.dataset.name == MNIST else {}
        bounded = ctx.options.formation == "bound" and factor_of(ctx) > 1
        return {**named, **({"bounded": "as released"} if bounded else {})}

    def work(self, ctx: ddbench.Context) -> float:
        """Images × steps."""
        options: IdcOneOptions = ctx.options
        return ctx.dataset.num_classes * (ctx.ipc or 1) * options.iterations * options.inner

    def distill(self, ctx: ddbench.Context) -> ddbench.DistilledSet:
        """Return ``ctx.ipc`` optimised images per class in the [0, 1] scale, with the factor to decode them by."""
        from ddbench_plugins.matching.images import RealImages
        from ddbench_plugins.matching.optimise import optimise

        options: IdcOneOptions = ctx.options
        real = RealImages.of(ctx, options.normalisation)
        images = self.images(ctx, real)
        return optimise(
            ctx,
            "matching classes",
            self.matching(ctx, images, real),
            images,
            iterations=options.iterations,
            steps=options.inner,
            space="unit",
        )

    def matching(self, ctx: ddbench.Context, images: FormedImages, real: RealImages) -> ClassMatching:
        """Return what is done again and again."""
        from ddbench_plugins.matching.draws import fresh_networks
        from ddbench_plugins.methods.idc.matching import ClassMatching

        return ClassMatching(
            images, real, fresh_networks(ctx, ctx.options.network, one_by_one=True), self.settings(ctx)
        )

    def initial(self, ctx: ddbench.Context, real: RealImages) -> Tensor:
        """Return the pixels [K·ipc, C, S, S] in [0, 1], class by class, that images begin as."""
        from ddbench_plugins.methods.idc.images import initial_images

        options, seed = ctx.options, ctx.seed("idc init")
        return initial_images(real, ipc_of(ctx), options.init, factor_of(ctx), seed, options.init_first)

    def images(self, ctx: ddbench.Context, real: RealImages) -> FormedImages:
        """Return what is optimised, as it begins."""
        from ddbench_plugins.methods.idc.images import FormedImages

        options: IdcOneOptions = ctx.options
        ipc = ipc_of(ctx)
        return FormedImages(
            self.initial(ctx, real),
            ipc,
            options.lr_img * ipc / 10 * (ctx.dataset.image_size / base_size(ctx.dataset)) ** 2,
            factor=factor_of(ctx),
            formation=options.formation,
            clamp_final=options.clamp_final,
        )

    @staticmethod
    def settings(ctx: ddbench.Context) -> Matching:
        """Return how a step of the matching is made."""
        from ddbench_plugins.methods.idc.matching import Matching
        from ddbench_plugins.training.idc_recipe import is_small
        from ddbench_plugins.training.recipe import from_options

        options: IdcOneOptions = ctx.options
        by_rule = not (ctx.dataset.name == MNIST and factor_of(ctx) > 1)
        cutout = by_rule if options.cutout is None else options.cutout
        cutmix = (0.5 if is_small(ctx.dataset) else 1.0) if options.cutmix is None else options.cutmix
        strategy: tuple[Operator, ...] = ("color", "crop", "cutout") if cutout else ("color", "crop")
        return from_options(
            Matching,
            options,
            cutmix=cutmix,
            strategy=strategy,
            # CutMix takes the place of cutout.
            train_strategy=tuple(name for name in strategy if name != "cutout" or cutmix == 0),
            precision=ctx.machine.precision,
            seed=ctx.seed("idc steps"),
        )


class IDC(IDCOne):
    """Efficient dataset condensation with multi-formation."""

    Options: ClassVar[type[IdcOneOptions]] = IdcOptions


def factor_of(ctx: ddbench.Context) -> int:
    """Return how many images stand in a row of a stored image: as set, or 2 for small and 3 for larger images."""
    factor: int | None = ctx.options.factor
    return factor or (2 if ctx.dataset.image_size <= 64 else 3)


def base_size(dataset: ddbench.Dataset) -> int:
    """Return the side for which the base learning rate of the pixels is meant (reproduce.py)."""
    if dataset.name == MNIST:
        return 28
    return 32 if dataset.image_size <= 64 else 224
