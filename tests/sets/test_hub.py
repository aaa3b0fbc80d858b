"""Sets that others published: every layout from a hub on this machine and as a copy, byte for byte, classes by name."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from repositories import NUMBERS, archive, encoded, images, parquet, table, tree

import ddbench
from ddbench.cli import main
from ddbench.errors import DataError, UsageError
from ddbench.sets import hub as hubs

torch = pytest.importorskip("torch")
pytest.importorskip("pyarrow")
#: IPC 2 in a mixed order of classes.
LABELS = np.random.default_rng(1).permutation(np.repeat(np.arange(10), 2))
#: Names as loaders of folders sort them: '1', '10', '2', …
SORTED = sorted(NUMBERS)
TOY = Path(__file__).parents[1] / "toy_plugin.py"


@pytest.fixture
def pictures():
    return images(20)


def expected(pictures, labels=LABELS):
    """Return what every layout must give: the pictures by class, in the order of the files within one."""
    return pictures[np.argsort(labels, kind="stable")]


def same(made, pictures):
    assert made.content.labels.tolist() == np.repeat(np.arange(10), 2).tolist()
    np.testing.assert_array_equal(made.content.images, expected(pictures))


def names(labels):
    return [NUMBERS[label] for label in labels]


def spread(pictures, folder, name):
    """Write class folders, files named in order."""
    return tree(folder, pictures, [name(label, number) for number, label in enumerate(LABELS)])


def rethinkdc(folder, pictures):
    """As he-yang/2025-rethinkdc-imagenet-*: shards with a hash in their names, numbers without names."""
    for part, rows in enumerate((slice(0, 12), slice(12, 20))):
        file = folder / "data" / f"train-{part:05d}-of-00002-{'ab3'[part]}f2b4c8.parquet"
        parquet(file, pictures[rows], LABELS[rows], label="class_id")
    (folder / "README.md").write_text("---\nlanguage:\n- en\ntags:\n- ipc-10\n---\nA data set.\n")


def with_names(folder, pictures):
    """As push_to_hub of the library datasets writes an ImageFolder: names sorted as text, in the file and the card."""
    numbers = [SORTED.index(name) for name in names(LABELS)]
    parquet(folder / "data" / "train-00000-of-00001.parquet", pictures, numbers, names=SORTED)
    parquet(folder / "data" / "test-00000-of-00001.parquet", pictures[:3], numbers[:3], names=SORTED)
    listed = "\n".join(f"          '{number}': '{name}'" for number, name in enumerate(SORTED))
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n"
        "  - split: test\n    path: data/test-*\ndataset_info:\n  features:\n  - name: image\n    dtype: image\n"
        f"  - name: label\n    dtype:\n      class_label:\n        names:\n{listed}\n---\n"
    )


def card_names(folder, pictures):
    """Numbers in the file, names in the card alone, of two configurations one."""
    with_names(folder, pictures)
    text = (folder / "README.md").read_text()
    numbers = [SORTED.index(name) for name in names(LABELS)]
    shutil.rmtree(folder / "data")
    parquet(folder / "ipc2.parquet", pictures, numbers)
    parquet(folder / "ipc1.parquet", pictures[:10], numbers[:10])
    configs = "".join(
        f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}.parquet\n"
        for name in ("ipc1", "ipc2")
    )
    info = text.partition("dataset_info:\n")[2].replace("  features", "- config_name: ipc2\n  features", 1)
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}dataset_info:\n{info}")


def class_texts(folder, pictures):
    """Names themselves in the column, pictures as plain bytes."""
    parquet(folder / "ipc2" / "0000.parquet", pictures, names(LABELS), raw=True)
    parquet(folder / "ipc1" / "0000.parquet", pictures[:10], names(LABELS)[:10], raw=True)


def sre2l(folder, pictures):
    """As zeyuanyin/SRe2L: archives of numbered class folders below one of the archive's name, labels beside."""
    entries = [
        (f"sre2l_rn18_ipc2/new{label:03d}/class{label:03d}_id{number:03d}.png", encoded(image))
        for number, (label, image) in enumerate(zip(LABELS, pictures, strict=True))
    ]
    archive(folder / "sre2l_rn18_ipc2.zip", [("sre2l_rn18_ipc2/", b""), *entries, ("__MACOSX/._x.png", b"x")])
    archive(folder / "cda" / "cda_rn18_ipc1.zip", entries[:1])
    (folder / "FKD_cutmix_fp16.tar.gz").write_bytes(b"labels")


