import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from records import make

from ddbench.errors import RecordError
from ddbench.figures import sheets
from ddbench.plugin.contracts import DistilledSet
from ddbench.sets.folder import LoadedSet

DIGEST = "d1" * 32


def loaded(classes=3, ipc=4, side=16, channels=1, prompts=False, noise=True, digest=DIGEST):
    rng = np.random.default_rng(0)
    shape = (classes * ipc, side, side, channels)
    images = rng.integers(0, 256, shape).astype(np.uint8) if noise else np.zeros(shape, np.uint8)
    texts = tuple(f"text {number}" for number in range(classes * ipc)) if prompts else None
    content = DistilledSet(images, np.repeat(np.arange(classes), ipc), prompts=texts)
    names = tuple(f"class {number}" for number in range(classes))
    return LoadedSet(content, names, names, {"digest": digest}, Path())


def test_what_is_kept_comes_back(tmp_path):
    sheet = sheets.make(loaded(prompts=True))
    path = sheets.keep(sheet, tmp_path)
    assert path == tmp_path / "images" / f"{DIGEST[:20]}.json"
    assert sheets.kept(tmp_path, DIGEST) == sheet
    assert sheets.kept(tmp_path, "e2" * 32) is None
    content, names = sheets.as_set(sheet)
    assert names == ("class 0", "class 1", "class 2") and content.images.shape == (12, 16, 16, 3)
    assert (content.images[..., :1] == loaded().images).all()
    assert content.prompts is not None and content.prompts[5] == "text 5"


def test_large_sets_become_small_sheets():
    sheet = sheets.make(loaded(classes=30, ipc=10, side=128, channels=3))
    assert len(sheet.image) <= sheets.MOST_BYTES
    assert len(sheet.about.classes) == 10 and sheet.about.num_classes == 30
    assert max(sheet.about.tile) == sheets.SIDE
    flat = sheets.make(loaded(classes=10, ipc=11, side=128, channels=3, noise=False))
    assert flat.mime == "image/png" and flat.about.classes[0].count == 10


def change_about(folder, **changes):
    path = folder / f"{DIGEST[:20]}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def replace_by(path, make):
    path.unlink()
    make(path)


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda folder: (folder / f"{DIGEST[:20]}.json").write_text("{"), "no contact sheet"),
        (lambda folder: (folder / f"{DIGEST[:20]}.png").unlink(), "no contact sheet"),
        (lambda folder: (folder / f"{DIGEST[:20]}.json").write_text("[" * 200_000), "no contact sheet"),
        (lambda folder: (folder / f"{DIGEST[:20]}.json").write_bytes(b"\xff\xfe{}"), "no contact sheet"),
        (lambda folder: change_about(folder, tile=[10**30, 1]), "pixels, not"),
        (lambda folder: change_about(folder, num_classes=float("nan")), "no contact sheet"),
        (lambda folder: change_about(folder, image=".."), "no contact sheet"),
        (lambda folder: change_about(folder, image=""), "no contact sheet"),
        (lambda folder: replace_by(folder / f"{DIGEST[:20]}.json", os.mkfifo), "a pipe"),
        (lambda folder: replace_by(folder / f"{DIGEST[:20]}.png", os.mkdir), "a folder"),
        (lambda folder: cut(folder / f"{DIGEST[:20]}.png"), "damaged"),
        (lambda folder: (folder / f"{DIGEST[:20]}.png").write_text("<svg/>"), "no PNG or WebP"),
        (lambda folder: (folder / f"{DIGEST[:20]}.png").write_bytes(b"x" * 500_000), "bytes"),
        (lambda folder: Image.new("L", (3, 3)).save(folder / f"{DIGEST[:20]}.png"), "3×3 pixels"),
        (lambda folder: Image.new("L", (64, 48)).save(folder / f"{DIGEST[:20]}.png", "WEBP"), "WEBP"),
    ],
)
def test_damaged_sheets_are_refused_by_name(tmp_path, harm, reason):
    sheets.keep(sheets.make(loaded()), tmp_path)
    harm(tmp_path / "images")
    with pytest.raises(RecordError, match=reason) as caught:
        sheets.kept(tmp_path, DIGEST)
    assert DIGEST[:20] in str(caught.value)


def test_a_sheet_cannot_stand_for_another_set(tmp_path):
    path = sheets.keep(sheets.make(loaded()), tmp_path)
    about = json.loads(path.read_text())
    path.write_text(json.dumps(about | {"digest": DIGEST[:20] + "0" * 44}))
    with pytest.raises(RecordError, match="another"):
        sheets.kept(tmp_path, DIGEST)


def test_a_damaged_sheet_leaves_the_others_alone(tmp_path):
    good, bad, none, whole = make("random"), make("vlcp"), make("herding"), make("full", ipc=None)
    for record in (good, bad):
        sheets.keep(sheets.make(loaded(digest=record.distilled.digest)), tmp_path)
    (tmp_path / "images" / f"{bad.distilled.digest[:20]}.png").write_text("broken")
    found, problems = sheets.collect([good, bad, none, whole, good], tmp_path)
    assert list(found) == [good.distilled.digest]
    assert len(problems) == 1 and bad.distilled.digest[:20] in problems[0]
