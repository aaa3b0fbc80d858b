"""Every command that the documentation or a --help shows is run, in a folder as a reader has it.

The registry and the boards are this project's; data sets and the files of others are small stand-ins in the documented
formats. What trains for minutes is planned here (`ddbench plan` resolves all that a run does before it begins), and
what does so on digits is run once, at its smallest, by the slow test.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from doc_blocks import Reader, blocks
from PIL import Image

from ddbench import api, cli

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.md")]
#: Commands of other programs that are shown, and why they are not run.
OTHERS = {
    "cd": "only leads into a clone",
    "export": "sets variables",
    "git": "needs the network",
    "hf": "needs the hub",
    "make": "its targets are looked up in the Makefile",
    "pip": "needs the network; tests/test_install.py installs",
    "pytest": "followed with the tutorial",
    "python": "makes an environment, or measures for minutes; its script is looked up",
    ".": "enters an environment",
}
#: Commands of ddbench that are only read by their parser, and why.
PARSED = {
    r"evaluate \S*(imagewoof|minimax_nette)": "trains ResNets on ImageNet's images",
    r"evaluate .* -e(val)? rded -d cifar10": "needs a teacher of CIFAR-10",
    r"curves distilled/digits-sre2l": "draws a distillation of minutes; tests/cli/test_pictures.py draws others",
    r"ddbench (status|cancel)": "is about workers of a study, which the tests of executors start",
    r"ddbench models (build|pack|add)": "trains a model, or names a reader's; tests/sets/test_models.py has some",
    r"--space zca:": "whitens images of 3,072 numbers; tests/sets/test_whitening.py whitens smaller ones",
    r"pairs:": "reads lists of Flickr30k; tests/datasets/test_pairs.py writes some",
    r"\bhf:": "needs the hub; tests/sets do it with one on this machine",
    r"hello-means": "is a package; tests/docs/test_example_package.py installs it",
}
#: What stands for something of the reader's.
MEANT = {
    r"curves RECORD RECORD": "curves registry/results/cifar10/rded/*-rded-*.json",
    r"RECORD RECORD": "registry/results/digits/{random,herding}/ipc10-*-rded-convnet-*.json",
    r"\bFOLDER\b": "distilled/a",
    r"--device cuda": "--device cpu",
    r"--out distilled": "--out others",
    r"ipc10-seed0-….json": "ipc10-seed0-*.json",
    r"images_best.pt|images_zca_best.pt": lambda match: f"tensors/{match[0].removesuffix('.pt')}/images_best.pt",
}
#: Exit codes of what is meant to fail, or fails where the data are stand-ins.
CODES = {r"data check imagewoof imagenet-1k": 4}


def shown() -> Iterator[tuple[str, str]]:
    """Yield where a command is shown, and the command."""
    for page in PAGES:
        for block in blocks(page):
            if block.language not in ("sh", ""):  # what a console shows is followed with its output
                continue
            for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
                for command in re.sub(r"\s+#.*", "", line).split(" && "):
                    if command.strip():
                        yield str(page.relative_to(ROOT)), command.strip()
    for name, command in helped(cli.group, click.Context(cli.group, info_name="ddbench")):
        lines = (command.help or "").splitlines()
        for line in lines:
            for part in re.split(r"\s{2,}", line.strip())[0].split(" && "):
                if part.startswith("ddbench "):
                    yield f"{name} --help", part


def helped(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its name."""
    yield context.command_path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from helped(below, click.Context(below, context, name))


COMMANDS: dict[str, str] = {}
for _place, _command in shown():
    COMMANDS.setdefault(_command, _place)
