"""Runs the plugin under test of the conformance checks, each time as if nothing had run before."""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ddbench.errors import PluginError, UsageError
from ddbench.plugin.datasets import Dataset
from ddbench.plugin.manager import Entry, Owner, Plugins, load_plugin, load_plugins
from ddbench.plugin.options import FIDELITIES, SCALES, Preset, resolve
from ddbench.plugin.specs import Spec
from ddbench.runtime.context import Context
from ddbench.runtime.machine import Machine
from ddbench.runtime.progress import Reporter
from ddbench.runtime.store import Store

Result = TypeVar("Result")


class Bench:
    """A plugin among the installed ones, run with a new artifact folder and other global random states each time."""

    def __init__(
        self,
        target: Spec | type,
        spec_type: type[Spec],
        options: Mapping[str, Any] | None,
        dataset: Dataset | None,
        plugins: Iterable[str | Path],
    ) -> None:
        spec = target if isinstance(target, Spec) else spec_type(getattr(target, "__name__", "plugin").lower(), target)
        if not isinstance(spec, spec_type):
            raise UsageError(f"{spec!r} is not a {spec_type.__name__}.")
        known = load_plugins(plugins)
        self.name, self.dataset = spec.name, dataset
        self.entry = Entry(spec, Owner(spec.name, "under test"))
        self.plugins = Plugins(known.manager, {kind: dict(entries) for kind, entries in known.entries.items()})
        self.plugins.entries[spec.kind][spec.name] = self.entry
        self.options = {spec.kind: dict(options or {})}
        self.runs = 0

    def __enter__(self) -> Bench:
        self.folder = tempfile.TemporaryDirectory(prefix="ddbench-conformance-")
        return self

    def __exit__(self, *_: object) -> None:
        self.folder.cleanup()

    def run(self, work: Callable[[Context], Result], dataset: Dataset | None) -> Result:
        """Run one piece of work in a context of its own."""
        self.runs += 1
        ctx = Context(
            plugins=self.plugins,
            store=Store(Path(self.folder.name, str(self.runs))),
            reporter=Reporter(),
            machine=Machine(offline=True),
            explicit=self.options,
            _dataset=dataset,
        )
        with _global_randomness(self.runs):
            return work(ctx)

    def broken(self, what: str, hint: str) -> PluginError:
        """Return the error that names the plugin and its mistake."""
        return PluginError(f"The {self.entry.spec.kind} {self.name!r} {what}.", hint=hint)

    def check_options(self) -> None:
        """Every option is described, and every preset sets options that there are, also one that fits no toy data."""
        plugin = load_plugin(self.entry)
        for name, field in getattr(plugin.Options, "model_fields", {}).items():
            if not field.description:
                raise self.broken(f"does not describe its option {name!r}", "Give it Field(…, description=…).")
        for scale in SCALES:
            for fidelity in FIDELITIES:
                preset = Preset(scale, fidelity)
                try:
                    resolve(type(plugin), self.name, {"dataset": "toy", "ipc": 1}, preset, {})
                except UsageError:  # meant for other data
                    resolve(type(plugin), self.name, {}, preset, {})


@contextlib.contextmanager
def _global_randomness(seed: int) -> Iterator[None]:
    """Put every global generator into another state, and back."""
    torch = sys.modules.get("torch")
    states = random.getstate(), np.random.get_state(), torch.get_rng_state() if torch else None
    random.seed(seed)
    np.random.seed(seed)
    if torch:
        torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        if torch:
            torch.set_rng_state(states[2])
