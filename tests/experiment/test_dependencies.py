"""Keys hold everything that results depend on: every option, file, declared fact and version asks for another key."""

from __future__ import annotations

import ast
import math
import typing
from dataclasses import replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal

import pytest
from annotated_types import Ge, Gt, Le, Lt

import ddbench
from ddbench.experiment import dependencies, pipeline
from ddbench.keys import canonical, digest
from ddbench.plugin.manager import load_plugins
from ddbench.plugin.options import FILE, marker
from ddbench.results import schema as records
from ddbench.runtime.machine import Machine
from ddbench.runtime.steps import steps_of, walk
from ddbench.testing.toy import toy_dataset

TOY = Path(__file__).parents[1] / "toy_plugin.py"
PLUGINS = load_plugins()


def other_value(annotation: Any, value: Any, limits: tuple[Any, ...]) -> Any:
    """Return another valid value of an option."""
    if typing.get_origin(annotation) is typing.Annotated:
        return other_value(typing.get_args(annotation)[0], value, tuple(annotation.__metadata__[0].metadata))
    if typing.get_origin(annotation) is Literal:
        return next(word for word in typing.get_args(annotation) if word != value)
    if typing.get_origin(annotation) in (typing.Union, UnionType):
        kinds = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
        return other_value(kinds[0], value, limits)
    if typing.get_origin(annotation) is tuple:
        inner = other_value(typing.get_args(annotation)[0], None, limits)
        return (inner,) if not value else (*value[:-1], other_value(type(value[-1]), value[-1], limits))
    if annotation is bool:
        return not value
    if annotation is int:
        return _within(limits, [(value or 0) + step for step in (1, 2, -1, 8, 64)])
    if annotation is float:
        return _within(limits, [(value or 0.5) * factor + more for factor, more in ((0.5, 0), (1, 0.25), (1, -0.25))])
    assert annotation is str, annotation
    return f"{value or ''}other"


def _within(limits: tuple[Any, ...], candidates: list[Any]) -> Any:
    def good(number: Any) -> bool:
        low = max([limit.ge for limit in limits if isinstance(limit, Ge)], default=-math.inf)
        high = min([limit.le for limit in limits if isinstance(limit, Le)], default=math.inf)
        above = max([limit.gt for limit in limits if isinstance(limit, Gt)], default=-math.inf)
        below = min([limit.lt for limit in limits if isinstance(limit, Lt)], default=math.inf)
        return low <= number <= high and above < number < below

    return next(number for number in candidates if good(number))


def options_of(kind: str) -> dict[str, list[str]]:
    """Return the options of every plugin of a kind that has some."""
    models = {
        name: getattr(entry.spec.load(), "Options", None) for name, entry in sorted(PLUGINS.entries[kind].items())
    }
    return {name: [*model.model_fields] for name, model in models.items() if model and model.model_fields}


def not_files(ctx) -> list[str]:
    """Return the options of a plugin that name no file; those that do have tests of their own."""
    return [option for option in type(ctx.options).model_fields if not marker(type(ctx.options), option, FILE)]


@pytest.fixture
def run(ctx):
    plugins = load_plugins([TOY])
    captioners = plugins.entries["captioner"]
    captioners["attributesother"] = captioners["attributes"]  # what an option may be changed to
    return replace(ctx, plugins=plugins, _dataset=toy_dataset())


def method_keys(run, name, **facts):
    """Return the key of the distilled set and of the record."""
    method, mine, entry = pipeline.prepare_method(run, name, 2, 0)
    mine = replace(mine, **facts)
    made = digest(mine.depends(dependencies.artifact(method, mine, entry, 1)))
    _evaluator, measured, its = pipeline.prepare_evaluator(run, "nearest-mean", "convnet-3", 2)
    parts = dependencies.plugin_part(mine, entry), dependencies.plugin_part(measured, its)
    cell = dependencies.cell(measured, *parts, ipc=mine.ipc, seed=mine.base_seed)
    return made, records.record_key(cell, mine.machine.numerics())


