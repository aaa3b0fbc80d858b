"""How long a large ImageNet tree takes to list, identify and select from, and in how much memory.

Makes a tree of hard links to a few tiny JPEGs in a temporary folder, loads it as ``imagenet-1k`` in a new process, and
draws ten images of every class; a whole tree of ImageNet-1K is planned as well, with VLCP's paper preset:

  python benchmarks/tree.py --classes 1000 --train 1300 --test 50

Only class folders, file names and sizes matter to what is measured: images are not decoded, as with the real tree.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ddbench_plugins.datasets.names import imagenet

from ddbench.errors import ModelError

LINKS = 50_000  # file systems limit the links to one file (ext4: 65,000)


def main() -> None:
    """Make the tree, measure in a process of its own, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--train", type=int, default=1300, help="images per class")
    parser.add_argument("--test", type=int, default=50, help="images per class")
    parser.add_argument("--where", help="folder to make the tree in (default: the system's temporary folder)")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        print(json.dumps(measure(arguments.classes)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.where, prefix="ddbench-tree-") as folder:
        root = Path(folder)
        start = time.perf_counter()
        count = plant(root / "data" / "imagenet", arguments)
        print(f"made {count:,} files in {time.perf_counter() - start:.1f} s", flush=True)
        environment = {**os.environ, "DDBENCH_DATA": str(root / "data"), "DDBENCH_HOME": str(root / "home")}
        command = [sys.executable, __file__, "--classes", str(arguments.classes), "--inside", "yes"]
        for word in ("first time", "again"):
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            figures = json.loads(done.stdout)
            print(f"{word}: " + ", ".join(f"{name} {value}" for name, value in figures.items()), flush=True)
        if arguments.classes == len(imagenet()):
            print(f"ddbench plan: {plan(environment)}", flush=True)


def plan(environment: dict[str, str]) -> str:
    """Plan VLCP's paper run on the whole tree in a new process; return its seconds and peak memory."""
    line = "plan --method vlcp --eval minimax --dataset imagenet-1k --preset paper -o data.size=64 --offline"
    command = [sys.executable, "-m", "ddbench", *line.split()]
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    # A plan is made without the published models, too.
    if os.waitstatus_to_exitcode(status) not in (0, ModelError.exit_code):
        sys.exit("ddbench plan failed")
    return f"{time.perf_counter() - start:.1f} s, peak {usage.ru_maxrss / 1024:,.0f} MB"


def plant(root: Path, arguments: argparse.Namespace) -> int:
    """Write the tree and return the number of files."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    contents = []
    for side in (24, 28, 32):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).save(file, "jpeg")
        contents.append(file.getvalue())
    count = 0
    source = root / "source"
    for split, each in (("train", arguments.train), ("val", arguments.test)):
        for synset in imagenet()[: arguments.classes]:
            folder = root / split / synset
            folder.mkdir(parents=True)
            for number in range(each):
                if count % LINKS == 0:
                    source.unlink(missing_ok=True)
                    source.write_bytes(contents[count // LINKS % len(contents)])
                os.link(source, folder / f"{synset}_{number}.JPEG")
                count += 1
    source.unlink(missing_ok=True)
    return count


def measure(classes: int) -> dict[str, str]:
    """Load the tree, select from it, and return seconds and peak memory."""
    from unittest import mock

    from ddbench_plugins.datasets import imagenet, names

    import ddbench
    from ddbench.runtime.progress import LineReporter

    listed = dict(list(names.class_list("imagenet-1k").items())[:classes])
    with mock.patch.object(imagenet, "class_list", lambda name: listed):
        start = time.perf_counter()
        data = ddbench.load_dataset("imagenet-1k", offline=True, reporter=LineReporter())
        loaded = time.perf_counter()
        peak = high_water()
        chosen = [int(i) for label in range(data.num_classes) for i in data.train.of_class(label)[:10]]
        data.train.images.batch(chosen[:: len(chosen) // 1000 or 1], data.image_size)
        selected = time.perf_counter()
    return {
        "images": f"{len(data.train) + len(data.test):,}",
        "fingerprint": data.fingerprint[:8],
        "listing and identifying": f"{loaded - start:.1f} s ({peak:,.0f} MB)",
        "selecting": f"{selected - loaded:.1f} s",
        "peak": f"{high_water():,.0f} MB",
    }


def high_water() -> float:
    """Return this process's peak memory in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
