"""The papers' runs, every stage of them, on tiny images and with tiny random weights under the published names.

The commands are those of docs/methods/vlcp.md. Nothing is fetched: a connection that is tried ends at a closed port.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ddbench

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "methods" / "vlcp.md"
SECTION = "## The paper's run without its weights"
pytestmark = pytest.mark.slow


def commands() -> tuple[str, str, str]:
    """Return the document's blocks: preparations, VLCP's run, the others' runs."""
    section = DOCUMENT.read_text("utf-8").partition(SECTION)[2].partition("\n## ")[0]
    first, second, third = (part.partition("```")[0] for part in section.split("```sh\n")[1:])
    return first, second, third


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which the preparations have been made."""
    folder = tmp_path_factory.mktemp("paper")
    (folder / "tools").symlink_to(ROOT / "tools")
    assert shell(folder, "").returncode == 0
    return folder


def shell(folder: Path, block: str) -> subprocess.CompletedProcess[str]:
    """Run a block after the preparations, which are made once, as a user would who has no network."""
    before = commands()[0]
    if (folder / "check").exists():
        before = "\n".join(line for line in before.splitlines() if not line.startswith("python "))
    closed = "http://127.0.0.1:9"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "DDBENCH_"))}
    environment.pop("TRANSFORMERS_OFFLINE", None)
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    environment |= dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"), closed)
    return subprocess.run(
        ["bash", "-ec", f"{before}\n{block}"], cwd=folder, env=environment, text=True, capture_output=True, check=False
    )


def record_of(folder: Path, method: str) -> dict:
    (path,) = (folder / "registry" / "results" / "imagenette" / method).glob("ipc10-seed0-minimax-*.json")
    assert str(folder) not in path.read_text("utf-8")
    return json.loads(path.read_text("utf-8"))


def step(folder: Path, record: dict, name: str) -> Path:
    """Return the folder of a step that a record names."""
    (key,) = (entry["key"] for entry in record["costs"]["steps"] if entry["step"] == name)
    return folder / "check" / "home" / name / key


@pytest.fixture(scope="module")
def ran(place):
    """VLCP's command, ended; a fixture, so that each test may be run by another process."""
    ended = shell(place, commands()[1])
    assert ended.returncode == 0, ended.stderr
    return ended


def test_vlcp_goes_through_every_stage(place, ran):
    assert "IPC 10, resnet-ap-10" in ran.stdout
    assert "Retrying" not in ran.stderr and "Hub" not in ran.stderr and "%|" not in ran.stderr
    record = record_of(place, "vlcp")
    assert [entry["step"] for entry in record["costs"]["steps"]] == [
        *("captions", "latents", "prototypes", "finetuned", "synthesis", "caption-information", "distilled"),
        *("student",) * 3,
    ]

    captions = [json.loads(line) for line in (step(place, record, "captions") / "metadata.jsonl").open("rb")]
    assert len(captions) == 140 and len({line["text"] for line in captions}) > 100
    grey = place / "check/data/imagenette/train" / captions[0]["file_name"]
    assert Image.open(grey).mode == "L" and captions[0]["text"]
    latents = np.load(step(place, record, "latents") / "00000.npy")
    assert latents.shape == (14, 4, 32, 32) and latents.dtype == np.float16
    about = json.loads((step(place, record, "prototypes") / "prototypes.json").read_text("utf-8"))
    texts = {line["text"] for line in captions}
    assert len(about) == 10 and all(len(each["prompts"]) == 10 and texts >= set(each["prompts"]) for each in about)
    assert [len(each["inliers"]) for each in about] == [13] * 10 == record["distilled"]["extra"]["inliers"]
    assert all(sorted(set(each["clusters"])) == list(range(10)) for each in about)
    model = step(place, record, "finetuned") / "model"
    assert {"unet", "vae", "text_encoder", "tokenizer", "scheduler"} <= {path.name for path in model.iterdir()}
    distilled = ddbench.load(step(place, record, "distilled")).distilled
    assert distilled.images.shape == (100, 256, 256, 3) and set(distilled.prompts) <= texts
    assert len(np.unique(distilled.images.reshape(100, -1), axis=0)) == 100


@pytest.mark.usefixtures("ran")
def test_the_record_says_what_departed_from_the_paper_and_that_the_weights_are_others(place):
    record = record_of(place, "vlcp")
    assert record["cell"]["preset"] == "paper+sane"
    assert {name: paper for name, paper, _ in record["shrunk"]} == {
        "method.resolution": 512,
        "method.steps": 50,
        "method.finetune_resolution": 512,
        "method.finetune_epochs": 8,
        "method.gradient_checkpointing": None,
        "method.cache_latents": None,
        "eval.epochs": None,
        "data.size": 224,
    }
    assert record["cell"]["other_options"] == {
        "captioner": {"max_new_tokens": "12"},
        "dataset": {"size": 80},
    }
    used = record["cell"]["method"]["options"]
    paper = {"contamination": 0.01, "beta": 0.7, "top_k": 30, "size": 256, "strength": 0.7, "guidance_scale": 10.0}
    paper |= {"finetune_batch_size": 8, "finetune_accumulate": 1, "finetune_learning_rate": 1e-5}
    assert paper.items() <= used.items()
    assert record["protocol"]["extension"] == "" and record["protocol"]["settings"]["batch_size"] == 64
    extra = record["distilled"]["extra"]
    backbone, reads = extra["backbone"], extra["captioner_reads"]["model"]
    assert backbone["model"] == "benjamin-paine/stable-diffusion-v1-5" and len(backbone["weights"]) == 64
    assert backbone["parameters"] < 100_000 and len(backbone["revision"]) == 40  # the paper's: 860 million
    assert reads["hub"] == "llava-hf/llava-1.5-7b-hf" and len(reads["commit"]) == 40


@pytest.mark.usefixtures("ran")
def test_a_plan_finds_the_models_and_everything_done(place):
    ended = shell(place, commands()[1].replace("ddbench run", "ddbench plan"))
    assert ended.returncode == 0 and ended.stderr == ""
    assert "nothing is left to do" in ended.stdout and "1 cell: 1 recorded" in ended.stdout
    assert "here     benjamin-paine/stable-diffusion-v1-5 at" in ended.stdout
    assert "here     llava-hf/llava-1.5-7b-hf at" in ended.stdout


def test_d4m_and_minimax_go_through_theirs(place):
    ended = shell(place, commands()[2])
    assert ended.returncode == 0, ended.stderr
    assert "Retrying" not in ended.stderr
    d4m, minimax = record_of(place, "d4m"), record_of(place, "minimax")
    assert {"latents", "prototypes", "synthesis"} < {entry["step"] for entry in d4m["costs"]["steps"]}
    assert {"minimax", "sampled", "latent-figures"} < {entry["step"] for entry in minimax["costs"]["steps"]}
    for record, model in ((d4m, "benjamin-paine/stable-diffusion-v1-5"), (minimax, "facebook/DiT-XL-2-256")):
        backbone = record["distilled"]["extra"]["backbone"]
        assert backbone["model"] == model and len(backbone["weights"]) == 64 and backbone["parameters"] < 100_000
        assert ["data.size", 224, 80] in record["shrunk"]
    assert d4m["cell"]["method"]["options"]["guidance_scale"] == 8
    assert minimax["cell"]["method"]["options"]["memory"] == 64
    assert minimax["distilled"]["shape"] == [100, 256, 256, 3]
