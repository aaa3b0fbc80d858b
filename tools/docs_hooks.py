"""What `mkdocs build` makes of the pages in docs/: tables from the plugins, help texts, links out of docs/.

A comment ``<!-- generated: WHAT … -->`` in a page is replaced; :data:`GENERATED` lists what there is.
"""

from __future__ import annotations

import ast
import importlib
import posixpath
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import ddbench
from ddbench.cli import group
from ddbench.plugin.manager import Entry, load_plugin, load_plugins
from ddbench.plugin.presets import PARTS, Rules, load_presets

ROOT = Path(__file__).parents[1]
#: Pages and pictures from outside of docs/ that are part of the site, at the same place beside those of docs/.
BESIDE = ("leaderboards/**/*.md", "leaderboards/**/*.png", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
LINK = re.compile(r"(\]\()([^)\s:]+)(\))")
ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):`")
#: Names of an entry of a docstring, and its text with the lines that are indented further.
NAMES = re.compile(r"^( +)(\w+(?:, \w+)+): (.*(?:\n\1 +.*)*)", re.MULTILINE)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages from beside docs/."""
    for path in sorted(path for pattern in BESIDE for path in ROOT.glob(pattern)):
        files.append(File.generated(config, str(path.relative_to(ROOT)), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in what is generated, and let links meet pages that come from beside docs/."""
    markdown = re.sub(r"^<!-- generated: (\w+) ?(.*?) -->$", _generated, markdown, flags=re.MULTILINE)
    inside = not Path(page.file.abs_src_path or "").is_relative_to(config.docs_dir)
    place = page.file.src_uri if inside else f"docs/{page.file.src_uri}"

    def link(match: re.Match[str]) -> str:
        path, mark, anchor = match[2].partition("#")
        if not path:
            return match[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(place), path)).removeprefix("docs/")
        return match[1] + posixpath.relpath(target, posixpath.dirname(page.file.src_uri)) + mark + anchor + match[3]

    return LINK.sub(link, markdown)


class Docstrings(griffe.Extension):
    """Reads roles (``:class:`Name```) as names, and entries of several names (``mean, std: …``) as one for each."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite a docstring before it is parsed."""
        if obj.docstring:
            obj.docstring.value = NAMES.sub(_apart, ROLE.sub("`", obj.docstring.value))


def _apart(match: re.Match[str]) -> str:
    return "\n".join(f"{match[1]}{name}: {match[3]}" for name in match[2].split(", "))


def _generated(match: re.Match[str]) -> str:
    return "\n".join(GENERATED[match[1]](*match[2].split()))


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _table(*rows: tuple[object, ...]) -> Iterator[str]:
    """Yield a table whose first row is its heading."""
    for number, row in enumerate(rows):
        yield f"| {' | '.join(map(_cell, row))} |"
        if not number:
            yield "|" + "---|" * len(row)


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value)) or "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`" if value not in (None, "") else "none"


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in values.items())


def plugins(kind: str) -> Iterator[str]:
    """Yield a table of the built-in plugins of a kind."""
    entries = load_plugins().entries[kind].values()
    yield from _table(
        ("name", "what it is", "paper"), *((f"`{e.spec.name}`", e.spec.summary, e.spec.paper) for e in entries)
    )


def options(kind: str, *names: str) -> Iterator[str]:
    """Yield a plugin's options and preset rules; of several plugins those of the first, and where the others differ."""
    first, *others = (load_plugins().entries[kind][name] for name in names)
    yield from _options(first, others)
    rules = {entry.spec.name: load_presets(load_plugin(entry)) for entry in (first, *others)}
    for name, own in rules.items():
        same = [other for other in rules if rules[other] == own]
        if own and name == same[0]:
            yield from _rules(" and ".join(same), own)
    for entry in (first, *others):
        if entry.spec.bibtex:
            yield from ("", f'??? quote "Cite {entry.spec.name}: {entry.spec.paper}"', "", "    ```bibtex")
            yield from (f"    {line}" for line in entry.spec.bibtex.strip().splitlines())
            yield "    ```"


def _fields(entry: Entry) -> dict[str, Any]:
    model = getattr(load_plugin(entry), "Options", None)
    return dict(model.model_fields) if model else {}


def _options(first: Entry, others: list[Entry]) -> Iterator[str]:
    theirs = {other.spec.name: _fields(other) for other in others}
    rows: list[tuple[object, ...]] = []
    for name, field in _fields(first).items():
        default = _value(field.get_default(call_default_factory=True))
        shown = default
        for other, fields in theirs.items():
            value = _value(fields[name].get_default(call_default_factory=True)) if name in fields else "–"
            shown += f"; {other}: {value}" if value != default else ""
        rows.append((f"`{name}`", shown, field.description or ""))
    if rows:
        yield from _table(("option", "default", "meaning"), *rows)


def _rules(names: str, rules: Rules) -> Iterator[str]:
    yield from ("", f'??? note "Preset rules of {names}: later rules win"', "")
    rows = [
        (
            _pairs(rule.get("when", {})) or "always",
            "; ".join(("" if part == "set" else f"{part}: ") + _pairs(rule[part]) for part in PARTS if part in rule),
            rule.get("source", ""),
        )
        for rule in rules
    ]
    yield from (f"    {line}" for line in _table(("when", "then", "source"), *rows))


def cli() -> Iterator[str]:
    """Yield the help of every command."""
    context = click.Context(group, info_name="ddbench", terminal_width=100, max_content_width=100)
    for name in group.list_commands(context):
        yield from _help(name, group.get_command(context, name), context, 2)


def _help(name: str, command: click.Command | None, parent: click.Context, level: int) -> Iterator[str]:
    assert command is not None
    context = click.Context(command, parent, name, terminal_width=100, max_content_width=100)
    yield from ("", f"{'#' * level} ddbench {context.command_path.removeprefix('ddbench ')}", "", "```text")
    yield from (*command.get_help(context).splitlines(), "```")
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            yield from _help(below, command.get_command(context, below), context, level + 1)


def api(*names: str) -> Iterator[str]:
    """Yield the reference of public names of ddbench, made from their docstrings."""
    for name in names:
        assert name in ddbench.__all__, f"{name} is no public name"
        yield f"::: ddbench.{name}"


def rooms(package: str) -> Iterator[str]:
    """Yield a package's layers from the top down, with what their packages and modules say of themselves."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    (layers,) = (each["layers"] for each in contracts if each.get("containers") == [package])
    folder = Path(str(importlib.import_module(package).__file__)).parent
    rows = []
    for room in (room for layer in layers for room in re.split(r" [:|] ", layer)):
        source = next(path for path in (folder / room / "__init__.py", folder / f"{room}.py") if path.exists())
        rows.append((f"`{room}`", (ast.get_docstring(ast.parse(source.read_text("utf-8"))) or "").partition("\n")[0]))
    yield from _table((package, "what is in it"), *rows)


GENERATED: dict[str, Callable[..., Iterator[str]]] = {
    "plugins": plugins,
    "options": options,
    "cli": cli,
    "api": api,
    "rooms": rooms,
}
