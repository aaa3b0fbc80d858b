"""DD-Ranking: label-robust and augmentation-robust scores (Li et al. 2025, ddranking/metrics).

Accuracy under soft labels or strong augmentation says little about the images, for random real images gain from both
as well. So a set is compared with as many random real images under the same training, and with the whole training set
under hard labels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ddbench import Context, Dataset, DistilledSet, Options, Score, UsageError
from ddbench_plugins.evaluators.base import StudentEvaluator
from ddbench_plugins.training.recipe import learned_rate

if TYPE_CHECKING:
    from collections.abc import Collection

    from ddbench import CachedStep, StepCall
    from ddbench_plugins.evaluators.lrs.recipe import TrialRecipe
    from ddbench_plugins.evaluators.lrs.trials import Bench, Trial
    from ddbench_plugins.teachers.observers import Observer

#: Epochs between tests under ``best_test``: hard_label.py; soft_label.py and aug_robust.py.
TEST_EVERY = {"hard": 10, "soft": 20}


class LrsOptions(Options):
    """Options of the protocol; DD-Ranking has a configuration for every method, see docs/protocols/lrs.md."""

    labels: Literal["hard", "soft"] = Field("hard", description="the method's own labels")
    soft_label_mode: Literal["M", "S"] = Field(
        "M", description="soft labels: M from a teacher for each augmented batch, S stored with the distilled set"
    )
    loss: Literal["kl", "sce", "mse_gt"] = Field(
        "kl", description="with soft labels: KL, soft cross-entropy, or MSE between logits plus hard cross-entropy"
    )
    temperature: float = Field(20.0, gt=0, description="of both softmaxes in kl and sce")
    scale_by_t2: bool = Field(False, description="multiply kl and sce by T²")
    mse_weight: float = Field(1.0, ge=0, description="of the MSE in mse_gt")
    ce_weight: float = Field(0.025, ge=0, description="of the hard cross-entropy in mse_gt")
    teachers: tuple[str, ...] = Field(
        (),
        description="networks whose mean logits are the soft labels; the student's own when empty",
        json_schema_extra={"names": "network"},
    )
    teacher_file: str = Field(
        "", description="safetensors file of the one teacher instead of training it", json_schema_extra={"file": True}
    )
    augmentation: Literal["none", "dsa", "cutmix", "mixup"] = Field("dsa", description="of every batch")
    mixup_alpha: float = Field(0.8, gt=0, description="both parameters of mixup's Beta distribution")
    mix_hard_labels: bool = Field(
        True, description="weigh hard labels by the mixed shares; the released code leaves them as they are"
    )
    augment_hard: bool = Field(False, description="augment batches also where soft labels are replaced by hard ones")
    crop_padding: int = Field(0, ge=0, description="zero padding of a random crop of each image, pixels")
    crop_scale: float = Field(1.0, gt=0, le=1, description="smallest area of a random resized crop of each image")
    patch_shuffle: int = Field(1, ge=1, description="shuffle factor × factor tiles of each image")
    flip: bool = Field(False, description="mirror images at random, where that keeps their label")
    epochs: int = Field(1000, ge=1, description="passes over the set in every training")
    batch_size: int = Field(256, ge=1, description="images per step")
    optimiser: Literal["sgd", "adam", "adamw"] = Field("sgd", description="SGD has momentum 0.9")
    weight_decay: float = Field(5e-4, ge=0, description="on all parameters")
    lr: float | None = Field(None, gt=0, description="learning rate; the best of five when none")
    learned_lr: bool = Field(True, description="train with the learning rate that a distilled set has learned, if any")
    reference_lr: Literal["same", "search"] = Field(
        "same",
        description="learning rate of the random images, and of hard labels in place of soft ones: by the same rule as"
        " the distilled set's (but for a learned one), or always the best of five",
    )
    lr_selection: Literal["validation", "test"] = Field(
        "validation", description="where the best of five is chosen: held-out training images, or the test split"
    )
    schedule: Literal["step", "half_cosine", "cosine"] = Field("step", description="of the learning rate")
    step_size: int | None = Field(
        None, ge=1, description="epochs between drops to a tenth under step; half of the epochs when none"
    )
    selection: Literal["last", "best_test"] = Field(
        "last", description="accuracies: after the last epoch, or the best of tests every 10 (soft: 20) epochs"
    )
    real: Literal["reference", "table", "official"] = Field(
        "reference",
        description="the network trained on all images: by the data set's reference recipe, by DD-Ranking's table where"
        " it has one, or as its released code does",
    )
    normalisation: Literal["dataset", "cifar10", "imagenet"] = Field(
        "dataset", description="constants of the inputs; the released code uses CIFAR-10's on CIFAR-100"
    )
    test_resize: int | None = Field(
        None, ge=1, description="side to which test images are resized before the centre crop; the image size when none"
    )
    lrs_lambda: float = Field(0.5, ge=0, le=1, description="weight of IOR against HLR in LRS")
    ars: bool = Field(True, description="also train without augmentation, for ARS")
    ars_lambda: float = Field(0.5, ge=0, le=1, description="weight of augmented against plain training in ARS")


class Lrs(StudentEvaluator):
    """HLR, IOR, LRS and ARS; the headline accuracy is that of the distilled set under its own labels."""

    Options = LrsOptions
    presets = "lrs.toml"

    def network_for(self, dataset: Dataset, scale: str) -> str:
        """ConvNet-3; at paper scale ConvNet-4 at 64 pixels and ResNet-18 beyond."""
        if scale != "paper" or dataset.image_size <= 32:
            return "convnet-3"
        return "convnet-4" if dataset.image_size <= 64 else "modified-resnet-18"

    def check(self, ctx: Context, holds: Collection[str]) -> None:
        """Refuse options that contradict each other or the set."""
        options: LrsOptions = ctx.options
        if options.labels == "hard":
            return
        if options.teacher_file and len(options.teachers) > 1:
            hint = "Leave out eval.teacher_file or name one teacher."
            raise UsageError("A teacher file is of one teacher.", hint=hint)
        if options.soft_label_mode == "S" and options.loss == "mse_gt":
            raise UsageError(
                "mse_gt compares logits, and a distilled set stores probabilities.",
                hint="Use -o eval.soft_label_mode=M, or -o eval.loss=kl or sce.",
            )
        if options.soft_label_mode == "S" and "soft_labels" not in holds:
            raise UsageError(
                f"Sets of {ctx.method} bring no soft labels of their own.",
                hint="Label them with a teacher: -o eval.soft_label_mode=M.",
            )

    def steps(self, ctx: Context) -> list[CachedStep[Any] | StepCall]:
        """Return the teachers, the reference network where it is the data set's own, and the trainings compared."""
        from ddbench_plugins.evaluators.lrs.reference import shared_reference
        from ddbench_plugins.evaluators.lrs.trials import trained
        from ddbench_plugins.teachers.observers import teacher_of

        options: LrsOptions = ctx.options
        teachers = [teacher_of(ctx, *asked) for asked in _asked(ctx)] if options.labels == "soft" else []
        return [*shared_reference(ctx, options.real, options.normalisation), *teachers, trained]

    def settings(self, ctx: Context, distilled: DistilledSet) -> dict[str, Any]:
        """Return what the protocol states, the reference network and teachers included."""
        options: LrsOptions = ctx.options
        settings: dict[str, Any] = options.model_dump(exclude={"labels", "teachers", "teacher_file"})
        settings |= {
            "label_type": options.labels,
            "lr": _rule(options),
            "step_size": _step_size(options),
            "image_size": ctx.dataset.image_size,
            "flip": options.flip and ctx.dataset.flip,
            "real": {"source": options.real, "network": _real(ctx)[1]},
        }
        if options.labels == "soft":
            described = [teacher.describe() for teacher in _teachers(ctx)]
            settings["teacher"] = (
                described[0] if len(described) == 1 else {"network": _names(ctx), "members": described}
            )
        return settings

    def score(self, ctx: Context, distilled: DistilledSet, repeat: int) -> Score:
        """Train the networks of one run and score them; each is a cached step of its own."""
        from ddbench_plugins.evaluators.lrs import trials

        options: LrsOptions = ctx.options
        soft = options.labels == "soft"
        bench = trials.Bench(ctx, options.normalisation, ctx.seed("student", repeat), _teachers(ctx) if soft else ())
        stored = soft and options.soft_label_mode == "S"
        synthetic = trials.distilled_set(ctx, distilled, stored_labels=stored)
        counts = synthetic.labels.bincount(minlength=ctx.dataset.num_classes).tolist()
        random = trials.random_set(ctx, counts, repeat, bench.labels_of if stored else None)
        run = _Run(bench, options, learned_rate(distilled) if options.learned_lr else None)
        own, reference = run.own_rates, run.reference_rates
        recipe = _recipe(options)

        syn = run.train(synthetic, recipe, own)
        chance = run.train(random, recipe, reference)
        figures = {
            "syn": run.accuracy(syn),
            "random": run.accuracy(chance),
            "syn_lr": syn.lr,
            "random_lr": chance.lr,
            "real_hard": _real(ctx)[0],
        }
        if soft:
            hard_rates = own if options.reference_lr == "same" else trials.RATES
            hard = bench.best(synthetic, recipe.hard(options.augment_hard), hard_rates, select=run.select)
            figures["syn_hard"] = run.accuracy(hard)
        else:
            figures["syn_hard"] = figures["syn"]
        if options.ars:
            figures["syn_plain"] = run.accuracy(run.train(synthetic, recipe.plain(), own))
            figures["random_plain"] = run.accuracy(run.train(random, recipe.plain(), reference))
        return syn.score(figures | scores(figures, options.lrs_lambda, options.ars_lambda))


