"""Images with captions and no classes: ``pairs:LIST.json`` or ``pairs:FOLDER``."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

import ddbench
from ddbench import DataError, ImageSource
from ddbench_plugins.datasets.captioned import Row, read_pairs
from ddbench_plugins.datasets.folder import probe
from ddbench_plugins.datasets.listing import DEAD, File, Files, check, facts
from ddbench_plugins.datasets.places import looked_in, roots
from ddbench_plugins.datasets.trees import TreeImages, from_trees

#: Folders beside a list in which its images may be.
FOLDERS = ("", "images", "flickr30k-images", "flickr30k_images")


class Pairs(ddbench.DatasetLoader):
    """A list of images with captions; all are of one class, so that the IPC is the number of pairs.

    The captions are read by the captioner ``file``, of the same list.
    """

    class Options(ddbench.DatasetOptions):
        """Options of ``pairs:``."""

        size: int = Field(64, ge=4, le=ImageSource.LARGEST_SIDE, description="Side that methods and evaluators see.")
        images: str = Field("", description="Folder of the images; the list's, or one beside it, when empty.")

    presets = (
        {
            "when": {"scale": "paper"},
            "set": {"size": 224},
            "source": "multimodal_dataset_distillation data/__init__.py: 224 pixels",
        },
    )

    def load(self, ctx: ddbench.Context, argument: str) -> ddbench.Dataset:
        """Find the images of the list, and decode them once.

        Raises:
            DataError: no such list, or images that are not there or cannot be read.
        """
        places = [Path(argument).expanduser(), *(root / argument for root in roots())]
        path = next((place for place in places if place.exists()), None)
        if path is None:
            raise DataError(f"There is no list or folder {argument!r}.", hint=looked_in(places))
        name, rows = f"pairs:{path.resolve().stem}", read_pairs(path)
        folder = self._folder(ctx, path, rows, name)
        parts = [self._files([row for row in rows if row.split == split], folder, name) for split in ("train", "test")]
        for split, files in zip(("training", "test"), parts, strict=True):
            if not files:
                raise DataError(
                    f"{name} has no {split} images.",
                    hint="A list of one split is named by it, with the other beside it: flickr30k_train.json and"
                    " flickr30k_test.json. Folders are train and test, with a metadata.jsonl in each.",
                )
        channels = probe(ctx, parts, name)[1]
        train, test = (
            TreeImages(ctx, files, channels, f"{name} ({split})")
            for split, files in zip(("train", "test"), parts, strict=True)
        )
        return from_trees(
            name,
            ["pair"],
            ["image"],
            train,
            test,
            image_size=ctx.options.size,
            origin=f"images with captions of {path.name}: {len(train):,} training and {len(test):,} test images",
        )

    @staticmethod
    def _folder(ctx: ddbench.Context, path: Path, rows: list[Row], who: str) -> Path:
        if not rows:
            raise DataError(f"{who} lists no image.")
        base = path if path.is_dir() else path.parent
        chosen = ctx.options.images
        places = [Path(chosen).expanduser()] if chosen else [base / folder for folder in FOLDERS]
        found = next((place for place in places if (place / rows[0].name).exists()), None)
        if found is None:
            raise DataError(
                f"{who}: the image {rows[0].name} is not there.",
                hint=f"Name the folder of the images: -o data.images=FOLDER. {looked_in(places)}",
            )
        return found

    @staticmethod
    def _files(rows: list[Row], folder: Path, who: str) -> Files:
        def listed(row: Row) -> File:
            place = folder / row.name
            size, changed = facts(place) if place.exists() else (DEAD, 0)
            return File(0, row.name, os.fspath(place), size, changed)

        files = Files(sorted(map(listed, rows), key=lambda file: file.id))
        check(files, who)
        return files
