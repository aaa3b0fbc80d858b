"""Data sets out of ImageNet-like trees: a class list (synsets.toml) and where its images may lie (sources.toml)."""

from __future__ import annotations

import importlib.resources
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

import ddbench
from ddbench import DataError, ImageSource
from ddbench_plugins.datasets import archives
from ddbench_plugins.datasets.flat import KNOWN, images_in, label_file, read_labels, scan_flat
from ddbench_plugins.datasets.listing import Files, Layout, class_folders, scan
from ddbench_plugins.datasets.names import class_list
from ddbench_plugins.datasets.places import download, missing, roots
from ddbench_plugins.datasets.trees import TreeImages, from_trees

STATS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
WHOLE = "imagenet-1k"
TEST_NAMES = ("val", "test")


@cache
def sources() -> dict[str, dict[str, Any]]:
    """Return where each class list's images may lie (see sources.toml)."""
    return tomllib.loads(importlib.resources.files(__package__).joinpath("sources.toml").read_text("utf-8"))


@dataclass(frozen=True)
class Part:
    """One split on disk.

    Attributes:
        name: of the split's folder.
        folder: holds class folders, or the images that ``labels`` labels.
        classes: names of the class folders in label order; empty if there are none.
        labels: the file that labels flat images.
    """

    name: str
    folder: Path
    classes: tuple[str, ...] = ()
    labels: Path | None = None


@dataclass(frozen=True)
class Place:
    """A tree that has all classes: its folder and its two splits."""

    folder: Path
    train: Part
    test: Part


