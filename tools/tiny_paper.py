"""Everything that VLCP's run at the paper's scale reads, in tiny: images of ImageNette's layout, and random weights.

python tools/tiny_paper.py FOLDER

Writes FOLDER/data (for DDBENCH_DATA) and FOLDER/hub (for HF_HOME): a cache of the Hugging Face hub in which the names
of published models stand for random ones of the same layout, below 1 MB each. See docs/methods/vlcp.md.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

import numpy as np
from ddbench_plugins.datasets.names import class_list
from PIL import Image

from ddbench.testing.diffusion import tiny_dit, tiny_pipeline
from ddbench.testing.llava import WORDS, tiny_llava

#: Images per class; fourteen leave thirteen without their outliers, more than the ten clusters of IPC 10.
TRAIN, VAL = 14, 3


def write_images(folder: Path, train: int = TRAIN, val: int = VAL) -> None:
    """Write JPEGs of odd sizes, sorted by synset; the first one of a class is grey."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for synset in class_list("imagenette"):
            place = folder / split / synset
            place.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                height, width = (int(side) for side in rng.integers(40, 130, 2))
                patches = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8)).resize((width, height))
                (patches if number else patches.convert("L")).save(place / f"{synset}_{number}.JPEG")


def write_hub(home: Path) -> None:
    """Write the models, as `hf download` leaves them in ``HF_HOME``."""
    words = [*WORDS, "brown", "long", "curved", "shiny", "metal", "striped"]
    models = {
        "benjamin-paine/stable-diffusion-v1-5": tiny_pipeline,
        "llava-hf/llava-1.5-7b-hf": lambda folder: tiny_llava(folder, words=words),
        "facebook/DiT-XL-2-256": lambda folder: tiny_dit(folder, classes=1000, published=True),
    }
    for name, write in models.items():
        repository = home / "hub" / f"models--{name.replace('/', '--')}"
        with tempfile.TemporaryDirectory(dir=home) as made:
            write(Path(made))
            commit = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
            (repository / "refs").mkdir(parents=True)
            (repository / "refs" / "main").write_text(commit, encoding="utf-8")
            (repository / "snapshots").mkdir()
            Path(made).rename(repository / "snapshots" / commit)
            Path(made).mkdir()  # for its own end


def main() -> None:
    """Write both into the folder named on the command line."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    (folder / "hub").mkdir(parents=True)
    write_images(folder / "data" / "imagenette")
    write_hub(folder / "hub")
    print(f"{folder}: {len(class_list('imagenette')) * (TRAIN + VAL)} images and three models of random weights")


if __name__ == "__main__":
    main()
