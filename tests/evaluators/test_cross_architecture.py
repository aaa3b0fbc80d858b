"""One distilled set over several networks, by one teacher."""

from __future__ import annotations

from pathlib import Path

import pytest

import ddbench
from ddbench.errors import UsageError
from ddbench.tables.boards import measured
from ddbench.tables.leaderboard import Layout, build

PLUGIN = Path(__file__).parents[1] / "toy_plugin.py"


def run(tmp_path, network, method="random,herding", **arguments):
    options = {"eval": {"epochs": 1, "teacher": "convnet-2-bn"}, "method/herding": {"network": "convnet-2-bn"}}
    settings = {"dataset": "toy", "ipc": 2, "repeats": 1, "plugins": [PLUGIN], "registry": tmp_path / "registry"}
    return ddbench.run(method, "rded", network=network, **({"options": options} | settings | arguments))


def test_networks_are_rows_and_methods_columns_under_one_teacher(tmp_path):
    found = run(tmp_path, "mlp,convnet-1-bn,convnet-2")
    assert len(found) == 6
    assert len({record.distilled.digest for record in found}) == 2
    teachers = [record.protocol.settings["teacher"] for record in found]
    assert all(teacher == teachers[0] for teacher in teachers) and teachers[0]["network"] == "convnet-2-bn"
    assert len(list((tmp_path / "home" / "teacher").glob("*/step.json"))) == 1
    (table,) = build(found)
    assert [column.label for column in table.columns] == ["herding (network=convnet-2-bn)", "random"]
    assert [row.network for row in table.rows] == ["convnet-1-bn", "convnet-2", "mlp"]
    assert all(len(cell.values) == 1 for row in table.rows for cell in row.cells)
    assert {row.settings["teacher"]["accuracy"] for row in table.rows} == {teachers[0]["accuracy"]}
    grid, across = measured(found, [Layout()]).grids[:2]
    assert [len(grid.headings), len(across.headings)] == [2, 4] and across.title.startswith("Cross-architecture")


def test_without_an_option_each_student_has_a_teacher_of_its_kind(tmp_path):
    found = run(tmp_path, "mlp,convnet-1-bn", "random", options={"eval": {"epochs": 1}})
    assert [record.protocol.settings["teacher"]["network"] for record in found] == ["mlp", "convnet-1-bn"]


@pytest.mark.parametrize("network", ["convnet-1,convnet-6", "torchvision:alexnet", "timm:resnet18.tv_in1k"])
def test_a_network_that_cannot_take_the_images_is_refused_before_any_work(tmp_path, network):
    with pytest.raises(UsageError, match=rf"Network {network.split(',')[-1]} cannot be used on toy \(8×8×1 images"):
        run(tmp_path, network)
    assert not [*(tmp_path / "home").glob("distilled/*"), *(tmp_path / "home").glob("teacher/*")]


def test_also_when_a_folder_is_evaluated(tmp_path):
    ddbench.distill("random", dataset="toy", ipc=2, plugins=[PLUGIN], out=tmp_path / "sets")
    folder = next((tmp_path / "sets").iterdir())
    with pytest.raises(UsageError, match=r"convnet-5 cannot be used on toy.*at least 32 pixels, got 8"):
        ddbench.evaluate(folder, "rded", dataset="toy", network="mlp,convnet-5", plugins=[PLUGIN])
    assert not list((tmp_path / "home").glob("student/*"))
