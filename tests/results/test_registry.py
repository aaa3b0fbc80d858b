import contextlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from records import dataset_facts, make

from ddbench.errors import UsageError
from ddbench.keys import digest
from ddbench.results import registry
from ddbench.results import schema as records
from ddbench.results.schema import PluginPart

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    for method in ("vlcp", "random"):
        for ipc in (1, 10):
            records.write(make(method, (0.5, 0.6), ipc=ipc), tmp_path)
    return tmp_path


def edit(folder, change):
    path = registry.paths(folder)[0]
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return [problem.message for problem in registry.check(folder).problems]


def test_reading_is_sorted_and_filtered(folder):
    found = registry.load(folder)[0]
    assert [(r.cell.method.name, r.cell.ipc) for r in found] == [
        ("random", 1),
        ("random", 10),
        ("vlcp", 1),
        ("vlcp", 10),
    ]
    assert len(list(registry.select(found, method=["vlcp"], ipc=[1]))) == 1
    assert not list(registry.select(found, dataset=["cifar10"]))
    assert registry.load(folder / "absent")[0] == []


def test_a_good_registry_has_no_problems(folder):
    assert registry.check(folder).problems == ()


def test_an_edited_accuracy_is_found_and_refused(folder):
    messages = edit(folder, lambda content: content["result"].update(values=[0.9, 0.9], last=[0.9, 0.9]))
    assert any("edited" in message for message in messages)
    assert any("correctness averages 0.5" in message for message in messages)
    assert 0.9 not in [record.mean for record in registry.load(folder)[0]]


def test_an_edited_protocol_is_found(folder):
    messages = edit(folder, lambda content: content["protocol"]["settings"].update(epochs=1))
    assert any("protocol's digest" in message for message in messages)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": [1.5, 0.6]}, "outside"),
        ({"values": []}, "no value"),
        ({"correct": []}, "0 correct"),
        ({"correct": ["x", "x"]}, "cannot be read"),
        ({"values": [0.6, 0.6]}, "selection is 'last'"),
    ],
)
def test_inconsistent_results_are_found(folder, change, message):
    assert any(message in found for found in edit(folder, lambda content: content["result"].update(change)))


def test_costs_and_environment_may_differ(folder):
    assert edit(folder, lambda content: content["environment"].update(processor="another")) == []


def test_misplaced_doubled_and_unreadable_records_are_found(folder):
    path = registry.paths(folder)[0]
    (folder / "results" / "copy.json").write_text(path.read_text())
    (folder / "results" / "broken.json").write_text("{")
    messages = [str(problem) for problem in registry.check(folder).problems]
    assert any("broken.json" in message for message in messages)
    assert any("copy.json: belongs at results/digits/random" in message for message in messages)
    assert any("same cell" in message for message in messages)


