"""The finite network of KIP's second paper: SGD on half the mean squared error, at the largest rate that it bears.

Nguyen et al. 2021 (google-research kip/nn_training.ipynb).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ddbench import Context, Dataset, DistilledSet, Options, Score
from ddbench_plugins.evaluators.real_labels import RealLabelEvaluator, RealLabelRecipe, training_images

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ddbench import Whitening
    from ddbench_plugins.training.recipe import Measure

MOMENTUM = 0.9
#: Training images on which the tangent kernel is computed.
RATE_IMAGES = 50


class KipNnOptions(Options):
    """Options of the protocol; the defaults are those of the notebook."""

    steps: int = Field(5000, ge=1, description="of the optimiser")
    batch_size: int = Field(100, ge=1, description="images per step")
    lr_factor: float = Field(1.0, gt=0, description="share of the largest stable learning rate that is used")
    lr_rule: Literal["no_momentum", "momentum"] = Field(
        "no_momentum",
        description="largest stable rate of plain gradient descent, or of that with the momentum of the training: 1.9"
        " times as large",
    )
    weight_decay: float = Field(1e-3, ge=0, description="L2 penalty: half of it times the sum of squared parameters")


@dataclass(frozen=True, kw_only=True)
class KipNnRecipe(RealLabelRecipe):
    """Half the mean squared error, SGD with momentum from the largest stable rate down to 0, no augmentation.

    Attributes:
        lr_factor: share of that rate.
        lr_rule: whether it counts on the momentum.
    """

    lr: float = 0.0  # every network has its own
    lr_factor: float
    lr_rule: str

    def settings(self) -> dict[str, Any]:
        """Return what the protocol states."""
        return super().settings() | {
            "lr": f"{self.lr_factor} of the largest stable one",
            "lr_rule": self.lr_rule,
            "lr_from": f"tangent kernel of the new network on {RATE_IMAGES} training images",
            "optimiser": f"SGD, momentum {MOMENTUM}",
            "schedule": "cosine to 0",
            "augmentation": [],
        }

    def train(
        self,
        ctx: Context,
        images: Tensor,
        labels: Tensor,
        repeat: int,
        whitening: Whitening | None = None,
        measure: Measure | None = None,
    ) -> Score:
        """Find the network's learning rate, which becomes a figure of the score, train by it, and test."""
        rate = self.rate(ctx, repeat, whitening)
        ctx.log(f"learning rate {rate:.3g}")
        score = super(KipNnRecipe, replace(self, lr=rate)).train(ctx, images, labels, repeat, whitening, measure)
        return replace(score, metrics={**score.metrics, "lr": rate})

    def rate(self, ctx: Context, repeat: int, whitening: Whitening | None) -> float:
        """Return the learning rate of the network of a repeat."""
        from ddbench_plugins.kernels.empirical import empirical_ntk, largest_rate
        from ddbench_plugins.kernels.images import normalised

        count = len(ctx.dataset.train)
        places = ctx.rng("learning rate").choice(count, min(RATE_IMAGES, count), replace=False)
        images = normalised(training_images(ctx, places, whitening), ctx, self.normalisation).float()
        kernel = empirical_ntk(self.network(ctx, repeat).to(images.device), images)
        momentum = MOMENTUM if self.lr_rule == "momentum" else 0.0
        return self.lr_factor * largest_rate(kernel, self.dataset.num_classes, momentum)

    def training(self, ctx: Context, network: nn.Module, images: Tensor, repeat: int) -> dict[str, Any]:
        """Return normalisation, optimiser, schedule and loss."""
        from ddbench_plugins.training import augment, optimisers, schedules, steps

        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            return (outputs.float() - targets).square().mean() / 2

        return {
            "augment": augment.normalise(*self.constants),
            "optimiser": optimisers.sgd(self.lr, momentum=MOMENTUM, weight_decay=self.weight_decay),
            "schedule": schedules.cosine(self.epochs),
            "schedule_per_step": True,
            "step": steps.given_label_step(loss),
        }


class KipNn(RealLabelEvaluator):
    """Wide networks without norm; the labels are real numbers, or one-hot − 1/K."""

    Options = KipNnOptions
    presets = "kip_nn.toml"

    def network_for(self, dataset: Dataset, scale: str) -> str:
        """The ConvNet with a convolution before its blocks, a sixteenth as wide at cpu scale."""
        return "kip-convnet-3" if scale == "paper" else "kip-convnet-3-w64"

    def at_once(self, ctx: Context, distilled: DistilledSet, most: int | None) -> int:
        """Return 1: every network has its own learning rate."""
        return 1

    def recipe(self, ctx: Context, distilled: DistilledSet) -> KipNnRecipe:
        """Return the options with the protocol's own values filled in."""
        return KipNnRecipe.for_set(ctx, ctx.options, distilled, ctx.options.steps)