def student_keys(run, name, network="convnet-3", distilled=None, repeat=0, **facts):
    """Return the key of a trained student and of the record."""
    evaluator, mine, entry = pipeline.prepare_evaluator(replace(run, method="random"), name, network, 2)
    mine = replace(mine, **facts)
    images, labels = run.dataset.arrays("train")
    distilled = distilled or ddbench.DistilledSet(images[:3], labels[:3])
    protocol = ddbench.Protocol({"network": network, "label_type": "hard", "selection": "last"})
    made = digest(mine.depends(dependencies.student(evaluator, mine, entry, distilled, "00", protocol, repeat)))
    _method, its, method_entry = pipeline.prepare_method(run, "random", 2, 0)
    parts = dependencies.plugin_part(its, method_entry), dependencies.plugin_part(mine, entry)
    cell = dependencies.cell(mine, *parts, ipc=2, seed=0)
    return made, records.record_key(cell, mine.machine.numerics())


def changed(resolved, option):
    field = type(resolved.values).model_fields[option]
    value = other_value(field.annotation, getattr(resolved.values, option), tuple(field.metadata))
    assert value != getattr(resolved.values, option)
    return replace(resolved, values=resolved.values.model_copy(update={option: value}))


@pytest.mark.parametrize("name", options_of("method"))
def test_every_option_of_a_method_asks_for_another_set_and_record(run, name, monkeypatch):
    monkeypatch.setattr(ddbench.Context, "content_digest", lambda self, path: "0" * 64)  # of models that ship
    _, mine, _entry = pipeline.prepare_method(run, name, 2, 0)
    first = method_keys(run, name)
    for option in not_files(mine):
        second = method_keys(run, name, resolved=changed(mine.resolved, option))
        assert all(one != other for one, other in zip(first, second, strict=True)), option


@pytest.mark.parametrize("name", options_of("evaluator"))
def test_every_option_of_an_evaluator_asks_for_another_student_and_record(run, name):
    _, mine, _entry = pipeline.prepare_evaluator(run, name, "convnet-3", 2)
    first = student_keys(run, name)
    for option in not_files(mine):
        second = student_keys(run, name, resolved=changed(mine.resolved, option))
        assert all(one != other for one, other in zip(first, second, strict=True)), option


def file_options(kind):
    return [
        (kind, name, option)
        for name, options in options_of(kind).items()
        for option in options
        if marker(PLUGINS.entries[kind][name].spec.load().Options, option, FILE)
    ]


FILES = [*file_options("method"), *file_options("evaluator")]


def test_the_options_that_name_files_are_known():
    """Whoever adds an option of such a name without the marker adds a key that misses a file."""
    texts = {
        (kind, name, option)
        for kind in ("method", "evaluator")
        for name, options in options_of(kind).items()
        for option in options
        if PLUGINS.entries[kind][name].spec.load().Options.model_fields[option].annotation in (str, str | None)
    }
    likely = {
        each
        for each in texts
        if any(
            word in each[2]
            for word in ("file", "path", "folder", "backbone", "stop_words", "text_encoder", "vae", "decoder")
        )
    }
    assert likely == set(FILES)
    assert {name for _, name, option in FILES if option == "teacher_file"} == {
        *("rded", "rded-robust", "sre2l", "cda", "dwa", "delt", "fkd", "lrs"),
        *("rd3", "rethinkdc-hard", "rethinkdc-soft", "g-vbsm", "edc"),
    }


#: What is read when it is asked for: tests/diffusion/test_tiny.py, tests/methods/test_itgan.py.
LOADED = ("small_vae", "generator_file")