#: What trains a teacher first.
TEACHER = r"evaluate distilled/digits\S* --eval rded"
OURS = [command for command in COMMANDS if command.startswith("ddbench ")]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def stand_ins(folder: Path) -> None:
    """Write small data sets and third-party files in their formats."""
    import torch

    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    for split, count in (("train", 600), ("test", 100)):
        path = folder / "data" / f"cifar10_{split}.npz"
        path.parent.mkdir(exist_ok=True)
        np.savez(path, images=noise(count, 32, 32, 3), labels=np.arange(count) % 10, class_names=names)
    synsets = tomllib.loads((ROOT / "plugins" / "ddbench_plugins" / "datasets" / "synsets.toml").read_text("utf-8"))
    for name in ("imagenette", "imagewoof"):
        for synset in synsets[name]:
            for split, count in (("train", 12), ("val", 2)):
                pictures(folder / "data" / name / split / synset, [f"{number}.JPEG" for number in range(count)])
    for number in range(10):
        pictures(folder / "syn_data" / f"{number:05}", [f"class{number:05}_id{image:05}.jpg" for image in range(2)])
    (folder / "order.txt").write_text("\n".join(synsets["imagewoof"]))

    images, labels = torch.randn(100, 3, 32, 32), torch.arange(10).repeat_interleave(10)
    for name in ("DC", "DM"):
        torch.save({"data": [[images, labels]] * 5}, folder / f"res_{name}_CIFAR10_ConvNet_10ipc.pt")
    for name in ("images_best", "images_zca_best"):
        (folder / "tensors" / name).mkdir(parents=True)
        torch.save(images.sigmoid(), folder / "tensors" / name / "images_best.pt")
        torch.save(labels, folder / "tensors" / name / "labels_best.pt")
    (folder / "study.toml").write_text('method = "random"\neval = "minimax"\nipc = [1, 10]\nseed = [0, 1]\n')
    claims = (ROOT / "registry" / "published" / "published.csv").read_text("utf-8").splitlines(keepends=True)
    (folder / "claims.csv").write_text("".join(claims[:3]), "utf-8")


