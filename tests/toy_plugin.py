"""A plugin without torch: a method, an evaluator and a data set that run in milliseconds."""

from __future__ import annotations

import numpy as np

import ddbench


class ToyOptions(ddbench.Options):
    noise: float = 0.0
    fail: bool = False


class ToyMethod(ddbench.Distiller):
    Options = ToyOptions
    presets = ({"when": {"scale": "paper"}, "set": {"noise": 4.0}, "source": "a paper"},)

    def distill(self, ctx):
        if ctx.options.fail:
            raise ZeroDivisionError("on purpose")
        train, rng = ctx.dataset.train, ctx.rng("selection")
        chosen = np.concatenate([rng.permutation(train.of_class(c))[: ctx.ipc] for c in range(ctx.dataset.num_classes)])
        images = train.images.batch(chosen, ctx.dataset.image_size).astype(float)
        images = np.clip(images + rng.normal(0, ctx.options.noise, images.shape), 0, 255).astype(np.uint8)
        return ddbench.DistilledSet(images, train.labels[chosen], source_ids=tuple(train.ids[i] for i in chosen))


class ToyEvaluatorOptions(ddbench.Options):
    pixels: float = 1.0


class NearestMean(ddbench.Evaluator):
    """Classify by the nearest class mean over a random share of the pixels."""

    Options = ToyEvaluatorOptions
    default_network = "convnet-3"
    default_repeats = 2

    def protocol(self, ctx, distilled):
        settings = {"network": ctx.network, "label_type": "hard", "selection": "last"}
        return ddbench.Protocol(settings | ctx.options.model_dump())

    def evaluate(self, ctx, distilled, repeat):
        images, labels = ctx.dataset.arrays("test")
        keep = ctx.rng("student", repeat).random(images[0].size) < 0.5 * ctx.options.pixels + 0.25
        test, small = (x.reshape(len(x), -1)[:, keep].astype(float) for x in (images, distilled.images))
        means = np.stack([small[distilled.labels == c].mean(0) for c in range(ctx.dataset.num_classes)])
        distance = ((test[:, None] - means[None]) ** 2).sum(2)
        correct = distance.argmin(1) == labels
        return ddbench.Score(last=float(correct.mean()), correct=correct)


class ToyData(ddbench.DatasetLoader):
    """Three kinds of 8×8 noise, told apart by their brightness."""

    def load(self, ctx, argument):
        rng = np.random.default_rng(0)
        labels = np.repeat(np.arange(3), 20)
        parts = {}
        for name in ("train", "test"):
            images = rng.normal(60 + 40 * labels[:, None, None, None], 60, (60, 8, 8, 1)).clip(0, 255).astype(np.uint8)
            parts[name] = ddbench.Split(ddbench.ArrayImages(images), labels, tuple(f"{name}-{i}" for i in range(60)))
        return ddbench.Dataset(
            name="toy",
            class_names=("dark", "grey", "light"),
            class_ids=("a", "b", "c"),
            image_size=8,
            mean=(0.4,),
            std=(0.3,),
            fingerprint=ddbench.digest(["toy", 1]),
            origin="drawn from seed 0",
            **parts,
        )


@ddbench.hookimpl
def ddbench_methods():
    return [ddbench.MethodSpec("toy", ToyMethod, "toy")]


@ddbench.hookimpl
def ddbench_evaluators():
    return [ddbench.EvaluatorSpec("nearest-mean", NearestMean, "toy")]


@ddbench.hookimpl
def ddbench_datasets():
    return [ddbench.DatasetSpec("toy", ToyData, "toy")]
