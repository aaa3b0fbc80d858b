"""The finite network of RFAD: trained from what it puts out at first, to scaled labels, with early stopping.

Loo et al. 2022 (yolky/RFAD training.py, eval_distilled_set.py, utils.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from ddbench import Context, Dataset, DistilledSet, Options, Score
from ddbench_plugins.evaluators.real_labels import RealLabelEvaluator, RealLabelRecipe, training_images
from ddbench_plugins.training.recipe import refuse_unused

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from torch import Tensor, nn

    from ddbench import Whitening
    from ddbench_plugins.evaluators.rfad_nn.training import Student
    from ddbench_plugins.training.recipe import Measure

MOMENTUM = 0.9


class RfadNnOptions(Options):
    """Options of the protocol."""

    steps: int = Field(20_000, ge=1, description="of the optimiser, at most")
    batch_size: int = Field(
        513, ge=1, description="images per step, drawn with replacement; all of the set where it has no more"
    )
    lr: float = Field(1e-3, gt=0, description="SGD's learning rate, which stays")
    label_scale: float = Field(8.0, gt=0, description="what labels are multiplied by, and the loss divided by twice")
    weight_decay: float = Field(
        0.0, ge=0, description="what the sum of squared changes of the parameters is multiplied by in the loss"
    )
    centring: bool = Field(
        True, description="outputs and parameters count from where the network begins; false: from 0"
    )
    scale_minibatch: bool = Field(
        True, description="scale labels also where the set has more images than a step; the released code does not"
    )
    selection: Literal["validation", "last"] = Field(
        "validation",
        description="the network that is tested: the best on labelled training images, which end the training, too; or"
        " the last",
    )
    validation_images: int | None = Field(
        None, ge=1, description="such images per class; 500, or 100 from 100 classes on, when none"
    )
    check: int = Field(100, ge=1, description="steps between two looks at them")
    patience: int = Field(500, ge=1, description="steps without a better look that end the training")


@dataclass(frozen=True, kw_only=True)
class RfadNnRecipe(RealLabelRecipe):
    """Squared error to scaled labels, SGD with momentum at one rate; attributes as :class:`RfadNnOptions`."""

    label_scale: float
    centring: bool
    scale_minibatch: bool
    validation_images: int
    check: int
    patience: int

    @property
    def whole_set(self) -> bool:
        """Whether every step sees all images."""
        return len(self.targets) <= self.batch_size

    @property
    def scaled(self) -> bool:
        """Whether the labels are multiplied by their scale."""
        return self.scale_minibatch or self.whole_set

    def settings(self) -> dict[str, Any]:
        """Return what the protocol states."""
        watched = {"validation_images": self.validation_images, "check": self.check, "patience": self.patience}
        return super().settings() | {
            "label_scale": self.label_scale,
            "labels": "scaled" if self.scaled else "not scaled, but the loss",
            "centring": self.centring,
            "optimiser": f"SGD, momentum {MOMENTUM}",
            "schedule": "constant",
            "augmentation": [],
            **(watched if self.selection == "validation" else {}),
        }

    def training(self, ctx: Context, network: nn.Module, images: Tensor, repeat: int) -> dict[str, Any]:
        """Return normalisation and optimiser."""
        from ddbench_plugins.training import augment, optimisers

        optimiser = optimisers.sgd(self.lr, momentum=MOMENTUM, weight_decay=0.0)  # the loss holds the decay
        return {"augment": augment.normalise(*self.constants), "optimiser": optimiser}

    def train(
        self,
        ctx: Context,
        images: Tensor,
        labels: Tensor,
        repeat: int,
        whitening: Whitening | None = None,
        measure: Measure | None = None,
    ) -> Score:
        """Train one student until it gets no better on training images, and test the best."""
        import torch

        from ddbench_plugins.evaluators.rfad_nn.training import Student, Training
        from ddbench_plugins.kernels.images import normalised
        from ddbench_plugins.training.engine import Loop
        from ddbench_plugins.training.predict import evaluate_on
        from ddbench_plugins.training.students import test_tensors

        device = ctx.machine.device
        student = Student(self.network(ctx, repeat), centring=self.centring)
        student.to(device=device, memory_format=torch.channels_last)
        images, targets = self.decoded(images, labels)
        inputs = normalised(images, ctx, self.normalisation).float().contiguous(memory_format=torch.channels_last)
        with ctx.progress(f"{ctx.network} student", self.steps) as advance:
            loop = Loop.of(ctx, advance)
            work = Training(
                student,
                inputs,
                targets.to(device),
                recipe=self,
                optimiser=self.training(ctx, student.network, images, repeat)["optimiser"],
                loop=loop,
                seed=ctx.seed("student", repeat),
                watch=self.watch(ctx, student, whitening) if self.selection == "validation" else None,
            )
            hint = "Try a lower learning rate (-o eval.lr=…)"
            loop.run(work, self.steps, name=ctx.network, hint=hint, every=self.check)
            work.finish()
        size, constants = self.dataset.image_size, self.constants
        tested, wanted = test_tensors(self.dataset, size, whitening=whitening)
        found = evaluate_on(ctx, student, tested, wanted, *constants)
        figures = {"final_loss": work.loss}
        if self.selection == "validation":
            figures |= {"validation": work.highest, "step": work.best_step}
        more = measure(student, tested, wanted, constants) if measure else {}
        return Score(found.accuracy, found.correct.numpy(), metrics=figures | more)

    def watch(self, ctx: Context, student: Student, whitening: Whitening | None) -> Callable[[], float]:
        """Return what gives the student's accuracy on labelled training images, of every class the same number."""
        import torch

        from ddbench_plugins.training.augment import normalise
        from ddbench_plugins.training.predict import predict

        train, classes = ctx.dataset.train, range(ctx.dataset.num_classes)
        rng = ctx.rng("validation")
        places = np.concatenate([rng.permutation(train.of_class(label))[: self.validation_images] for label in classes])
        images, wanted = training_images(ctx, places, whitening), torch.from_numpy(train.labels[places])
        transform = normalise(*self.constants)

        def outputs(network: nn.Module) -> Tensor:
            machine = ctx.machine
            return predict(network, images, transform=transform, precision=machine.precision, device=machine.device)

        first = 0.0 if student.start is None else outputs(student.start)
        return lambda: float((outputs(student.network) - first).argmax(1).eq(wanted).double().mean())


class RfadNn(RealLabelEvaluator):
    """Wide networks without norm, of which early stopping keeps the best."""

    Options = RfadNnOptions
    presets = "rfad_nn.toml"

    def network_for(self, dataset: Dataset, scale: str) -> str:
        """The ConvNet that random features are of, a sixteenth as wide at cpu scale."""
        return "rfad-convnet-3" if scale == "paper" else "rfad-convnet-3-w64"

    def check(self, ctx: Context, holds: Collection[str]) -> None:
        """Refuse data of one class, and options of tests that there are not."""
        super().check(ctx, holds)
        if ctx.options.selection == "last":
            refuse_unused(ctx, ("patience", "validation_images"), "No training image is looked at with selection=last")

    def at_once(self, ctx: Context, distilled: DistilledSet, most: int | None) -> int:
        """Return 1: each network stops when it gets no better."""
        return 1

    def recipe(self, ctx: Context, distilled: DistilledSet) -> RfadNnRecipe:
        """Return the options with the protocol's own values filled in."""
        options: RfadNnOptions = ctx.options
        count = options.validation_images or (100 if ctx.dataset.num_classes >= 100 else 500)
        return RfadNnRecipe.for_set(ctx, options, distilled, options.steps, passes=False, validation_images=count)
