import pytest
from records import dataset_facts, make

from ddbench import cli
from ddbench.errors import UsageError
from ddbench.results import schema as records
from ddbench.tables import comparing
from ddbench.tables.leaderboard import Layout


def text(found, first="vlcp", second="random"):
    return str(comparing.of_methods(found, first, second))


def many(method, values, **how):
    return [make(method, values, seed=seed, **how) for seed in range(3)]


def test_effect_interval_p_and_n_are_said():
    found = text(many("vlcp", (0.7, 0.71)) + [make("random", (0.5, 0.51), seed=s) for s in range(2)])
    assert "effect +20.0, 95 % interval +20.0 to +20.0, p < 0.001" in found
    assert "they differ (n = 3 and 2 distilled sets)" in found
    assert "bootstrap" in found and "McNemar" in found


def test_equal_methods_are_not_called_equal():
    found = text([make(m, (0.5 + 0.01 * s, 0.52), seed=s) for m in ("vlcp", "random") for s in range(3)])
    assert "not distinguishable" in found and "does not mean that they are equal" in found
    assert "seen in four of five trials" in found


def test_methods_that_came_to_the_same_images_are_not_tested():
    first = make("herding", (0.5, 0.52), ipc=1)
    found = [first, make("k-center", (0.5, 0.52), ipc=1).model_copy(update={"distilled": first.distilled})]
    found += [make(m, (0.5, 0.52 + 0.1 * (m == "herding")), ipc=10) for m in ("herding", "k-center")]
    compared = comparing.of_methods(found, "herding", "k-center")
    assert [setting.same_networks for setting in compared.settings] == [True, False]
    assert compared.corrected[0] is None
    assert "both are the same images and networks: there is nothing to compare" in str(compared)
    assert str(compared).count("McNemar") == 1


def test_too_few_runs_are_said():
    one = text([make("vlcp", (0.7,)), make("random", (0.5,))])
    assert "too few runs to say anything" in one and "95 %" not in one
    single = text([make("vlcp", (0.7, 0.72, 0.71)), make("random", (0.5, 0.51, 0.53))])
    assert "one distilled set only: nothing is said about other distillation seeds" in single


def test_settings_are_apart_and_p_values_corrected():
    found = [r for ipc in (1, 10) for m in ("vlcp", "random") for r in many(m, (0.5, 0.505 + 0.01 * ipc), ipc=ipc)]
    found += many("vlcp", (0.5,), dataset=dataset_facts("cifar10"))
    shown = text(found)
    assert shown.count("effect") == 2 and "corrected over 2 settings" in shown


def test_which_variant_a_name_stands_for_is_said():
    found = many("vlcp", (0.5, 0.6), explicit={"strength": 0.3}, ipc=1) + many("vlcp", (0.5, 0.6))
    found += [r for ipc in (1, 10) for r in many("random", (0.4, 0.5), ipc=ipc)]
    said = text(found)
    assert said.count("here vlcp") == 1 and "  here vlcp (strength=0.3)\n" in said and "here random" not in said
    settings = comparing.of_methods(found, "vlcp", "random").to_dict()["settings"]
    assert [list(one["variants"]) for one in settings] == [["vlcp (strength=0.3)", "random"], ["vlcp", "random"]]


def test_options_of_a_label_may_stand_in_any_order_and_variants_are_listed():
    found = many("vlcp", (0.5, 0.6), explicit={"beta": 2, "strength": 0.3}) + many("random", (0.4, 0.5))
    compared = comparing.of_methods(found, "vlcp (strength=0.3, beta=2)", "random")
    assert compared.first == "vlcp (beta=2, strength=0.3)"
    with pytest.raises(UsageError, match=r"vlcp was not measured as 'vlcp \(strength=0.3\)'") as error:
        comparing.of_methods(found, "vlcp (strength=0.3)", "random")
    assert "vlcp (beta=2, strength=0.3)" in error.value.hint


def test_names_are_explained():
    found = [make("vlcp", (0.5,), explicit={"k": k}) for k in (1, 2)] + [make("random")]
    with pytest.raises(UsageError, match="Did you mean 'random'"):
        comparing.of_methods(found, "vlcp (k=1)", "randm")
    with pytest.raises(UsageError, match="several variants"):
        comparing.of_methods(found, "vlcp", "random")
    assert len(comparing.of_methods(found, "vlcp (k=1)", "random").settings) == 1


