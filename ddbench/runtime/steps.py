"""Cached steps that declare what they depend on; key, state in a plan and estimate follow from the declaration.

A step is a method of a plugin, or a function of a module that several plugins share::

    @ddbench.step(options=["components"], version=2)
    def features(self, ctx, out):
        np.save(out.dir / "features.npy", …)

Called with a context, ``self.features(ctx)``, it returns the finished step (:class:`ddbench.Done`), built if needed.
"""

from __future__ import annotations

import copy
import inspect
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, overload

from ddbench.errors import DataError, PluginError
from ddbench.keys import digest
from ddbench.plugin.manager import plugin_errors
from ddbench.runtime import environment, metrics
from ddbench.runtime.captured import Wrapper, captured
from ddbench.runtime.contents import by_content, check_identity, told, used, uses
from ddbench.runtime.estimates import Effort, effort, marked
from ddbench.runtime.machine import peak_memory
from ddbench.runtime.scope import FACTS, PRIVATE, Scope, changed, free
from ddbench.runtime.store import Done, NotMade, Step, StepTaken
from ddbench.runtime.values import Keyed, place_of, plain_of, text_of

if TYPE_CHECKING:
    from pathlib import Path

    from ddbench.runtime.cards import Demand
    from ddbench.runtime.context import Bound, Context

Arguments = ParamSpec("Arguments")
#: What a declaration lists: names, or a function of context and arguments that returns them.
Names = Sequence[str] | Callable[..., Sequence[str] | None]


def step(
    *,
    name: str = "",
    options: Names = (),
    ignore: Sequence[str] = (),
    seeds: Names = (),
    facts: Sequence[str] = (),
    needs: Sequence[CachedStep[[]]] | Callable[..., Iterable[StepCall]] = (),
    uses: Sequence[tuple[str, str]] | Callable[..., Sequence[tuple[str, str]]] = (),
    identity: Callable[..., Mapping[str, Any]] | None = None,
    version: int = 1,
    data: bool = True,
    work: Callable[..., float] | None = None,
    disk: Callable[..., int | None] | None = None,
    demand: Callable[..., Demand | None] | None = None,
    model: str = "",
    shards: Callable[..., Sequence[Any]] | Sequence[Any] = (),
    shard: Callable[..., None] | None = None,
) -> _Decorator:
    """Declare a cached step: the decorated function builds it, and calls of it return the finished step.

    The function gets the context, the step to fill (:class:`ddbench.Step`), and the arguments of the call. Its context
    holds only what is declared: any other option, seed, fact, plugin or step is refused, and so is a method of an
    instance that something was set on, so that the key misses nothing. In the key besides the data set and the machine:
    the arguments (paths and arrays by their content), the declared options (files by their content) with the versions
    of networks and captioners that they name, the base of declared seeds, the plugins it uses, and the keys of the
    steps it needs. All that may be a function is called with the context and the arguments (of a method: the plugin
    first).

    Args:
        name: a folder name in the store; that of the function, with hyphens, when empty.
        options: those that the result depends on, or a function that returns them.
        ignore: options that may be read although the result does not depend on them, such as a batch size.
        seeds: roles of ``ctx.seed`` and ``ctx.rng``, or a function that returns them, or None for any role.
        facts: of the run: ``ipc``, ``network``, ``method`` and ``preset``.
        needs: steps that it reads, or a function that returns calls of them (``[latents.of(ctx)]``); made first.
        uses: other plugins, by kind and name (``[("captioner", "attributes")]``), or a function that returns them; all
            their options are in the key. Networks that options or arguments name need no mention.
        identity: further plain data that the result depends on, e.g. the commit of a model on a hub.
        version: raise it when the results change. The text of a plugin file is in the key as well.
        data: False for a step that is the same for every data set and machine; it is on no run's bill.
        work: returns what its time is proportional to (images × epochs), so that finished steps tell how long another
            takes. Only steps are compared that differ in nothing but numbers and the options that ``work`` reads.
        disk: returns how many bytes it leaves, where that is known beforehand.
        demand: counts what it needs of a GPU (:class:`ddbench.Demand`), for ``ddbench plan --card``.
        model: what trained model it leaves, in a word or two ("teacher"), for ``ddbench models``; its files are
            safetensors, JSON, text and NumPy arrays.
        shards: returns the parts that it is made in, each as plain data, such as its first and last image. How they
            are cut must not depend on who makes them.
        shard: builds one part, a finished step of its own that any worker may make: called with the context, the step
            to fill, the part and the arguments, under this declaration. The decorated function puts ``out.shards``
            together.
    """
    return _Decorator(
        {
            "name": name,
            "options": options,
            "ignore": ignore,
            "seeds": seeds,
            "facts": facts,
            "needs": needs,
            "uses": uses,
            "identity": identity,
            "version": version,
            "data": data,
            "work": work,
            "disk": disk,
            "demand": demand,
            "model": model,
            "shards": shards,
            "shard": shard,
        }
    )