@pytest.mark.parametrize(("kind", "name", "option"), [each for each in FILES if each[2] not in LOADED])
@pytest.mark.parametrize("place", ["weights", "sub/weights.safetensors"])
def test_the_content_behind_an_option_counts_and_not_its_place(run, kind, name, option, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keys = method_keys if kind == "method" else student_keys

    def key(path: Path | str, content: str) -> tuple[str, str]:
        target = Path(path) / "config.json" if option in ("backbone", "text_encoder") else Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        return keys(replace(run, explicit={kind: {option: str(path)}}), name)

    first = key(place, "one")
    second = key(place, "two")  # of the same size, as two teachers of one network are
    assert all(a != b for a, b in zip(first, second, strict=True))
    assert key(place, "one") == first
    assert key(tmp_path / "elsewhere" / Path(place).name, "one") == first
    text = canonical(dependencies.by_content(run, {"any": str(tmp_path / place)}))
    assert str(tmp_path) not in text and Path(place).name in text


@pytest.mark.parametrize("name", ["rded", "sre2l"])
def test_what_is_said_beside_a_teacher_file_counts(run, name, tmp_path):
    (tmp_path / "t.safetensors").write_text("weights")
    with_file = replace(run, explicit={"method": {"teacher_file": str(tmp_path / "t.safetensors")}})
    first = method_keys(with_file, name)[0]
    (tmp_path / "t.json").write_text('{"mean": [0.5], "std": [0.5]}')
    assert method_keys(with_file, name)[0] != first


def test_a_captioners_file_counts_in_sets_and_records(run, tmp_path):
    path = tmp_path / "captions.jsonl"
    described = replace(run, explicit={"method": {"captioner": "file"}, "captioner/file": {"path": str(path)}})
    keys = []
    for text in ("a cat", "a dog"):
        path.write_text(f'{{"file_name": "0.png", "text": "{text}"}}\n')
        keys.append(method_keys(described, "vlcp"))
    assert all(one != other for one, other in zip(*keys, strict=True))


def test_a_large_file_is_read_again_when_it_was_replaced(ctx, tmp_path, monkeypatch):
    from ddbench.runtime import contents

    monkeypatch.setattr(contents, "LARGE", 4)
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"first")
    other.write_bytes(b"other")
    first = ctx.content_digest(path)
    assert ctx.content_digest(path) == first != ctx.content_digest(other)
    other.replace(path)
    assert ctx.content_digest(path) != first


@ddbench.step()
def first(ctx, out):
    """Stand for any step."""


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": "other"},
        {"class_names": ("a", "b", "c")},
        {"class_ids": ("a", "b", "c")},
        {"mean": (0.25,)},
        {"std": (0.25,)},
        {"flip": False},
    ],
)
def test_every_fact_of_the_data_set_is_in_the_key_of_every_step(run, change):
    other = replace(run, _dataset=replace(run.dataset, **change))
    assert method_keys(run, "random")[0] != method_keys(other, "random")[0]
    assert student_keys(run, "minimax")[0] != student_keys(other, "minimax")[0]
    made = [first.of(each).key for each in (run, other)]
    assert made[0] != made[1]


@pytest.mark.parametrize("machine", [Machine("cuda", "fp32"), Machine("cpu", "bf16")])
def test_device_and_precision_are_in_every_key(run, machine):
    other = replace(run, machine=machine)
    for keys, name in ((method_keys, "random"), (student_keys, "minimax")):
        assert all(one != two for one, two in zip(keys(run, name), keys(other, name), strict=True))
    assert run.depends({}) != other.depends({})


def test_options_of_a_data_set_count_where_its_facts_do_not_tell(run):
    import numpy as np

    names = {"npz:": replace(run.dataset, name="npz:x")}
    with_data = replace(run, _dataset=names["npz:"])
    plain = method_keys(with_data, "random")[1]
    assert method_keys(replace(with_data, explicit={"dataset": {"flip": "true"}}), "random")[1] == plain
    assert method_keys(replace(with_data, explicit={"dataset": {"flip": "false"}}), "random")[1] != plain
    assert np.all(with_data.dataset.train.labels == run.dataset.train.labels)


def test_all_that_an_evaluator_is_given_is_in_the_key_of_a_student(run):
    images, labels = run.dataset.arrays("train")
    plain = ddbench.DistilledSet(images[:3], labels[:3])
    first = student_keys(run, "minimax", distilled=plain)[0]
    for change in ({"prompts": ("a", "b", "c")}, {"source_ids": ("a", "b", "c")}, {"extra": {"factor": 2}}):
        assert student_keys(run, "minimax", distilled=replace(plain, **change))[0] != first
    assert student_keys(run, "minimax", repeat=1)[0] != first
    assert student_keys(run, "minimax", base_seed=1)[0] != first
    assert student_keys(run, "minimax", network="convnet-2")[0] != first