def d3hr(folder, pictures):
    """As D3HR's data sets: a folder per IPC with class folders by id, pictures by number; figures beside."""
    spread(pictures, folder / "ipc2", lambda label, number: f"{NUMBERS[label]}/{number:02d}.png")
    spread(pictures, folder / "ipc1", lambda label, number: f"{NUMBERS[label]}/{number:02d}.png")
    tree(folder, pictures[:2], ["imgs/framework.png", "teaser.png"])


def rded(folder, pictures):
    spread(pictures, folder, lambda label, number: f"{label:05d}/class{label:05d}_id{number:05d}.png")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")


def flat(folder, pictures):
    spread(pictures, folder / "syn", lambda label, number: f"class{label:03d}_id{number:03d}.png")


def mtt(folder, pictures):
    """As MTT, DATM and DataDAM: tensors of images and labels beside each other, models elsewhere."""
    place = folder / "cifar10" / "ipc2"
    place.mkdir(parents=True)
    tensor = torch.from_numpy(pictures.transpose(0, 3, 1, 2)).float() / 255
    torch.save(tensor, place / "images_best.pt")
    torch.save(torch.from_numpy(LABELS), place / "labels_best.pt")
    torch.save({"weights": tensor}, folder / "cifar10" / "model_params.pt")


def ncfm(folder, pictures):
    """As maomaocun/NCFM, a repository of models: an unnamed pair of tensors."""
    (folder / "NCFM_distillation_dataset").mkdir(parents=True)
    tensor = torch.from_numpy(pictures.transpose(0, 3, 1, 2)).float() / 255
    torch.save([tensor, torch.from_numpy(LABELS)], folder / "NCFM_distillation_dataset" / "data_2.pt")
    (folder / "pretrained_models").mkdir()
    (folder / "pretrained_models" / "premodel0_init.pth.tar").write_bytes(b"weights")


def dc(folder, pictures):
    folder.mkdir(parents=True, exist_ok=True)
    tensor = torch.from_numpy(pictures.transpose(0, 3, 1, 2)).float() / 255
    torch.save({"data": [[tensor, torch.from_numpy(LABELS)]]}, folder / "res_DC_x_ConvNet_2ipc.pt")


def npy(folder, pictures):
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "images.npy", pictures)
    np.save(folder / "labels.npy", LABELS)


