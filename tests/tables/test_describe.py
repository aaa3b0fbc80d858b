from records import dataset_facts, make

from ddbench.tables import describe


def test_a_record_is_summarised_with_everything_that_matters():
    record = make("vlcp", (0.5, 0.6), explicit={"strength": 0.6}, shrunk=[("method.steps", 1000, 50)])
    text = "\n".join(describe.summary(record))
    for part in ("vlcp (strength=0.6)", "55.0 ± 5.0 %", "50.0, 60.0", "method.steps", "1000 → 50", "content matches"):
        assert part in text
    assert "metrics" not in text
    edited = record.model_copy(update={"shrunk": []})
    assert "CONTENT WAS EDITED" in "\n".join(describe.summary(edited))


def test_further_figures_are_listed_as_they_are():
    lines = describe.summary(
        make("vlcp", (0.5, 0.6), metrics=[{"lrs": 0.25, "loss": 3, "one": 1}, {"lrs": 0.27, "loss": 4}])
    )
    text = " ".join("\n".join(lines[lines.index("metrics") :]).split())
    assert text.startswith("metrics loss 3.5 ± 0.5 lrs 0.26 ± 0.01 data set")


def test_differences_name_the_protocol_first():
    first = make("random", (0.5,))
    second = make("vlcp", (0.6,), settings={"epochs": 5, "teacher": {"accuracy": 0.9}})
    lines = describe.difference(first, second)
    assert lines[0] == "Not comparable: the protocols differ."
    assert lines[1] == "protocol"
    assert "  epochs: 300 → 5" in lines and "  teacher.accuracy: absent → 0.9" in lines
    assert "  method: random → vlcp" in lines
    assert any("+10.0 points" in line for line in lines)


def test_comparable_records_are_paired_by_image():
    lines = describe.difference(make("random", (0.5,)), make("vlcp", (0.6,)))
    assert lines[0].startswith("Same protocol")
    assert any("0 test images right only in the first, 20 only in the second" in line for line in lines)


def test_other_data_is_never_comparable_nor_paired():
    other = make("random", (0.6,), dataset=dataset_facts(fingerprint="00" * 32))
    lines = describe.difference(make("random", (0.5,)), other)
    assert lines[0] == "Not comparable: the data sets differ."
    assert not any("McNemar" in line for line in lines)