def test_versions_of_networks_that_options_name_are_in_the_key(run):
    other = load_plugins([TOY])
    entry = other.entries["network"]["convnet-3"]
    other.entries["network"]["convnet-3"] = replace(entry, spec=replace(entry.spec, cache_version=99))
    newer = replace(run, plugins=other)
    assert method_keys(run, "dm")[0] != method_keys(newer, "dm")[0]
    assert student_keys(run, "minimax")[0] != student_keys(newer, "minimax")[0]


def test_the_source_of_a_plugin_file_is_in_the_key(ctx, tmp_path):
    path = tmp_path / "mine.py"
    keys = []
    for comment in ("# one\n", "# two\n"):
        path.write_text(TOY.read_text("utf-8") + comment, "utf-8")
        run = replace(ctx, plugins=load_plugins([path]), _dataset=toy_dataset())
        keys.append((method_keys(run, "toy"), student_keys(run, "nearest-mean")))
    (first, first_student), (second, second_student) = keys
    assert first[0] != second[0] and first_student[0] != second_student[0]
    assert first[1] == second[1]  # a record is not another experiment for it


def test_identity_of_a_plugin_is_in_the_key(run, monkeypatch):
    method = type(pipeline.prepare_method(run, "random", 2, 0)[0])
    first = method_keys(run, "random")[0]
    monkeypatch.setattr(method, "identity", lambda self, ctx: {"weights": "abc"}, raising=False)
    second = method_keys(run, "random")[0]
    monkeypatch.setattr(method, "identity", lambda self, ctx: {"weights": "xyz"}, raising=False)
    assert len({first, second, method_keys(run, "random")[0]}) == 3


# Steps --------------------------------------------------------------------------------------------------------------


def steps_with(run, name, *, file=None, **facts):
    """Return the steps that a method asks for, by name and arguments."""
    method, mine, _entry = pipeline.prepare_method(run, name, 2, 0)
    calls = walk(steps_of(method, replace(mine, **facts)))
    return {(call.name, canonical(list(map(str, call.arguments.values())))): call for call in calls}


def declared(call):
    return {*call.step.ask("options", call.ctx, call.arguments)}


def methods_with_steps():
    return (
        *(
            "vlcp",
            "d4m",
            "dit",
            "minimax",
            "mgd3",
            "cao2",
            "d3hr",
            "igd",
            "mtt",
            "ftd",
            "datm",
            "rded",
            "sre2l",
            "cda",
            "dwa",
        ),
        *("delt", "g-vbsm", "edc"),
        *("it-gan", "ncfm", "herding", "k-center", "forgetting", "el2n", "grand", "ccs", "mvl", "lors"),
    )


def test_these_are_the_methods_with_steps(run):
    names = {name for name in PLUGINS.entries["method"] if steps_with(run, name)}
    assert names == set(methods_with_steps())


@pytest.mark.parametrize("name", methods_with_steps())
def test_every_option_that_a_step_declares_asks_for_another_step(run, name):
    _, mine, _entry = pipeline.prepare_method(run, name, 2, 0)
    before = steps_with(run, name)
    for option in not_files(mine):
        after = steps_with(run, name, resolved=changed(mine.resolved, option))
        for which in before.keys() & after.keys():
            if option in declared(before[which]):
                assert before[which].key != after[which].key, (option, which)


def seeded(call):
    return bool(call.step.ask("seeds", call.ctx, call.arguments)) or any(map(seeded, call.needs))


@pytest.mark.parametrize("name", methods_with_steps())
def test_a_seed_asks_for_another_step_where_it_is_drawn_and_nowhere_else(run, name):
    before, after = steps_with(run, name), steps_with(run, name, base_seed=1)
    assert before.keys() == after.keys()
    for which, call in before.items():
        assert (call.key != after[which].key) == seeded(call), which


@pytest.mark.parametrize(
    ("name", "option", "first"),
    [
        ("vlcp", "backbone", "model-facts"),
        ("d4m", "backbone", "model-facts"),
        ("dit", "backbone", "model-facts"),
        ("minimax", "backbone", "model-facts"),
        ("vlcp", "stop_words", "prototypes"),
        ("dit", "decoder", "sampled"),
        ("rded", "teacher_file", "teacher"),
        ("sre2l", "teacher_file", "teacher"),
    ],
)
def test_the_content_of_weights_and_files_asks_for_other_steps(run, name, option, first, tmp_path):
    path = tmp_path / "there.txt"
    target = path / "config.json" if option == "backbone" else path
    target.parent.mkdir(exist_ok=True)
    found = []
    for content in ("one", "two"):
        target.write_text(content)
        steps = steps_with(replace(run, explicit={"method": {option: str(path)}}), name)
        found.append({which: call.key for which, call in steps.items()})  # asked for while the file has this content
    (step,) = [which for which in found[0] if which[0] == first][:1]
    assert found[0][step] != found[1][step]