class _Decorator:
    def __init__(self, declared: Mapping[str, Any]) -> None:
        self.declared = declared

    @overload
    def __call__(self, function: Callable[Concatenate[Context, Step, Arguments], None]) -> CachedStep[Arguments]: ...

    @overload
    def __call__(
        self, function: Callable[Concatenate[Any, Context, Step, Arguments], None]
    ) -> CachedStep[Arguments]: ...

    def __call__(self, function: Callable[..., None]) -> CachedStep[Any]:
        return CachedStep(function, **self.declared)


class CachedStep(Wrapper, Generic[Arguments]):
    """A declared step; see :func:`step`."""

    def __init__(
        self,
        function: Callable[..., None],
        *,
        name: str,
        facts: Sequence[str],
        version: int,
        data: bool,
        shard: Callable[..., None] | None,
        **declared: Any,
    ) -> None:
        if not inspect.isfunction(function):
            raise PluginError(f"@step(…) declares a function or a method, not {function!r}.")
        self.function = function
        self.name = name or function.__name__.strip("_").replace("_", "-")
        self.facts, self.version, self.data, self.shard = tuple(facts), version, data, shard
        self.declared = declared
        if bool(declared["shards"]) != bool(shard):
            raise PluginError(
                f"Step {self.name} declares only one of `shards`, its parts, and `shard`, which builds one."
            )
        self.__doc__ = function.__doc__
        self._plugin: Any = None
        self._attribute = ""
        if unknown := set(facts) - set(FACTS):
            raise PluginError(f"Step {self.name} declares {sorted(unknown)}; facts of a run are {', '.join(FACTS)}.")

    def __set_name__(self, owner: type, name: str) -> None:
        self._attribute = name

    def __get__(self, plugin: Any, owner: type | None = None) -> CachedStep[Arguments]:
        """Return the step of a plugin."""
        if plugin is None:
            return self
        bound = copy.copy(self)
        bound._plugin = plugin
        return bound

    def __call__(self, ctx: Context, *args: Arguments.args, **keywords: Arguments.kwargs) -> Done:
        """Return the finished step, building it and what it needs where that is not there."""
        return self.of(ctx, *args, **keywords).done()

    def of(self, ctx: Context, *args: Arguments.args, **keywords: Arguments.kwargs) -> StepCall:
        """Return a call of this step that makes nothing, for ``needs``."""
        return StepCall(self, ctx, args, keywords)

    @property
    def model(self) -> str:
        """What trained model it leaves, or ""."""
        return str(self.declared["model"])

    @property
    def takes_arguments(self) -> bool:
        """Whether it must be told more than the context."""
        given = [parameter for parameter in self._parameters() if parameter.default is parameter.empty]
        return bool(given)

    def code(self) -> dict[str, Any]:
        """Return which function this is, of which plugin; of plugin files also their text."""
        kinds: tuple[type, ...] = (
            () if self._plugin is None else type(self._plugin).__mro__
        )  # other methods may be another class's
        texts = sorted({text for part in (*self._functions(), *kinds) if (text := text_of(part))})
        return {
            "function": place_of(self.function),
            "version": self.version,
            **({"plugin": place_of(kinds[0])} if kinds else {}),
            **({"source": texts} if texts else {}),
            **({"shard": place_of(self.shard)} if self.shard else {}),
        }

    def state(self, ctx: Context) -> dict[str, Any]:
        """Return what else it reads: closures, constants of its class, and simple globals of a plugin file."""
        state = {}
        kinds = () if self._plugin is None else type(self._plugin).__mro__
        read = (one for function in self._functions() for one in captured(function, kinds))
        for name, value, needed in read:
            try:
                state[name] = plain_of(ctx, value, f"Step {self.name} reads {name}, which")
            except PluginError:  # a tool of the class
                if needed:
                    raise
        return {"state": state} if state else {}

    def bind(self, args: Sequence[Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call by name."""
        signature = inspect.Signature(self._parameters())
        bound = signature.bind(*args, **keywords)
        bound.apply_defaults()
        return dict(bound.arguments)

    def ask(self, what: str, ctx: Context, arguments: Mapping[str, Any]) -> Any:
        """Return a part of the declaration, of which functions are called."""
        declared = self.declared[what]
        return declared(*self.mine, ctx, *arguments.values()) if callable(declared) else declared

    def ask_early(self, what: str, ctx: Context) -> Any:
        """Return a part of the declaration before the arguments are known.

        Raises:
            PluginError: it depends on them.
        """
        declared = self.declared[what]
        if callable(declared) and len(inspect.signature(declared).parameters) > 1 + len(self.mine):
            raise PluginError(
                f"Step {self.name} tells its {what} by its arguments, which the key of its plugin would not hold.",
                hint=f"Name its calls in what `needs` of the plugin returns: {self.function.__name__}.of(ctx, …).",
            )
        return self.ask(what, ctx, {})

    def calls(self, named: Iterable[CachedStep[[]] | StepCall], ctx: Context) -> list[StepCall]:
        """Return the calls that a declaration names; methods are those of the same plugin."""
        return [self._beside(one).of(ctx) if isinstance(one, CachedStep) else one for one in named]

    def _beside(self, one: CachedStep[[]]) -> CachedStep[[]]:
        own = bool(self._attribute) and one._attribute == self._attribute  # the step that this one overrides
        return one.__get__(self._plugin) if own else _bound(one, self._plugin)

    def check_instance(self) -> None:
        """Refuse a plugin that something was set on, which its steps may read without their keys' knowing."""
        kinds = () if self._plugin is None else type(self._plugin).__mro__
        slots = [name for kind in kinds for name, part in vars(kind).items() if inspect.ismemberdescriptor(part)]
        if state := {*getattr(self._plugin, "__dict__", ()), *(name for name in slots if hasattr(self._plugin, name))}:
            raise PluginError(
                f"Step {self.name} is a method of an instance that holds {', '.join(sorted(state))}, which its key"
                " does not.",
                hint="Pass it to the step as an argument, or make what never changes an attribute of the class.",
            )

    @property
    def mine(self) -> tuple[Any, ...]:
        """The plugin of a method."""
        return () if self._plugin is None else (self._plugin,)

    def _functions(self) -> list[Any]:
        return [self.function, *([self.shard] if self.shard else [])]

    def _parameters(self) -> list[inspect.Parameter]:
        return list(inspect.signature(self.function).parameters.values())[2 + len(self.mine) :]


class StepCall(Keyed):
    """A step with context and arguments: what it depends on is known, whether it is there or not.

    Attributes:
        step: what is called.
        ctx: with which context.
        arguments: by name.
    """

    def __init__(self, step: CachedStep[Any], ctx: Context, args: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        self.step, self.ctx, self._asked_in = step, free(ctx), ctx._scope
        self.arguments = step.bind(args, keywords)

    def __repr__(self) -> str:
        return f"<step {self.name}>"

    @property
    def name(self) -> str:
        """The kind of step, a folder name in the store."""
        return self.step.name

    @cached_property
    def needs(self) -> tuple[StepCall, ...]:
        """The steps that must be there before."""
        needed = self.step.ask("needs", self.ctx, self.arguments)
        return tuple(self.step.calls(needed, self.ctx))

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """The parts that it is made in; none of most steps."""
        parts = self.step.ask("shards", self.ctx, self.arguments)
        if self.step.shard and not parts:
            raise PluginError(f"Step {self.name} is made in shards, and names none.")
        return tuple(Shard(self, part, number, len(parts)) for number, part in enumerate(parts, 1))

    @cached_property
    def inputs(self) -> Mapping[str, Any]:
        """Everything that the result depends on, as plain data; of one in shards, also how it is cut."""
        return {**self.stated, "shards": [shard.part for shard in self.shards]} if self.step.shard else self.stated

    @cached_property
    def stated(self) -> Mapping[str, Any]:
        """Everything that is declared of it, as plain data.

        Raises:
            PluginError: an argument or the identity is no plain data, or an option does not exist.
            ModelError, DataError: a model or file that must be looked at is not there.
        """
        ctx, step, arguments = self.ctx, self.step, self.arguments
        options = by_content(ctx, self._options())
        identity = dict(step.ask("identity", ctx, arguments) or {})
        check_identity(f"Step {step.name}", identity)
        plain = {name: plain_of(ctx, told(ctx, value), f"{step.name}({name})") for name, value in arguments.items()}
        facts = {name: plain_of(ctx, getattr(ctx, name), f"{step.name}: {name}") for name in step.facts}
        declared = {f"{kind}/{name}": used(ctx, kind, name) for kind, name in step.ask("uses", ctx, arguments)}
        inputs = {
            **step.code(),
            **step.state(ctx),
            "options": options,
            "arguments": plain,
            "needs": [[call.name, call.key] for call in self.needs],
            "identity": identity,
            "facts": facts,
            "uses": uses(ctx, [options, plain, facts]) | declared,
            "seed": None if self._roles() == frozenset() else ctx.base_seed,
        }
        return ctx.depends(inputs) if step.data else inputs

    @cached_property
    def key(self) -> str:
        """The digest of what it depends on."""
        return digest(self.inputs)

    @property
    def path(self) -> Path:
        """Its folder in the store, where it is there."""
        return self.ctx.store.path(self.name, self.key)

    @cached_property
    def effort(self) -> Effort | None:
        """What its time grows with, and with which other steps it can be compared."""
        step = self.step
        about = {**self.arguments, **({"under test": self.ctx.network} if "network" in step.facts else {})}
        return effort(
            self.ctx,
            step.code()["function"],
            lambda ctx: step.ask("work", ctx, self.arguments),
            {**self._options(), **about},
            disk=step.ask("disk", self.ctx, self.arguments),
            demand=lambda: step.ask("demand", self.ctx, self.arguments),
        )

    def found(self) -> Done | None:
        """Return the finished step if it is there."""
        return self.ctx.store.get(self.name, self.inputs)

    def done(self) -> Done:
        """Return the finished step, making it and what it needs where that is not there.

        Raises:
            NotMade: it is not there, and the context is one of a plan.
        """
        if self._asked_in:
            step = self.step
            self._asked_in.check_step(self.name, step.function.__name__, self.key, AnyCall(step, self.ctx).known)
        if self.ctx.dry_run and not self.found():
            raise NotMade(f"The step {self.name} is not there, and a plan makes none.")
        there = self.found() is not None
        for call in self.needs:
            if there:
                call._account()
            elif not isinstance(call, AnyCall):
                call.done()
        if not there and self.step.shard:
            self._make_shards()
        if not self.step.data:  # no cost of this run
            return self.ctx.store.build(self.name, self.inputs, self._build)
        return cached(self.ctx, self.name, self.inputs, self._build, effort=None if there else self.effort)

    def help(self) -> bool:
        """Make the first shard that is missing and that nobody makes; return whether there was one."""
        return any(shard.made() for shard in self.shards if not shard.path.exists())

    def _make_shards(self) -> None:
        """Make what is missing: first what no other process is making."""
        if left := [shard for shard in self.shards if not shard.found()]:
            self.ctx.store.divides(self.path, len(left))
            try:
                for shard in [shard for shard in left if not shard.made()]:
                    shard.done()
            finally:
                self.ctx.store.divides(self.path, 0)

    def _build(self, out: Step) -> None:
        out.about.update({"model": self.step.model} if self.step.model else {})
        out.shards = [shard.done() for shard in self.shards]
        self._run(self.step.function, out)

    def _run(self, function: Callable[..., None], out: Step, *more: Any) -> None:
        step, ctx = self.step, self.ctx
        step.check_instance()
        needs, seeds = list(walk(self.needs)), self._roles()
        made = [call for call in (*needs, self) if not isinstance(call, AnyCall)]
        used = [name.partition("/") for call in made for name in call.inputs["uses"]]
        networks = {(kind, name) for kind, _, name in used if kind == "network"}
        scope = Scope(
            f"Step {step.name}",
            options=frozenset((*step.ask("options", ctx, self.arguments), *step.declared["ignore"])),
            seeds=seeds,
            hidden=frozenset(
                (*PRIVATE, *(set(FACTS) - set(step.facts)), *(["base_seed"] if seeds == frozenset() else []))
            ),
            plugins=networks | set(step.ask("uses", ctx, self.arguments)),
            steps=frozenset(call.key for call in needs),
        )
        function(*step.mine, changed(ctx, checkpoint=out, _scope=scope), out, *more, **self.arguments)

    def _account(self) -> None:
        """Add what this and all before it cost to the bill of a run that finds a later step finished."""
        for call in self.needs:
            call._account()
        if self.step.data and (done := self.found()):
            bill(self.ctx, done)

    def _options(self) -> dict[str, Any]:
        known = self.ctx.resolved.dump()
        names = list(self.step.ask("options", self.ctx, self.arguments))
        if unknown := [name for name in names if name not in known]:
            raise PluginError(
                f"Step {self.name} declares the option {unknown[0]!r}, which its plugin does not have.",
                hint=f"Options: {', '.join(sorted(known)) or 'none'}.",
            )
        counted = self.ctx.resolved.counted()
        return {name: counted[name] for name in names if name in counted}

    def _roles(self) -> frozenset[str] | None:
        roles = self.step.ask("seeds", self.ctx, self.arguments)
        return None if roles is None else frozenset(roles)


class Shard(StepCall):
    """A part of a step: as that step, but for the part.

    Attributes:
        part: what it is called with besides the arguments.
        title: which one, in words.
    """

    def __init__(self, whole: StepCall, part: Any, number: int, count: int) -> None:
        self.step, self.ctx, self.arguments, self._asked_in = whole.step, whole.ctx, whole.arguments, None
        self.whole, self.part, self.title = whole, part, f"{whole.name}, shard {number} of {count}"

    @property
    def name(self) -> str:
        """The kind of step, beside the whole's."""
        return f"{self.step.name}-shard"

    @property
    def needs(self) -> tuple[StepCall, ...]:
        """Those of the whole, which are there."""
        return self.whole.needs

    @cached_property
    def inputs(self) -> Mapping[str, Any]:
        """What the whole is declared to depend on, and the part."""
        return {**self.whole.stated, "shard": self.part}

    def done(self, *, waits: bool | None = None) -> Done:
        """Return it finished, built if needed; the whole has the bill."""
        return self.found() or built(
            self.ctx, self.name, self.inputs, self._build, title=self.title, family=self.whole.key, waits=waits
        )

    def made(self) -> bool:
        """Make it unless another process does at the moment; return whether it is there."""
        try:
            return bool(self.done(waits=False))
        except StepTaken:
            return False

    def _build(self, out: Step) -> None:
        assert self.step.shard
        self._run(self.step.shard, out, self.part)


class AnyCall(StepCall):
    """Whatever call of a step: its arguments are known only while the plugin works that needs it."""

    def __init__(self, step: CachedStep[Any], ctx: Context) -> None:
        self.step, self.ctx, self.arguments, self._asked_in = step, free(ctx), {}, None

    @cached_property
    def needs(self) -> tuple[StepCall, ...]:
        """Unknown."""
        return ()

    @cached_property
    def inputs(self) -> Mapping[str, Any]:
        """Not known yet."""
        raise DataError(f"What the step {self.name} is called with is not known yet.")

    @cached_property
    def known(self) -> str:
        """The key, or "" where only its arguments tell what it depends on."""
        try:
            return self.key
        except PluginError:
            return ""

    @cached_property
    def key(self) -> str:
        """The digest of what is known: its code, facts and seed; options are those of the plugin that needs it."""
        step, ctx = self.step, self.ctx
        facts = {name: plain_of(ctx, getattr(ctx, name), f"{step.name}: {name}") for name in step.facts}
        needed = step.declared["needs"]
        return digest(
            {
                **step.code(),
                **step.state(ctx),
                "facts": facts,
                "seed": ctx.base_seed if step.declared["seeds"] else None,
                "identity": dict(step.ask_early("identity", ctx) or {}),
                "uses": {f"{kind}/{name}": used(ctx, kind, name) for kind, name in step.ask_early("uses", ctx)},
                "needs": [] if callable(needed) else [call.key for call in step.calls(needed, ctx)],
            }
        )

    @cached_property
    def effort(self) -> None:
        """Unknown."""

    def _account(self) -> None:
        """Do nothing: who calls it does."""


def steps_of(plugin: Any, ctx: Context, *more: Any) -> list[StepCall]:
    """Return the steps that a plugin asks for: those that its ``needs`` names, else those of its class."""
    named = plugin.needs(ctx, *more)
    if named is None:
        members = {name: value for kind in reversed(type(plugin).__mro__) for name, value in vars(kind).items()}
        named = [member for member in members.values() if isinstance(member, CachedStep)]
    steps = [_bound(one, plugin) if isinstance(one, CachedStep) else one for one in named]
    return [
        step if isinstance(step, StepCall) else AnyCall(step, ctx) if step.takes_arguments else step.of(ctx)
        for step in steps
    ]


def at_work(bound: Bound[Any], *more: Any, **values: Any) -> Context:
    """Return the context of a method or evaluator at work, which may use no steps but those that it needs.

    Args:
        bound: the plugin.
        more: what its ``needs`` is told besides the context.
        values: other fields of the context.
    """
    plugin, ctx, entry = bound
    with plugin_errors(entry):
        keys = frozenset(call.key for call in walk(steps_of(plugin, ctx, *more)))
    # An evaluator may look at where its options come from to say whose setting it is; its protocol is in the key.
    hidden = {*PRIVATE, "preset"} - ({"resolved"} if entry.spec.kind == "evaluator" else set())
    scope = Scope(f"{entry.spec.kind.capitalize()} {entry.name}", hidden=frozenset(hidden), steps=keys)
    return changed(ctx, _scope=scope, **values)


def _bound(step: CachedStep[Any], plugin: Any) -> CachedStep[Any]:
    """Return a step of the plugin's class as that of the instance, any other as it is."""
    return getattr(plugin, step._attribute) if step._attribute and step._plugin is None else step


def walk(calls: Iterable[StepCall]) -> Iterator[StepCall]:
    """Yield calls after all those that they need."""
    for call in calls:
        yield from walk(call.needs)
        yield call


def cached(
    ctx: Context,
    name: str,
    inputs: Mapping[str, Any],
    builder: Callable[[Step], None],
    *,
    force: bool = False,
    effort: Effort | None = None,
) -> Done:
    """Return the step with these inputs, built if needed, and put it on the run's bill.

    Args:
        ctx: of the run.
        name: a folder name in the store.
        inputs: plain data that determines the result.
        builder: writes files into ``step.dir``; long ones call ``step.save(state)`` and start from ``step.load()``.
        force: build it again.
        effort: what its time grows with.
    """
    done = ctx.store.get(name, inputs)
    if done and not force:
        if all(known["key"] != done.key[:20] for known in ctx.ledger):
            ctx.log(f"✓ {name}: reused ({done.key[:8]})")
        return bill(ctx, done)
    again = " (resuming)" if ctx.store.started(name, inputs) else ""
    ctx.log(f"• {name}{again}")
    return bill(ctx, built(ctx, name, inputs, builder, force=force, effort=effort))


def built(
    ctx: Context,
    name: str,
    inputs: Mapping[str, Any],
    builder: Callable[[Step], None],
    *,
    force: bool = False,
    effort: Effort | None = None,
    title: str = "",
    family: str = "",
    waits: bool | None = None,
) -> Done:
    """Return a step that was not there, built with its costs measured; the arguments are those of :func:`cached`.

    Args:
        title: of a shard, which one.
        family: of a shard, the key of the whole: what its shards load is kept from one to the next.
        waits: whether to wait for another process that builds it; as the store does when None.
    """
    start = time.perf_counter()
    if ctx._loaded.get("family") != family:
        ctx._loaded.clear()
        ctx._loaded["family"] = family
    ctx._loaded["asked"] = False
    try:
        with (
            peak_memory(ctx.machine.device) as memory,
            ctx.store.building(name, inputs, force=force, waits=waits) as build,
        ):
            if step := build.step:
                step.about.update({"dataset": ctx.data_name} if ctx.data_name else {})
                if effort:
                    step.effort.update(marked(effort, ctx.machine))
                ctx._building.append(step)
                known = len(sys.modules)
                try:
                    builder(step)
                finally:
                    ctx._building.pop()
                _account_for(step, memory(), len(sys.modules) - known)
    finally:  # also of what is given up: a later sitting goes on with it
        spent = time.perf_counter() - start
        if ctx._building:
            ctx._building[-1].inside += spent
    done = build.done
    ctx.log(f"✓ {title or name}: {spent:.1f} s ({done.key[:8]})")
    return done


def _account_for(step: Step, peaks: Mapping[str, int], modules: int) -> None:
    """Note what a step cost, with its shards, and how many modules were imported."""
    costs = [shard.marker["costs"] for shard in step.shards]
    step.costs.update({name: max(peak, *(cost.get(name, 0) for cost in costs), 0) for name, peak in peaks.items()})
    apart = sum(shard.cost()["seconds"] for shard in step.shards)
    step.costs.update(inside_seconds=round(step.inside - apart, 3), threads=environment.threads())
    step.effort["modules"] = modules + sum(shard.marker["effort"]["modules"] for shard in step.shards)
    if pace := metrics.seconds_per_step(step.journal.lines()):
        step.costs["seconds_per_step"] = pace


def bill(ctx: Context, done: Done) -> Done:
    """Put a step on the run's bill, once."""
    entry = done.cost()
    if all(known["key"] != entry["key"] for known in ctx.ledger):
        ctx.ledger.append(entry)
    return done
