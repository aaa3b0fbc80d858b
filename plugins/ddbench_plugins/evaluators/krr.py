"""Kernel ridge regression on a distilled set, which trains no network (Nguyen et al. 2021, KIP.ipynb)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ddbench import Context, DataError, DistilledSet, Evaluator, Options, Protocol, Score
from ddbench_plugins.training.whitening import normalisation_of, whitening_of, whitening_steps

if TYPE_CHECKING:
    from ddbench import StepCall

#: Images whose kernel matrix is held and factored: 8 bytes per pair.
LARGEST = 10_000


class KrrOptions(Options):
    """Options of the regression; the defaults are those of KIP.ipynb."""

    kernel: Literal["ntk", "nngp"] = Field(
        "ntk", description="neural tangent kernel, or covariance, of infinitely wide fully connected ReLU networks"
    )
    depth: int = Field(1, ge=1, description="hidden layers")
    ridge: float = Field(1e-6, ge=0, description="λ, relative to the mean of the kernel's diagonal")


class Krr(Evaluator):
    """Regression in float64 on the set's centred labels, or on its probabilities or one-hot − 1/K; tested once."""

    Options = KrrOptions
    default_repeats = 1  # there is nothing random about it
    needs_network = False
    label_kinds = ("probabilities", "centred")
    whitens = True

    def needs(self, ctx: Context, distilled: DistilledSet, repeat: int) -> list[StepCall]:
        """Return the step that whitens, where that is asked for."""
        return whitening_steps(ctx, distilled)

    def protocol(self, ctx: Context, distilled: DistilledSet) -> Protocol:
        """Everything the numbers depend on."""
        options: KrrOptions = ctx.options
        return Protocol(
            {
                "network": ctx.network,
                "label_type": "real",
                "selection": "last",
                **options.model_dump(),
                "normalisation": normalisation_of(ctx, distilled),
                "image_size": ctx.dataset.image_size,
                "arithmetic": "float64",
            }
        )

    def evaluate(self, ctx: Context, distilled: DistilledSet, repeat: int) -> Score:
        """Fit the distilled set and test."""
        import torch

        from ddbench_plugins.kernels.fully_connected import Kernel
        from ddbench_plugins.kernels.images import rows
        from ddbench_plugins.kernels.ridge import block_size, centred, regularised, solve
        from ddbench_plugins.training.students import test_tensors, training_tensors

        count, data, options = len(distilled.labels), ctx.dataset, ctx.options
        if count > LARGEST:
            raise DataError(
                f"Kernel ridge regression on {count} images takes {8 * count**2 / 2**30:.0f} GiB; {LARGEST} are the"
                " most.",
                hint="Evaluate a distilled set, or with a protocol that trains networks.",
            )
        whitening = whitening_of(ctx, distilled)
        images, labels = training_tensors(distilled, data, data.image_size, whitening)
        if distilled.soft_labels is None:
            targets = centred(labels, data.num_classes)
        else:
            targets = torch.tensor(distilled.soft_labels).double()
            targets -= 0 if distilled.label_kind == "centred" else 1 / data.num_classes
        normalisation = normalisation_of(ctx, distilled)
        support, kernel = rows(images, ctx, normalisation), Kernel(options.kernel, options.depth)
        size = block_size(support)
        gram = torch.cat([kernel(part, support) for part in support.split(size)])
        weights = solve(regularised(gram, options.ridge), targets.to(support.device))
        tested, wanted = test_tensors(data, data.image_size, whitening=whitening)
        scores = []
        with ctx.progress("kernel ridge regression", len(data.test)) as advance:
            for batch in tested.split(size):
                scores.append((kernel(rows(batch, ctx, normalisation), support) @ weights).cpu())
                advance(min(size * len(scores), len(data.test)))
        found = torch.cat(scores)
        correct = found.argmax(1) == wanted
        error = (found - centred(wanted, data.num_classes)).square().mean() / 2
        return Score(float(correct.double().mean()), correct.numpy(), metrics={"loss": float(error)})
