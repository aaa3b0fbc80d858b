"""gallery, tsne, curves and site from the command line."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ddbench import api, cli
from ddbench.cli import gallery
from ddbench.errors import StorageError, UsageError
from ddbench.files.writing import home
from ddbench.sets.folder import FILE


def invoke(*arguments):
    return CliRunner().invoke(cli.group, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """Records of real distilled sets, whose numbers are made up."""
    from records import make

    from ddbench.results import schema as records

    monkeypatch.chdir(tmp_path)
    for method in ("random", "k-means"):
        (made,) = api.distill(method, ipc=2)
        record = make(method, (0.5,), ipc=2, dataset=dict(made.about["dataset"]))
        part = record.distilled.model_copy(update={"key": made.path.name, "digest": made.about["digest"]})
        record = record.model_copy(update={"distilled": part})
        records.write(record.model_copy(update={"digest": record.computed_digest()}), tmp_path / "registry")
    return tmp_path / "registry"


def test_sheets_are_kept_and_drawn_where_the_images_are_gone(registry):
    assert "2 sheets stored, 0 were there" in invoke("gallery", "--keep").output
    assert "0 sheets stored, 2 were there" in invoke("gallery", "--keep").output
    invoke("gallery", "--registry", registry, "--out", "all.png")
    shutil.rmtree(home() / "distilled")
    invoke("gallery", "--registry", registry, "--method", "random,k-means", "--out", "kept.png")
    with Image.open("all.png") as whole, Image.open("kept.png") as kept:
        assert whole.size == kept.size and not (np.asarray(whole) == np.asarray(kept)).all()  # the order was asked for
    record = next(registry.glob("results/*/random/*.json"))
    invoke("gallery", record, "--out", "one.png")
    built = invoke("site", "--strict")
    assert "2 records" in built.output and "2 contact sheets" in built.output
    html = (registry.parent / "site" / "index.html").read_text()
    assert html.count("data:image/png;base64,") == 2
    assert str(registry) not in html and str(home()) not in html


def test_titles_leave_out_what_all_methods_were_given_alike():
    assert gallery._shared([{"a": 1, "b": 2}, {"a": 1, "b": 3}, {"a": 1}]) == {"a": 1}
    assert gallery._shared([{"a": 1}]) == {}  # one alone has nothing to be told from


def test_a_set_is_found_by_its_images_after_its_key_changed(registry):
    """Keys change with what they are made of; a set with another one, or damaged, is beside."""
    made = home() / "distilled"
    for number, path in enumerate(sorted(made.glob(f"*/{FILE}"))):
        path.parent.rename(made / f"{number:016x}")
    (made / "damaged").mkdir()
    (made / "damaged" / FILE).write_text("[]")
    assert "2 sheets stored, 0 were there" in invoke("gallery", "--keep").output


def test_a_set_that_was_changed_is_not_taken_for_the_measured_one(registry):
    folder = next((home() / "distilled").glob(f"*/{FILE}")).parent
    Image.new("L", (16, 16)).save(next(folder.glob("images/*/0000.png")))
    result = CliRunner().invoke(cli.group, ["site"], catch_exceptions=False)
    assert "were changed after they were distilled" in result.output and "1 contact sheets" in result.output


def test_tsne_in_pixels_for_methods_that_say_nothing(registry):
    assert invoke("tsne", "random", "--ipc", "2", "--class", "three", "--out", "t.png").output.endswith("t.png\n")
    with Image.open("t.png") as picture:
        assert picture.width > 500
    with pytest.raises(UsageError, match="Did you mean 'three'"):
        invoke("tsne", "random", "--class", "thre")
    with pytest.raises(UsageError, match="no training curves"):
        invoke("curves", next(registry.glob("results/*/random/*.json")))
    assert "Missing argument" in invoke("gallery").output


def test_a_record_of_other_images_is_not_drawn_from_these(tmp_path):
    from records import make

    from ddbench.results import schema as records

    data = {**api.load_dataset("digits").describe(), "fingerprint": "0" * 64, "image_size": 128}
    path = records.write(make("random", (0.5,), dataset=data), tmp_path)
    with pytest.raises(UsageError, match="made from other images: digits with fingerprint 00000000 at 128 pixels"):
        invoke("tsne", path)


def test_pictures_and_pages_say_why_they_cannot_be_written(registry):
    (registry.parent / "file").write_text("")
    (registry.parent / "folder.png").mkdir()
    for arguments in (
        ("site", "--out", "file/site"),
        ("gallery", "random", "--ipc", "2", "--out", "folder.png"),
        ("gallery", "random", "--ipc", "2", "--out", "file/all.png"),
        ("tsne", "random", "--ipc", "2", "--out", "file/t.svg"),
    ):
        with pytest.raises(StorageError, match="Cannot write"):
            invoke(*arguments)


@pytest.mark.slow
def test_tsne_of_latents_before_and_after_outlier_removal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    invoke("tsne", "vlcp", "--ipc", "3", "--class", "three", "-o", "method.contamination=0.1", "--out", "t.png", "-q")
    assert {path.name for path in home().iterdir()} == {
        "latents",
        "latents-shard",
        "model-facts",
        ".in-use",
    }  # nothing else was needed
    with Image.open("t.png") as two:
        assert two.width > 1400


CLUSTERED = """
import numpy as np
from ddbench import DistilledSet, Distiller, Embedding, MethodSpec, hookimpl


