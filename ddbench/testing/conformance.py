"""Conformance checks for plugin authors: run a plugin on a tiny data set and name what is wrong with it.

    from ddbench.testing.conformance import check_method
    check_method(MyMethod)

Each check runs the plugin as ``ddbench run`` would, so every contract violation of :mod:`ddbench.plugin.contracts` is
met, and adds what a single run cannot see: hidden randomness, hidden test images, options missing from a protocol.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import numpy as np

from ddbench.errors import DDBenchError
from ddbench.experiment import pipeline
from ddbench.plugin.contracts import DistilledSet
from ddbench.plugin.datasets import Dataset, Split
from ddbench.plugin.images import ArrayImages
from ddbench.plugin.manager import load_plugin
from ddbench.plugin.specs import DatasetSpec, EvaluatorSpec, MethodSpec, Spec
from ddbench.results.schema import PluginPart, Record
from ddbench.runtime.context import Context
from ddbench.sets.folder import content_digest
from ddbench.sets.made import Distilled
from ddbench.sets.whitening import Whitening
from ddbench.testing.bench import Bench
from ddbench.testing.toy import toy_dataset

if TYPE_CHECKING:
    from numpy.typing import NDArray


#: By which sets are whitened for evaluators that can.
RECIPE = "rfad"


def check_method(
    method: MethodSpec | type,
    *,
    options: Mapping[str, Any] | None = None,
    dataset: Dataset | None = None,
    ipc: int = 2,
    plugins: Iterable[str | Path] = (),
) -> DistilledSet:
    """Check a distillation method and return what it distilled.

    Args:
        method: its spec or class.
        options: values that make it quick.
        dataset: what to distil; :func:`ddbench.testing.toy.toy_dataset` when None.
        ipc: images per class.
        plugins: plugin files it needs.

    Raises:
        PluginError: a broken contract, randomness that is not the run's, a result that depends on the test images, or
            seeds that change nothing although the method is not declared ``seeded = False``.
    """
    data = dataset or toy_dataset()
    with Bench(method, MethodSpec, options, data, plugins) as bench:

        def distil(seed: int, data: Dataset) -> Distilled:
            return bench.run(lambda ctx: pipeline.distil(pipeline.prepare_method(ctx, bench.name, ipc, seed)), data)

        bench.check_options()
        first = distil(0, data)
        if distil(0, data).digest != first.digest:
            raise bench.broken("gives different sets for the same seed", _RANDOM)
        if distil(0, _other_test_images(data)).digest != first.digest:
            raise bench.broken("depends on the test images", "Distil from ctx.dataset.train only.")
        seeded = load_plugin(bench.entry).seeded
        if seeded and all(distil(seed, data).digest == first.digest for seed in (1, 2)):
            raise bench.broken("gives the same set for every seed", "Say so: seeded = False in the class.")
        return first.content


def check_evaluator(
    evaluator: EvaluatorSpec | type,
    *,
    options: Mapping[str, Any] | None = None,
    dataset: Dataset | None = None,
    ipc: int = 4,
    network: str = "",
    unused: Collection[str] = (),
    plugins: Iterable[str | Path] = (),
) -> Record:
    """Check an evaluation protocol and return the record of two repeats.

    Args:
        evaluator: its spec or class.
        options: values that make it quick.
        dataset: what to evaluate on; :func:`ddbench.testing.toy.toy_dataset` when None.
        ipc: images per class of the random selection that is evaluated.
        network: the network under test; the evaluator's choice when empty.
        unused: options that may be missing from the protocol because they change no number.
        plugins: plugin files it needs.

    Raises:
        PluginError: a broken contract, randomness that is not the run's, a protocol without its essentials or blind to
            an option, or a pixel space that is read wrongly.
    """
    data = dataset or toy_dataset()
    with Bench(evaluator, EvaluatorSpec, options, data, plugins) as bench:

        def score(space: str, data: Dataset = data) -> Record:
            def evaluate(ctx: Context) -> Record:
                bound = pipeline.prepare_evaluator(ctx, bench.name, network, ipc)
                return pipeline.evaluate(bound, _selection(ctx, ipc, space), repeats=2)

            return bench.run(evaluate, data)

        bench.check_options()
        record = score("rgb_uint8")
        if score("rgb_uint8").digest != record.digest:
            raise bench.broken("gives different numbers for the same seed", _RANDOM)
        _check_protocol_sees_options(bench, data, ipc, network, unused)
        chance = 1 / data.num_classes
        for space in ("unit", "normalized"):
            try:
                mean = score(space).mean
            except DDBenchError:
                continue  # refusing a space with an explanation is fine
            if mean - chance < (record.mean - chance) / 2:
                raise bench.broken(
                    f"reads pixel space {space!r} wrongly: {mean:.0%} instead of {record.mean:.0%} on the same images",
                    "Look at distilled.space, or refuse the space with a ddbench.DataError.",
                )
        if load_plugin(bench.entry).whitens:
            of_set, of_data = score("zca").mean, score("rgb_uint8", replace(data, zca=RECIPE)).mean
            if abs(of_set - of_data) > 0.1:
                raise bench.broken(
                    f"reads pixel space 'zca' wrongly: {of_set:.0%} instead of {of_data:.0%} on images that it whitens",
                    "Look at distilled.whitening and ctx.dataset.zca, or leave whitens out.",
                )
        return record


def check_dataset(
    dataset: DatasetSpec | type,
    argument: str = "",
    *,
    options: Mapping[str, Any] | None = None,
    plugins: Iterable[str | Path] = (),
) -> Dataset:
    """Check a data set and return it.

    Args:
        dataset: its spec or class.
        argument: what follows the colon of a prefix name (``folder:PATH``).
        options: its options.
        plugins: plugin files it needs.

    Raises:
        PluginError: a broken contract, a changing fingerprint, images that depend on how they are asked
            for, statistics of the wrong scale, or an origin that names a folder of this machine.
    """
    with Bench(dataset, DatasetSpec, options, None, plugins) as bench:
        bench.check_options()
        name = bench.name + argument

        def load() -> Dataset:
            return bench.run(lambda ctx: pipeline.load_dataset(ctx, name), None)

        data = load()
        if load().fingerprint != data.fingerprint:
            raise bench.broken("has another fingerprint each time it is loaded", "It must depend on content only.")
        if isinstance(dataset, Spec) and not bench.name.endswith(":") and data.name != bench.name:
            raise bench.broken(f"calls itself {data.name!r}", "Dataset.name must be the registered name.")
        for part, split in (("train", data.train), ("test", data.test)):
            _check_split(bench, part, split, data)
        if not all(0 <= value <= 1 for value in data.mean) or not all(0 < value <= 1 for value in data.std):
            raise bench.broken(
                f"has mean {data.mean} and std {data.std}", "They are of pixels scaled to [0, 1], and std is above 0."
            )
        if re.search(r"(^|\s)(~?/|[A-Za-z]:\\)\S", data.origin):
            raise bench.broken(
                f"names a folder of this machine in its origin {data.origin!r}",
                "Records are shared: name files, not places.",
            )
        return data


_RANDOM = "Take every random choice from ctx.rng(role), or from a generator seeded with ctx.seed(role)."


def _other_test_images(data: Dataset) -> Dataset:
    """The same data set with its test images upside down in brightness."""
    images, labels = data.arrays("test")
    return replace(data, test=Split(ArrayImages(255 - images), labels, data.test.ids))


def _selection(ctx: Context, ipc: int, space: str) -> Distilled:
    """A random selection as if it had been distilled."""
    data, rng = ctx.dataset, np.random.default_rng(0)
    chosen = np.concatenate([rng.choice(data.train.of_class(c), ipc, replace=False) for c in range(data.num_classes)])
    images: NDArray[Any] = data.train.images.batch(chosen.tolist(), data.image_size)
    if space != "rgb_uint8":
        images = images.astype(np.float32) / 255
    if space == "normalized":
        images = (images - np.array(data.mean, np.float32)) / np.array(data.std, np.float32)
    if space == "zca":
        whitening = Whitening.of(ctx, RECIPE)
        images = whitening.whiten(images)
        content = whitening.made(DistilledSet(images, data.train.labels[chosen]))
    else:
        content = DistilledSet(images, data.train.labels[chosen], space=space)
    digest = content_digest(content)
    return Distilled(
        plugin=PluginPart(name="selection", version=1, options={}, explicit={}),
        content=content,
        key=digest,
        digest=digest,
        ipc=ipc,
        seed=0,
        shrunk=(),
        steps=[],
        seconds=0.0,
        bytes={"images": images.nbytes, "labels": content.labels.nbytes},
        path=Path(),
    )


def _check_protocol_sees_options(bench: Bench, data: Dataset, ipc: int, network: str, unused: Collection[str]) -> None:
    """Finished students are found again by the protocol, so an option it does not show would have no effect."""

    def digest(options: Mapping[str, Any]) -> str:
        def protocol(ctx: Context) -> str:
            evaluator, mine, _ = pipeline.prepare_evaluator(ctx, bench.name, network, ipc)
            content = _selection(ctx, ipc, "rgb_uint8").content
            return evaluator.protocol(mine, content).digest

        given = bench.options
        bench.options = {"evaluator": {**given["evaluator"], **options}}
        try:
            return str(bench.run(protocol, data))
        finally:
            bench.options = given

    usual = digest({})
    model = load_plugin(bench.entry).Options
    for name, field in getattr(model, "model_fields", {}).items():
        value = bench.options["evaluator"].get(name, field.get_default(call_default_factory=True))
        for other in _others(value, field.annotation):
            try:
                seen = digest({name: other}) != usual
            except DDBenchError:
                continue  # not a value it takes
            if not seen and name not in unused:
                raise bench.broken(
                    f"has a protocol that does not show its option {name!r}",
                    "Results with different settings would be taken for each other: add it to Protocol.settings.",
                )
            break


def _others(value: Any, annotation: Any) -> Sequence[Any]:
    """Other values an option might take."""
    if get_origin(annotation) is Literal:
        return [choice for choice in get_args(annotation) if choice != value]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, value / 2, value - 1]
    return []


def _check_split(bench: Bench, part: str, split: Split, data: Dataset) -> None:
    some = [len(split) - 1, 0]
    for size in (data.image_size, data.image_size + 3):
        batch = split.images.batch(some, size)
        shape = (2, size, size, data.channels)
        if batch.dtype != np.uint8 or batch.shape != shape:
            raise bench.broken(
                f"gives {part} images {batch.dtype} {list(batch.shape)} instead of uint8 {list(shape)}",
                "See ddbench.ImageSource.",
            )
        if any(
            not np.array_equal(split.images.load(index, size), image) for index, image in zip(some, batch, strict=True)
        ):
            raise bench.broken(f"gives other {part} images one by one than in a batch", "See ddbench.ImageSource.")
