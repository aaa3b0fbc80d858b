"""An evaluation protocol in one file: hard labels, SGD, flips where they keep the label, no soft labels, no mixing."""

from pydantic import Field

from ddbench import Evaluator, EvaluatorSpec, Options, Protocol, hookimpl


class PlainOptions(Options):
    epochs: int = Field(100, ge=1, description="passes over the distilled set")
    batch_size: int = Field(64, ge=1, description="images per step")
    lr: float = Field(0.01, gt=0, description="SGD's learning rate")


class Plain(Evaluator):
    Options = PlainOptions
    default_network = "convnet-3"

    def protocol(self, ctx, distilled):
        # Everything the numbers depend on: results are compared, and found again, by these settings.
        return Protocol(
            {
                "network": ctx.network,
                "label_type": "hard",
                "optimiser": "SGD, momentum 0.9, weight decay 5e-4",
                "augmentation": ["flip"] if ctx.dataset.flip else [],
                "selection": "last",
                **ctx.options.model_dump(),
            }
        )

    def evaluate(self, ctx, distilled, repeat):
        # The engine that the built-in protocols share; it imports torch, so it is imported here.
        from ddbench_plugins.training import augment, optimisers, students

        data, options, seed = ctx.dataset, ctx.options, ctx.seed("student", repeat)
        images, labels = students.training_tensors(distilled, data, data.image_size)
        test_images, test_labels = students.test_tensors(data, data.image_size)
        flip = [augment.random_flip] if data.flip else []
        return students.train_student(
            ctx,
            ctx.build_network(seed=seed),
            images=images,
            labels=labels,
            test_images=test_images,
            test_labels=test_labels,
            mean=data.mean,
            std=data.std,
            epochs=options.epochs,
            test_epochs=[options.epochs - 1],
            seed=seed,
            augment=augment.compose(*flip, augment.normalise(data.mean, data.std)),
            batch_size=options.batch_size,
            optimiser=optimisers.sgd(options.lr),
        )


@hookimpl
def ddbench_evaluators():
    return [EvaluatorSpec("plain", Plain, "hard labels, SGD, no mixing", label_type="hard")]