def test_the_content_of_a_caption_file_asks_for_other_captions_and_all_that_is_made_from_them(run, tmp_path):
    path, found = tmp_path / "captions.jsonl", []
    explicit = {"method": {"captioner": "file"}, "captioner": {"path": str(path)}}
    for text in ("one", "two"):
        path.write_text(f'{{"file_name": "a", "text": "{text}"}}\n')
        steps = steps_with(replace(run, explicit=explicit), "vlcp")
        found.append({call.name: call.key for call in steps.values() if "attributes" not in call.arguments.values()})
    same = {name for name in found[0] if found[0][name] == found[1][name]}
    assert same == {"small-diffusion", "latents", "model-facts", "teacher"}


def test_what_a_captioners_file_option_names_counts_by_content(run, tmp_path):
    from ddbench.runtime.contents import by_content

    path = tmp_path / "words.txt"
    mine = replace(run, explicit={"captioner/file": {"path": str(path)}}).use("captioner", "file").ctx
    seen = []
    for text in ("one", "two"):
        path.write_text(text)
        seen.append(mine.options_by_content())
    assert seen[0] != seen[1] == by_content(mine, mine.resolved.dump(), all_files=True)


def test_a_captioner_and_a_network_count_with_their_versions(run):
    before = {which[0]: call.key for which, call in steps_with(run, "vlcp").items()}
    for kind, name, first in (("captioner", "attributes", "captions"), ("network", "convnet-3-bn", "teacher")):
        other = load_plugins([TOY])
        entry = other.entries[kind][name]
        other.entries[kind][name] = replace(entry, spec=replace(entry.spec, cache_version=99))
        steps = steps_with(replace(run, plugins=other), "vlcp")
        assert {which[0]: call.key for which, call in steps.items()}[first] != before[first]


#: Where a built-in decides by the name of a data set, which is in no key, and what tells of it in keys instead.
BY_NAME = {
    "methods/idc/distiller.py": "identity",
    "evaluators/dc/evaluator.py": "protocol",
    "evaluators/fkd/evaluator.py": "protocol",
    "evaluators/fkd/unified.py": "protocol",
    "evaluators/ncfm.py": "protocol",
    "evaluators/idc.py": "protocol",
    "evaluators/lrs/reference.py": "protocol",
    "methods/coresets/recording.py": "identity of the step",
    "teachers/observers.py": "identity of the step",
    "teachers/pretrained.py": "identity of the step",
}


def test_nothing_else_decides_by_the_name_of_a_data_set():
    root = Path(ddbench.__file__).parents[1] / "plugins" / "ddbench_plugins"
    found = set()
    for path in root.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        said = {id(part) for text in ast.walk(tree) if isinstance(text, ast.JoinedStr) for part in ast.walk(text)}
        for node in ast.walk(tree):
            named = isinstance(node, ast.Attribute) and node.attr == "name" and id(node) not in said
            if named and ast.unparse(node.value).rpartition(".")[2] in ("data", "dataset"):
                found.add(path.relative_to(root).as_posix())
    assert found == set(BY_NAME)


@pytest.mark.parametrize(("evaluator", "names"), [("dc", ("toy", "mnist")), ("idc", ("toy", "svhn", "cifar10"))])
def test_what_an_evaluator_decides_by_name_is_in_its_protocol(run, evaluator, names):
    digests = set()
    for name in names:
        named = replace(run, _dataset=replace(run.dataset, name=name), method="random")
        plugin, mine, _ = pipeline.prepare_evaluator(named, evaluator, "convnet-3", 1)
        images, labels = named.dataset.arrays("train")
        digests.add(plugin.protocol(mine, ddbench.DistilledSet(images[:3], labels[:3])).digest)
    assert len(digests) == len(names)