class ImageNetTree(ddbench.DatasetLoader):
    """What all of them share: order of the published list, a tree of their own or ImageNet-1K's, one normalisation.

    Class folders are called by synset. Where the published order is the sorted one, five-digit numbers will do as well
    (Sun et al. 2024 and Zou et al. 2025 rename them so). A flat folder of test images needs a file of labels.
    """

    name: ClassVar[str]

    class Options(ddbench.DatasetOptions):
        """Options of ImageNet's subsets."""

        size: int = Field(
            64,
            ge=8,
            le=ImageSource.LARGEST_SIDE,
            description="Side that evaluators see (methods may load at a size of their own).",
        )

    presets: ClassVar[Any] = (
        {
            "when": {"scale": "paper"},
            "set": {"size": 224},
            "source": "ImageNet protocols test at 224 (Gu et al. 2024, data.py; Sun et al. 2024, validation/main.py)",
        },
    )

    @cached_property
    def classes(self) -> dict[str, str]:
        """Synset ids and readable names in label order."""
        return class_list(self.name)

    @property
    def source(self) -> dict[str, Any]:
        """The entry of sources.toml."""
        return sources()[self.name]

    def load(self, ctx: ddbench.Context, argument: str) -> ddbench.Dataset:
        """Return the data set; an archive of it is unpacked, or downloaded where its publisher allows that.

        Raises:
            DataError: it is nowhere, or files cannot be read.
        """
        notes: list[str] = []
        place = self._find(notes) or self._get(ctx, notes)
        train, test = (self._images(ctx, part) for part in (place.train, place.test))
        counts = f" ({self.source['counts']})" if "counts" in self.source else ""
        return from_trees(
            self.name,
            list(self.classes),
            list(self.classes.values()),
            train,
            test,
            image_size=ctx.options.size,
            stats=STATS,
            origin=f"class folders {place.folder.name}/{{{place.train.name},{place.test.name}}}:"
            f" {len(train):,} training and {len(test):,} test images{counts}",
        )

    def status(self, ctx: ddbench.Context, argument: str) -> ddbench.DataStatus:
        """Say where the tree or its archive is, or how to get it."""
        notes: list[str] = []
        try:
            if place := self._find(notes):
                splits = ",".join(part.name for part in (place.train, place.test))
                return ddbench.DataStatus(f"{place.folder}/{{{splits}}}")
            if packed := self._archive():
                return ddbench.DataStatus(f"{packed[0]}, unpacked when it is first used")
            error = self._missing(notes)
        except DataError as found:
            error = found
        return ddbench.DataStatus(missing=str(error), advice=error.hint)

    def _get(self, ctx: ddbench.Context, notes: list[str]) -> Place:
        """Unpack an archive that is there, or download one."""
        known = self.source.get("archives", ())
        if packed := self._archive():
            with ctx.progress(f"unpacking {packed[0].name}"):
                archives.unpack(*packed)
        elif known and not ctx.machine.offline:
            for note in notes:
                ctx.warn(f"{note}, so {archives.file_name(known[0])} is downloaded.")
            download(
                self.name, lambda folder: archives.fetch(known[0], folder), self._instructions(), (), offline=False
            )
        elif known and not notes:
            raise self._missing((), "and nothing is downloaded here (offline, or a plan).")
        place = self._find()
        if place is None:
            raise self._missing(notes)
        return place

    def _archive(self) -> tuple[Path, archives.Archive] | None:
        folders = [folder for root in roots() for folder in (root, root / self.name)]
        return archives.find_archive(folders, self.source.get("archives", ()))

    def _images(self, ctx: ddbench.Context, part: Part) -> TreeImages:
        ids = list(self.classes)
        who = f"{self.name}, {part.name}"
        files: Files
        if part.labels is None:
            layout = Layout(ids, inner=("images",), others=("_boxes.txt",))
            files = scan(ctx, part.folder, part.classes, who, layout)
        else:
            files = scan_flat(ctx, part.folder, read_labels(part.labels), ids, who)
        return TreeImages(ctx, files, 3, f"{self.name} ({part.name})")

    # Where it may be -----------------------------------------------------------------------------------------------

    def _find(self, notes: list[str] | None = None) -> Place | None:
        """Return the first tree that has all classes; ``notes`` gets what was nearly one.

        Raises:
            DataError: a tree of this name lacks classes, or the labels of flat test images.
        """
        notes = [] if notes is None else notes
        for root in roots():
            for name in self._own():
                for folder in dict.fromkeys((root / name, root / self.name / name)):
                    if place := self._look(folder, root, notes, of_its_own=True):
                        return place
            for name in self._others():
                if place := self._look(root / name, root, notes, of_its_own=False):
                    return place
        return None

    def _look(self, folder: Path, root: Path, notes: list[str], *, of_its_own: bool) -> Place | None:
        """Return a tree if both splits are there; complain about incomplete ones of this name."""
        parts: list[Part] = []
        for names in (("train",), TEST_NAMES):
            there = [folder / name for name in names if class_folders(folder / name) or images_in(folder / name)]
            if not there:
                if parts:
                    notes.append(f"{folder.name} has images in train, but none in {' or '.join(names)}")
                return None
            part, problem = self._part(there[0], root)
            if part is None:
                problem = f"{folder.name}/{there[0].name} {problem}"
                if of_its_own:
                    raise DataError(f"{problem}.", hint=self._instructions())
                notes.append(problem)
                return None
            parts.append(part)
        return Place(folder, *parts)

    def _part(self, folder: Path, root: Path) -> tuple[Part | None, str]:
        """Return a split, or None and what is wrong with it."""
        wanted, folders = list(self.classes), class_folders(folder)
        lacking = [name for name in wanted if name not in set(folders)]
        if not lacking:
            return Part(folder.name, folder, tuple(wanted)), ""
        numbered = tuple(f"{label:05d}" for label in range(len(wanted)))
        if tuple(folders) == numbered:
            if wanted == sorted(wanted):
                return Part(folder.name, folder, numbered), ""
            return None, "has numbered class folders, whose order nobody knows; name them by synset"
        if (images := images_in(folder)) and folder.name != "train":
            if labels := label_file(images, root):
                return Part(folder.name, images, labels=labels), ""
            return None, f"has no class folders and no file of labels beside it: {KNOWN}"
        some = ", ".join(sorted(lacking)[:5]) + (f" … ({len(lacking)} in all)" if len(lacking) > 5 else "")
        return None, f"lacks the {self.source['title']} class(es) {some}"

    def _own(self) -> Sequence[str]:
        folders: Sequence[str] = self.source["folders"]
        return folders

    def _others(self) -> Sequence[str]:
        folders: Sequence[str] = sources()[WHOLE]["folders"] if self.source.get("subset") else ()
        return folders

    def _missing(self, notes: Sequence[str], why: str = "") -> DataError:
        places = [root / name for root in roots() for name in (*self._own(), *self._others())]
        return missing(self.name, self._instructions(), places, why or (f"but {notes[0]}." if notes else ""))

    def _instructions(self) -> str:
        tree = f"{self._own()[0]}/{{train,val}}/<synset>/…"
        ways = []
        if known := self.source.get("archives"):
            ways.append(f"Download {known[0]['url']} into a data folder (it is unpacked when it is first used).")
        if self.name == WHOLE or self.source.get("subset"):
            ways.append(_IMAGENET)
        return "\n".join([*ways, f"Any tree {tree} in a data folder will do."])


_IMAGENET = (
    "ImageNet-1K (ILSVRC 2012) needs an account at https://image-net.org or Kaggle; unpack it in a data folder, so that"
    " there is imagenet/train/n01440764/… and imagenet/val/n01440764/…; its subsets need no copy.\n"
    f"A flat val folder will do with {KNOWN} beside it."
)


def _tree(name: str, **more: Any) -> type[ImageNetTree]:
    return type(name, (ImageNetTree,), {"name": name, **more})


ImageNette = _tree("imagenette")  # in sorted order, as all that MTT and IDC do not order
ImageWoof = _tree("imagewoof")  # in MinimaxDiffusion's order
ImageIDC = _tree("imageidc")  # the first ten of IDC's random hundred
ImageNet100 = _tree("imagenet-100")  # in IDC's order
ImageMeow = _tree("imagemeow")  # this and the next three in MTT's order
ImageSquawk = _tree("imagesquawk")
ImageFruit = _tree("imagefruit")
ImageYellow = _tree("imageyellow")
ImageNet1K = _tree(WHOLE)
TinyImageNet = _tree("tiny-imagenet", presets=())  # its validation images are the test images