def test_where_several_variants_were_measured_nothing_is_compared_and_that_is_said():
    found = many("vlcp", (0.6, 0.61)) + many("random", (0.4, 0.5)) + many("random", (0.4, 0.5), evaluator="fkd")
    found += [r for k in (1, 2) for r in many("vlcp", (0.5, 0.51), explicit={"k": k}, evaluator="fkd")]
    compared = comparing.of_methods(found, "vlcp", "random")
    assert len(compared.settings) == 1 and "fkd" not in compared.settings[0].title
    (left,) = compared.to_dict()["unclear"]
    assert "fkd on" in left and left.endswith(": vlcp (k=1); vlcp (k=2)") and left in str(compared)


def test_a_default_that_changed_is_another_variant():
    found = [r for rate in (0.1, 0.2) for r in many("g-vbsm", (rate, rate + 0.01), options={"lr": rate})]
    found += many("random", (0.3, 0.31))
    with pytest.raises(UsageError, match="several variants") as error:
        comparing.of_methods(found, "g-vbsm", "random")
    assert "g-vbsm (lr=0.1); g-vbsm (lr=0.2)" in error.value.hint
    (setting,) = comparing.of_methods(found, "g-vbsm (lr=0.2)", "random").settings
    assert setting.first.runs == "3×2" and setting.first.mean == pytest.approx(0.205)
    newer = [*many("vlcp", (0.5, 0.51)), *many("vlcp", (0.7, 0.71), version=2), *many("random", (0.3, 0.31))]
    (setting,) = comparing.of_methods(newer, "vlcp (version=2)", "random").settings
    assert setting.first.mean == pytest.approx(0.705)


def test_one_protocol_is_one_setting_whatever_preset_named_it():
    found = many("vlcp", (0.6, 0.61), preset="paper+sane", options={"steps": 50}) + many("random", (0.4, 0.5))
    (setting,) = comparing.of_methods(found, "vlcp", "random").settings
    assert "paper+sane and cpu+sane" in setting.title
    found += many("vlcp", (0.5, 0.51), evaluator="fkd") + many("random", (0.4, 0.5), evaluator="fkd", settings={"a": 1})
    assert len(comparing.of_methods(found, "vlcp", "random").settings) == 1


def test_methods_go_by_what_tables_call_them(tmp_path, capsys):
    (tmp_path / "boards.toml").write_text(
        '[columns]\nlabels = { "vlcp (text=label)" = "label text" }\n[names]\nvlcp = "VLCP"\nrandom = "Random"\n'
    )
    text = {"text": "label"}
    for record in (make("vlcp", (0.7, 0.8)), make("vlcp", (0.8, 0.9), explicit=text), make("random", (0.5, 0.6))):
        records.write(record, tmp_path)
    for name, effect in {"VLCP": "+20.0", "label text": "+30.0", "VLCP (text=label)": "+30.0", "vlcp": "+20.0"}.items():
        with pytest.raises(SystemExit) as stop:
            cli.main(["compare", name, "Random", "--registry", str(tmp_path), "--leaderboards", str(tmp_path)])
        assert stop.value.code == 0
        assert f"effect {effect}" in capsys.readouterr().out


def test_a_name_of_two_variants_is_refused():
    found = [make("vlcp", (0.5,), explicit={"k": k}) for k in (1, 2)] + [make("random")]
    layout = Layout(labels={"vlcp (k=1)": "small", "vlcp (k=2)": "small"})
    with pytest.raises(UsageError, match="small is what several variants are called") as error:
        comparing.of_methods(found, "small", "random", layout)
    assert "vlcp (k=1); vlcp (k=2)" in error.value.hint


def test_the_command(tmp_path, capsys):
    places = [records.write(record, tmp_path) for record in (make("vlcp", (0.7, 0.8)), make("random", (0.5, 0.6)))]
    for arguments in (["vlcp", "random", "--registry", str(tmp_path)], list(map(str, places))):
        with pytest.raises(SystemExit) as stop:
            cli.main(["compare", *arguments])
        assert stop.value.code == 0
        assert "effect +20.0" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        cli.main(["compare", "vlcp", "random", "--registry", str(tmp_path), "--ipc", "50"])
    assert stop.value.code == 2