@dataclass(frozen=True)
class _Run:
    """The rules by which learning rates and accuracies of one run are chosen."""

    bench: Bench
    options: LrsOptions
    learned: float | None

    @property
    def select(self) -> str:
        """What the best learning rate is best at."""
        return "validation" if self.options.lr_selection == "validation" else self.options.selection

    @property
    def own_rates(self) -> tuple[float, ...]:
        """Learning rates to try on the distilled set."""
        from ddbench_plugins.evaluators.lrs.trials import RATES

        given = self.learned or self.options.lr
        return (given,) if given else RATES

    @property
    def reference_rates(self) -> tuple[float, ...]:
        """Learning rates to try on random images; what a set has learned is its own."""
        from ddbench_plugins.evaluators.lrs.trials import RATES

        return (self.options.lr,) if self.options.lr and self.options.reference_lr == "same" else RATES

    def train(self, data: Any, recipe: TrialRecipe, rates: tuple[float, ...]) -> Trial:
        """Return the best training."""
        return self.bench.best(data, recipe, rates, select=self.select, test_resize=self.options.test_resize)

    def accuracy(self, trial: Trial) -> float:
        """Return the accuracy that counts (fraction)."""
        return trial.accuracy(self.options.selection)


def scores(accuracies: dict[str, float], lrs_lambda: float, ars_lambda: float) -> dict[str, float]:
    """Return HLR, IOR, α and LRS, and with accuracies of plain training β and ARS; everything is a fraction.

    Args:
        accuracies: ``real_hard``, ``syn_hard``, ``syn``, ``random``, and for ARS ``syn_plain``, ``random_plain``.
        lrs_lambda, ars_lambda: weights of IOR in LRS, and of augmented training in ARS.
    """
    from ddbench_plugins.evaluators.lrs import scores as of

    hlr = of.hard_label_recovery(accuracies["real_hard"], accuracies["syn_hard"])
    ior = of.improvement_over_random(accuracies["syn"], accuracies["random"])
    alpha = of.label_robust_alpha(ior, hlr, lrs_lambda)
    made = {"hlr": hlr, "ior": ior, "alpha": alpha, "lrs": of.robust_score(alpha)}
    if "syn_plain" in accuracies:
        plain = of.improvement_over_random(accuracies["syn_plain"], accuracies["random_plain"])
        beta = of.augmentation_robust_beta(ior, plain, ars_lambda)
        made |= {"ior_plain": plain, "beta": beta, "ars": of.robust_score(beta)}
    return made


