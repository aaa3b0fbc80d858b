"""Teachers whose weights others trained: published ones of ImageNet, files, class ids, normalisation."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from ddbench_plugins.networks.bridges import build_timm, build_torchvision
from ddbench_plugins.teachers.files import read_about
from ddbench_plugins.teachers.hubs import published
from ddbench_plugins.teachers.observers import get_teacher, teacher_of
from ddbench_plugins.teachers.pretrained import imagenet
from ddbench_plugins.teachers.renormalise import Renormalised
from registered import build_network
from safetensors.torch import save_file

import ddbench
from ddbench.errors import ModelError, TeacherError, UsageError
from ddbench.runtime.machine import Machine
from ddbench.testing.toy import toy_dataset

timm = pytest.importorskip("timm")

#: A real architecture of timm, of 0.5 million parameters, whose published weights have ImageNet-1K's classes.
TAGGED = "timm:test_resnet.r160_in1k"
#: Golf ball, tench, English springer: not in the order of their synset ids.
SYNSETS = ("n03445777", "n01440764", "n02102040")
INDEX = [574, 0, 217]


@pytest.fixture
def data(ctx):
    toy = toy_dataset(channels=3)
    return replace(ctx, _dataset=replace(toy, class_ids=SYNSETS, image_size=32), machine=Machine(offline=True))


@pytest.fixture(scope="module")
def whole():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=1000).eval()


def images(n=5):
    return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def scaled(x, mean, std):
    return (x - torch.tensor(mean).view(1, -1, 1, 1)) / torch.tensor(std).view(1, -1, 1, 1)


def saved(whole, path, wrap=None):
    state = {name: value.contiguous() for name, value in whole.state_dict().items()}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({wrap: state} if wrap else state, path)
    return str(path)


@pytest.mark.parametrize(("name", "wrap"), [("w.safetensors", None), ("w.pth", None), ("w.pth", "model")])
def test_published_weights_label_a_subset_by_synset_id(data, whole, tmp_path, name, wrap):
    file = saved(whole, tmp_path / name, wrap)
    teacher = get_teacher(data, TAGGED, "dataset", file, floor=False)
    config = timm.models.get_pretrained_cfg("test_resnet.r160_in1k")
    with torch.no_grad():
        found = teacher.module()(scaled(images(), data.dataset.mean, data.dataset.std))
        expected = whole(scaled(images(), config.mean, config.std))[:, INDEX]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    described = teacher.describe()
    assert (described["network"], described["outputs"]) == (TAGGED, 1000)
    assert (
        (tuple(described["mean"]), tuple(described["std"])) == (config.mean, config.std) != (teacher.mean, teacher.std)
    )
    assert described["source"]["published"] == TAGGED and described["source"]["file"] == name
    pixels, labels = data.dataset.arrays("test")
    assert teacher.accuracy == pytest.approx((teacher.predict(pixels) == labels).mean())


def test_the_same_file_without_a_tag_is_matched_by_synset_too(data, whole, tmp_path):
    file = saved(whole, tmp_path / "w.safetensors")
    teacher = get_teacher(data, "timm:test_resnet", "imagenet", file, floor=False)
    with torch.no_grad():
        torch.testing.assert_close(teacher.module()(images()), whole(images())[:, INDEX], rtol=1e-4, atol=1e-5)
    assert teacher.own == (teacher.mean, teacher.std)


def test_missing_synsets_are_named(data, whole, tmp_path):
    file = saved(whole, tmp_path / "w.safetensors")
    other = replace(data, _dataset=replace(data.dataset, class_ids=("n03445777", "cat", "dog")))
    with pytest.raises(TeacherError, match="does not know 2 of the 3 classes of toy: cat, dog"):
        get_teacher(other, TAGGED, "dataset", file, floor=False)
    with pytest.raises(TeacherError, match="1000 outputs, and toy has 3 classes"):
        get_teacher(other, "timm:test_resnet", "dataset", file, floor=False)


def test_the_teachers_own_constants_can_be_set_or_written_beside_the_file(data, whole, tmp_path):
    file = saved(whole, tmp_path / "w.safetensors")
    auto = get_teacher(data, "timm:test_resnet", "dataset", file, floor=False)
    half = get_teacher(data, "timm:test_resnet", "dataset", file, teacher_normalisation="inception", floor=False)
    assert half.own == ((0.5,) * 3, (0.5,) * 3)
    (tmp_path / "w.json").write_text(json.dumps({"mean": [0.5] * 3, "std": [0.5] * 3}))
    beside = get_teacher(data, "timm:test_resnet", "dataset", file, floor=False)
    x = scaled(images(), data.dataset.mean, data.dataset.std)
    with torch.no_grad():
        torch.testing.assert_close(beside.module()(x), half.module()(x))
        assert not torch.allclose(auto.module()(x), half.module()(x))
    assert len({teacher.digest for teacher in (auto, half)}) == 2
    assert auto.describe()["weights"] == half.describe()["weights"]


def test_a_file_says_the_order_of_its_classes(data, tmp_path):
    network = build_network("convnet-2-bn", in_channels=3, image_size=32, num_classes=4).eval()
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "w.json").write_text(json.dumps({"class_ids": [SYNSETS[1], "cat", SYNSETS[2], SYNSETS[0]]}))
    teacher = get_teacher(data, "convnet-2-bn", "dataset", str(tmp_path / "w.safetensors"), floor=False)
    with torch.no_grad():
        torch.testing.assert_close(teacher.module()(images()), network(images())[:, [3, 0, 2]])
    (tmp_path / "w.json").write_text(json.dumps({"class_ids": ["a", "b"]}))
    with pytest.raises(TeacherError, match="4 outputs, but 2 class ids"):
        get_teacher(data, "convnet-2-bn", "dataset", str(tmp_path / "w.safetensors"), floor=False)


def test_other_class_names_are_refused(data, tmp_path):
    network = build_network("convnet-2-bn", in_channels=3, image_size=32, num_classes=3)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "w.json").write_text(json.dumps({"class_names": ["checks", "rows", "columns"]}))
    with pytest.raises(TeacherError, match="another class order"):
        get_teacher(data, "convnet-2-bn", "dataset", str(tmp_path / "w.safetensors"), floor=False)


def test_torchvisions_weights_from_a_file(data, tmp_path):
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    theirs = models.resnet18(num_classes=1000).eval()
    file = saved(theirs, tmp_path / "resnet18.pth", "model")
    x = images()
    with torch.no_grad():
        expected = theirs(x)[:, INDEX]
        for name in ("torchvision:resnet18.IMAGENET1K_V1", "torchvision:resnet18"):
            teacher = get_teacher(data, name, "imagenet", file, floor=False)
            torch.testing.assert_close(teacher.module()(x), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ModelError, match="does not fit resnet-18-bn"):  # at 32 pixels its stem is another one
        get_teacher(data, "resnet-18-bn", "imagenet", file, floor=False)


@pytest.mark.parametrize(
    ("name", "words", "hint"),
    [
        (TAGGED, "not in the local cache and offline", "hf download timm/test_resnet.r160_in1k model.safetensors"),
        ("torchvision:resnet18.IMAGENET1K_V1", "not in the local cache", "resnet18-f37072fd.pth"),
    ],
)
def test_offline_says_what_to_put_where(data, monkeypatch, tmp_path, name, words, hint):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ModelError, match=words) as caught:
        get_teacher(data, name)
    assert hint in caught.value.hint and "eval.teacher_file=" in caught.value.hint


def test_the_key_of_a_hubs_teacher_holds_the_weights_that_are_read_cached_or_downloaded(data, monkeypatch, tmp_path):
    import huggingface_hub

    hub, torch_home = tmp_path / "models--timm--test_resnet.r160_in1k", tmp_path / "torch"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(torch_home))

    def publish(seed):
        torch.manual_seed(seed)
        commit = str(seed) * 40
        (hub / "snapshots" / commit).mkdir(parents=True)
        (hub / "refs").mkdir(exist_ok=True)
        (hub / "refs" / "main").write_text(commit)
        saved(timm.create_model("test_resnet", num_classes=1000), hub / "snapshots" / commit / "model.safetensors")

    online = replace(data, machine=Machine())
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda name, file: publish(1))  # a hub without network
    downloaded = get_teacher(online, TAGGED, floor=False)
    asked = teacher_of(online, TAGGED).key
    assert downloaded.done.key == asked == teacher_of(data, TAGGED).key
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", None)  # what is here is not asked for again
    assert get_teacher(online, TAGGED, floor=False).done.reused
    publish(2)
    other = get_teacher(data, TAGGED, floor=False)
    assert not other.done.reused and other.digest != downloaded.digest
    file = hub / "snapshots" / ("2" * 40) / "model.safetensors"
    assert other.describe()["source"] == {"published": TAGGED, "sha256": data.content_digest(file)}


@pytest.mark.parametrize("name", ["timm:test_resnet.r161_in1k", "torchvision:resnet18.IMAGENET1K_V9"])
def test_unknown_tags_are_refused_with_the_known_ones(data, name):
    with pytest.raises(UsageError, match="no published weights") as caught:
        get_teacher(data, name)
    assert "r160_in1k" in caught.value.hint or "IMAGENET1K_V1" in caught.value.hint


def test_weights_of_another_network_are_refused(data, whole, tmp_path):
    file = saved(whole, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="do not fit teacher 'timm:test_vit"):
        get_teacher(data, "timm:test_vit.r160_in1k", "dataset", file, floor=False)
    with pytest.raises(ModelError, match="does not fit convnet-2-bn") as caught:
        get_teacher(data, "convnet-2-bn", "dataset", file, floor=False)
    assert "eval.teachers=" in caught.value.hint


class Harmful:
    def __reduce__(self):
        return (print, ("unpickled",))


def test_pickles_with_code_and_other_files_are_refused(data, tmp_path, capsys):
    torch.save({"model": Harmful()}, tmp_path / "code.pth")
    torch.save({"model": {"epoch": 3}}, tmp_path / "numbers.pth")
    (tmp_path / "text.safetensors").write_text("hello, this is no file of weights")
    for name, words in [("code", "cannot be read"), ("numbers", "no state dict")]:
        with pytest.raises(ModelError, match=words):
            get_teacher(data, "convnet-2-bn", "dataset", str(tmp_path / f"{name}.pth"), floor=False)
    with pytest.raises(ModelError, match="cannot be read"):
        get_teacher(data, "convnet-2-bn", "dataset", str(tmp_path / "text.safetensors"), floor=False)
    with pytest.raises(ModelError, match="does not exist"):
        get_teacher(data, "convnet-2-bn", "dataset", str(tmp_path / "nowhere.pth"), floor=False)
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\n", "is a Git LFS pointer"),
        (b"<!doctype html>", "is a web page"),
        (b"x" * 1000, "cannot be read"),
    ],
)
@pytest.mark.parametrize("teacher", [TAGGED, "convnet-3-bn"])
def test_what_stands_in_for_weights_is_named(data, tmp_path, name, content, reason, teacher):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"{name} .*{reason}"):
        get_teacher(data, teacher, "dataset", str(tmp_path / name), floor=False)


def test_a_pipe_is_no_file_of_weights(data, tmp_path):
    os.mkfifo(tmp_path / "w.pth")
    with pytest.raises(ModelError, match="pipe or a device"):
        get_teacher(data, "convnet-3-bn", "dataset", str(tmp_path / "w.pth"), floor=False)


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        ("[1]", "not a table"),
        ('{"class_ids": "abc"}', "class_ids: Input should be a valid list"),
        ('{"class_names": [1, 2, 3]}', "class_names"),
        ('{"mean": 0.5}', "mean"),
        ('{"std": [0.0]}', "std.0"),
        ('{"mean": [NaN]}', "mean.0"),
        ("[" * 100_000, "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_what_a_table_beside_weights_says_wrongly_is_named(tmp_path, about, reason):
    (tmp_path / "w.json").write_text(about)
    with pytest.raises(ModelError, match=rf"w\.json .*{reason}"):
        read_about(tmp_path / "w.pth")
    (tmp_path / "w.json").write_bytes(b'\xef\xbb\xbf{"mean": [0.5]}')
    assert read_about(tmp_path / "w.pth") == {"mean": [0.5]}


def test_a_teacher_that_cannot_take_the_size_is_refused(data, tmp_path):
    models = pytest.importorskip("torchvision.models")
    file = saved(models.alexnet(num_classes=1000), tmp_path / "alexnet.pth")
    with pytest.raises(ModelError, match=r"alexnet\.IMAGENET1K_V1 does not take images of 32 pixels"):
        get_teacher(data, "torchvision:alexnet.IMAGENET1K_V1", "imagenet", file, floor=False)


def test_students_start_at_random():
    for build, name in ((build_timm, "test_resnet.r160_in1k"), (build_torchvision, "resnet18.IMAGENET1K_V1")):
        with pytest.raises(ValueError, match="start at random"):
            build(in_channels=3, image_size=32, num_classes=3, name=name)


def test_names_of_published_weights():
    assert published(TAGGED).network == "timm:test_resnet"
    assert published(TAGGED).name == TAGGED
    for name in ("timm:resnet18", "convnet-3-bn", "file:a.b", ""):
        assert published(name) is None


def test_imagenets_classes_are_its_sorted_synsets():
    assert imagenet() == sorted(imagenet())
    assert [imagenet()[i] for i in INDEX] == list(SYNSETS)


def test_renormalising_is_the_same_as_normalising_again():
    network = build_network("convnet-2-bn", in_channels=3, image_size=32, num_classes=3).eval()
    given, own = ([0.1, 0.2, 0.3], [0.5, 0.6, 0.7]), ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4])
    behind = Renormalised(network, *given, *own).eval()
    with torch.no_grad():
        torch.testing.assert_close(
            behind(scaled(images(), *given)), network(scaled(images(), *own)), rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(behind.head(behind.embed(images())), behind(images()))


def test_rded_evaluates_under_a_published_teacher(data, whole, tmp_path):
    """One batch goes to both: the student's constants are the data set's, the teacher's its own."""
    from ddbench.experiment.pipeline import prepare_evaluator

    options = {"teacher": TAGGED, "teacher_file": saved(whole, tmp_path / "w.pth", "model"), "epochs": "1"}
    ctx = replace(data, explicit={"evaluator": options})
    evaluator, mine, _ = prepare_evaluator(ctx, "rded", "convnet-2-bn", 4)
    pixels, labels = data.dataset.arrays("train")
    chosen = np.concatenate([np.flatnonzero(labels == c)[:4] for c in range(3)])
    distilled = ddbench.DistilledSet(pixels[chosen], labels[chosen])
    settings = evaluator.protocol(mine, distilled).settings
    assert settings["teacher"]["mean"] != list(data.dataset.mean) and settings["normalisation"] == "dataset"
    assert evaluator.evaluate(mine, distilled, 0).correct.shape == (len(data.dataset.test),)
