"""Pages for users give what they say when they are followed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from doc_blocks import Reader, blocks
from PIL import Image

from ddbench.experiment import jobs, setup, study
from ddbench.results.registry import load

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
STUDIES = ROOT / "leaderboards" / "studies"


@pytest.mark.usefixtures("shared_teachers")
@pytest.mark.parametrize("page", [pytest.param("index.md", marks=pytest.mark.slow), "data/import.md"])
def test_the_page_can_be_followed(page, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DDBENCH_HOME", str(tmp_path / "home"))
    reader = Reader(tmp_path)
    for block in blocks(DOCS / page):
        reader.follow(block)


def test_the_study_of_pairs_runs_what_was_measured_on_the_folder_of_its_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DDBENCH_HOME", str(tmp_path / "home"))
    records, _ = load(ROOT / "registry", without=("curves", "correct"))
    records = [record for record in records if record.cell.dataset["name"] == "folder:imagenette-1000"]
    draw = np.random.default_rng(0)
    for part, count in (("train", 11), ("val", 1)):
        for synset in records[0].cell.dataset["class_ids"]:
            folder = tmp_path / "imagenette2-320" / part / synset
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(draw.integers(0, 256, (64, 64, 3), np.uint8)).save(folder / f"{number}.JPEG")
    for block in blocks(DOCS / "methods" / "mvl.md"):
        if block.language == "python":
            Reader(tmp_path).follow(block)
    planned = [job.cell for job in jobs.expand(study.read(STUDIES / "pairs.toml"), setup.context()).jobs]
    assert {"random", "mvl", "lors", "full"} == {cell.method.name for cell in planned}
    for cell in (record.cell for record in records):
        (mine,) = (one for one in planned if (one.method.name, one.ipc) == (cell.method.name, cell.ipc))
        assert mine.dataset["class_names"] == cell.dataset["class_names"]
        assert (mine.method, mine.evaluator.explicit) == (cell.method, cell.evaluator.explicit)
        assert (mine.seed, mine.preset, mine.other_options) == (cell.seed, cell.preset, cell.other_options)
