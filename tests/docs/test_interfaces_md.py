"""docs/plugins/interfaces.md and docs/reference/files.md name every hook, field and method, each in its section."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from ddbench.experiment import pipeline
from ddbench.plugin import interfaces, specs
from ddbench.plugin.contracts import DistilledSet, Protocol, Score
from ddbench.plugin.datasets import Dataset, Split
from ddbench.plugin.hookspecs import HOOKS
from ddbench.plugin.manager import load_plugins
from ddbench.results import schema as records
from ddbench.runtime.context import Context
from ddbench.testing.toy import toy_dataset

DOCS = Path(__file__).parents[2] / "docs"
TEXT = "".join((DOCS / page).read_text("utf-8") for page in ("plugins/interfaces.md", "reference/files.md"))
MODELS = [
    model
    for model in vars(records).values()
    if isinstance(model, type) and issubclass(model, records._Part) and model is not records._Part
]


def section(title: str) -> str:
    found = re.search(rf"^(#+) {title}\n(.*?)(?=^#{{2,3}} |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, f"no section {title!r}"
    return found[2]


def first_cells(text: str) -> set[str]:
    """The names in the first column of the tables of a section."""
    rows = re.findall(r"^\| (.*?) \|", text, re.MULTILINE)
    return {name.partition("(")[0] for row in rows for name in re.findall(r"`([^`]+)`", row)}


def fields(*classes: type) -> set[str]:
    return {field.name for each in classes for field in dataclasses.fields(each) if not field.name.startswith("_")}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_field_of_a_record_is_described(model):
    assert first_cells(section(model.__name__)) == set(model.model_fields)


@pytest.mark.parametrize("kind", [Dataset, DistilledSet, Protocol, Score], ids=lambda kind: kind.__name__)
def test_every_field_of_a_contract_is_described(kind):
    assert first_cells(section(kind.__name__)) == fields(kind)


def test_splits_are_described():
    assert all(f"`{name}`" in section("Dataset") for name in fields(Split))


def test_every_hook_and_spec_is_described():
    assert first_cells(section("Hooks")) == set(HOOKS.values())
    assert all(f"`{spec.__name__}`" in section("Hooks") for spec in specs.SPECS)
    assert first_cells(section("Spec")) == fields(*specs.SPECS)


def test_everything_a_plugin_class_can_have_is_described():
    for kind in (interfaces.Distiller, interfaces.Evaluator, interfaces.DatasetLoader, interfaces.Captioner):
        own = {name for name in vars(kind) if not name.startswith("_")}
        missing = {name for name in own if not re.search(rf"`{name}\b", section("Classes"))}
        assert not missing, f"{kind.__name__}: {missing}"
    assert all(f"`{name}" in section("Classes") for name in vars(interfaces.Plugin) if not name.startswith("_"))


def test_everything_in_a_context_is_described():
    public = {name for name in vars(Context) if not name.startswith("_")} | fields(Context)
    assert first_cells(section("Context")) == public - {"resolved"}
    assert "`resolved`" in section("Context")


def test_every_field_of_a_distilled_set_on_disk_is_described(ctx):
    from dataclasses import replace

    plugins = load_plugins()
    mine = replace(ctx, _dataset=toy_dataset())
    made = pipeline.distil(pipeline.prepare_method(replace(mine, plugins=plugins), "random", 1, 0))
    content = json.loads((made.path / "distilled.json").read_text("utf-8"))
    described = first_cells(section("A distilled set on disk"))
    assert set(content) <= described
    files = {path.name for path in made.path.iterdir()} - {"step.json"}
    assert files == {"distilled.json", "images", "preview.png"}
    assert all(f"`{name}" in section("A distilled set on disk") for name in files)


def test_versions_are_the_current_ones():
    from ddbench.sets import folder as distilled

    assert f"version of this schema: {records.SCHEMA} " in section("Record")
    assert f"version of this format: {distilled.FORMAT} " in section("A distilled set on disk")
