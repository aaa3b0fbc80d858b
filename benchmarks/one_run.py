"""One timed thing in a process of its own: reads a request (JSON) from the command line, prints its result (JSON).

A fresh process per run keeps allocator settings, compiled code and caches of one side away from the other.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prepare import Prepared
    from released.common import Outcome

#: ddbench's evaluator and options that switch on what the released code does. RDED's ImageNet constants are not: both
#: sides use the data set's own, for which there is a teacher.
OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "rded": ("rded", {"selection": "best_test", "update_batchnorm_twice": True}),
    "minimax": ("minimax", {"selection": "best_test"}),
    "dc": ("dc", {"augment": "auto", "extra_epoch": True, "reset_optimiser": True}),
    "dsa": ("dc", {"augment": "dsa", "extra_epoch": True, "reset_optimiser": True}),
}


def ours(
    protocol: str, made: Prepared, work: Path, epochs: int, seed: int, *, repeats: int = 1, device: str = "auto"
) -> dict[str, Any]:
    """Evaluate the distilled set with ddbench, as ``ddbench run`` does after distilling."""
    import ddbench

    name, options = OURS[protocol]
    options = options | {"epochs": epochs} | ({"factor": made.factor} if protocol == "rded" else {})
    with tempfile.TemporaryDirectory() as registry:
        (record,) = ddbench.evaluate(
            work / made.distilled,
            name,
            dataset=made.dataset,
            network=network(protocol),
            evaluation_seed=seed,
            repeats=repeats,
            device=device,
            options={"eval": options},
            registry=registry,
            offline=True,
            force=True,
        )
    settings = record.protocol.settings
    images = made.ipc * made.classes
    curve = record.result.curves[0]
    return {
        "accuracy": record.result.values[0],
        "tests": len(curve),
        "steps": settings["epochs"] * -(-images // min(settings["batch_size"], images)),
        "precision": record.environment["precision"],
    }


def theirs(protocol: str, made: Prepared, work: Path, epochs: int, seed: int, *, device: str = "cpu") -> dict[str, Any]:
    """Train and test as the released code does."""
    outcome = train_released(protocol, made, work, epochs, seed, device)
    values = [accuracy for _, accuracy in outcome.tests]
    best = protocol in ("rded", "minimax")
    return {
        "accuracy": max(values) if best else values[-1],
        "tests": len(values),
        "steps": outcome.steps,
        "precision": "fp32",
    }


def train_released(protocol: str, made: Prepared, work: Path, epochs: int, seed: int, device: str = "cpu") -> Outcome:
    """Run the released way of a protocol on a prepared folder."""
    from released import dc, minimax, rded
    from released.common import Task

    task = Task(
        train=work / "train",
        test=work / "test",
        size=made.size,
        channels=made.channels,
        classes=made.classes,
        ipc=made.ipc,
        mean=made.mean,
        std=made.std,
        flip=made.flip,
        epochs=epochs,
        factor=made.factor,
        teacher=work / made.teacher if made.teacher else None,
        seed=seed,
        device=device,
    )
    match protocol:
        case "rded":
            return rded.train(task)
        case "minimax":
            return minimax.train(task)
        case _:
            return dc.train(task, augment=protocol == "dsa")


def network(protocol: str) -> str:
    """ddbench's name of the network that is trained."""
    return "convnet-3-bn" if protocol == "rded" else "convnet-3"


def default_epochs(protocol: str, size: int, ipc: int, classes: int) -> int:
    """Epochs of a protocol as the released code sets them."""
    from released import dc, minimax, rded

    match protocol:
        case "rded":
            return rded.EPOCHS
        case "minimax":
            return minimax.epochs(size, ipc, classes)
        case _:
            return dc.DSA_EPOCHS if protocol == "dsa" else dc.EPOCHS


def main() -> None:
    """Do what the request says and print the result as one line."""
    request = json.loads(sys.argv[1])
    work = Path(request["work"])
    if request["do"] == "prepare":
        from prepare import prepare

        prepare(work, request["dataset"], request["ipc"], request["teacher"])
        return
    if request["do"] == "loop":
        from student_loop import measure

        print(json.dumps(measure(request["seconds"], request["device"])))
        return
    from prepare import load

    started = time.perf_counter()
    import torch

    if request["side"] == "ours":
        import ddbench_plugins.evaluators  # noqa: F401
        from ddbench_plugins.teachers import observers  # noqa: F401
        from ddbench_plugins.training import students  # noqa: F401

        import ddbench  # noqa: F401
    else:
        from released import dc, minimax, rded  # noqa: F401
    imported = time.perf_counter()
    made = load(work)
    side = ours if request["side"] == "ours" else theirs
    where = {"device": request["device"]} if "device" in request else {}
    result = side(request["protocol"], made, work, request["epochs"], request["seed"], **where)
    seconds = time.perf_counter() - imported
    print(
        json.dumps(
            {"seconds": seconds, "import_seconds": imported - started, "threads": torch.get_num_threads()} | result
        )
    )


if __name__ == "__main__":
    main()
