"""Finding plugins: entry points (the built-ins are ddbench's own) and files, loaded one by one: none harms another."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from ddbench.errors import DDBenchError, PluginError, UsageError, did_you_mean, not_installed, same_but_case, unknown
from ddbench.files.writing import REASONS
from ddbench.plugin import hookspecs
from ddbench.plugin.containment import contained
from ddbench.plugin.hookspecs import HOOKS, MODELS
from ddbench.plugin.specs import SPECS, Spec

#: Entry-point group in which a package announces its plugin module.
GROUP = "ddbench"
#: Set to "raise" to turn a broken installed plugin into an error (for plugin authors).
ERRORS_VARIABLE = "DDBENCH_PLUGIN_ERRORS"
#: Names are written in comma lists, in ``scope.key=value`` and, up to a colon, before an argument.
NAME = re.compile(r"[a-z0-9][a-z0-9._+-]*:?")
#: The network of evaluators that train none, in contexts, protocols and records.
NO_NETWORK = "none"
#: What a plugin may raise and ddbench survives: anything but a wish to stop; ``sys.exit()`` in a script is not one.
FAILURES = (Exception, SystemExit)


@dataclass(frozen=True)
class Owner:
    """Where a plugin came from.

    Attributes:
        name: of the entry point or file.
        origin: "built-in", "<distribution> <version>" or "file".
        source: digest of a plugin file, whose author changes it between runs; part of the keys of its results.
    """

    name: str
    origin: str
    source: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.origin})"


@dataclass(frozen=True)
class Entry:
    """A registered spec with its owner and, for prefix names, the argument after the colon."""

    spec: Spec
    owner: Owner
    argument: str = ""

    @property
    def name(self) -> str:
        """The name as the user wrote it (``folder:photos``)."""
        return self.spec.name + self.argument

    def to_dict(self) -> dict[str, Any]:
        """Return what it says of itself as plain data."""
        spec = self.spec
        words = {"summary": spec.summary, "paper": spec.paper, "bibtex": spec.bibtex}
        return {
            "kind": spec.kind,
            "name": self.name,
            **words,
            "cache_version": spec.cache_version,
            "owner": self.owner.name,
            "origin": self.owner.origin,
        }


@dataclass(frozen=True)
class Failure:
    """A plugin that was left out, and why."""

    owner: Owner
    message: str


@dataclass
class Plugins:
    """All registered specs, by kind and name, the plugins that were refused, and the files that were loaded."""

    manager: pluggy.PluginManager
    entries: dict[str, dict[str, Entry]] = field(default_factory=lambda: {spec.kind: {} for spec in SPECS})
    owners: list[Owner] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    def get(self, kind: str, name: str) -> Entry:
        """Return the spec called ``name`` of a kind.

        Raises:
            UsageError: no such name; near misses and the known names are listed.
        """
        known = self.entries[kind]
        if name in known and not name.endswith(":"):
            return known[name]
        prefix, colon, argument = name.partition(":")
        if colon and prefix + ":" in known:
            if not argument:
                raise UsageError(f"{name!r} needs something after the colon.", hint=known[name].spec.summary)
            entry = known[prefix + ":"]
            return Entry(entry.spec, entry.owner, argument)
        error = unknown(kind, name, known)
        others = {other: same_but_case(name, names) for other, names in self.entries.items()}
        listed = [f"{'an' if other[0] in 'aeiou' else 'a'} {other}" for other, same in others.items() if same]
        if listed and not others[kind]:
            same = next(filter(None, others.values()))
            it = "it" if same == name else repr(same)
            raise UsageError(f"Unknown {kind} {name!r}: {it} is {' and '.join(listed)}.", hint=error.hint)
        raise error

    def find(self, name: str) -> list[Entry]:
        """Return every spec called ``name``, whatever its kind; ``kind/name`` means one.

        Raises:
            UsageError: no such name.
        """
        kind, slash, rest = name.partition("/")
        if slash and kind in self.entries:
            return [self.get(kind, rest)]
        kinds = [k for k, known in self.entries.items() if name in known or name.partition(":")[0] + ":" in known]
        if not kinds:
            raise unknown("name", name, (n for known in self.entries.values() for n in known))
        return [self.get(kind, name) for kind in kinds]

    def add(self, module: Any, owner: Owner) -> None:
        """Register one plugin module or refuse it whole.

        Raises:
            PluginError: a misspelt hook, something that is not a spec, or a name that is taken; it names the owner.
        """
        self._check_hooks(module, owner)
        try:
            name = self.manager.register(module, name=f"{owner} #{len(self.owners)}")
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError(f"Plugin {owner} cannot be registered: {' '.join(str(error).split())}") from error
        try:
            offered = self._offered(module, owner)
        except PluginError:
            self.manager.unregister(name=name)
            raise
        for spec in offered:
            self.entries[spec.kind][spec.name] = Entry(spec, owner)
        self.owners.append(owner)

    def _check_hooks(self, module: Any, owner: Owner) -> None:
        for name in dir(module):
            value = getattr(module, name, None)
            marked = self.manager.parse_hookimpl_opts(module, name) is not None
            if marked and name not in (*HOOKS.values(), MODELS):
                raise PluginError(
                    f"Plugin {owner} implements an unknown hook {name!r}.{did_you_mean(name, HOOKS.values())}",
                    hint=f"Hooks: {', '.join(HOOKS.values())}.",
                )
            if not marked and name.startswith("ddbench_") and inspect.isfunction(value):
                raise PluginError(
                    f"Plugin {owner} defines {name!r} without the hook marker.",
                    hint="Put @ddbench.hookimpl above the function (or rename it).",
                )

    def _offered(self, module: Any, owner: Owner) -> list[Spec]:
        offered: list[Spec] = []
        for spec_type in SPECS:
            hook = HOOKS[spec_type.kind]
            function = getattr(module, hook, None)
            if function is None:
                continue
            try:
                with contained(f"Plugin {owner}"):
                    specs = list(function())
            except FAILURES as error:
                raise PluginError(f"Plugin {owner}: {hook} failed: {type(error).__name__}: {error}") from error
            for spec in specs:
                self._check_spec(spec, spec_type, hook, owner, offered)
                offered.append(spec)
        if not offered:
            raise PluginError(
                f"Plugin {owner} registers nothing.",
                hint=f"Implement at least one of: {', '.join(HOOKS.values())} (docs/plugins/index.md).",
            )
        return offered

    def _check_spec(self, spec: Any, spec_type: type[Spec], hook: str, owner: Owner, offered: list[Spec]) -> None:
        if not isinstance(spec, spec_type):
            raise PluginError(f"Plugin {owner}: {hook} returned {spec!r} instead of {spec_type.__name__}.")
        if not isinstance(spec.name, str) or not NAME.fullmatch(spec.name):
            raise PluginError(
                f"Plugin {owner}: {spec.kind} name {spec.name!r} must be lower case: letters, digits, dashes, and"
                " a colon at the end if it takes an argument."
            )
        if (spec.kind, spec.name) == ("network", NO_NETWORK):
            raise PluginError(f"Plugin {owner}: {NO_NETWORK!r} means that there is no network; choose another name.")
        texts = {name: getattr(spec, name, "") for name in ("summary", "paper", "bibtex", "label_type")}
        wrong = [name for name, value in texts.items() if not isinstance(value, str)]
        wrong += [] if type(spec.cache_version) is int else ["cache_version"]
        if wrong:
            raise PluginError(
                f"Plugin {owner}: {spec.kind} {spec.name!r} has {wrong[0]}={getattr(spec, wrong[0])!r}.",
                hint="cache_version is a whole number, the rest is text.",
            )
        taken = self.entries[spec.kind].get(spec.name)
        if taken is not None or any(s.kind == spec.kind and s.name == spec.name for s in offered):
            other = taken.owner if taken else owner
            raise PluginError(f"The {spec.kind} {spec.name!r} is registered twice: by {other} and by {owner}.")


@contextlib.contextmanager
def plugin_errors(entry: Entry) -> Iterator[None]:
    """Name the plugin in whatever error escapes it, and put back what it leaves behind in the process.

    Explained errors, interrupts and a full disk pass unchanged.
    """
    try:
        with contained(f"The {entry.spec.kind} {entry.name!r} of {entry.owner}"):
            yield
    except (DDBenchError, MemoryError):
        raise
    except FAILURES as error:
        if lacking := not_installed(error):
            raise lacking from error
        out_of_memory = type(error).__name__ == "OutOfMemoryError"  # torch's, which is not imported here
        if out_of_memory or (isinstance(error, OSError) and error.errno in REASONS):
            raise
        raise PluginError(
            f"The {entry.spec.kind} {entry.name!r} of {entry.owner} failed: {type(error).__name__}: {error}",
            hint="Arrays of data sets cannot be written to, as every plugin gets the same: copy them first."
            if isinstance(error, ValueError) and "read-only" in str(error)
            else "Run with --traceback to see where.",
        ) from error


def load_plugins(files: Iterable[str | Path] = ()) -> Plugins:
    """Load installed plugins and the given plugin files.

    A broken *installed* plugin is left out and listed in ``failures``; a broken *file* was asked for, so it raises.

    Raises:
        PluginError: a file is missing or broken, or any plugin is when ``DDBENCH_PLUGIN_ERRORS=raise``.
    """
    plugins = _installed()
    if not (files := list(files)):
        return plugins
    with_files = Plugins(_manager(), {k: dict(v) for k, v in plugins.entries.items()}, list(plugins.owners))
    with_files.failures = list(plugins.failures)
    for path in {Path(file).expanduser().resolve(): Path(file).expanduser() for file in files}.values():
        module = _module_from_file(path)
        source = hashlib.sha256(path.read_bytes()).hexdigest()
        with_files.add(module, Owner(path.name, "file", source))
        with_files.files.append(str(path))
    return with_files


@cache
def _installed() -> Plugins:
    plugins = Plugins(_manager())
    for point in sorted(entry_points(group=GROUP), key=lambda p: (_origin(p) != "built-in", p.name)):
        owner = Owner(point.name, _origin(point))
        try:
            plugins.add(_load(point, owner), owner)
        except PluginError as error:
            if os.environ.get(ERRORS_VARIABLE) == "raise":
                raise
            plugins.failures.append(Failure(owner, str(error)))
    return plugins


def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    return manager


def _origin(point: EntryPoint) -> str:
    if point.dist is None:
        return "unknown"
    return "built-in" if point.dist.name == "ddbench" else f"{point.dist.name} {point.dist.version}"


def _load(point: EntryPoint, owner: Owner) -> Any:
    try:
        with contained(f"Plugin {owner}"):
            return point.load()
    except FAILURES as error:
        raise PluginError(f"Plugin {owner} cannot be imported: {type(error).__name__}: {error}") from error


def _module_from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise PluginError(f"Plugin file {str(path)!r} does not exist.", hint="Write one with `ddbench new-plugin`.")
    # Files of one name in two folders are two modules.
    name = f"ddbench_file_plugin_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    module_spec = importlib.util.spec_from_file_location(name, path)
    if module_spec is None or module_spec.loader is None:
        raise PluginError(f"Plugin file {path.name} is not a Python file.", hint="Its name must end in .py.")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    vars(module)["__ddbench_file__"] = path.stem
    try:
        with contained(f"The plugin file {path.name}"):
            module_spec.loader.exec_module(module)
    except FAILURES as error:
        del sys.modules[name]
        raise PluginError(
            f"Plugin file {path.name} cannot be imported: {type(error).__name__}: {error}",
            hint="Run with --traceback to see where.",
        ) from error
    return module


def load_plugin(entry: Entry) -> Any:
    """Instantiate a plugin's class, naming what is wrong with it if that fails.

    Raises:
        PluginError: the target is not a class of the right base, or cannot be made without arguments.
    """
    from ddbench.plugin import interfaces

    base: Any = {
        "method": interfaces.Distiller,
        "evaluator": interfaces.Evaluator,
        "dataset": interfaces.DatasetLoader,
        "captioner": interfaces.Captioner,
        "executor": interfaces.Executor,
    }[entry.spec.kind]
    with contained(f"The {entry.spec.kind} {entry.spec.name!r} of {entry.owner}"):
        target = entry.spec.load()
    if not (isinstance(target, type) and issubclass(target, base)):
        raise PluginError(
            f"The {entry.spec.kind} {entry.spec.name!r} of {entry.owner} is {target!r}, not a class derived from"
            f" ddbench.{base.__name__}."
        )
    if hasattr(target, "stages"):
        raise PluginError(
            f"{entry.spec.kind.capitalize()} {entry.spec.name} of {entry.owner} defines stages(), which is no longer"
            " asked for: steps declare themselves.",
            hint="Put @ddbench.step(…) above what builds a step and delete stages(): docs/plugins/method.md,"
            ' "Cached steps".',
        )
    try:
        with contained(f"The {entry.spec.kind} {entry.spec.name!r} of {entry.owner}"):
            return target()
    except FAILURES as error:
        who = f"The {entry.spec.kind} {entry.spec.name!r} of {entry.owner}"
        raise PluginError(f"{who} cannot be made: {type(error).__name__}: {error}") from error
