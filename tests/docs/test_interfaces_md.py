"""Every hook, field on disk and field of a public class is described: on pages, and in docstrings."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from pathlib import Path

import pytest

import ddbench
from ddbench.experiment import pipeline
from ddbench.plugin import specs
from ddbench.plugin.hookspecs import HOOKS
from ddbench.plugin.manager import load_plugins
from ddbench.results import schema as records
from ddbench.testing.toy import toy_dataset

DOCS = Path(__file__).parents[2] / "docs"
TEXT = "".join((DOCS / page).read_text("utf-8") for page in ("plugins/interfaces.md", "reference/files.md"))
MODELS = [
    model
    for model in vars(records).values()
    if isinstance(model, type) and issubclass(model, records.Part) and model is not records.Part
]


def section(title: str) -> str:
    found = re.search(rf"^(#+) {title}\n(.*?)(?=^#{{2,3}} |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, f"no section {title!r}"
    return found[2]


def first_cells(text: str) -> set[str]:
    """The names in the first column of the tables of a section."""
    rows = re.findall(r"^\| (.*?) \|", text, re.MULTILINE)
    return {name.partition("(")[0] for row in rows for name in re.findall(r"`([^`]+)`", row)}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_field_of_a_record_is_described(model):
    assert first_cells(section(model.__name__)) == set(model.model_fields)


@pytest.mark.parametrize("name", [name for name in ddbench.__all__ if dataclasses.is_dataclass(getattr(ddbench, name))])
def test_every_field_of_a_public_class_is_described_in_its_docstring(name):
    described = re.findall(r"^    (\w[\w, ]*): ", inspect.getdoc(getattr(ddbench, name)) or "", re.MULTILINE)
    own = {field.name for field in dataclasses.fields(getattr(ddbench, name)) if not field.name.startswith("_")}
    inherited = {field.name for field in dataclasses.fields(specs.Spec)} if name.endswith("Spec") else set()
    assert own - inherited <= {word for words in described for word in words.split(", ")}


def test_every_hook_and_spec_is_described():
    assert first_cells(section("Hooks")) == set(HOOKS.values())
    assert all(f"`{spec.__name__}`" in section("Hooks") for spec in specs.SPECS)


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
