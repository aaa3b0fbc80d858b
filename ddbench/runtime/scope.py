"""What a step may read of its context: what it declared, so that its key misses nothing."""

from __future__ import annotations

import types
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from ddbench.errors import PluginError

if TYPE_CHECKING:
    from ddbench.plugin.options import Options
    from ddbench.runtime.context import Context

#: Facts of a run that a step may declare; the data set and the machine are in every key.
FACTS = ("ipc", "network", "method", "preset")
#: What a plugin that a step uses, such as a captioner, can do.
PLUGIN_HINT = (
    "For seeds, set `seeded = True` in its class; name cached steps in its `needs`, which may declare facts of the run"
    " (docs/plugins/captioner.md)."
)


@dataclass(frozen=True)
class Scope:
    """What is declared.

    Attributes:
        step: its name, for errors.
        options, seeds: names and roles that may be read; None for all.
        steps: keys of steps that may be used.
        reads: options that were read, when somebody wants to know.
        plugin: whom the step uses, such as a captioner, and who reads now.
    """

    step: str
    options: frozenset[str] | None
    seeds: frozenset[str] | None
    steps: frozenset[str] = frozenset()
    reads: set[str] | None = field(default=None, compare=False)
    plugin: str = ""

    def refused(self, what: str, declaration: str) -> PluginError:
        """Return the error of a step, or of a plugin that it uses, that does ``what`` without this declaration."""
        if self.plugin:
            return PluginError(
                f"{self.plugin} {what}, on which it does not say that its results depend.", hint=PLUGIN_HINT
            )
        return PluginError(
            f"Step {self.step} {what}, which it does not declare.",
            hint=f"Add it to the declaration: @step({declaration}).",
        )

    def view(self, values: Options) -> Any:
        """Return the options as the step may read them."""
        return values if self.options is None and self.reads is None else DeclaredOptions(values, self)

    def check_option(self, name: str) -> None:
        """Refuse an option that is not declared."""
        if self.reads is not None:
            self.reads.add(name)
        if self.options is not None and name not in self.options:
            raise PluginError(
                f"Step {self.step} reads the option {name!r}, which it does not declare.",
                hint=f"Add it to the declaration: @step(options=[…, {name!r}]), or ignore=[…] if it changes nothing.",
            )

    def check_seed(self, role: str) -> None:
        """Refuse a role of randomness that is not declared."""
        if self.seeds is not None and role not in self.seeds:
            raise self.refused(f"draws the seed {role!r}", f"seeds=[…, {role!r}]")


class DeclaredOptions:
    """The options of a step: those that it declared, as attributes."""

    def __init__(self, values: Options, scope: Scope) -> None:
        self._values, self._scope = values, scope

    def model_dump(self) -> dict[str, Any]:
        """Return the options that may be read."""
        names = type(self._values).model_fields if self._scope.options is None else self._scope.options
        return {name: getattr(self, name) for name in sorted(names)}

    def __getattr__(self, name: str) -> Any:
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


class Undeclared:
    """Stands for a fact of the run that a step did not declare: using it is an error."""

    def __init__(self, scope: Scope, name: str, value: Any) -> None:
        self.__dict__.update(scope=scope, name=name, value=value)

    def __repr__(self) -> str:
        return f"<{self.name} is not declared by step {self.scope.step}>"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._refuse()

    def _refuse(self, *_: Any) -> NoReturn:
        declaration = "seeds=[…]" if self.name == "base_seed" else f'facts=["{self.name}"]'
        raise self.scope.refused(f"reads ctx.{self.name}", declaration)

    __bool__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __mod__ = __rmod__ = _refuse
    __floordiv__ = __rfloordiv__ = __truediv__ = __rtruediv__ = __pow__ = __neg__ = _refuse
    __index__ = __int__ = __float__ = __str__ = __format__ = __iter__ = __len__ = __contains__ = _refuse


def used(ctx: Context, plugin: str) -> dict[str, Any]:
    """Return what of a step's context is another one for a plugin that it uses: all options are the plugin's own."""
    if ctx._scope is None:
        return {}
    scope = replace(ctx._scope, options=None, plugin=plugin)
    facts = {name: getattr(ctx, name) for name in (*FACTS, "base_seed")}
    hidden = {name: Undeclared(scope, name, fact.value) for name, fact in facts.items() if isinstance(fact, Undeclared)}
    return {"_scope": scope, **hidden}


def free(ctx: Context) -> Context:
    """Return the context of a step with everything that the run has."""
    if ctx._scope is None:
        return ctx
    known = {name: getattr(ctx, name) for name in (*FACTS, "base_seed")}
    values = {name: value.value for name, value in known.items() if isinstance(value, Undeclared)}
    return replace(ctx, _scope=None, **values)
