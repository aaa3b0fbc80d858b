"""Train the small diffusion model of the digits that ships with the package (about three minutes on two CPU cores).

Usage: python tools/bundle_diffusion.py [FOLDER]
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import torch
from ddbench_plugins.captioners.attributes import describe
from ddbench_plugins.datasets.digits import NAMES, enlarge, read_digits
from ddbench_plugins.datasets.split import stratified
from ddbench_plugins.diffusion.pipeline import load_pipeline, save_pipeline
from ddbench_plugins.diffusion.small.model import PRESETS
from ddbench_plugins.diffusion.small.training import train_small_pipeline
from ddbench_plugins.training.engine import Loop
from ddbench_plugins.training.memory import keep_freed_memory

from ddbench.runtime.progress import reporter

ASSETS = Path(__file__).parent.parent / "plugins" / "ddbench_plugins" / "diffusion" / "assets" / "digits"


def main(folder: Path) -> None:
    """Train on the digits' training part and save the model in half precision with its measured numbers."""
    keep_freed_memory()
    images, labels = read_digits()
    train, _ = stratified(labels, tuple(f"{i:05d}" for i in range(len(labels))), fraction=0.2, seed=0)
    shown, labels = enlarge(images)[train], labels[train]
    captions = describe(shown, [NAMES[label] for label in labels])
    with tempfile.TemporaryDirectory() as scratch, reporter().task("small diffusion model") as advance:
        preset = PRESETS["digits"]
        report = train_small_pipeline(
            shown, labels, NAMES, captions, preset, Path(scratch), seed=0, loop=Loop(progress=advance)
        )
        pipeline = load_pipeline(scratch, offline=True)
        for part in (pipeline.vae, pipeline.text_encoder, pipeline.unet):
            part.to(torch.float16)
        save_pipeline(pipeline, folder)
    record = {"data": "digits, 1,437 training images", "preset": preset.describe(), "seed": 0, "measured": report}
    (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(report)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ASSETS)