class Halves(Distiller):
    def embedding(self, ctx, label):
        points = ctx.dataset.arrays("train")[0][ctx.dataset.train.of_class(label)].astype(float)
        brightness = points.mean((1, 2, 3))
        clusters = (brightness > np.median(brightness)).astype(np.int64)
        centres = np.stack([points[clusters == half].mean(0) for half in (0, 1)])
        return Embedding("pixels", points, np.ones(len(points), bool), clusters, centres)

    def distill(self, ctx):
        each = ctx.ipc // 2
        images = [self.embedding(ctx, label).centres.repeat(each, 0) for label in range(ctx.dataset.num_classes)]
        labels = np.repeat(np.arange(ctx.dataset.num_classes), ctx.ipc)
        words = ["dark"] * each + ["bright"] * each
        texts = tuple(f"a {word} digit" for _ in range(ctx.dataset.num_classes) for word in words)
        return DistilledSet(np.concatenate(images).round().astype(np.uint8), labels, prompts=texts)


@hookimpl
def ddbench_methods():
    return [MethodSpec("halves", Halves, "mean of the darker and of the brighter half")]
"""


def test_training_images_of_clusters_beside_their_texts(registry):
    Path("halves.py").write_text(CLUSTERED)
    halves = ["gallery", "halves", "--plugin", "halves.py", "--ipc", "2"]
    drawn = [*halves, "--prompts", "--per-class", "2", "--out", "p.png"]
    assert invoke(*drawn, "--classes", "3", "--members", "4").output.endswith("p.png\n")
    with Image.open("p.png") as picture:
        pixels = np.asarray(picture.convert("L"), float)
    dark, bright = (pixels[12 + row * 52 : 60 + row * 52, 72:270].mean() for row in (0, 1))
    assert bright > dark + 5  # members of the brighter half stand in the second row

    # Two images of each prototype: both stand for the same cluster.
    twice = ["4" if word == "2" else word for word in drawn]
    assert invoke(*twice, "--classes", "1", "--members", "4").output.endswith("p.png\n")
    with Image.open("p.png") as picture:
        strips = [np.asarray(picture.convert("L"), int)[12 + row * 52 : 60 + row * 52, 72:270] for row in range(4)]
    assert (strips[0] == strips[1]).all() and (strips[2] == strips[3]).all() and strips[2].mean() > strips[1].mean() + 5

    for wrong, message in (
        ([*halves, "--members", "4"], "Give --prompts"),
        (
            ["gallery", next((home() / "distilled").glob(f"*/{FILE}")).parent, "--prompts", "--members", "4"],
            "needs a method",
        ),
    ):
        with pytest.raises(UsageError) as raised:
            invoke(*wrong)
        assert message in str(raised.value) + raised.value.hint
