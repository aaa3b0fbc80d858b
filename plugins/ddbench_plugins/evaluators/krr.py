"""Kernel ridge regression on a distilled set, which trains no network (Nguyen et al. 2021, KIP.ipynb)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from ddbench import Context, DataError, DistilledSet, Evaluator, Options, Protocol, Score
from ddbench_plugins.evaluators.real_labels import refuse_one_class, targets_of
from ddbench_plugins.training.recipe import refuse_unused
from ddbench_plugins.training.whitening import normalisation_of, whitening_of, whitening_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from torch import Tensor

    from ddbench import StepCall

#: Images whose kernel matrix is held and factored: 8 bytes per pair.
LARGEST = 10_000


class KrrOptions(Options):
    """Options of the regression; the defaults are those of KIP.ipynb, and with random features those of RFAD."""

    kernel: Literal["ntk", "nngp", "random-features"] = Field(
        "ntk",
        description="neural tangent kernel, or covariance, of infinitely wide fully connected ReLU networks; or the"
        " covariance of an infinitely wide ConvNet, approximated by the features of random ones",
    )
    depth: int | None = Field(None, ge=1, description="hidden layers; 1, or the ConvNet's 3 blocks, when none")
    ridge: float | None = Field(
        None,
        ge=0,
        description="λ, relative to the kernel's mean diagonal; 1e-6, or 5e-3 of a ConvNet, when none",
    )
    networks: int = Field(8, ge=1, description="random networks, of kernel random-features")
    width: int = Field(128, ge=1, description="their channels")


class Krr(Evaluator):
    """Regression in float64 on the set's centred labels, or on its probabilities or one-hot − 1/K; tested once."""

    Options = KrrOptions
    default_repeats = 1  # nothing is random but the features of random networks
    presets = "krr.toml"
    needs_network = False
    label_kinds = ("probabilities", "centred")
    whitens = True

    def check(self, ctx: Context, holds: Collection[str]) -> None:
        """Refuse data of one class, images too small for the kernel's networks, and options of another kernel."""
        from ddbench_plugins.kernels.images import check_depth

        refuse_one_class(ctx)
        options: KrrOptions = ctx.options
        if options.kernel == "random-features":
            check_depth(depth(options), ctx.dataset.image_size)
        else:
            refuse_unused(ctx, ("networks", "width"), f"Kernel {options.kernel} is of no random networks")

    def needs(self, ctx: Context, distilled: DistilledSet, repeat: int) -> list[StepCall]:
        """Return the step that whitens, where that is asked for."""
        return whitening_steps(ctx, distilled)

    def protocol(self, ctx: Context, distilled: DistilledSet) -> Protocol:
        """Everything the numbers depend on."""
        options: KrrOptions = ctx.options
        random = options.kernel == "random-features"
        return Protocol(
            {
                "network": ctx.network,
                "label_type": "real",
                "selection": "last",
                "kernel": options.kernel,
                "depth": depth(options),
                "ridge": ridge(options),
                **({"networks": options.networks, "width": options.width} if random else {}),
                "normalisation": normalisation_of(ctx, distilled),
                "image_size": ctx.dataset.image_size,
                "arithmetic": "float64, features float32" if random else "float64",
            }
        )

    def evaluate(self, ctx: Context, distilled: DistilledSet, repeat: int) -> Score:
        """Fit the distilled set and test."""
        import torch

        from ddbench_plugins.kernels.ridge import centred, regularised, solve
        from ddbench_plugins.training.students import test_tensors, training_tensors

        count, data, options = len(distilled.labels), ctx.dataset, ctx.options
        if count > LARGEST:
            raise DataError(
                f"Kernel ridge regression on {count} images takes {8 * count**2 / 2**30:.0f} GiB; {LARGEST} are the"
                " most.",
                hint="Evaluate a distilled set, or with a protocol that trains networks.",
            )
        whitening = whitening_of(ctx, distilled)
        images, _ = training_tensors(distilled, data, data.image_size, whitening)
        targets = torch.tensor(targets_of(distilled, data.num_classes)).double()
        kernel = (_convolutional if options.kernel == "random-features" else _fully_connected)(
            ctx, images, normalisation_of(ctx, distilled), repeat
        )
        weights = solve(regularised(kernel.own, ridge(options)), targets.to(kernel.own.device))
        tested, wanted = test_tensors(data, data.image_size, whitening=whitening)
        scores, done = [], 0
        with ctx.progress("kernel ridge regression", len(data.test)) as advance:
            for batch in tested.split(kernel.size):
                scores.append((kernel.against(batch) @ weights).cpu())
                done += len(batch)
                advance(done)
        found = torch.cat(scores)
        correct = found.argmax(1) == wanted
        error = (found - centred(wanted, data.num_classes)).square().mean() / 2
        return Score(float(correct.double().mean()), correct.numpy(), metrics={"loss": float(error)})


class _Kernel(NamedTuple):
    """A kernel of the distilled images.

    Attributes:
        own: of each pair of them [n, n], float64.
        against: gives those of other images [m, C, S, S] and them [m, n].
        size: how many others are taken at once.
    """

    own: Tensor
    against: Callable[[Tensor], Tensor]
    size: int


def depth(options: KrrOptions) -> int:
    """Return the hidden layers."""
    return options.depth or (3 if options.kernel == "random-features" else 1)


def ridge(options: KrrOptions) -> float:
    """Return λ."""
    if options.ridge is not None:
        return options.ridge
    return 5e-3 if options.kernel == "random-features" else 1e-6


def _fully_connected(ctx: Context, images: Tensor, normalisation: str, repeat: int) -> _Kernel:
    import torch

    from ddbench_plugins.kernels.fully_connected import Kernel
    from ddbench_plugins.kernels.images import rows
    from ddbench_plugins.kernels.ridge import block_size

    kernel, support = Kernel(ctx.options.kernel, depth(ctx.options)), rows(images, ctx, normalisation)
    size = block_size(support)
    own = torch.cat([kernel(part, support) for part in support.split(size)])
    return _Kernel(own, lambda batch: kernel(rows(batch, ctx, normalisation), support), size)


def _convolutional(ctx: Context, images: Tensor, normalisation: str, repeat: int) -> _Kernel:
    import torch

    from ddbench_plugins.kernels.images import normalised
    from ddbench_plugins.kernels.random_features import TOGETHER, RandomConvNets, covariance, features

    options: KrrOptions = ctx.options
    networks = RandomConvNets(options.networks, depth(options), options.width)
    drawn = networks.draw(ctx.dataset.channels, ctx.machine.device, ctx.seed("random features", repeat))

    def seen(part: Tensor) -> Tensor:
        return features(drawn, normalised(part, ctx, normalisation).float()).double()

    support = torch.cat([seen(part) for part in images.split(TOGETHER)])
    return _Kernel(covariance(support, support), lambda batch: covariance(seen(batch), support), TOGETHER)