def test_a_faulty_record_is_named_and_leaves_the_others(folder):
    first, second, third, _ = registry.paths(folder)
    first.write_text(first.read_text().replace('"last": [\n   0.5', '"last": [\n   NaN'))
    second.write_text(second.read_text().replace('"schema_version": 1', '"schema_version": 99'))
    third.write_text("[]")
    good, problems = registry.load(folder)
    assert len(good) == 1 and good[0].cell.method.name == "vlcp"
    messages = {Path(problem.path).name: problem.message for problem in problems}
    assert "not finite" in messages[first.name] or "outside" in messages[first.name]
    assert "schema version 99" in messages[second.name]
    assert len(messages) >= 2 and all(problem.path.startswith("results/") for problem in problems)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["cell"]["method"].update(name="a\x1b[31mb"), "no printable name"),
        (lambda c: c["cell"]["dataset"].pop("fingerprint"), "lacks fingerprint"),
        (lambda c: c["environment"].update(device="cuda"), "key does not fit"),
        (lambda c: c["costs"].update(distill_seconds=float("nan")), "not finite"),
        (lambda c: c.update(key="0" * 64), "key does not fit"),
        (lambda c: c["cell"]["method"].update(name="m" * 300), "longer than"),
        (lambda c: c["cell"]["dataset"].update(image_size={"a": 1}), "no valid image_size"),
        (lambda c: c["cell"]["dataset"].update(fingerprint=None), "no valid fingerprint"),
        (lambda c: c["cell"].update(ipc=-3), "its IPC of -3 is not"),
        (lambda c: c["distilled"].update(key="../../elsewhere"), "not hexadecimal"),
        (lambda c: c["costs"].update(bytes_images=-1), "negative"),
        (lambda c: c["costs"].update(bytes_labels=-1), "negative"),
        (lambda c: c["costs"].update(distill_seconds=-1), "negative"),
        (lambda c: c["costs"].update(evaluate_seconds=-1), "negative"),
        (lambda c: c["costs"].update(peak_bytes=-1), "negative"),
        (lambda c: c["costs"].update(steps=[{"seconds": -1}]), "negative"),
        (lambda c: c["cell"]["dataset"].update(name=""), "its data set has no printable name"),
        (lambda c: c["cell"]["evaluator"].update(name="a\nb"), "its evaluator has no printable name"),
        (lambda c: c["cell"].update(network="a\tb"), "its network has no printable name"),
        (lambda c: c["cell"].update(network="n" * 81), "its network has a name longer than 80 bytes"),
        (lambda c: c["cell"].update(ipc=0), "its IPC of 0 is not"),
        (lambda c: c["result"].update(test_images=0), "no image"),
        (lambda c: c["result"].update(last=[0.5]), "2 values but 1 last"),
        (lambda c: c["costs"].update(steps=[{"seconds": "long"}]), "no number"),
        (lambda c: c["result"].update(test_images=10**400), "not of every test image"),
    ],
)
def test_keys_names_and_costs_are_checked(folder, change, message):
    assert any(message in found for found in edit(folder, change))


def sealed(record, **changes):
    """Return a record with other parts, and the key and digests that fit them."""
    changed = record.model_copy(update=changes)
    protocol = changed.protocol
    protocol = protocol.model_copy(
        update={"digest": digest({"settings": protocol.settings, "extension": protocol.extension})[:16]}
    )
    parts = (changed.cell, protocol, changed.distilled, changed.result, changed.shrunk)
    numerics = {name: changed.environment[name] for name in registry.NUMERICS}
    key = records.record_key(changed.cell, numerics)
    return changed.model_copy(update={"protocol": protocol, "key": key, "digest": records.result_digest(*parts)})


def test_the_same_images_under_another_seed_are_right_and_noted(tmp_path):
    record = make("a", (0.9, 0.8), ipc=1)
    records.write(record, tmp_path)
    records.write(sealed(record, cell=record.cell.model_copy(update={"seed": 7})), tmp_path)
    assert registry.check(tmp_path).problems == () and len(registry.load(tmp_path)[0]) == 2
    (note,) = registry.check(tmp_path).notes
    assert "has the same images and seeds as results/digits/a/ipc1-seed0" in note.message and "seed7" in note.path


def test_two_methods_may_come_to_the_same_images(tmp_path):
    """Each has its result; boards say so (test_two_methods_with_the_same_images_are_named)."""
    record = make("a", (0.9, 0.8), ipc=1)
    other = record.cell.model_copy(update={"method": PluginPart(name="b", version=1, options={}, explicit={})})
    for one in (record, sealed(record, cell=other)):
        records.write(one, tmp_path)
    checked = registry.check(tmp_path)
    assert checked.records == 2 and checked.problems == checked.notes == ()


def test_a_result_that_was_copied_to_other_images_is_noted(tmp_path):
    for method, values in (("a", (0.9,)), ("b", (0.9,)), ("c", (0.5,)), ("d", (0.5,))):
        records.write(make(method, values, images=method), tmp_path)
    (note,) = registry.check(tmp_path).notes  # at chance, networks may say the same
    assert "/b/" in note.path and "exactly the same test images as results/digits/a/" in note.message


def test_networks_that_answer_alike_are_noted(tmp_path):
    record = make("a", (0.9, 0.9))
    assert record.result.correct[0] != record.result.correct[1]
    result = record.result.model_copy(update={"correct": [record.result.correct[0]] * 2})
    records.write(sealed(record, result=result), tmp_path)
    checked = registry.check(tmp_path)
    assert checked.records == 1 and not checked.problems
    assert "right on exactly the same test images: they count once" in checked.notes[0].message


