from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, create_model, model_validator

from ddbench.errors import PluginError, UsageError
from ddbench.plugin.options import Options, Preset, Resolved, fits, parse_value, resolve
from ddbench.testing.toy import toy_dataset


class _Options(Options):
    strength: float = Field(0.7, ge=0, le=1, description="how much noise")
    steps: int = 20
    text: str = "prototype"
    size: int | None = None


class _Plugin:
    Options = _Options
    presets = (
        {"when": {"scale": "paper"}, "set": {"steps": 50}, "source": "paper, §6"},
        {
            "when": {"scale": "paper", "dataset": ["woof", "nette"]},
            "set": {"strength": 0.6},
            "source": "paper, Table 4",
        },
        {"when": {"fidelity": "official"}, "set": {"text": "substring"}, "source": "released code"},
    )


def test_defaults_presets_and_explicit_values_in_that_order():
    resolved = resolve(_Plugin, "vlcp", {"dataset": "nette"}, Preset("paper", "official"), {"steps": "30"})
    assert resolved.dump() == {"strength": 0.6, "steps": 30, "text": "substring", "size": None}
    assert resolved.sources == {
        "strength": "paper, Table 4",
        "steps": "explicit",
        "text": "released code",
        "size": "default",
    }
    assert resolved.explicit == {"steps": 30}


def test_an_option_that_came_later_counts_where_it_is_set():
    class Later(Options):
        size: int | None = None
        side: int | None = Field(None, json_schema_extra={"later": True})

    assert Resolved(Later()).counted() == {"size": None}
    assert Resolved(Later(side=1)).counted() == {"size": None, "side": 1}
    assert Resolved(Later()).dump() == {"size": None, "side": None} and Resolved(None).counted() == {}


def test_what_differs_from_the_papers_scale_is_shrunk():
    resolved = resolve(_Plugin, "vlcp", {"dataset": "nette"}, Preset(), {})
    assert set(resolved.shrunk) == {("strength", 0.6, 0.7), ("steps", 50, 20)}
    assert resolve(_Plugin, "vlcp", {"dataset": "nette"}, Preset("paper"), {}).shrunk == ()


def test_shrunk_compares_with_the_paper_at_the_same_fidelity_and_without_what_the_user_set():
    class Plugin(_Plugin):
        presets = (
            *_Plugin.presets,
            {"when": {"scale": "paper", "fidelity": "official"}, "set": {"size": 256}, "source": "released scripts"},
        )

    official = resolve(Plugin, "vlcp", {"dataset": "nette"}, Preset("cpu", "official"), {"size": "32"})
    assert set(official.shrunk) == {("strength", 0.6, 0.7), ("steps", 50, 20), ("size", 256, 32)}
    sane = resolve(Plugin, "vlcp", {"dataset": "cifar"}, Preset("cpu", "sane"), {"steps": "50", "size": "32"})
    assert set(sane.shrunk) == {("size", None, 32)}
    fewer = resolve(Plugin, "vlcp", {"dataset": "nette"}, Preset("paper", "official"), {"steps": "10"})
    assert fewer.shrunk == (("steps", 50, 10),)


def test_an_unknown_option_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"no option 'strenght'.*Did you mean 'strength'") as error:
        resolve(_Plugin, "vlcp", {}, Preset(), {"strenght": "1"})
    assert "size, steps, strength, text" in error.value.hint


@pytest.mark.parametrize(("name", "value"), [("strength", "2"), ("steps", "many"), ("steps", "1.5")])
def test_a_value_of_the_wrong_type_is_refused(name, value):
    with pytest.raises(UsageError, match=name):
        resolve(_Plugin, "vlcp", {}, Preset(), {name: value})


