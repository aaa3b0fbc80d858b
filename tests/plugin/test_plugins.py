"""How plugins are found, refused and named: files, entry points, hooks, specs, exit codes."""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest

import ddbench
from ddbench.cli import main
from ddbench.errors import PluginError, UsageError
from ddbench.plugin.hookspecs import HOOKS
from ddbench.plugin.manager import _installed, load_plugin, load_plugins
from ddbench.plugin.specs import SPECS

METHOD = """
    from ddbench import DistilledSet, Distiller, MethodSpec, hookimpl

    class Mine(Distiller):
        def distill(self, ctx):
            index = [i for c in range(ctx.dataset.num_classes) for i in ctx.dataset.train.of_class(c)[: ctx.ipc]]
            return DistilledSet(ctx.dataset.train.images.batch(index, 16), ctx.dataset.train.labels[index])

    @hookimpl
    def ddbench_methods():
        return [MethodSpec("mine", Mine, "my summary")]
"""
#: (what is wrong, code, words of the error)
BROKEN = [
    ("import", "import no_such_package", "cannot be imported: ModuleNotFoundError: No module named 'no_such_package'"),
    ("syntax", "def f(:\n    pass", "cannot be imported: SyntaxError"),
    ("raises", "1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
    ("exits", "import sys; sys.exit('usage: x')", "cannot be imported: SystemExit: usage: x"),
    ("empty", "x = 1", "registers nothing"),
    (
        "misspelt",
        "@hookimpl\ndef ddbench_method(): return []",
        "unknown hook 'ddbench_method'. Did you mean 'ddbench_methods'?",
    ),
    ("unmarked", "def ddbench_methods(): return []", "defines 'ddbench_methods' without the hook marker"),
    ("argument", "@hookimpl\ndef ddbench_methods(config): return []", "cannot be registered: .*config"),
    (
        "none",
        "@hookimpl\ndef ddbench_methods(): pass",
        "ddbench_methods failed: TypeError: 'NoneType' object is not iterable",
    ),
    ("hook raises", "@hookimpl\ndef ddbench_methods(): return {}['x']", "ddbench_methods failed: KeyError: 'x'"),
    ("hook exits", "@hookimpl\ndef ddbench_methods(): raise SystemExit(3)", "ddbench_methods failed: SystemExit: 3"),
    ("no spec", "@hookimpl\ndef ddbench_methods(): return [int]", "returned <class 'int'> instead of MethodSpec"),
    ("other kind", "@hookimpl\ndef ddbench_methods(): return [NetworkSpec('n', int)]", "instead of MethodSpec"),
    ("upper case", "@hookimpl\ndef ddbench_methods(): return [MethodSpec('Mine', int)]", "'Mine' must be lower case"),
    ("space", "@hookimpl\ndef ddbench_methods(): return [MethodSpec('my method', int)]", "must be lower case"),
    ("comma", "@hookimpl\ndef ddbench_methods(): return [MethodSpec('a,b', int)]", "must be lower case"),
    ("no name", "@hookimpl\ndef ddbench_methods(): return [MethodSpec(None, int)]", "name None must be lower case"),
    (
        "twice",
        "@hookimpl\ndef ddbench_methods(): return [MethodSpec('m', int), MethodSpec('m', str)]",
        r"method 'm' is registered twice: by bad.py \(file\) and by bad.py \(file\)",
    ),
    (
        "taken",
        "@hookimpl\ndef ddbench_methods(): return [MethodSpec('random', int)]",
        r"method 'random' is registered twice: by methods \(built-in\) and by bad.py \(file\)",
    ),
]
BROKEN += [
    (name, f"@hookimpl\ndef ddbench_methods(): return [MethodSpec('m', int, {field})]", words)
    for name, field, words in (
        ("no summary", "None", "method 'm' has summary=None"),
        ("paper", "paper=3", "method 'm' has paper=3"),
        ("version", "cache_version='1'", "method 'm' has cache_version='1'"),
    )
]
IMPORTS = "from ddbench import MethodSpec, NetworkSpec, hookimpl\n"


@pytest.fixture
def write(tmp_path: Path):
    def file(name: str, code: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(code))
        return path

    return file


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Install a package as pip does: a module and a folder of metadata with its entry point."""
    site = tmp_path / "site"

    def package(name: str, code: str, point: str = "") -> None:
        module = name.replace("-", "_")
        info = site / f"{module}-1.2.dist-info"
        info.mkdir(parents=True)
        (site / f"{module}.py").write_text(dedent(code))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[ddbench]\n{name} = {point or module}\n")
        importlib.invalidate_caches()
        _installed.cache_clear()

    monkeypatch.syspath_prepend(str(site))
    known = set(sys.modules)
    yield package
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(site)):
            del sys.modules[name]
    monkeypatch.undo()
    _installed.cache_clear()


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return int(stopped.value.code or 0)


def test_every_kind_has_a_hook():
    assert list(HOOKS) == [spec.kind for spec in SPECS]


def test_a_file_is_listed_with_its_owner(write, capsys):
    assert run("list", "methods", "--plugin", write("mine.py", METHOD)) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.split()[0] == "mine")
    assert "my summary" in line
    assert "[mine.py (file)]" in line


@pytest.mark.parametrize(("code", "words"), [(c, w) for _, c, w in BROKEN], ids=[name for name, _, _ in BROKEN])
def test_a_broken_file_is_refused_by_name(write, code, words):
    path = write("bad.py", IMPORTS + code)
    with pytest.raises(PluginError, match=words) as caught:
        load_plugins([path])
    assert "bad.py" in str(caught.value)
    assert "mine" not in load_plugins().entries["method"]


@pytest.mark.parametrize(("code", "words"), [(c, w) for _, c, w in BROKEN], ids=[name for name, _, _ in BROKEN])
def test_a_broken_package_leaves_the_others_working(install, code, words):
    install("bad-one", IMPORTS + code)
    install("good-one", METHOD)
    loaded = load_plugins()
    assert {"random", "mine"} <= set(loaded.entries["method"])
    (failure,) = loaded.failures
    assert str(failure.owner) == "bad-one (bad-one 1.2)"
    assert "bad-one" in failure.message


def test_a_broken_package_is_shown_and_can_be_made_an_error(install, capsys, monkeypatch):
    install("bad-one", "1 / 0")
    assert run("plugins") == 0
    assert "left out\n  bad-one (bad-one 1.2): Plugin bad-one" in capsys.readouterr().out
    assert run("list", "methods") == 0
    shown = capsys.readouterr()
    assert "random" in shown.out
    assert "warning: left out bad-one (bad-one 1.2)" in shown.err
    _installed.cache_clear()
    monkeypatch.setenv("DDBENCH_PLUGIN_ERRORS", "raise")
    assert run("list") == PluginError.exit_code == 3
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_name_of_two_packages_names_both_and_keeps_the_first(install):
    install("one", METHOD)
    install("two", METHOD)
    loaded = load_plugins()
    assert str(loaded.entries["method"]["mine"].owner) == "one (one 1.2)"
    assert "'mine' is registered twice: by one (one 1.2) and by two (two 1.2)" in loaded.failures[0].message


def test_two_packages_may_point_at_one_module_only_once(install):
    install("one", METHOD)
    install("two", "", point="one")
    assert [str(failure.owner) for failure in load_plugins().failures] == ["two (two 1.2)"]


def test_an_entry_point_to_nowhere_is_named(install):
    install("lost", "", point="lost:nothing")
    assert "has no attribute 'nothing'" in load_plugins().failures[0].message


def test_a_refused_plugin_registers_nothing_at_all(write):
    both = METHOD + "\n    @hookimpl\n    def ddbench_evaluators():\n        return [MethodSpec('x', Mine)]\n"
    with pytest.raises(PluginError, match=r"ddbench_evaluators returned .* instead of EvaluatorSpec"):
        load_plugins([write("both.py", both)])
    assert "mine" not in load_plugins().entries["method"]


def test_files_load_again_and_files_of_one_name_keep_apart(write):
    first = write("a/mine.py", METHOD)
    second = write("b/mine.py", METHOD.replace('"mine"', '"other"'))
    loaded = load_plugins([first, second, first])
    assert {"mine", "other"} <= set(loaded.entries["method"])
    assert {"mine", "other"} <= set(load_plugins([first, second]).entries["method"])
    assert "mine" not in load_plugins().entries["method"]
    for name, folder in (("mine", "a"), ("other", "b")):
        target = loaded.get("method", name).spec.load()
        assert folder in Path(sys.modules[target.__module__].__file__).parts


def test_a_missing_file_says_how_to_write_one(tmp_path, capsys):
    assert run("list", "--plugin", tmp_path / "none.py") == 3
    assert "new-plugin" in capsys.readouterr().err
    with pytest.raises(PluginError, match="not a Python file"):
        (tmp_path / "notes.txt").write_text("")
        load_plugins([tmp_path / "notes.txt"])


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("'no_such_module:X'", "cannot be loaded from 'no_such_module:X'"),
        ("'ddbench.keys:Nothing'", "has no attribute 'Nothing'"),
        ("'ddbench.keys'", "cannot be loaded"),
        ("int", "not a class derived from ddbench.Distiller"),
        ("None", "not a class derived from ddbench.Distiller"),
        ("type('Half', (Distiller,), {})", "cannot be made: .*distill"),
        ("type('Hard', (Mine,), {'__init__': lambda self: 1 / 0})", "cannot be made: ZeroDivisionError"),
    ],
)
def test_a_target_that_cannot_be_used_is_named_when_it_is_needed(write, target, words):
    path = write("late.py", METHOD.replace('"mine", Mine', f'"mine", {target}'))
    entry = load_plugins([path]).get("method", "mine")  # listing it works
    with pytest.raises(PluginError, match=words) as caught:
        load_plugin(entry)
    assert "'mine'" in str(caught.value)


def test_unknown_names_are_guessed(write):
    loaded = load_plugins([write("mine.py", METHOD)])
    with pytest.raises(UsageError, match=r"Unknown method 'mime'. Did you mean 'mine'\?"):
        loaded.get("method", "mime")
    with pytest.raises(UsageError, match="needs something after the colon"):
        loaded.get("dataset", "folder:")
    assert loaded.get("dataset", "folder:a/b").argument == "a/b"


def test_a_name_of_several_kinds_means_all_of_them(write):
    code = METHOD.replace('"mine"', '"digits"')
    loaded = load_plugins([write("mine.py", code)])
    assert [entry.spec.kind for entry in loaded.find("digits")] == ["method", "dataset"]
    assert [entry.spec.kind for entry in loaded.find("dataset/digits")] == ["dataset"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return 1", "Method mine returned int, not a ddbench.DistilledSet"),
        ("raise RuntimeError('no luck')", r"method 'mine' of bad.py \(file\) failed: RuntimeError: no luck"),
        ("return DistilledSet(ctx.dataset.train.images.batch(range(10), 16), ctx.dataset.train.labels[:10])", "class"),
        ("raise SystemExit(5)", r"method 'mine' of bad.py \(file\) failed: SystemExit: 5"),
        ("open('no/such/file')", r"method 'mine' of bad.py \(file\) failed: FileNotFoundError"),
        ("return DistilledSet()", r"method 'mine' of bad.py \(file\) failed: TypeError"),
    ],
)
def test_mistakes_at_run_time_exit_with_3_and_harm_nothing(write, body, words, capsys, tmp_path):
    start = METHOD.index("            index")
    end = METHOD.index("    @hookimpl")
    bad = write("bad.py", METHOD[:start] + f"            {body}\n\n" + METHOD[end:])
    assert run("distill", "--method", "mine", "--ipc", "1", "--plugin", bad, "--out", tmp_path / "sets") == 3
    assert re.search(words, capsys.readouterr().err)
    assert not (tmp_path / "sets").exists()
    good = write("good.py", METHOD)
    assert run("distill", "--method", "mine,random", "--ipc", "1", "--plugin", good, "--out", tmp_path / "sets") == 0
    assert len(list((tmp_path / "sets").iterdir())) == 2


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("identity", "Method mine has an identity that is not plain data: ndarray"),
        ("identity_none", r"method 'mine' of bad.py \(file\) failed: TypeError"),
    ],
)
def test_an_identity_is_plain_data(write, method, words):
    value = {"identity": "{'a': __import__('numpy').zeros(2)}", "identity_none": "None"}[method]
    identity = f"        def identity(self, ctx):\n            return {value}\n\n"
    bad = write("bad.py", METHOD.replace("        def distill", identity + "        def distill"))
    with pytest.raises(PluginError, match=words):
        ddbench.distill("mine", ipc=1, plugins=[bad])


def test_a_networks_mistake_is_the_networks(write, ctx, digits):
    code = """
        from ddbench import NetworkSpec, hookimpl

        @hookimpl
        def ddbench_networks():
            return [NetworkSpec("odd", lambda **settings: settings["absent"])]
    """
    ready = replace(ctx, _dataset=digits, plugins=load_plugins([write("odd.py", code)]))
    with pytest.raises(PluginError, match=r"network 'odd' of odd.py \(file\) failed: KeyError: 'absent'"):
        ready.build_network("odd", seed=0)


def test_plugins_load_by_the_former_name_of_their_module():
    from ddbench.plugin import manager
    from ddbench.plugins import load_plugins

    assert load_plugins is manager.load_plugins
