"""What a plugin gets to work with: data, options, seeds by role, cached steps, networks, device and progress."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, NoReturn, TypeVar

import numpy as np

from ddbench.errors import PluginError, UsageError
from ddbench.files.writing import explained, home
from ddbench.keys import derive_seed
from ddbench.plugin.manager import Entry, Plugins, load_plugin, plugin_errors
from ddbench.plugin.options import FRESH, Options, Preset, Resolved, marker, named, resolve, tagged
from ddbench.runtime import metrics
from ddbench.runtime.machine import Machine, checkpoint_seconds
from ddbench.runtime.scope import Scope, changed, free
from ddbench.runtime.store import NotMade, Step, Store

if TYPE_CHECKING:
    from ddbench.plugin.contracts import DistilledSet
    from ddbench.plugin.datasets import Dataset
    from ddbench.plugin.interfaces import Plugin
    from ddbench.runtime.progress import Advance, Reporter
    from ddbench.runtime.steps import StepCall


P = TypeVar("P")


@dataclass(repr=False)
class Context:
    """Handed to every plugin call.

    Attributes:
        dataset: the data set (not yet there while a data set is being loaded).
        options: the plugin's own validated options; ``resolved`` tells where each value comes from.
        ipc: images per class, or None for the whole training set.
        network: name of the network under test (evaluators), or of the one a method uses where it has a choice.
        method: name of the method whose set is measured (evaluators).
        base_seed: the distillation seed (methods) or the evaluation seed (evaluators).
        preset: the scale and fidelity of this run.
        machine: device, precision, offline.
        explicit: options the user set for any plugin, by scope (``method``, ``captioner``, a plugin's name, …).
        ledger: the steps used so far with their costs; ends up in the record.
        checkpoint: the step that the plugin's result is being built in; ``save``/``load`` survive a kill.
        plugins: everything registered.
        store: the finished steps.
        reporter: where progress and messages go.
        resolved: the options with their sources.
        dry_run: nothing is to be made: a step that is not there is refused.
    """

    plugins: Plugins
    store: Store
    reporter: Reporter
    machine: Machine = field(default_factory=Machine)
    preset: Preset = field(default_factory=Preset)
    base_seed: int = 0
    ipc: int | None = None
    network: str = ""
    method: str = ""
    explicit: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    resolved: Resolved = field(default_factory=lambda: Resolved(None))
    ledger: list[dict[str, Any]] = field(default_factory=list)
    checkpoint: Step | None = None
    dry_run: bool = False
    # The steps being built, each inside the one before; shared by every copy of this context.
    _building: list[Step] = field(default_factory=list)
    # What the shards of one step have loaded, and of which; shared by every copy as well.
    _loaded: dict[str, Any] = field(default_factory=dict)
    _dataset: Dataset | None = None
    _loading: str = ""
    # Where a method's snapshots go: set while its result is being built.
    _keep: Callable[[str, DistilledSet, Mapping[str, Any]], None] | None = None
    # What may be read while a step is being built.
    _scope: Scope | None = None

    if not TYPE_CHECKING:  # which would take it for a sign that there is every attribute

        def __getattribute__(self, name: str) -> Any:
            read = object.__getattribute__
            if name[0] != "_" and (scope := read(self, "_scope")) is not None:
                scope.check_attribute(name)
            return read(self, name)

        def __setattr__(self, name: str, value: Any) -> None:
            if name[0] != "_" and self.__dict__.get("_scope") is not None:
                raise PluginError(
                    f"ctx.{name} is set, which steps would read and no key holds.",
                    hint="Keep it in a variable, and pass it to steps as an argument.",
                )
            object.__setattr__(self, name, value)

    @property
    def dataset(self) -> Dataset:
        """The data set of this run."""
        if self._dataset is None:
            raise RuntimeError("no data set has been loaded yet")
        return self._dataset

    @property
    def data_name(self) -> str:
        """The name of the data set, also while it is being loaded; "" before."""
        return self._dataset.name if self._dataset else self._loading

    @property
    def options(self) -> Any:
        """The plugin's validated options; in a step, those that it declares."""
        values, scope = free(self).resolved.values, self._scope
        return values if values is None or scope is None else scope.view(values)

    @property
    def home(self) -> Path:
        """The artifact folder."""
        return free(self).store.root

    @property
    def checkpoint_seconds(self) -> float:
        """Seconds of work that a kill may cost: ``DDBENCH_CHECKPOINT_SECONDS``, 20 by default."""
        return checkpoint_seconds()

    # Randomness ---------------------------------------------------------------------------------------------------

    def seed(self, role: str, *indices: int | str) -> int:
        """Return the 31-bit seed of a role, e.g. ``ctx.seed("student", repeat)``."""
        if self._scope:
            self._scope.check_seed(role)
        return derive_seed(self.base_seed, role, *indices)

    def rng(self, role: str, *indices: int | str) -> np.random.Generator:
        """Return a NumPy generator for a role."""
        return np.random.default_rng(self.seed(role, *indices))

    # Work ---------------------------------------------------------------------------------------------------------

    def depends(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs of a step with what every step of a run depends on: the data set and the machine."""
        if self._dataset is None:
            return dict(inputs)
        return {**inputs, "run": {"dataset": self._dataset.key(), "numerics": self.machine.numerics()}}

    def options_by_content(self) -> dict[str, Any]:
        """Return the resolved options with every file or folder that they name by its content, for ``identity``."""
        from ddbench.runtime.contents import by_content

        return by_content(self, self.resolved.dump(), all_files=True)

    def content_digest(self, path: str | Path) -> str:
        """Return the sha256 (hex) of a file, or of a folder's files with their names, remembered between runs.

        For :meth:`Plugin.identity`, and what ddbench does with options marked as files.

        Raises:
            DataError: there is no such file, or it cannot be read.
        """
        from ddbench.runtime.contents import content_digest

        return content_digest(Path(path).expanduser(), free(self).store, self.reporter)

    def step(self, name: str, *_: Any, **__: Any) -> NoReturn:
        """Refuse what cached a step before steps declared what they depend on."""
        raise PluginError(
            f"ctx.step({name!r}, inputs, build) is no longer there: steps declare what they depend on.",
            hint="Put @ddbench.step(options=[…], seeds=[…]) above the function that builds it, and call that with the"
            ' context: docs/plugins/method.md, "Cached steps".',
        )

    def keep(self, name: str, distilled: DistilledSet, **options: Any) -> None:
        """Keep a method's images from before its end, in ``snapshots/<name>`` beside its result.

        Args:
            name: a file name.
            distilled: the images; the folder can be given to ``ddbench evaluate``.
            options: those of the run that would have ended with them, e.g. ``iterations=500``; the record names them.
        """
        if self._keep is None:
            raise RuntimeError("snapshots can be kept only while a method distils")
        self._keep(name, distilled, options)

    @contextlib.contextmanager
    def progress(self, description: str, total: int | None = None) -> Iterator[Advance]:
        """Show progress of anything over two seconds: ``with ctx.progress("captions", n) as advance: advance(i)``.

        Figures, as in ``advance(i, n, {"loss": 0.123})``, also go into ``metrics.jsonl`` in the folder of the step that
        is being built.

        Raises:
            NotMade: nothing is to be made: whatever takes seconds reports its progress.
            PluginError: figures as text, which nothing could keep.
        """
        if self.dry_run:
            raise NotMade(f"Work begins here, and a plan does none: {description}.")
        with self.reporter.task(description, total) as show:
            step = self._building[-1] if self._building else None
            task = step and metrics.Task(step.journal, description, total)

            def advance(done: int, total: int | None = None, figures: Mapping[str, float] | None = None) -> None:
                if isinstance(figures, str):
                    raise PluginError(
                        f"The progress of {description!r} was given the text {figures!r}.",
                        hint='Give figures by name: advance(done, total, {"loss": loss}).',
                    )
                show(done, total, figures)
                if step and task and figures:
                    with explained(step.dir):
                        task(done, total, figures)

            yield advance

    def loaded(self, load: Callable[[], P]) -> P:
        """Return what ``load`` returns, such as a model: in a shard, what the shard before it has loaded.

        Raises:
            PluginError: a shard asks twice, and would get the same thing.
        """
        kept = self._loaded
        if not kept.get("family"):
            return load()
        if kept["asked"]:
            raise PluginError(
                "A shard calls ctx.loaded twice, and would get the same thing both times.",
                hint="Let one function load everything, and return a tuple.",
            )
        kept["asked"] = True
        if "value" not in kept:
            kept["value"] = load()
        value: P = kept["value"]
        return value

    def log(self, message: str) -> None:
        """Tell the user about a step taken."""
        self.reporter.log(message)

    def warn(self, message: str) -> None:
        """Tell the user about something they should know."""
        self.reporter.warn(message)

    # Other plugins ------------------------------------------------------------------------------------------------

    def match_context(self) -> dict[str, Any]:
        """Return what preset rules can ask about."""
        facts: dict[str, Any] = {"ipc": self.ipc, "network": self.network, "method": self.method}
        if self._dataset is not None:
            data = self._dataset
            facts |= {
                "dataset": data.name,
                "num_classes": data.num_classes,
                "image_size": data.image_size,
                "channels": data.channels,
            }
        return facts

    def use(self, kind: str, name: str) -> Bound[Any]:
        """Return another plugin (e.g. a captioner) bound to a context with *its* options."""
        entry = free(self).plugins.get(kind, name)
        plugin = load_plugin(entry)
        return Bound(plugin, self.with_options_of(plugin, entry), entry)

    def with_options_of(self, plugin: Plugin, entry: Entry, **facts: Any) -> Context:
        """Return this context with the resolved options of ``plugin``; ``facts`` add to :meth:`match_context`.

        Options are set for a kind (``-o method.strength=0.6``) or for one plugin by name (``-o vlcp.strength=0.6``),
        which wins.
        """
        kind, name, whole = entry.spec.kind, entry.spec.name.rstrip(":"), free(self)
        if self._scope:
            self._scope.check_plugin(kind, entry.name)
        chosen: dict[str, Any] = {}
        for scope in (kind, f"{kind}/{name}"):
            chosen |= whole.explicit.get(scope, {})
        who = f"{kind}/{name}"
        resolved = resolve(type(plugin), who, whole.match_context() | facts, whole.preset, chosen)
        for option, of_kind, one in named(resolved.values):
            if of_kind not in whole.plugins.entries:
                known = ", ".join(whole.plugins.entries)
                raise PluginError(f"{who}: option {option} names a plugin of kind {of_kind!r}; there are {known}.")
            try:
                whole.plugins.get(of_kind, one)
            except UsageError as error:
                raise UsageError(f"{who}: {option}: {error}", hint=error.hint) from None
            if tagged(one) and marker(type(resolved.values or Options()), option, FRESH):
                raise UsageError(
                    f"{who}: {option}: {one} names published weights, and this network begins at random.",
                    hint=f"Say {one.partition('.')[0]}.",
                )
        allowed = self._scope and replace(self._scope, options=None, plugin=f"{kind.capitalize()} {entry.name}")
        return changed(self, resolved=resolved, _scope=allowed)

    def without_options_of(self, kind: str) -> Context:
        """Return this context as if the user had set nothing for a kind of plugin (``-o captioner.…``)."""
        explicit = free(self).explicit
        return changed(self, explicit={scope: values for scope, values in explicit.items() if scope != kind})

    def with_dataset(self, dataset: Dataset) -> Context:
        """Return this context with another data set, e.g. one without some of its training images.

        Raises:
            PluginError: other images under the same fingerprint, which keys could not tell apart.
        """
        known = self._dataset
        if known and dataset.fingerprint == known.fingerprint and dataset.train is not known.train:
            raise PluginError(
                f"A data set of other training images has the fingerprint of {known.name}.",
                hint="Give it its own: replace(data, train=…, fingerprint=ddbench.digest([data.fingerprint, '…'])).",
            )
        return changed(self, _dataset=dataset)

    def build_network(self, name: str = "", *, image_size: int | None = None, seed: int, **settings: Any) -> Any:
        """Return a freshly initialised network (``torch.nn.Module``) for this data set.

        Args:
            name: a registered network; the one under test when empty.
            image_size: side of its inputs; the data set's when None.
            seed: determines the initial weights; the global generator is left as it was.
            settings: further keyword arguments of the network's builder.

        Raises:
            UsageError: the network does not exist for such images (its builder raised ``ValueError``).
        """
        import torch

        name = name or self.network
        entry = free(self).plugins.get("network", name)
        if self._scope:
            self._scope.check_plugin("network", name)
        build = entry.spec.load()
        fixed = dict(getattr(entry.spec, "settings", ()))
        if entry.argument:
            fixed["name"] = entry.argument
        used = torch.cuda.is_available() and torch.cuda.is_initialized()
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if used else []), plugin_errors(entry):
            torch.manual_seed(seed)
            try:
                return build(
                    in_channels=self.dataset.channels,
                    image_size=image_size or self.dataset.image_size,
                    num_classes=self.dataset.num_classes,
                    **(fixed | settings),
                )
            except ValueError as error:
                raise unfit_network(self.dataset, name, error) from error


class Bound(NamedTuple, Generic[P]):
    """A plugin with what it works in.

    Attributes:
        plugin: an instance.
        ctx: with its options.
        entry: what it is registered as, and by whom.
    """

    plugin: P
    ctx: Context
    entry: Entry

    def steps(self) -> list[StepCall]:
        """Return the cached steps that the plugin asks for, for ``needs`` of a step that uses it."""
        from ddbench.runtime.steps import steps_of

        with plugin_errors(self.entry):
            return steps_of(self.plugin, self.ctx)


def unfit_network(dataset: Dataset, network: str, error: Exception) -> UsageError:
    """Return the error that says why a network cannot be used on a data set."""
    side = dataset.image_size
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UsageError(
        f"Network {network} cannot be used on {dataset.name} ({side}×{side}×{dataset.channels} images,"
        f" {dataset.num_classes} classes): {reason}.",
        hint="Choose another network, or another size where the data set has an option for it (-o data.size=…).",
    )


def new_store(reporter: Reporter) -> Store:
    """Return the store in the artifact folder."""
    return Store(home(), reporter.warn)
