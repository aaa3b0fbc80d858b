"""What may be read of a context: what is declared, so that keys miss nothing."""

from __future__ import annotations

import types
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from ddbench.errors import PluginError

if TYPE_CHECKING:
    from ddbench.plugin.options import Options
    from ddbench.runtime.context import Context

#: Facts of a run that a step may declare; the data set and the machine are in every key.
FACTS = ("ipc", "network", "method", "preset")
#: What no step reads: its key holds none of it.
PRIVATE = ("resolved", "explicit", "plugins", "store", "ledger")
#: What a plugin that a step uses, such as a captioner, can do.
PLUGIN_HINT = (
    "For seeds, set `seeded = True` in its class; name cached steps in its `needs`, which may declare facts of the run"
    " (docs/plugins/captioner.md)."
)
C = TypeVar("C", bound="Context")


@dataclass(frozen=True)
class Scope:
    """What a step, or a method or evaluator at work, may read and use; None stands for all.

    Attributes:
        who: for errors.
        options, seeds: names and roles that may be read.
        hidden: attributes of the context that may not be read.
        plugins: kinds and names of those that may be used.
        steps: keys of steps that may be used.
        reads: options that were read, when somebody wants to know.
        plugin: whom the step uses, such as a captioner, and who reads now.
    """

    who: str
    options: Set[str] | None = None
    seeds: Set[str] | None = None
    hidden: Set[str] = frozenset()
    plugins: Set[tuple[str, str]] | None = None
    steps: Set[str] | None = None
    reads: set[str] | None = field(default=None, compare=False)
    plugin: str = ""

    def refused(self, what: str, hint: str) -> PluginError:
        """Return the error of a step, or of a plugin that it uses, that does ``what`` without a declaration."""
        if self.plugin and self.hidden:
            return PluginError(
                f"{self.plugin} {what}, on which it does not say that its results depend.", hint=PLUGIN_HINT
            )
        return PluginError(f"{self.who} {what}, which it does not declare.", hint=hint)

    def view(self, values: Options) -> Any:
        """Return the options as they may be read."""
        return values if self.options is None and self.reads is None else DeclaredOptions(values, self)

    def check_option(self, name: str) -> None:
        """Refuse an option that is not declared."""
        if self.reads is not None:
            self.reads.add(name)
        if self.options is not None and name not in self.options:
            hint = f"{declare(f'options=[…, {name!r}]')[:-1]}, or ignore=[…] if it changes nothing."
            raise self.refused(f"reads the option {name!r}", hint)

    def check_seed(self, role: str) -> None:
        """Refuse a role of randomness that is not declared."""
        if self.seeds is not None and role not in self.seeds:
            raise self.refused(f"draws the seed {role!r}", declare(f"seeds=[…, {role!r}]"))

    def check_attribute(self, name: str) -> None:
        """Refuse an attribute of the context that is not declared."""
        if name in self.hidden:
            known = declare("seeds=[…]" if name == "base_seed" else f'facts=["{name}"]')
            if self.options is None:  # a method or evaluator
                raise self.refused(f"reads ctx.{name}", "Make it an option of the plugin, which presets can set.")
            inside = "In a @step(…), ctx.options, ctx.use(…) and other steps tell what is in its key."
            raise self.refused(f"reads ctx.{name}", inside if name in PRIVATE else known)

    def check_plugin(self, kind: str, name: str) -> None:
        """Refuse another plugin that is not declared."""
        if self.plugins is not None and (kind, name) not in self.plugins:
            raise self.refused(f"uses the {kind} {name!r}", declare(f'uses=[…, ("{kind}", "{name}")]'))

    def check_step(self, name: str, function: str, *keys: str) -> None:
        """Refuse a step of which no key is declared."""
        if self.steps is not None and self.steps.isdisjoint(keys):
            own = (
                f"Name it in what `needs` of the plugin returns: {function}.of(…), or {function} for any arguments."
                " What it reads of its class or file must not change while the plugin works: make that an argument."
            )
            hint = declare(f"needs=[…, {function}]") if self.options is not None else own
            raise self.refused(f"uses the step {name}", hint)


def declare(what: str) -> str:
    """Return the hint that something is to be declared of a step."""
    return f"Add it to the declaration: @step({what})."


class DeclaredOptions:
    """The options of a step: those that it declared, as attributes."""

    def __init__(self, values: Options, scope: Scope) -> None:
        self._values, self._scope = values, scope

    def model_dump(self) -> dict[str, Any]:
        """Return the options that may be read."""
        names = type(self._values).model_fields if self._scope.options is None else self._scope.options
        return {name: getattr(self, name) for name in sorted(names)}

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        yield from self.model_dump().items()

    def __getattr__(self, name: str) -> Any:
        if name in ("_values", "_scope"):  # of a copy that is being made
            raise AttributeError(name)
        kind = type(self._values)
        if name in kind.model_fields:
            self._scope.check_option(name)
            return getattr(self._values, name)
        # What is worked out from options reads them through this object.
        member = getattr(kind, name)
        if isinstance(member, property) and member.fget:
            return member.fget(self)
        if isinstance(member, cached_property):
            return member.func(self)
        if isinstance(member, types.FunctionType):
            return types.MethodType(member, self)
        return getattr(self._values, name)


def changed(ctx: C, **values: Any) -> C:
    """Return a context with other values of fields, of which none is read."""
    other = object.__new__(type(ctx))
    vars(other).update(vars(ctx) | values)
    return other


def free(ctx: C) -> C:
    """Return a context of which everything may be read."""
    return ctx if ctx._scope is None else changed(ctx, _scope=None)
