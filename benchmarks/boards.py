"""How long all boards of a large registry take: makes records of realistic size, then reads, verifies and renders them.

python benchmarks/boards.py [--records 10000]
"""

from __future__ import annotations

import argparse
import base64
import json
import resource
import tempfile
import time
from pathlib import Path

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
    record_key,
    result_digest,
)
from ddbench.tables import boards, pages
from ddbench.tables.declared import declared
from ddbench.tables.formats import html, markdown

DATASETS = ("cifar10", "cifar100", "fashion-mnist", "imagenette", "imagewoof", "tiny-imagenet")
EVALUATORS = ("rded", "minimax", "dc", "idc", "fkd")
BUDGETS = (1, 10, 20, 50, 100)
SEEDS, REPEATS, IMAGES, EPOCHS = 3, 5, 10_000, 300


def make(number: int, generator: np.random.Generator) -> Record:
    """Return the record of the cell with this number; its content is random but consistent."""
    number, seed = divmod(number, SEEDS)
    number, budget = divmod(number, len(BUDGETS))
    number, evaluator = divmod(number, len(EVALUATORS))
    method, dataset = divmod(number, len(DATASETS))
    name = DATASETS[dataset]
    facts = {
        "name": name,
        "fingerprint": digest(name),
        "image_size": 32,
        "channels": 3,
        "num_classes": 10,
        "class_names": [f"class {label}" for label in range(10)],
        "class_ids": [str(label) for label in range(10)],
        "train_images": 50_000,
        "test_images": IMAGES,
        "origin": "made up",
    }
    options = {f"option_{place}": place / 10 for place in range(12)}
    cell = Cell(
        dataset=facts,
        method=PluginPart(name="random" if not method else f"m{method}", version=1, options=options, explicit={}),
        ipc=BUDGETS[budget],
        seed=seed,
        evaluator=PluginPart(name=EVALUATORS[evaluator], version=1, options=options, explicit={}),
        network="convnet-3",
        evaluation_seed=seed,
        preset="paper+sane",
    )
    settings = {"network": "convnet-3", "label_type": "soft", "epochs": EPOCHS, "selection": "last", **options}
    protocol = ProtocolPart(
        settings=settings, extension="", digest=digest({"settings": settings, "extension": ""})[:16]
    )
    kept = digest([number, seed, budget, evaluator])
    shape = [10 * cell.ipc, 32, 32, 3] if cell.ipc else []
    distilled = DistilledPart(
        key=kept[:20], digest=kept, count=shape[0], shape=shape, space="rgb_uint8", whole=False, extra={}
    )
    packed = generator.integers(0, 256, (REPEATS, IMAGES // 8), dtype=np.uint8)
    last = [float(np.unpackbits(row).mean()) for row in packed]
    result = Result(
        selection="last",
        values=last,
        last=last,
        best=[None] * REPEATS,
        curves=[[(EPOCHS, value)] for value in last],
        metrics=[{}] * REPEATS,
        test_images=IMAGES,
        correct=[base64.b64encode(row.tobytes()).decode() for row in packed],
    )
    costs = Costs(
        steps=[{"step": "student", "key": kept[:20], "seconds": 12.5}] * 8,
        distill_seconds=100.0,
        evaluate_seconds=60.0,
        peak_bytes=10**9,
        bytes_images=300_000,
        bytes_labels=400,
    )
    numerics = {"device": "cpu", "precision": "fp32"}
    return Record(
        key=record_key(cell, numerics),
        digest=result_digest(cell, protocol, distilled, result, []),
        cell=cell,
        protocol=protocol,
        distilled=distilled,
        result=result,
        shrunk=[],
        costs=costs,
        environment={"ddbench": "0.1.0", **numerics},
    )


def fill(registry: Path, count: int) -> None:
    """Write ``count`` records (without syncing each to disk)."""
    generator = np.random.default_rng(0)
    for number in range(count):
        record = make(number, generator)
        path = registry / "results" / record.relative_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record.model_dump(mode="json"), indent=1), "utf-8")


def measure(registry: Path, folder: Path) -> dict[str, float]:
    """Return the seconds of each stage of making all boards."""
    clock = [time.perf_counter()]
    content = boards.read_registry(registry, without=("curves", "correct"))
    assert not content.problems, content.problems[:3]
    clock.append(time.perf_counter())
    made = boards.boards(content.records, declared(folder), claims=content.published)
    clock.append(time.perf_counter())
    pages.render(made)
    clock.append(time.perf_counter())
    "".join(map(html.board_html, made))
    "".join(map(markdown.board, made))
    clock.append(time.perf_counter())
    stages = ("read and verify", "arrange and test", "render pages", "other formats")
    return dict(zip(stages, np.diff(clock).tolist(), strict=True))


def main() -> None:
    """Print the seconds of each stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=10_000)
    count = parser.parse_args().records
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), count)
        busy = time.process_time()
        seconds = measure(Path(folder), Path(__file__).parent.parent / "leaderboards")
        busy = time.process_time() - busy
    for stage, value in seconds.items():
        print(f"{stage:<18}{value:6.2f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{'peak memory':<18}{peak:6.2f} GB")
    print(f"{'all boards':<18}{sum(seconds.values()):6.2f} s for {count:,} records ({busy:.2f} s of processor time)")


if __name__ == "__main__":
    main()