def wrong_cell(**changes):
    return lambda record: {"cell": record.cell.model_copy(update=changes)}


def wrong_data(**changes):
    return lambda record: {"cell": record.cell.model_copy(update={"dataset": {**record.cell.dataset, **changes}})}


def wrong_result(**changes):
    return lambda record: {"result": record.result.model_copy(update=changes)}


def wrong_set(**changes):
    return lambda record: {"distilled": record.distilled.model_copy(update=changes)}


def wrong_settings(**changes):
    return lambda record: {
        "protocol": record.protocol.model_copy(update={"settings": {**record.protocol.settings, **changes}})
    }


def wrong_method(**changes):
    return lambda record: {
        "cell": record.cell.model_copy(update={"method": record.cell.method.model_copy(update=changes)})
    }


def wrong_costs(**changes):
    return lambda record: {"costs": record.costs.model_copy(update=changes)}


def best(values, best, selection="best_test"):
    def change(record):
        result = record.result.model_copy(update={"values": values, "best": best, "selection": selection})
        return {"result": result, **wrong_settings(selection=selection)(record)}

    return change


CONTRADICTIONS = {
    "headline under best": (best([0.6, 0.6], [0.7, 0.7]), "its values are not the best accuracies"),
    "headline without a best": (best([0.6, 0.6], [None, None]), "its values are not the best accuracies"),
    "best below last": (best([0.4, 0.6], [0.4, 0.6]), "below another"),
    "best below its curve": (
        wrong_result(curves=[[(10, 0.9), (300, 0.5)], [(300, 0.6)]], best=[0.5, None]),
        "best accuracy of repeat 0",
    ),
    "another selection": (wrong_settings(selection="best_test"), "its protocol specifies selection='best_test'"),
    "fewer test images": (wrong_data(test_images=360), "tested on 200 of 360"),
    "class ids": (wrong_data(class_ids=["0"]), "2 classes but 1 class_ids"),
    "class names": (wrong_data(class_names=["a", "b", "c"]), "2 classes but 3 class_names"),
    "doubled class": (wrong_data(class_ids=["0", "0"]), "names a class id twice"),
    "classes that are no text": (wrong_data(class_ids=[0, 1]), "no valid class_ids"),
    "no training images": (wrong_data(train_images=0), "0 as train_images"),
    "a truth for a number": (wrong_data(channels=True), "True as channels"),
    "images per class": (wrong_cell(ipc=3), "20 images for 2 classes with 3 each"),
    "count of images": (wrong_set(count=40), "counts 40 images in an array of 20"),
    "shape": (wrong_set(shape=[20, 16]), "not that of images"),
    "channels": (wrong_set(shape=[20, 16, 16, 3]), "square with 1 channels"),
    "pixel space": (wrong_set(space="cmyk"), "unknown pixel space"),
    "whole with a budget": (wrong_set(whole=True), "whole training set, but has an IPC of 10"),
    "negative seed": (wrong_cell(seed=-1), "its seed is no whole number"),
    "endless seed": (wrong_cell(seed=int("9" * 301)), "its seed is no whole number"),
    "evaluation seed": (wrong_cell(evaluation_seed=-1), "its evaluation seed"),
    "preset": (wrong_cell(preset="huge"), "preset 'huge' does not exist"),
    "network": (
        wrong_settings(network="resnet-18"),
        "its protocol specifies network='resnet-18', its cell 'convnet-3'",
    ),
    "label type": (wrong_settings(label_type="medium"), "'medium' as label_type"),
    "set by hand but not used": (wrong_method(explicit={"steps": 3}), "was set to steps=3 but used None"),
    "set by hand to another value": (
        wrong_method(explicit={"steps": 3}, options={"steps": 4}),
        "was set to steps=3 but used 4",
    ),
    "epochs fall": (wrong_result(curves=[[(20, 0.4), (10, 0.5)], [(300, 0.6)]]), "do not rise from 1"),
    "epoch 0": (wrong_result(curves=[[(0, 0.4), (300, 0.5)], [(300, 0.6)]]), "do not rise from 1"),
    "more epochs than trained": (wrong_settings(epochs=299), "ends at epoch 300 of 299"),
    "curve ends elsewhere": (wrong_result(curves=[[(300, 0.6)], [(300, 0.6)]]), "another accuracy than its last"),
    "curve above 1": (wrong_result(curves=[[(3, 1.5), (300, 0.5)], [(300, 0.6)]]), "accuracies outside [0, 1]"),
    "shrunk otherwise": (
        lambda record: {**wrong_method(options={"steps": 4})(record), "shrunk": [("method.steps", 9, 3)]},
        "method.steps=3 as scaled down, but 4 was used",
    ),
    "step without a name": (wrong_costs(steps=[{"seconds": 1}]), "no name or key"),
    "negative pace": (
        wrong_costs(steps=[{"step": "a", "key": "b", "seconds": 1, "seconds_per_step": {"a": -1}}]),
        "no amounts",
    ),
    "negative memory of a step": (wrong_costs(steps=[{"step": "a", "key": "b", "peak_bytes": -1}]), "peak memory"),
    "negative time": (wrong_costs(distill_seconds=-1.0), "negative"),
    "endless number in the options": (wrong_method(options={"steps": 10**400}), "more than 63 bits"),
    "vast metric": (wrong_result(metrics=[{"lrs": 1e200}, {}]), "implausibly large"),
    "endless cost": (wrong_costs(peak_bytes=10**400), "more than 63 bits"),
    "metric that is no number": (wrong_result(metrics=[{"lrs": float("inf")}, {}]), "not finite"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_fields_that_contradict_each_other_are_found(name):
    change, message = CONTRADICTIONS[name]
    record = make("random", (0.5, 0.6))
    assert registry.flaws(record) == []
    changed = record.model_copy(update=change(record))
    with contextlib.suppress(ValueError):  # what has no digest cannot be sealed
        changed = sealed(changed)
    assert any(message in found for found in registry.flaws(changed)), registry.flaws(changed)


def test_the_whole_set_holds_all_training_images():
    record = make("full", (0.9,), ipc=None)
    assert registry.flaws(record) == []
    made = record.distilled.model_copy(update={"count": 7, "shape": [7, 16, 16, 1]})
    assert any("7 of 1000 images" in found for found in registry.flaws(sealed(record, distilled=made)))


@pytest.mark.parametrize("place", sorted(p.parent for p in ROOT.glob("registry/**/results")))
def test_every_committed_record_verifies_without_a_note(place):
    found = registry.check(place)
    assert found.records and found.problems == found.notes == ()


def bad_files(results):
    """Write one record of every kind of damage; return their names."""
    good = make("good", (0.5,)).dump()
    contents = {
        "nested": "[" * 200_000,
        "deep": good.replace('"extra": {}', '"extra": {"a": ' + "[" * 600 + "]" * 600 + "}"),
        "surrogate": good.replace('"good"', '"\\ud800"'),
        "seed": good.replace('"seed": 0', '"seed": ' + "9" * 301, 1),
        "digits": good.replace('"seed": 0', '"seed": ' + "9" * 5000, 1),
        "nan": good.replace("0.5", "NaN"),
        "infinite": good.replace('"evaluate_seconds": 2.0', '"evaluate_seconds": 1e999'),
        "text-for-number": good.replace('"seed": 0', '"seed": "0"', 1),
        "truth-for-number": good.replace('"seed": 0', '"seed": false', 1),
        "list": "[]",
        "null": "null",
        "empty": "",
        "version": good.replace('"schema_version": 1', '"schema_version": 99'),
        "no-version": good.replace('"schema_version": 1,', ""),
        "pointer": "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "page": "<!DOCTYPE html><html></html>",
        "mark": "\ufeff" + good,
    }
    for name, text in contents.items():
        (results / f"{name}.json").write_text(text, "utf-8")
    (results / "utf16.json").write_bytes(good.encode("utf-16"))
    (results / "latin1.json").write_bytes(good.replace("good", "gööd").encode("latin-1"))
    (results / "folder.json").mkdir()
    os.mkfifo(results / "pipe.json")
    (results / "endless.json").symlink_to("/dev/zero")
    (results / "dangling.json").symlink_to("nowhere")
    (results / "loop.json").symlink_to("loop.json")
    (results / "round").symlink_to(results)
    return {path.name for path in results.glob("*.json")} | {"dangling.json", "loop.json"}


def test_one_bad_record_of_any_kind_is_named_and_leaves_the_others(folder):
    names = bad_files(folder / "results")
    good, problems = registry.load(folder)
    assert len(good) == 4
    assert {Path(problem.path).name for problem in problems} == names
    assert all(problem.message for problem in problems)


def test_a_folder_that_cannot_be_read_is_named(folder, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("vlcp"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    good, (problem,) = registry.load(folder)
    assert len(good) == 2 and problem.path == "results/digits/vlcp" and "cannot be read" in problem.message


def test_records_share_what_they_have_in_common_and_leave_out_what_is_not_needed(folder):
    (first, second, *_), _ = registry.load(folder, without=("curves", "correct"))
    assert first.cell.dataset is second.cell.dataset and first.environment is second.environment
    assert first.result.curves == [[], []] and len({*first.result.correct}) == 2 and first.result.values == [0.5, 0.6]


def test_a_record_nested_without_end_is_named_and_leaves_the_others(folder):
    registry.paths(folder)[0].write_text("[" * 200_000)
    good, (problem,) = registry.load(folder)
    assert len(good) == 3 and "not a readable record" in problem.message


@pytest.mark.parametrize("name", [".", "..", "...", "../../up"])
def test_no_name_leads_out_of_the_registry(tmp_path, name):
    path = records.write(make(name, dataset=dataset_facts(name)), tmp_path)
    assert len(path.resolve().relative_to((tmp_path / "results").resolve()).parts) == 3
    assert registry.check(tmp_path).problems == ()


def test_a_record_of_the_best_test_is_in_order(tmp_path):
    record = make("vlcp", (0.5, 0.6), settings={"selection": "best_test"})
    result = record.result.model_copy(update={"values": [0.7, 0.8], "best": [0.7, 0.8]})
    record = record.model_copy(update={"result": result})
    records.write(record.model_copy(update={"digest": record.computed_digest()}), tmp_path)
    assert registry.check(tmp_path).problems == ()


@pytest.mark.parametrize(("name", "good"), [("n" * 80, True), ("n" * 81, False), ("", False), ("a\x00b", False)])
def test_names_have_at_most_eighty_printable_bytes(name, good):
    if good:
        registry.check_name(name, "")
    else:
        with pytest.raises(UsageError, match="cannot be a name"):
            registry.check_name(name, "")


def test_keys_and_digests_are_those_of_the_canonical_json():
    """However they are worked out: committed records keep theirs."""
    record = make("vlcp", (0.5,), explicit={"steps": 2.0, "text": 'é\u2028"', "deep": {"b": [1.0, None], "a": -0.0}})
    parts = [part.model_dump(mode="json") for part in (record.cell, record.protocol, record.distilled, record.result)]
    assert record.digest == record.computed_digest() == digest([*parts, []])
    numerics = {name: record.environment[name] for name in registry.NUMERICS}
    cell = record.cell.model_dump(mode="json", exclude={"preset"})
    assert record.key == records.record_key(record.cell, numerics) == digest({"cell": cell, "numerics": numerics})
    protocol = record.protocol
    wanted = digest({"settings": protocol.settings, "extension": protocol.extension})[:16]
    assert records.protocol_digest(protocol) == wanted == protocol.digest


@pytest.mark.parametrize("images", [1, 8, 23, 24, 25, 47, 48, 49])
def test_correctness_is_of_exactly_the_test_images(images):
    """Bits are written in bytes, and three bytes in four letters."""
    record = make("vlcp", (1.0,), dataset=dataset_facts() | {"test_images": images})
    every, more = (records.pack_bits(np.ones(count, bool)) for count in (images, images + 24))
    for correct, wrong in ((every, []), (more, ["the per-image correctness of repeat 0 cannot be read"])):
        result = record.result.model_copy(update={"test_images": images, "correct": [correct]})
        found = record.model_copy(update={"result": result})
        found = registry.flaws(found.model_copy(update={"digest": found.computed_digest()}))
        assert len(found) == len(wrong) and all(text in flaw for text, flaw in zip(wrong, found, strict=True))
