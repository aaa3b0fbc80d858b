"""CAFE: images whose features are, at every level of a network in training, those of real images of their class."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

import ddbench
from ddbench_plugins.matching.options import PRECISIONS, PixelOptions
from ddbench_plugins.methods.selection import ipc_of
from ddbench_plugins.training.whitening import whitening_steps


class CafeOptions(PixelOptions):
    """Options of CAFE; the defaults are those of the released code."""

    network: str = Field(
        "convnet-3",
        description="network whose features are matched; one with pooling layers",
        json_schema_extra={"names": "network", "fresh": True},
    )
    iterations: int = Field(2000, ge=1, description="networks that are begun and trained, one after the other")
    batch_real: int = Field(256, ge=1, description="real images per class and step; all where a class has fewer")
    lr_img: float = Field(0.1, gt=0, description="learning rate of the pixels")
    lr_milestones: tuple[int, ...] = Field(
        (1200, 1600, 1800), description="iterations from which on the learning rate is halved, once more at each"
    )
    init: Literal["real", "noise"] = Field("noise", description="what the images begin as: training images or N(0, 1)")
    augment: Literal["dsa", "none"] = Field(
        "none",
        description="one operation per class and step, the same for its real and its synthetic images; while the"
        " network is trained, with parameters per image",
    )

    # The loss
    weights: tuple[float, ...] = Field(
        (0.1, 0.1, 1.0, 1.0),
        description="of the squared distances of class means: of what each pooling layer gets, first to last, and of"
        " the features (fourth_weight, third_weight, second_weight, first_weight)",
    )
    center: float = Field(1.0, ge=0, description="another weight of the features, of the loss between class centres")
    discrimination: float = Field(
        0.01, ge=0, description="weight of naming the real images by the synthetic class means, summed over the former"
    )

    # The network
    batch_train: int = Field(256, ge=1, description="synthetic images per step of the network")
    lr_net: float = Field(0.01, gt=0, description="learning rate of the network (SGD without momentum or decay)")
    query: int = Field(128, ge=1, description="real images per class that each accuracy is taken on, drawn anew")
    window: int = Field(10, ge=1, description="accuracies that are compared")
    outer_span: float = Field(
        0.04, gt=0, description="a network is done when the accuracies after its last matchings are within this (λ1)"
    )
    inner_span: float = Field(
        0.03, ge=0, description="it is trained until those after its last epochs are further apart than this (λ2)"
    )
    max_outer: int | None = Field(None, ge=1, description="matchings per network at most; no limit when none")
    max_inner: int | None = Field(None, ge=1, description="epochs between two matchings at most; no limit when none")
    carry_accuracy: bool = Field(
        True,
        description="add 1/classes of the accuracy before to each one after a matching, and to each one after an epoch,"
        " as the released code does",
    )
    extra_iteration: bool = Field(False, description="one iteration more than specified, as the released code runs")


class CAFE(ddbench.Distiller):
    """Feature alignment with a dynamic bilevel loop."""

    Options = CafeOptions
    presets = "presets.toml"
    precisions = PRECISIONS

    def check(self, ctx: ddbench.Context) -> None:
        """Refuse a network that has not as many levels as there are weights of them."""
        options: CafeOptions = ctx.options
        if {"network", "weights"} & ctx.resolved.explicit.keys():  # those of presets fit, and need no torch to be built
            from ddbench_plugins.methods.cafe.levels import check_levels

            check_levels(ctx.build_network(options.network, seed=0), options.network, len(options.weights))

    def needs(self, ctx: ddbench.Context) -> list[ddbench.StepCall]:
        """Return the step that whitens, where that is asked for."""
        return whitening_steps(ctx)

    def work(self, ctx: ddbench.Context) -> float:
        """Images × matchings, if none goes beyond its window."""
        options: CafeOptions = ctx.options
        return ctx.dataset.num_classes * (ctx.ipc or 1) * options.iterations * options.window

    def distill(self, ctx: ddbench.Context) -> ddbench.DistilledSet:
        """Return ``ctx.ipc`` optimised images per class, normalised and not clamped; and how often caps were met."""
        from ddbench_plugins.matching.draws import fresh_networks, strategy_for
        from ddbench_plugins.matching.images import RealImages, SyntheticImages, initial_images
        from ddbench_plugins.matching.optimise import optimise
        from ddbench_plugins.methods.cafe.matching import FeatureAlignment, Matching
        from ddbench_plugins.training.recipe import from_options

        options: CafeOptions = ctx.options
        ipc = ipc_of(ctx)
        networks = fresh_networks(ctx, options.network, one_by_one=True)
        real = RealImages.of(ctx)
        images = SyntheticImages(initial_images(real, ipc, options.init, ctx.seed("cafe init")), ipc, options.lr_img)
        settings = from_options(
            Matching,
            options,
            strategy=strategy_for(ctx.dataset) if options.augment == "dsa" else (),
            precision=ctx.machine.precision,
            seed=ctx.seed("cafe steps"),
        )
        work = FeatureAlignment(images, real, networks, settings)
        iterations = options.iterations + options.extra_iteration
        made = optimise(
            ctx,
            "matching features",
            work,
            images,
            iterations=iterations,
            without={"extra_iteration": False},
            extra=lambda: {"loops": dict(work.loops)},
        )
        loops = work.loops
        if loops["matchings_capped"] or loops["epochs_capped"]:
            ctx.warn(
                f"CAFE's loops were cut short: {loops['matchings_capped']} of {iterations} networks after"
                f" {options.max_outer} matchings (max_outer), and {loops['epochs_capped']} of"
                f" {loops['matchings'] - iterations} trainings after {options.max_inner} epochs (max_inner)."
            )
        return made
