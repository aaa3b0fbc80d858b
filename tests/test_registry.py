import json
from pathlib import Path

import pytest
from records import dataset_facts, make

from ddbench import records, registry
from ddbench.errors import RecordError


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
    return [problem.message for problem in registry.verify(folder)]


def test_reading_is_sorted_and_filtered(folder):
    found = registry.read_all(folder)
    assert [(r.cell.method.name, r.cell.ipc) for r in found] == [
        ("random", 1),
        ("random", 10),
        ("vlcp", 1),
        ("vlcp", 10),
    ]
    assert len(registry.select(found, method=["vlcp"], ipc=[1])) == 1
    assert registry.select(found, dataset=["cifar10"]) == []
    assert registry.read_all(folder / "absent") == []


def test_a_good_registry_has_no_problems(folder):
    assert registry.verify(folder) == []
    registry.require_valid(folder)


def test_an_edited_accuracy_is_found_and_refused(folder):
    messages = edit(folder, lambda content: content["result"].update(values=[0.9, 0.9], last=[0.9, 0.9]))
    assert any("edited" in message for message in messages)
    assert any("correctness averages 0.5" in message for message in messages)
    with pytest.raises(RecordError, match="random"):
        registry.require_valid(folder)


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
    messages = [str(problem) for problem in registry.verify(folder)]
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
        (lambda c: c["cell"]["dataset"].update(image_size={"a": 1}), "nothing usable as image_size"),
        (lambda c: c["cell"]["dataset"].update(fingerprint=None), "nothing usable as fingerprint"),
        (lambda c: c["cell"].update(ipc=-3), "budget of -3"),
        (lambda c: c["distilled"].update(key="../../elsewhere"), "not hexadecimal"),
        (lambda c: c["costs"].update(bytes_images=-1), "negative"),
        (lambda c: c["costs"].update(steps=[{"seconds": "long"}]), "no number"),
        (lambda c: c["result"].update(test_images=10**400), "not of every test image"),
    ],
)
def test_keys_names_and_costs_are_checked(folder, change, message):
    assert any(message in found for found in edit(folder, change))


def test_a_copied_result_is_found_even_under_another_seed(folder):
    record = registry.read_all(folder)[0]
    cell = record.cell.model_copy(update={"seed": 7})
    numerics = {name: record.environment[name] for name in registry.NUMERICS}
    parts = (cell, record.protocol, record.distilled, record.result, record.shrunk)
    copy = record.model_copy(
        update={"cell": cell, "key": registry.record_key(cell, numerics), "digest": records.result_digest(*parts)}
    )
    records.write(copy, folder)
    (problem,) = registry.verify(folder)
    assert "same result as results/digits/random/ipc1-seed0" in problem.message and "seed7" in problem.path


def test_a_record_nested_without_end_is_named_and_leaves_the_others(folder):
    registry.paths(folder)[0].write_text("[" * 200_000)
    good, (problem,) = registry.load(folder)
    assert len(good) == 3 and "not a readable record" in problem.message


@pytest.mark.parametrize("name", [".", "..", "...", "../../up"])
def test_no_name_leads_out_of_the_registry(tmp_path, name):
    path = records.write(make(name, dataset=dataset_facts(name)), tmp_path)
    assert len(path.resolve().relative_to((tmp_path / "results").resolve()).parts) == 3
    assert registry.verify(tmp_path) == []
