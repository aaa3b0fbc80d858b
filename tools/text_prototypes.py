"""Draw text prototypes of VLCP with what they stand for, without showing training images.

  python tools/text_prototypes.py imagenette "cassette player:0" tench:1 "French horn:1" --out texts.png

Each row is a distilled image, the images of its cluster that lie nearest to the prototype, and the text. `ddbench
gallery vlcp --prompts --members 8` shows the training images themselves; here they are decoded from their latents, so
that the picture may be published where the data set's images may not.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ddbench_plugins.diffusion.backbone import base_model
from ddbench_plugins.diffusion.latents import decode_latents

from ddbench import distill
from ddbench.cli import embeddings as seen
from ddbench.figures import gallery
from ddbench.plugin.contracts import DistilledSet


def main() -> None:
    """Distil (or reuse what is distilled), decode and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("which", nargs="+", metavar="CLASS:PROTOTYPE", help="prototypes count from 0")
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    (loaded,) = distill("vlcp", dataset=chosen.dataset, ipc=[chosen.ipc])
    content = loaded.distilled
    machine = {"plugins": (), "device": "auto", "precision": "auto", "offline": True, "force": False, "quiet": True}
    values = {"dataset": chosen.dataset, "ipc": chosen.ipc, "seed": 0, "preset": "", "options": (), **machine}
    found = seen.prepare("vlcp", values)
    pipeline = base_model(found.ctx, found.ctx.options).load(decodes=True)
    rows, names, members = [], [], {}
    for number, (name, _, place) in enumerate(each.rpartition(":") for each in chosen.which):
        label = loaded.class_names.index(name)
        embedding = found.embedding(label)
        latents = embedding.points[seen.nearest(embedding, int(place), chosen.members)]
        members[number] = [decode_latents(pipeline, latents.astype(np.float32))]
        rows.append(int(np.flatnonzero(content.labels == label)[int(place)]))
        names.append(name)
    shown = DistilledSet(
        content.images[rows], np.arange(len(rows)), prompts=tuple(content.prompts[row] for row in rows)
    )
    gallery.prompt_sheet(shown, names, members=members).save(chosen.out)


if __name__ == "__main__":
    main()