def test_a_preset_that_does_not_fit_its_plugin_is_the_plugins_mistake():
    class Broken(_Plugin):
        presets = ({"set": {"strengh": 1}},)

    with pytest.raises(PluginError, match="strengh"):
        resolve(Broken, "broken", {}, Preset(), {})


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"presets": ({"set": {"steps": "many"}},)}, "defaults or presets of mine are no valid options: steps='many'"),
        ({"presets": ({"when": {}},)}, "presets of mine cannot be used: KeyError: 'set'"),
        ({"presets": 3}, "presets of mine cannot be used: TypeError"),
        ({"presets": "absent.toml"}, "presets of mine cannot be used: FileNotFoundError"),
        ({"Options": dict}, "mine: Options is <class 'dict'>, not a class derived from ddbench.Options"),
        ({"Options": create_model("Needs", __base__=Options, size=(int, ...))}, "the option 'size' has no default"),
        ({"Options": create_model("Odd", __base__=Options, size=(object, object()))}, "option that is not plain data"),
    ],
)
def test_other_mistakes_in_options_are_the_plugins_too(members, words):
    mine = type("Mine", (_Plugin,), {"presets": (), "__module__": __name__, **members})
    with pytest.raises(PluginError, match=words):
        resolve(mine, "mine", {}, Preset(), {})


def test_a_wrong_value_is_the_users_even_where_presets_set_others():
    with pytest.raises(UsageError, match="strength=7"):
        resolve(_Plugin, "vlcp", {"dataset": "nette"}, Preset("paper"), {"strength": 7})


@pytest.mark.parametrize(
    ("text", "scale", "fidelity"),
    [
        ("", "cpu", "sane"),
        ("paper", "paper", "sane"),
        ("official", "cpu", "official"),
        ("official+paper", "paper", "official"),
    ],
)
def test_presets_combine_two_axes(text, scale, fidelity):
    assert Preset.parse(text) == Preset(scale, fidelity)


@pytest.mark.parametrize("text", ["papr", "cpu+paper", "sane+official"])
def test_a_wrong_preset_is_refused(text):
    with pytest.raises(UsageError, match=r"(?i)preset"):
        Preset.parse(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.6", 0.6), ("3", 3), ("1e-5", 1e-5), ("true", True), ("label", "label"), ("none", None), ("[1, 2]", [1, 2])],
)
def test_values_are_read_as_toml(text, value):
    assert parse_value(text) == value


@given(
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)),
)
def test_a_rule_fits_when_all_its_conditions_hold(when, situation):
    assert fits(when, situation) == (when.items() <= situation.items())
    assert fits({key: [value] for key, value in when.items()}, situation) == fits(when, situation)


def test_none_is_a_word_where_the_option_has_no_none():
    class Choices(Options):
        mix: Literal["cutmix", "none"] = "cutmix"
        words: str = "all"
        size: int | None = 3

    class Plugin:
        Options = Choices

    found = resolve(Plugin, "plugin", {}, Preset(), {"mix": "none", "words": "none", "size": "none"}).values
    assert (found.mix, found.words, found.size) == ("none", "none", None)


class _Ordered(Options):
    low: int = Field(1, description="low")
    high: int = Field(2, description="high")

    @model_validator(mode="after")
    def _ordered(self) -> _Ordered:
        if self.low > self.high:
            raise ValueError(f"low is {self.low}, above high, {self.high}")
        return self


def test_a_mistake_of_several_options_is_told_in_the_plugins_words_alone():
    plugin = type("Plugin", (), {"Options": _Ordered, "presets": ()})
    with pytest.raises(UsageError) as caught:
        resolve(plugin, "method/ordered", {}, Preset("cpu", "sane"), {"low": "3"})
    assert str(caught.value) == "method/ordered: low is 3, above high, 2"


def test_a_list_is_asked_for_in_the_form_it_is_written():
    plugin = type(
        "Plugin", (), {"Options": create_model("Listed", __base__=Options, at=(tuple[int, ...], ())), "presets": ()}
    )
    with pytest.raises(UsageError, match=r"at=3: write a list, such as \[1,2\]"):
        resolve(plugin, "method/listed", {}, Preset(), {"at": "3"})
    assert resolve(plugin, "method/listed", {}, Preset(), {"at": "[3, 4]"}).values.at == (3, 4)


@pytest.mark.parametrize(("method", "option"), [("vlcp", "size"), ("dit", "size"), ("d4m", "resolution")])
def test_sides_of_methods_have_a_limit(ctx, method, option):
    with pytest.raises(UsageError, match=f"{option}=100000: .*2048"):
        replace(ctx, explicit={"method": {option: "100000"}}, _dataset=toy_dataset()).use("method", method)