LAYOUTS = {
    "rethinkdc": (rethinkdc, "", {"classes": NUMBERS}),
    "class_label": (with_names, "", {}),
    "card": (card_names, "ipc2", {}),
    "texts": (class_texts, "ipc2", {}),
    "sre2l": (sre2l, "sre2l_rn18_ipc2.zip", {"classes": NUMBERS}),
    "d3hr": (d3hr, "ipc2", {}),
    "rded": (rded, "", {"classes": NUMBERS}),
    "flat": (flat, "syn", {"classes": NUMBERS}),
    "mtt": (mtt, "cifar10/ipc2/images_best.pt", {"space": "pixel01", "classes": NUMBERS}),
    "mtt's folder": (mtt, "cifar10/ipc2", {"space": "pixel01", "classes": NUMBERS}),
    "ncfm": (ncfm, "NCFM_distillation_dataset/data_2.pt", {"space": "pixel01", "factor": 1, "classes": NUMBERS}),
    "dc": (dc, "", {"space": "pixel01", "run": 0, "classes": NUMBERS}),
    "npy": (npy, "", {"classes": NUMBERS}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_gives_the_same_from_the_hub_offline_and_from_a_copy(layout, bring, hub, pictures, tmp_path):
    write, config, declared = LAYOUTS[layout]
    write(tmp_path / "copy", pictures)
    commit = hub.add_folder("me/sets", tmp_path / "copy", "model" if layout == "ncfm" else "dataset")
    colon = f":{config}" if config else ""
    for source, offline in ((f"hf:me/sets{colon}", False), (f"hf:me/sets@{commit}{colon}", True)):
        made = bring(source, offline=offline, **declared)
        if made.content.space == "unit":
            np.testing.assert_array_equal(made.content.images, expected(pictures).astype(np.float32) / np.float32(255))
        else:
            same(made, pictures)
        assert made.content.extra["imported"]["origin"].startswith(f"hf:me/sets@{commit}{colon}")
    asked = len(hub.asked)
    copied = bring(f"{tmp_path / 'copy'}{colon}", **declared)
    np.testing.assert_array_equal(copied.content.images, made.content.images)
    assert copied.digest == made.digest and "origin" not in copied.content.extra["imported"]
    assert len(hub.asked) == asked  # neither the copy nor the second time


def test_only_what_is_meant_is_fetched(bring, hub, pictures, tmp_path):
    d3hr(tmp_path / "copy", pictures)
    hub.add_folder("me/d3hr", tmp_path / "copy")
    bring("hf:me/d3hr:ipc2")
    fetched = [line for line in hub.asked if "/resolve/" in line]
    assert fetched and all("/ipc2/" in line for line in fetched)


def test_a_revision_is_resolved_and_kept(bring, hub, pictures, tmp_path):
    rded(tmp_path / "old", pictures)
    rded(tmp_path / "new", pictures[::-1])
    old = hub.add_folder("me/rded", tmp_path / "old")
    new = hub.add_folder("me/rded", tmp_path / "new")
    assert old != new
    now, before = (bring(f"hf:me/rded{at}", classes=NUMBERS) for at in ("", f"@{old}"))
    same(before, pictures)
    same(now, pictures[::-1])
    assert now.origin == now.content.extra["imported"]["origin"] == f"hf:me/rded@{new}"
    with pytest.raises(UsageError, match="me/rded has no revision 'nine'"):
        bring("hf:me/rded@nine", classes=NUMBERS)


def test_numbers_without_names_are_asked_for(bring, hub, pictures, tmp_path):
    rethinkdc(tmp_path / "copy", pictures)
    hub.add_folder("me/soft", tmp_path / "copy")
    with pytest.raises(UsageError, match="numbers are ambiguous") as error:
        bring("hf:me/soft", dataset=_unsorted(tmp_path))
    assert "--classes" in error.value.hint
    made = bring(parquet(tmp_path / "own.parquet", pictures, LABELS), dataset=_unsorted(tmp_path, form="c{:02d}"))
    same(made, pictures)  # the order is the sorted one


def test_names_that_are_no_class_are_refused_and_can_be_declared(bring, pictures, tmp_path):
    folders = [f"Subfolder_{name}" for name in SORTED]
    path = parquet(tmp_path / "set.parquet", pictures, LABELS, names=folders)
    with pytest.raises(UsageError, match="none of which is a class") as error:
        bring(path)
    assert "--classes" in error.value.hint
    same(bring(path, classes=NUMBERS), pictures)
    with pytest.raises(UsageError, match="names its classes"):
        bring(parquet(tmp_path / "named.parquet", pictures, LABELS, names=NUMBERS), classes=NUMBERS)
    mixed = parquet(tmp_path / "mixed.parquet", pictures, LABELS, names=[*NUMBERS[:9], "eleven"])
    with pytest.raises(DataError, match="has not: eleven"):
        bring(mixed)


def test_numbered_names_are_numbers_not_positions(bring, tmp_path):
    """A loader of folders sorts '0', '1', '10', '11', '2': the name counts."""
    listed = sorted(f"{number:d}" for number in range(12))
    labels = np.repeat(np.arange(12), 2)
    many = images(24)
    soft = [[float(name == str(label)) for name in listed] for label in labels]
    numbers = [listed.index(str(label)) for label in labels]
    path = parquet(tmp_path / "set.parquet", many, numbers, names=listed, soft_label=soft)
    made = bring(path, dataset=_unsorted(tmp_path, 12, "c{:02d}"))
    np.testing.assert_array_equal(made.content.images, many)
    np.testing.assert_array_equal(made.content.soft_labels.argmax(1), labels)


def test_soft_labels_and_prompts_follow_the_classes(bring, pictures, tmp_path):
    soft = np.random.default_rng(2).dirichlet(np.ones(10), 20).astype(np.float32)
    numbers = [SORTED.index(name) for name in names(LABELS)]
    prompts = [f"picture {number}" for number in range(20)]
    path = parquet(tmp_path / "x.parquet", pictures, numbers, names=SORTED, soft_label=soft.tolist(), prompt=prompts)
    made = bring(path)
    same(made, pictures)
    order = np.argsort(LABELS, kind="stable")
    assert list(made.content.prompts) == [prompts[place] for place in order]
    by_class = [SORTED.index(name) for name in NUMBERS]  # column of each class
    np.testing.assert_array_equal(made.content.soft_labels, soft[order][:, by_class])


@pytest.mark.parametrize("place", [":ipc2", ":ipc2.parquet", "/ipc2.parquet", "/sub/ipc2.parquet", "/sub", ":sub"])
def test_a_card_names_the_classes_of_a_part_as_well(place, bring, pictures, tmp_path):
    """Numbers in the file, names sorted as text in the card above it: as the data set's own they would be others."""
    card_names(tmp_path / "copy", pictures)
    (tmp_path / "copy" / "sub").mkdir()
    shutil.copy(tmp_path / "copy" / "ipc2.parquet", tmp_path / "copy" / "sub")
    same(bring(f"{tmp_path / 'copy'}{place}"), pictures)


def test_a_pair_of_tensors_says_how_it_is_decoded(bring, pictures, tmp_path):
    ncfm(tmp_path, pictures)
    path = tmp_path / "NCFM_distillation_dataset" / "data_2.pt"
    with pytest.raises(DataError, match="without names") as error:
        bring(path, space="pixel01")
    assert "--factor 2" in error.value.hint
    made = bring(path, space="pixel01", factor=2, classes=NUMBERS)
    assert made.content.extra["factor"] == 2 and made.plugin.options["factor"] == 2
    with pytest.raises(UsageError, match="A factor"):
        bring(path, space="pixel01", factor=0)


def test_several_sets_are_listed(bring, hub, pictures, tmp_path):
    d3hr(tmp_path / "copy", pictures)
    hub.add_folder("me/d3hr", tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("---\nlicense: mit\n---\n")
    for source in ("hf:me/d3hr", str(tmp_path / "copy")):
        with pytest.raises(UsageError, match="holds 2 sets") as error:
            bring(source)
        assert f"{source}:ipc1, {source}:ipc2" in error.value.hint
        if not source.startswith("hf:"):
            tree(tmp_path / "copy", pictures, [f"{NUMBERS[label]}/x{n:02d}.png" for n, label in enumerate(LABELS)])
            with pytest.raises(UsageError, match="holds 3 sets") as error:
                bring(source)
            assert f"{source}:.," in f"{error.value.hint}," or f"{source}:., " in error.value.hint
        with pytest.raises(UsageError, match=r"Unknown set 'ipc3'\. Did you mean 'ipc[12]'") as error:
            bring(f"{source}:ipc3")


def test_what_is_not_here_says_what_to_fetch(bring, hub, tmp_path):
    with pytest.raises(DataError, match="is not on this machine") as error:
        bring("hf:me/set@v1:ipc10", offline=True)
    wanted = r"hf download me/set --repo-type dataset --revision v1 --local-dir FOLDER; copy FOLDER here and name it"
    assert re.search(wanted, error.value.hint) and ":ipc10" in error.value.hint
    with pytest.raises(UsageError, match="There is no repository me/none") as error:
        bring("hf:me/none")
    hub.repos["dataset", "me/gated"] = [{}]
    hub.gated.add("me/gated")
    with pytest.raises(DataError, match="is gated") as error:
        bring("hf:me/gated")
    assert "hf auth login" in error.value.hint


def test_a_hub_out_of_reach_gives_what_was_fetched(bring, hub, pictures, tmp_path, monkeypatch):
    rded(tmp_path / "copy", pictures)
    hub.add_folder("me/rded", tmp_path / "copy")
    bring("hf:me/rded", classes=NUMBERS)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    said = []
    same(bring("hf:me/rded", classes=NUMBERS, warn=said.append), pictures)
    assert any("cannot be reached" in text for text in said)
    with pytest.raises(DataError, match="hf:me/other cannot be fetched") as error:
        bring("hf:me/other")
    assert "hf download me/other" in error.value.hint


def test_part_of_a_set_is_not_taken_for_all_of_it(bring, hub, pictures, tmp_path):
    d3hr(tmp_path / "copy", pictures)
    commit = hub.add_folder("me/d3hr", tmp_path / "copy")
    bring("hf:me/d3hr:ipc2")
    with pytest.raises(DataError, match="Of what was fetched"):
        bring("hf:me/d3hr:ipc1", offline=True)
    root = tmp_path / "hub" / "datasets--me--d3hr" / "snapshots" / commit / "ipc2"
    for folder in root.iterdir():
        next(folder.iterdir()).unlink()  # one picture of every class: still as many of each
    with pytest.raises(DataError, match="cannot be fetched") as error:
        bring("hf:me/d3hr:ipc2", offline=True)
    assert "hf download" in error.value.hint


def test_no_token_reaches_messages_or_records(bring, hub, pictures, tmp_path, monkeypatch):
    rded(tmp_path / "copy", pictures)
    hub.add_folder("me/rded", tmp_path / "copy")
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    made = bring("hf:me/rded", classes=NUMBERS)
    assert any("hf_secretsecret" in headers for headers in hub.headers)  # it was used
    assert "secret" not in repr(made)
    error = OSError("403 for url: https://cdn/x?X-Signature=abc&token=1 (hf_secretsecret)")
    assert hubs._reason(error) == "403 for url: https://cdn/x… (…)"


def test_evaluate_takes_an_address_and_the_record_has_its_commit(hub, pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    spread = [f"{'abc'[number % 3]}/{number}.png" for number in range(6)]
    names = ddbench.load_dataset("toy", plugins=[TOY]).class_ids
    tree(tmp_path / "copy", images(6), [f"{names['abc'.index(place[0])]}{place[1:]}" for place in spread])
    commit = hub.add_folder("me/theirs", tmp_path / "copy")
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "hf:me/theirs", "-e", "nearest-mean", "-d", "toy", "--plugin", str(TOY), "--repeats", "1"])
    assert stop.value.code == 0, capsys.readouterr().err
    (record,) = ddbench.records(tmp_path / "registry")
    assert record.cell.method.name == "theirs" and record.environment["origin"] == f"hf:me/theirs@{commit}"
    assert record.distilled.extra["imported"]["origin"] == f"hf:me/theirs@{commit}"


@pytest.mark.parametrize(
    "address", ["hf:", "hf:me", "hf:me/", "hf:/x", "hf:me/x y", "hf:a/b/c", "hf:me/x@", "hf:me/x:"]
)
def test_what_is_no_address(bring, address):
    with pytest.raises(UsageError, match="is no address on the hub") as error:
        bring(address)
    assert "hf:USER/REPO" in error.value.hint


@pytest.mark.parametrize("offline", [False, True])
def test_a_name_that_no_repository_can_have_is_no_address(bring, hub, offline):
    with pytest.raises(UsageError, match="is no address on the hub: Repo id must"):
        bring("hf:../x", offline=offline)


def _unsorted(folder, count=10, form="z{:d}"):
    """Write a data set whose classes are not in sorted order, unless the form makes them so, and load it."""
    ids = [form.format(number) for number in range(count)]
    labels = np.repeat(np.arange(count), 2)
    arrays = {f"{split}_labels": labels for split in ("train", "test")}
    for split in ("train", "test"):
        arrays[f"{split}_images"] = np.random.default_rng(len(split)).integers(0, 256, (2 * count, 8, 8, 1), np.uint8)
    np.savez(folder / "unsorted.npz", **arrays, class_names=ids[::-1], class_ids=ids[::-1] if "02" not in form else ids)
    return ddbench.load_dataset(f"npz:{folder / 'unsorted.npz'}")


def test_columns_are_found_by_what_they_are(bring, pictures, tmp_path):
    numbers = [SORTED.index(name) for name in names(LABELS)]
    rows = table(pictures, numbers, names=SORTED, label="kind", image="photo", text=["x"] * 20)
    same(bring(parquet(tmp_path / "own.parquet", rows)), pictures)