def _recipe(options: LrsOptions) -> TrialRecipe:
    """How networks are trained under the method's own labels."""
    from ddbench_plugins.evaluators.lrs.recipe import TrialRecipe
    from ddbench_plugins.training.recipe import from_options

    return from_options(
        TrialRecipe,
        options,
        soft=options.labels == "soft",
        step_size=_step_size(options),
        test_every=TEST_EVERY[options.labels] if options.selection == "best_test" else 0,
    )


def _step_size(options: LrsOptions) -> int:
    return options.step_size or max(1, options.epochs // 2)


def _rule(options: LrsOptions) -> float | str:
    from ddbench_plugins.evaluators.lrs.trials import RATES

    return options.lr or f"best of {', '.join(map(str, RATES))}"


def _real(ctx: Context) -> tuple[float, dict[str, Any]]:
    """Accuracy of the network trained on all images with hard labels, and how it came about."""
    from ddbench_plugins.evaluators.lrs.reference import real_reference

    options: LrsOptions = ctx.options
    augmented = options.labels == "soft" and options.augment_hard
    like = replace(_recipe(options), augmentation=options.augmentation if augmented else "none")
    return real_reference(ctx, options.real, like, normalisation=options.normalisation, selection=options.selection)


def _teachers(ctx: Context) -> list[Observer]:
    from ddbench_plugins.teachers.observers import get_teacher

    return [get_teacher(ctx, *asked) for asked in _asked(ctx)]


def _asked(ctx: Context) -> list[tuple[str, str, str]]:
    options: LrsOptions = ctx.options
    return [(name, options.normalisation, options.teacher_file) for name in options.teachers or (ctx.network,)]


def _names(ctx: Context) -> str:
    return ", ".join(ctx.options.teachers)
