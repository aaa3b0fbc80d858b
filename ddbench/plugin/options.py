"""Typed options of a plugin and how their values come about: defaults, presets by context, and the user's."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ddbench.errors import PluginError, UsageError, did_you_mean
from ddbench.keys import canonical
from ddbench.plugin.presets import check_fit, experiment, fits, load_presets
from ddbench.plugin.whitening import RecipeName

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

SCALES = ("cpu", "paper")
FIDELITIES = ("sane", "official")
#: Key of ``Field(json_schema_extra={ASIDE: True})``: an option that asks for something beside the result (a snapshot)
#: and changes none, so it is never listed as scaled down.
ASIDE = "aside"
#: Key of ``Field(json_schema_extra={FILE: True})``: an option that names a file or folder, whose content is part of
#: keys and records. In place of True, a list of the words that it takes besides paths.
FILE = "file"
#: Key of ``Field(None, json_schema_extra={LATER: True})``: an option that a plugin got after it had been run. Where it
#: is None it is left out of keys and records, which stay what they were.
LATER = "later"
#: Key of ``Field(json_schema_extra={NAMES: "network"})``: an option that names a plugin of that kind, or several (a
#: tuple or list). A name that is not known is refused as soon as options are resolved.
NAMES = "names"
#: Key of ``Field("convnet-3", json_schema_extra={NAMES: "network", BLANK: True})``: it may be empty, as any may whose
#: default is.
BLANK = "blank"
#: Key of ``Field("", json_schema_extra={NAMES: "network", COMMAS: True})``: a text of several names.
COMMAS = "commas"
#: Key of ``Field("convnet-3", json_schema_extra={NAMES: "network", FRESH: True})``: a network that begins at random, so
#: that a name with the tag of published weights (``timm:resnet18.tv_in1k``) is refused as soon as options are resolved.
FRESH = "fresh"


class Options(BaseModel):
    """Base of every plugin's options: typed, immutable, unknown names refused. Describe each field with ``Field``."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


class DatasetOptions(Options):
    """Options that every data set has; those of a data set with more derive from it."""

    zca: RecipeName | None = Field(
        None,
        description="Whiten images by this recipe, fitted on the training split, where methods and evaluators would"
        " normalise them by mean and standard deviation.",
    )


@dataclass(frozen=True)
class Preset:
    """The two preset axes, scale (``cpu`` | ``paper``) and fidelity (``sane`` | ``official``): ``paper+official``."""

    scale: str = "cpu"
    fidelity: str = "sane"

    @classmethod
    def parse(cls, text: str) -> Preset:
        """Read ``paper``, ``official``, ``cpu+official``, …

        Raises:
            UsageError: an unknown word, or two of one axis.
        """
        chosen: dict[str, str] = {}
        for word in filter(None, text.split("+")):
            axis = "scale" if word in SCALES else "fidelity" if word in FIDELITIES else ""
            if not axis:
                known = (*SCALES, *FIDELITIES)
                raise UsageError(
                    f"Unknown preset {word!r}.{did_you_mean(word, known)}",
                    hint="Scale: cpu (default) or paper. Fidelity: sane (default) or official. Both: paper+official.",
                )
            if axis in chosen:
                raise UsageError(f"Preset {text!r} names two values of one axis.", hint="Write e.g. paper+official.")
            chosen[axis] = word
        return cls(**chosen)

    def __str__(self) -> str:
        return f"{self.scale}+{self.fidelity}"


@dataclass(frozen=True)
class Resolved:
    """Options with where each value came from.

    Attributes:
        values: the validated options (None for a plugin without any).
        sources: option → "default", a preset's source, or "explicit".
        shrunk: (option, value at paper scale, value used) for each option that differs from the paper's scale.
        experiment: evaluator, networks, seeds and repeats that the preset stands for, each with its source.
    """

    values: Options | None
    sources: Mapping[str, str] = field(default_factory=dict)
    shrunk: tuple[tuple[str, Any, Any], ...] = ()
    experiment: Mapping[str, tuple[Any, str]] = field(default_factory=dict)

    def dump(self) -> dict[str, Any]:
        """Return the values as plain data."""
        return self.values.model_dump(mode="json") if self.values else {}

    def counted(self) -> dict[str, Any]:
        """Return the values that count in keys and records: without options that came later and are not set."""
        model = type(self.values or Options())
        return {
            name: value for name, value in self.dump().items() if value is not None or not marker(model, name, LATER)
        }

    @property
    def explicit(self) -> dict[str, Any]:
        """Return only what the user set."""
        return {name: value for name, value in self.dump().items() if self.sources.get(name) == "explicit"}


def resolve(plugin: Any, who: str, context: Mapping[str, Any], preset: Preset, explicit: Mapping[str, Any]) -> Resolved:
    """Resolve a plugin's options: defaults, then every preset rule that matches the context, then explicit values.

    Args:
        plugin: a class with ``Options`` and ``presets``.
        who: its name, for errors.
        context: what preset rules can ask about (dataset, ipc, network, num_classes, …).
        preset: the scale and fidelity.
        explicit: what the user set; strings are converted by type.

    Raises:
        UsageError: an unknown option (the known ones are listed), a value of the wrong type, or a preset that does not
            fit the context (those that do are listed).
        PluginError: the plugin's own presets do not fit its options.
    """
    model: type[Options] | None = getattr(plugin, "Options", None)
    check_known(model, who, explicit)
    if model is None:
        return Resolved(None)
    if not (isinstance(model, type) and issubclass(model, Options)):
        raise PluginError(f"{who}: Options is {model!r}, not a class derived from ddbench.Options.")
    rules = load_presets(plugin, who)
    check_fit(rules, context, {"scale": preset.scale, "fidelity": preset.fidelity}, who, (SCALES, FIDELITIES))
    facts = {**context, "scale": preset.scale, "fidelity": preset.fidelity}
    used, sources = _apply(model, rules, facts, explicit, who)
    paper, _ = _apply(model, rules, {**context, "scale": "paper", "fidelity": preset.fidelity}, {}, who)
    try:
        mine, theirs = used.model_dump(mode="json"), paper.model_dump(mode="json")
        shrunk = tuple(
            (name, theirs[name], mine[name])
            for name in mine
            if canonical(mine[name]) != canonical(theirs[name]) and not marker(model, name, ASIDE)
        )
    except (TypeError, ValueError) as error:
        raise PluginError(f"{who} has an option that is not plain data: {error}") from error
    return Resolved(used, sources, shrunk, experiment(rules, facts))


