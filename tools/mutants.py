"""Do the tests notice a wrong program? Change one thing at a time in a copy of the tree, and run the tests on it.

python tools/mutants.py --out FILE.jsonl [--count 100] [--seed 0] [--only SUBSTRING] [PATH …]

Draws mutants from PATH (the modules that decide numbers, unless others are named), and writes a line for each one:
where it is, what was changed, and which test noticed it (`killed` is null for a survivor). The tests of a mutant are
those whose name holds the module's or that import it, and those of ALSO; fast ones first. What FILE holds already
is not run again, except survivors with --again. Needs a system with fork. One mutant takes about half a minute.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLUGINS = "plugins/ddbench_plugins"
#: What is drawn from: where keys, records, tables and the accuracies themselves are made.
MODULES = (
    "ddbench/keys.py",
    "ddbench/experiment/pipeline.py",
    "ddbench/plugin/options.py",
    *(f"ddbench/results/{name}.py" for name in ("registry", "exchange")),
    *(f"ddbench/tables/{name}.py" for name in ("leaderboard", "stats")),
    f"{PLUGINS}/methods/vlcp/*.py",
    *(f"{PLUGINS}/diffusion/{name}.py" for name in ("finetune", "synthesis", "latents", "posteriors", "captions")),
    f"{PLUGINS}/evaluators/**/*.py",
    *(f"{PLUGINS}/training/{name}.py" for name in ("loop", "students", "losses", "mixing", "schedules", "augment")),
)
#: Tests that reach a module by the public way, which their imports don't tell.
ALSO = {
    "ddbench/experiment/pipeline.py": "experiment/test_run.py experiment/test_resume.py results/test_exchange.py",
    "ddbench/keys.py": "experiment/test_run.py",
    "ddbench/results/registry.py": "experiment/test_run.py results/test_exchange.py tables/test_leaderboard.py",
    "ddbench/tables/leaderboard.py": "tables/test_published_tables.py tables/test_describe.py figures",
    "ddbench/tables/stats.py": "tables/test_compare.py",
    f"{PLUGINS}/methods/vlcp/": "methods/vlcp",
    f"{PLUGINS}/diffusion/": "methods/vlcp",
    f"{PLUGINS}/training/students.py": "evaluators/test_minimax.py evaluators/test_dc.py",
}
SWAPS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
}
#: Where a change means nothing: annotations aren't evaluated, and errors' words are free.
SKIPPED = {"annotation", "returns", "exc", "cause", "msg", "decorator_list"}
WORDS = {"hint", "description"}


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield (what is changed, the new node) for each way to make a node wrong."""

    def other(**fields: object) -> ast.AST:
        return ast.copy_location(type(node)(**{**dict(ast.iter_fields(node)), **fields}), node)

    match node:
        case ast.Constant(value=bool(value)):
            yield "boolean", other(value=not value)
        case ast.Constant(value=int(value)) | ast.Constant(value=float(value)):
            yield "number", other(value=value + 1)
            yield "number", other(value=value - 1)
        case ast.Compare(ops=[op, *rest]):
            for swap in SWAPS.get(type(op), ()):
                yield "comparison", other(ops=[swap(), *rest])
        case ast.BinOp(left=left, op=op, right=right):
            for swap in SWAPS.get(type(op), ()):
                yield "arithmetic", other(op=swap())
            yield "operand", left
            yield "operand", right
        case ast.BoolOp(op=op, values=values):
            yield "logic", other(op=SWAPS[type(op)][0]())
            for number in range(len(values)):
                yield "condition", other(values=values[:number] + values[number + 1 :])
        case ast.UnaryOp(operand=operand):
            yield "sign", operand
        case ast.IfExp() | ast.If() if not checks_types(node):
            yield "branch", other(test=ast.UnaryOp(ast.Not(), node.test))
        case ast.While(test=test):
            yield "branch", other(test=ast.UnaryOp(ast.Not(), test))
        case ast.Subscript(slice=ast.Name(), ctx=ast.Load()):
            yield "index", other(slice=ast.Constant(0))
        case ast.Subscript(slice=ast.Slice(), value=value, ctx=ast.Load()):
            yield "slice", value
        case ast.Call(keywords=keywords):
            for number, keyword in enumerate(keywords):
                if keyword.arg not in WORDS:
                    yield f"argument {keyword.arg}", other(keywords=keywords[:number] + keywords[number + 1 :])
        case ast.Dict(keys=keys, values=values):
            for number in range(len(keys)):
                rest = slice(number + 1, None)
                yield (
                    f"entry {ast.unparse(keys[number] or values[number])}",
                    other(keys=keys[:number] + keys[rest], values=values[:number] + values[rest]),
                )
        case ast.comprehension(ifs=[_, *rest]):
            yield "filter", other(ifs=rest)
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield "return", other(value=ast.Constant(None))
        case ast.Raise() | ast.AugAssign() | ast.Delete() | ast.Continue() | ast.Break():
            yield "statement", ast.copy_location(ast.Pass(), node)
        case ast.Expr(value=ast.Call()) | ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield "statement", ast.copy_location(ast.Pass(), node)


