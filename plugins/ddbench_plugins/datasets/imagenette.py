"""ImageNette: ten ImageNet classes."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

import ddbench
from ddbench.errors import DataError
from ddbench_plugins.datasets.names import synsets
from ddbench_plugins.datasets.places import missing, roots
from ddbench_plugins.datasets.trees import TreeImages, class_folders, from_trees, scan

IMAGENET_STATS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
#: fast.ai's releases, ImageNette in a folder of that name, and ImageNet itself (whose other classes are left alone).
FOLDERS = ("imagenette", "imagenette2-320", "imagenette2", "imagenette2-160", "imagenet")
TEST_NAMES = ("val", "test")
INSTRUCTIONS = (
    "Download https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-320.tgz and unpack it in a data folder, so that"
    " there is imagenette2-320/train/n01440764/… and imagenette2-320/val/…; any tree imagenette/{train,val}/<synset>/…"
    " will do."
)


class ImageNette(ddbench.DatasetLoader):
    """ImageNette from class folders, in the order of the synset ids, which is that of the published class list."""

    class Options(ddbench.Options):
        """Options of ImageNette."""

        size: int = Field(64, ge=8, description="Side that evaluators see (methods may load at a size of their own).")

    presets = (
        {
            "when": {"scale": "paper"},
            "set": {"size": 224},
            "source": "ImageNet protocols test at 224 (Gu et al. 2024, data.py; Sun et al. 2024, validation/main.py)",
        },
    )

    def load(self, ctx: ddbench.Context, argument: str) -> ddbench.Dataset:
        """Return ImageNette.

        Raises:
            DataError: it is nowhere, or files cannot be read.
        """
        names = synsets()["imagenette"]
        folder, train_folder, test_folder = find(list(names))
        train, test = (
            TreeImages(ctx, scan(ctx, f, list(names), f"imagenette, {f.name}"), 3, f"imagenette ({f.name})")
            for f in (train_folder, test_folder)
        )
        return from_trees(
            "imagenette",
            list(names),
            list(names.values()),
            train,
            test,
            image_size=ctx.options.size,
            stats=IMAGENET_STATS,
            origin=f"class folders {folder.name}/{{{train_folder.name},{test_folder.name}}}: {len(train):,} training"
            f" and {len(test):,} test images (fast.ai's release has 9,469 and 3,925)",
        )


def find(wanted: list[str]) -> tuple[Path, Path, Path]:
    """Return the folder of ImageNette with its training and test folders.

    Raises:
        DataError: it is nowhere, or lacks classes.
    """
    places = [root / name for root in roots() for name in FOLDERS]
    for place in places:
        test = next((place / name for name in TEST_NAMES if class_folders(place / name)), None)
        if test is None or not class_folders(place / "train"):
            continue
        for part in (place / "train", test):
            lacking = sorted(set(wanted) - set(class_folders(part)))
            if lacking and place.name != "imagenet":
                raise DataError(
                    f"{place.name}/{part.name} lacks the ImageNette class(es) {', '.join(lacking)}.",
                    hint=INSTRUCTIONS,
                )
        if not lacking:
            return place, place / "train", test
    raise missing("imagenette", INSTRUCTIONS, places)
