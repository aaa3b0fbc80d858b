"""Hand-made valid records for tests of the registry, the boards and the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ddbench.keys import digest
from ddbench.results.schema import (
    Cell,
    Costs,
    DistilledPart,
    PluginPart,
    ProtocolPart,
    Record,
    Result,
    pack_bits,
    record_key,
    result_digest,
)

TEST_IMAGES = 200


def dataset_facts(name: str = "digits", fingerprint: str = "f1" * 32) -> dict[str, Any]:
    return {
        "name": name,
        "fingerprint": fingerprint,
        "image_size": 16,
        "channels": 1,
        "num_classes": 2,
        "class_names": ["zero", "one"],
        "class_ids": ["0", "1"],
        "train_images": 1000,
        "test_images": TEST_IMAGES,
        "origin": "made up",
    }


def make(
    method: str = "random",
    values: Sequence[float] = (0.5,),
    *,
    ipc: int | None = 10,
    seed: int = 0,
    evaluator: str = "rded",
    network: str = "convnet-3",
    preset: str = "cpu+sane",
    dataset: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    explicit: dict[str, Any] | None = None,
    eval_explicit: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    extension: str = "",
    shrunk: Sequence[tuple[str, Any, Any]] = (),
    extra: dict[str, Any] | None = None,
    images: str = "",
    version: int = 1,
    evaluation_seed: int = 0,
    metrics: Sequence[dict[str, float]] = (),
) -> Record:
    """Return a record whose digests and per-image correctness fit its values (multiples of one test image)."""
    data = dataset or dataset_facts()
    count = data["train_images"] if ipc is None else data["num_classes"] * ipc
    cell = Cell(
        dataset=data,
        method=PluginPart(name=method, version=version, options=options or explicit or {}, explicit=explicit or {}),
        ipc=ipc,
        seed=seed,
        evaluator=PluginPart(name=evaluator, version=1, options=eval_explicit or {}, explicit=eval_explicit or {}),
        network=network,
        evaluation_seed=evaluation_seed,
        preset=preset,
    )
    used = {"network": network, "label_type": "soft", "epochs": 300, "selection": "last", **(settings or {})}
    protocol = ProtocolPart(
        settings=used, extension=extension, digest=digest({"settings": used, "extension": extension})[:16]
    )
    # Two networks never answer alike, so that the right ones of every repeat begin elsewhere.
    tested = data["test_images"]
    correct = [np.roll(np.arange(tested) < round(value * tested), repeat) for repeat, value in enumerate(values)]
    kept = digest([method, seed, ipc, images, explicit or {}])
    distilled = DistilledPart(
        key=kept[:20],
        digest=kept,
        count=count,
        shape=[count, data["image_size"], data["image_size"], data["channels"]],
        space="rgb_uint8",
        whole=ipc is None,
        extra=extra or {},
    )
    result = Result(
        selection=used["selection"],
        values=list(values),
        last=list(values),
        best=[None] * len(values),
        curves=[[(300, value)] for value in values],
        metrics=list(metrics) or [{} for _ in values],
        test_images=tested,
        correct=[pack_bits(bits) for bits in correct],
    )
    costs = Costs(
        steps=[], distill_seconds=1.0, evaluate_seconds=2.0, peak_bytes=10**6, bytes_images=5000, bytes_labels=160
    )
    changes = list(shrunk)
    return Record(
        key=record_key(cell, {"device": "cpu", "precision": "fp32"}),
        digest=result_digest(cell, protocol, distilled, result, changes),
        cell=cell,
        protocol=protocol,
        distilled=distilled,
        result=result,
        shrunk=changes,
        costs=costs,
        environment={"ddbench": "0.1.0", "command": f"ddbench run -m {method}", "device": "cpu", "precision": "fp32"},
    )