def check_known(model: type[Options] | None, who: str, names: Iterable[str]) -> None:
    """Refuse names that are no options of a plugin with these ``Options``.

    Raises:
        UsageError: the first of them; those that there are are listed.
    """
    for name in names:
        if model is None:
            raise UsageError(f"{who} has no options, so {name!r} cannot be set.")
        if name not in model.model_fields:
            known = sorted(model.model_fields)
            raise UsageError(
                f"{who} has no option {name!r}.{did_you_mean(name, known)}", hint=f"Known: {', '.join(known)}."
            )


def marker(model: type[Options], name: str, key: str) -> Any:
    """Return what an option's field is marked with under a key such as :data:`FILE`; None where it is not."""
    known = model.model_fields.get(name)
    extra = known.json_schema_extra if known else None
    return extra.get(key) if isinstance(extra, dict) else None


def named(values: Options | None) -> list[tuple[str, str, str]]:
    """Return which plugins options name: option, kind and name of each, as it is written."""
    found = []
    for option, value in values or ():
        model = type(values or Options())
        kind = marker(model, option, NAMES)
        may_be_blank = not model.model_fields[option].get_default() or marker(model, option, BLANK)
        if not kind or value is None or (not value and may_be_blank):
            continue
        if marker(model, option, COMMAS):
            names = [name.strip() for name in value.split(",")]
        else:
            names = [value] if isinstance(value, str) else list(value)
        found += [(option, kind, name) for name in names]
    return found


def tagged(name: str) -> bool:
    """Return whether a network's name has the tag of published weights (``timm:resnet18.tv_in1k``)."""
    return "." in name.partition(":")[2]


def parse_value(text: str) -> Any:
    """Read an option's text as TOML (numbers, booleans, lists, strings); ``none`` is None, the rest is a string."""
    if text.lower() == "none":
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _typed(text: str, annotation: Any) -> Any:
    """Read an option's text; ``none`` stays a word where the option has no None, but may have a choice of that name."""
    value = parse_value(text)
    return text if value is None and type(None) not in get_args(annotation) else value


def _holds_bool(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, list | tuple) and any(map(_holds_bool, value)))


def _takes_bool(annotation: Any) -> bool:
    """Whether an option's type has a place for true and false, which Python would also take for 1 and 0."""
    if annotation in (bool, Any) or isinstance(annotation, bool):  # the latter inside of a Literal
        return True
    return any(map(_takes_bool, get_args(annotation)))


def _apply(
    model: type[Options],
    rules: Sequence[Mapping[str, Any]],
    context: Mapping[str, Any],
    explicit: Mapping[str, Any],
    who: str,
) -> tuple[Options, dict[str, str]]:
    values: dict[str, Any] = {}
    sources = dict.fromkeys(model.model_fields, "default")
    for rule in rules:
        if not fits(rule.get("when", {}), context):
            continue
        for name, value in rule.get("set", {}).items():
            if name not in model.model_fields:
                raise PluginError(f"A preset of {who} sets {name!r}, which is not one of its options.")
            values[name] = value
            sources[name] = rule.get("source", "preset")
    for name, value in explicit.items():
        values[name] = _typed(value, model.model_fields[name].annotation) if isinstance(value, str) else value
        if _holds_bool(values[name]) and not _takes_bool(model.model_fields[name].annotation):
            raise UsageError(
                f"{who}: {name}={value!r} is a truth value, which this option does not take.",
                hint=f"`ddbench show {who}` lists its options.",
            )
        sources[name] = "explicit"
    try:
        resolved = model(**values)
        resolved.model_fields_set.update(model.model_fields)  # where a value comes from must change nothing
        return resolved, sources
    except ValidationError as error:
        lines = [_worded(e) for e in error.errors()]
        missing = [str(e["loc"][0]) for e in error.errors() if e["type"] == "missing"]
        if missing:
            raise PluginError(f"{who}: the option {missing[0]!r} has no default; every option needs one.") from error
        if not any(not e["loc"] or e["loc"][0] in explicit for e in error.errors()):
            raise PluginError(f"The defaults or presets of {who} are no valid options: {'; '.join(lines)}") from error
        raise UsageError(f"{who}: {'; '.join(lines)}", hint=f"`ddbench show {who}` lists its options.") from error


def _worded(error: ErrorDetails) -> str:
    """Return one mistake in words; one of several options together has no place, and says itself which they are."""
    words = error["msg"].removeprefix("Value error, ")
    if error["type"] in ("tuple_type", "list_type"):  # pydantic's words name a type of Python
        words = 'write a list, such as [1,2] or ["a","b"]'
    return f"{'.'.join(map(str, error['loc']))}={error.get('input')!r}: {words}" if error["loc"] else words