def checks_types(node: ast.AST) -> bool:
    """Return whether a branch is for the type checker only."""
    return "TYPE_CHECKING" in ast.unparse(getattr(node, "test", node))


def sites(tree: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
    """Yield each node that may be changed as its parent, field and place therein."""
    for field, value in ast.iter_fields(tree):
        if field in SKIPPED or (isinstance(tree, ast.If) and checks_types(tree)):
            continue
        for number, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(node, ast.AST):
                yield tree, field, number
                yield from sites(node)


def mutants(source: str) -> Iterator[tuple[dict, Callable[[], str]]]:
    """Yield every mutant of a module: its line, what was changed, both as text, and a function that writes the whole.

    The functions change the same tree: what one of them returns holds for that one alone.
    """
    tree, seen = ast.parse(source), Counter()
    for parent, field, number in list(sites(tree)):
        whole = getattr(parent, field)
        node = whole if number is None else whole[number]
        for kind, new in changes(node):
            line = getattr(node, "lineno", getattr(parent, "lineno", 0))
            old_text, new_text = (ast.unparse(each).replace("\n", "⏎") for each in (node, new))
            about = {"line": line, "kind": kind, "old": old_text, "new": new_text}
            alike = about["kind"], about["old"], about["new"]
            about["nth"] = seen[alike] = seen[alike] + 1
            yield about, partial(_written, tree, parent, field, number, node, new)


def _written(tree: ast.AST, parent: ast.AST, field: str, number: int | None, node: ast.AST, new: ast.AST) -> str:
    _put(parent, field, number, new)
    text = ast.unparse(ast.fix_missing_locations(tree))
    _put(parent, field, number, node)
    return text


def place(seed: int, one: dict) -> str:
    """Return where a mutant stands in the order of drawing, which depends on nothing but it and the seed."""
    return hashlib.sha256(json.dumps([seed, _name(one)]).encode()).hexdigest()


def _put(parent: ast.AST, field: str, number: int | None, node: ast.AST) -> None:
    if number is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[number] = node


@cache
def imported(file: Path) -> set[str]:
    """Return the dotted names that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        match node:
            case ast.Import(names=names):
                found |= {name.name for name in names}
            case ast.ImportFrom(module=module, names=names):
                found |= {str(module), *(f"{module}.{name.name}" for name in names)}
    return found


def tests_of(path: str, tree: Path) -> list[str]:
    """Return the test files of a module, the nearest first."""
    stem, module = Path(path).stem, path.removeprefix("plugins/").removesuffix(".py").replace("/", ".")
    files = sorted((tree / "tests").rglob("test_*.py"))
    named = [file for file in files if file.stem.removeprefix("test_").removesuffix("_method") == stem]
    importing = sorted(
        (file for file in files if module in imported(file)),
        key=lambda file: file.parent.name != Path(path).parent.name,
    )
    also = [
        tree / "tests" / where for prefix, more in ALSO.items() if path.startswith(prefix) for where in more.split()
    ]
    more = [file for where in also for file in (sorted(where.rglob("test_*.py")) if where.is_dir() else [where])]
    return [str(file) for file in dict.fromkeys([*named, *more, *importing])]


class _Watch:
    """Tells through a file which test failed first; slow tests come last."""

    def __init__(self, told: Path):
        self.told = told

    def pytest_collection_modifyitems(self, items: list) -> None:
        items.sort(key=lambda item: item.get_closest_marker("slow") is not None)

    def pytest_collectreport(self, report) -> None:
        if report.failed:
            self.told.write_text(report.nodeid)

    pytest_runtest_logreport = pytest_collectreport


def run(tree: Path, tests: list[str], seconds: float) -> str | None:
    """Run tests in a child of this process, which has loaded what is slow to load; return what failed, or None."""
    told = tree / ".told"
    told.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(tree)
        with (tree / ".output").open("w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            import pytest

            resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 5))
            code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--tb=line", *tests], plugins=[_Watch(told)])
            output.flush()
            os._exit(int(code))
    end = time.monotonic() + 5 * seconds  # other work may hold the processor, but not for ever
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "timeout"
        time.sleep(0.1)
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGXCPU:
        return "timeout"
    if code == 4:  # a usage error is no mutant's
        raise SystemExit((tree / ".output").read_text())
    if code in (0, 5):  # 5: no tests
        return None
    return told.read_text() if told.exists() else f"exit {code}"


def draw(paths: Iterable[str], count: int, seed: int) -> tuple[list[tuple[dict, Callable[[], str]]], int]:
    """Return mutants of modules in the order of their places, and how many there are in all.

    They are drawn by what they are and not by where, so that most of a sample stays when a module changes.
    """
    files = sorted({file.relative_to(ROOT).as_posix() for path in paths for file in ROOT.glob(path)})
    every = []
    for path in files:
        found = mutants((ROOT / path).read_text("utf-8"))
        every += [({"path": path, **about}, written) for about, written in found]
    drawn = sorted(every, key=lambda pair: place(seed, pair[0]))[:count]
    return sorted(drawn, key=lambda pair: (pair[0]["path"], pair[0]["line"])), len(every)


def copy_tree(target: Path) -> None:
    """Copy what git knows or does not ignore."""
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    for name in subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.splitlines():
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def main() -> None:
    """Draw, run, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", default=MODULES)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=300, help="of the processor, for the tests of one mutant")
    parser.add_argument("--only", default="", help="run those of the drawn mutants whose path holds this")
    parser.add_argument("--again", action="store_true", help="run survivors that FILE holds again")
    parser.add_argument("--list", action="store_true", help="list what is drawn and run nothing")
    given = parser.parse_args()

    drawn, total = draw(given.paths, given.count, given.seed)
    drawn = [pair for pair in drawn if given.only in pair[0]["path"]]
    print(f"{len(drawn)} of {total} mutants")
    if given.list:
        for one, _ in drawn:
            print(shown(one))
        return

    lines = given.out.read_text("utf-8").splitlines() if given.out.exists() else []
    known = {_name(result): result for result in map(json.loads, lines) if still_there(result["killed"])}
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        copy_tree(tree)
        paths = [str(tree), str(tree / "plugins")]
        os.environ.update(PYTHONPATH=os.pathsep.join(paths), OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")
        sys.path[:0] = [*paths, str(tree / "tests")]
        _preload()
        for one, written in drawn:
            path, old = one["path"], known.get(_name(one))
            if old and (old["killed"] or not given.again):
                continue
            original = (tree / path).read_text("utf-8")
            began = time.monotonic()
            _write(tree / path, written())
            killed = run(tree, tests_of(path, tree), given.seconds)
            _write(tree / path, original)
            known[_name(one)] = {**one, "killed": killed, "seconds": round(time.monotonic() - began, 1)}
            with given.out.open("a", encoding="utf-8") as out:
                out.write(json.dumps(known[_name(one)], ensure_ascii=False) + "\n")
        results = [known[_name(one)] for one, _ in drawn if _name(one) in known]
        # A test that fails without any mutation has killed nothing.
        kills = sorted({one["killed"] for one in results if "::" in (one["killed"] or "")})
        if kills and (broken := run(tree, kills, 10 * given.seconds)):
            print(f"Fails without any mutation: {broken}")
    _report(results)


def still_there(test: str | None) -> bool:
    """Return whether the test that noticed a mutant still has its name."""
    file, _, name = (test or "").partition("::")
    return not name or ((ROOT / file).exists() and f"def {name.partition('[')[0]}(" in (ROOT / file).read_text("utf-8"))


def _name(one: dict) -> tuple:
    return one["path"], one["kind"], one["old"], one["new"], one["nth"]


def shown(one: dict) -> str:
    """Return a mutant in a line: where its old and new text begin to differ."""
    old, new = one["old"], one["new"]
    same = next((n for n, pair in enumerate(zip(old, new, strict=False)) if len(set(pair)) == 2), 0)
    start = max(0, same - 30)
    return f"{one['path']}:{one['line']} {one['kind']}: {old[start : start + 80]} → {new[start : start + 80]}"


def _write(source: Path, text: str) -> None:
    """Write a module, and let no compiled one of the same second and size stand for it."""
    source.write_text(text, "utf-8")
    for compiled in source.parent.glob(f"__pycache__/{source.stem}.*.pyc"):
        compiled.unlink()


def _preload() -> None:
    """Import what is slow to import and belongs to others, once for all children."""
    import hypothesis  # noqa: F401
    import pydantic  # noqa: F401
    import safetensors.torch  # noqa: F401
    import scipy.stats  # noqa: F401
    import sklearn.cluster
    import sklearn.feature_extraction.text
    import sklearn.linear_model
    import sklearn.neighbors  # noqa: F401
    import torch.nn.functional  # noqa: F401
    from diffusers import DiTPipeline, PNDMScheduler, StableDiffusionImg2ImgPipeline  # noqa: F401
    from transformers import CLIPTextModel, CLIPTokenizer  # noqa: F401


def _report(results: list[dict]) -> None:
    for path in sorted({one["path"] for one in results}):
        mine = [one for one in results if one["path"] == path]
        print(f"{path}: {sum(bool(one['killed']) for one in mine)} of {len(mine)}")
    for one in results:
        if not one["killed"]:
            print(f"survived: {shown(one)}")
    print(f"killed {sum(bool(one['killed']) for one in results)} of {len(results)}")


if __name__ == "__main__":
    main()