def pictures(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(noise(40, 40, 3)).save(folder / name)


def distilled(folder: Path) -> None:
    """Distil small sets for the names that commands have."""
    quick = {"snapshots": [1], "iterations": 2}
    for name, made in (
        ("a", api.distill("random", ipc=1)),
        ("b", api.distill("random", ipc=1, seed=1)),
        ("digits-vlcp-ipc10-seed0", api.distill("random", ipc=10)),
        ("cifar10-dm-ipc1-seed0", api.distill("dm", dataset="cifar10", ipc=1, options={"method": quick})),
        ("cifar10-dc-authors-ipc10-seed4", api.distill("random", dataset="cifar10", ipc=10)),
    ):
        shutil.copytree(made[0].path, folder / "distilled" / name)
    epoch = {"eval": {"epochs": 1}}
    api.evaluate(folder / "distilled" / "cifar10-dm-ipc1-seed0", "dc", repeats=1, options=epoch, registry="mine")
    shutil.copytree(folder / "distilled" / "cifar10-dm-ipc1-seed0", folder / "sets" / "cifar10-dm-ipc10-seed0")


@pytest.fixture(scope="module")
def reader(tmp_path_factory, teachers):
    """A reader's folder, for the tests of this module in turn."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("reader")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DDBENCH_HOME", str(folder / "home"))
        patch.setenv("DDBENCH_DATA", str(folder / "data"))
        for name in ("registry", "leaderboards", "docs/examples"):
            shutil.copytree(ROOT / name, folder / name)
        shutil.copytree(ROOT / "registry", folder.parent / "other" / "registry", dirs_exist_ok=True)
        (folder / "home").mkdir()
        (folder / "home" / "teacher").symlink_to(teachers)
        stand_ins(folder)
        for more in ("", "-o data.size=80"):
            Reader(folder).command(f"ddbench data prepare imagenette --preset paper {more}")
        distilled(folder)
    return folder


@pytest.fixture(scope="module")
def done():
    """What was run already: many commands come to the same plan."""
    return {}


@pytest.fixture
def follow(reader, done, monkeypatch):
    monkeypatch.chdir(reader)
    monkeypatch.setenv("DDBENCH_HOME", str(reader / "home"))
    monkeypatch.setenv("DDBENCH_DATA", str(reader / "data"))

    def follow(command):
        if command not in done:
            done[command] = followed(command)
        return done[command]

    def followed(command):
        for pattern, meant in MEANT.items():
            command = re.sub(pattern, meant, command)
        expanded = ["bash", "-c", f"printf '%s\\0' {re.split(' [>|] ', command)[0]}"]
        words = subprocess.run(expanded, capture_output=True, check=True).stdout.decode().split("\0")[:-1]
        hand = Reader(reader)
        return hand.command(shlex.join(words)), hand.code

    return follow


def planned(name: str, rest: str) -> str:
    """Return the plan of what a command would train; "" for one that trains nothing, or little."""
    if name == "run":
        return "ddbench plan " + re.sub(r"--dry-run|--json|--quiet|--jobs \d+|--executor \S+|>.*", "", rest).strip()
    if name == "evaluate":
        return f"ddbench evaluate {rest} --repeats 1 -o eval.epochs=1 --registry mine"
    if name == "distill":
        return "ddbench plan " + re.sub(r"--out \S+", "", rest) + " --eval minimax"
    if name not in ("gallery", "tsne"):
        return ""
    methods = re.findall(r"\b(?:random|herding|vlcp)\b", re.sub(r"--\S+ \S+", "", rest))
    return f"ddbench plan -m {','.join(methods)} -e minimax" if methods and "--registry" not in rest else ""


def expected(command):
    return next((code for pattern, code in CODES.items() if re.search(pattern, command)), 0)


@pytest.mark.parametrize(
    "command", [pytest.param(one, marks=pytest.mark.slow) if re.search(TEACHER, one) else one for one in OURS]
)
def test_a_command_does_what_is_shown(command, follow):
    name, _, rest = command.removeprefix("ddbench ").partition(" ")
    if any(re.search(pattern, command) for pattern in PARSED):
        ours = cli.group.get_command(click.Context(cli.group), name)
        ours.make_context(name, shlex.split(rest), resilient_parsing=False).close()
        return
    if "--plugin mine.py" in command:
        follow("ddbench new-plugin method mine")
    output, code = follow(planned(name, rest) or command)
    assert code == expected(command), output


#: What is done on digits for minutes, as small as it can be; studies and several workers have tests of their own.
DIGITS = [
    command
    for command in OURS
    if re.match(r"ddbench (run|distill|gallery|tsne) ", command)
    and not re.search(
        r"cifar10|image|\blrs\b|/|--registry|--keep|--dry-run|hello|pairs:|\.toml|--jobs|--executor", command
    )
]
SMALLEST = (
    "-o method/vlcp.small_vae_steps=2 -o method/vlcp.small_unet_steps=2 -o method/vlcp.finetune=false"
    " -o method/vlcp.steps=2"
)


@pytest.mark.slow
def test_what_is_planned_above_is_run_on_digits(follow):
    follow("ddbench new-plugin method mine")
    for command in DIGITS:
        small = command.partition(" > ")[0].replace("0,1,2", "0").replace("1,10", "10").replace("--repeats 3", "")
        small += f" {SMALLEST}" * ("vlcp" in command)
        small += " --repeats 1 --registry mine" * command.startswith("ddbench run")
        small += " -o eval.epochs=1" * (
            command.startswith("ddbench run") and not re.search(r" (replay|quality)\b", command)
        )
        output, code = follow(small)
        assert code == 0, output


def test_other_programs_are_known_and_what_they_name_exists():
    for command, place in COMMANDS.items():
        program = re.sub(r"^(\w+=\S+ )+", "", command).split()[0]
        assert program in ("ddbench", *OTHERS), f"{place}: {command}"
        for script in re.findall(r"\bpython (\w+/\w+\.py)", command):
            assert (ROOT / script).exists(), f"{place}: {command}"
        for target in re.findall(r"^make (\w+)", command):
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE), command


def test_commands_inside_of_sentences_exist_with_their_options():
    texts = [*PAGES, *(path for folder in ("ddbench", "plugins", "tools") for path in (ROOT / folder).rglob("*.py"))]
    for path in texts:
        if path.name == "CHANGELOG.md":  # commands of earlier releases
            continue
        for said in re.findall(r"`ddbench ([a-z][^`]*)`", path.read_text("utf-8")):
            words = re.sub(r'"\s*f?"', "", said).split()
            command = cli.group.get_command(click.Context(cli.group), words[0])
            assert command, f"{path}: {said}"
            if isinstance(command, click.Group) and words[1:] and words[1].isalpha():
                command = command.get_command(click.Context(command), words[1])
                assert command, f"{path}: {said}"
            known = {option for parameter in command.params for option in parameter.opts} | {"--help", "--traceback"}
            given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
            assert given <= known, f"{path}: {said}"


def test_pages_with_outputs_are_followed():
    followed = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    for page in PAGES:
        if any(block.language == "console" for block in blocks(page)):
            assert f'"{page.stem}"' in followed or str(page.relative_to(ROOT / "docs")) in followed, page


def test_every_exception_is_needed():
    for pattern in (*PARSED, *CODES, *MEANT):
        assert any(re.search(pattern, command) for command in OURS), pattern
