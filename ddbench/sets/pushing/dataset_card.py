"""The card of a published set: a head that the hub and the library ``datasets`` read, and a text for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ddbench import __version__, escaping
from ddbench.sets import card
from ddbench.sets import folder as disk
from ddbench.sets.pushing import croissant
from ddbench.sets.pushing.publication import RECORDS, Publication, features

TAGS = ("dataset-distillation", "dataset-condensation", "ddbench", "croissant")
#: What the hub asks to state of a size.
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def _columns(described: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the columns as a card describes them."""
    listed: list[dict[str, Any]] = []
    for name, about in described.items():
        kind = about["_type"]
        if kind == "ClassLabel":
            dtype: Any = {"class_label": {"names": {str(k): text for k, text in enumerate(about["names"])}}}
        elif kind == "Array3D":
            dtype = {"array3_d": {"shape": about["shape"], "dtype": about["dtype"]}}
        elif kind == "Sequence":
            listed.append({"name": name, "sequence": about["feature"]["dtype"]})
            continue
        else:
            dtype = "image" if kind == "Image" else about["dtype"]
        listed.append({"name": name, "dtype": dtype})
    return listed


def text(publication: Publication) -> str:
    """Return the card: a head that the hub reads, and a text for people."""
    from huggingface_hub import DatasetCardData

    about, method = publication.first.about["dataset"], publication.first.about["method"]["name"]
    count = sum(len(one.labels) for one in publication.sets.values())
    budgets = sorted({one.about["ipc"] for one in publication.sets.values()})
    head: dict[str, Any] = {
        "license": publication.licence,
        "pretty_name": f"{publication.title}, distilled",
        "task_categories": ["image-classification"],
        "tags": list(dict.fromkeys([*TAGS, method, about["name"], *(f"ipc-{ipc}" for ipc in budgets)])),
        "size_categories": [next((name for most, name in SIZES if count < most), "n>1M")],
        "configs": [
            {
                "config_name": config,
                "data_files": [{"split": card.TRAIN, "path": f"{config}/{card.TRAIN}-*.parquet"}],
                **({"default": True} if one is publication.first else {}),
            }
            for config, one in publication.sets.items()
        ],
        "dataset_info": [
            {
                "config_name": config,
                "features": _columns(features(publication, one)),
                "splits": [{"name": card.TRAIN, "num_examples": len(one.labels)}],
            }
            for config, one in publication.sets.items()
        ],
    }
    return "\n".join(["---", f"{DatasetCardData(**head).to_yaml()}\n---\n", *_body(publication), ""])


def _body(publication: Publication) -> Iterator[str]:
    one, config = publication.first, next(iter(publication.sets))
    about, method = one.about["dataset"], one.about["method"]
    say = escaping.markdown
    yield f"# {say(publication.title)}, distilled\n"
    yield f"A distilled training set: a few images per class (IPC) that stand for all of {say(about['name'])}. Made by"
    yield f"ddbench {__version__}.\n"
    yield "| configuration | images | size | pixels | labels |\n|---|---:|---|---|---|"
    for name, each in publication.sets.items():
        _, height, width, channels = each.images.shape
        kind = "PNG, lossless" if each.distilled.space == "rgb_uint8" else f"float32, space {each.distilled.space}"
        labels = "hard" if each.distilled.soft_labels is None else f"hard and soft ({each.distilled.label_kind})"
        yield f"| {name} | {len(each.labels)} | {width}×{height}×{channels} | {kind} | {labels} |"
    for name, each in publication.sets.items():
        for line in disk.besides(each.distilled) if each.distilled.contents() else []:
            yield f"\n`{name}/` also has {say(line)} (in `{disk.FILE}` and `tensors.safetensors`)."
    yield "\n## Load it\n"
    yield "```python\nfrom datasets import load_dataset\n"
    yield f'data = load_dataset("{publication.repo}", "{config}", split="train")\n```\n'
    protocol = min((record.cell.evaluator.name for record in publication.records), default="rded")
    yield f"```sh\nddbench evaluate hf:{publication.repo}:{config} --eval {protocol} --dataset {about['name']}\n```\n"
    yield "The names of the classes stand in every file (`ClassLabel`), in the order of the label numbers.\n"
    for name, each in publication.sets.items():
        if (each.path / disk.PREVIEW).is_file():
            yield f"![contact sheet of {name}]({name}/{disk.PREVIEW})\n"
    yield "## Accuracy\n"
    yield from _accuracies(publication)
    yield "\n## How it was made\n"
    yield "| | |\n|---|---|"
    yield f"| method | {say(method['name'])}, version {method['version']} |"
    for name, value in sorted(method["options"].items()):
        yield f"| option {say(name)} | {say(json.dumps(value, ensure_ascii=False))} |"
    yield f"| data set | {say(about['name'])}, fingerprint {about['fingerprint'][:16]} |"
    yield f"| source | {say(str(about.get('origin') or 'not stated'))} |"
    yield f"| digests of the sets | {', '.join(each.about['digest'][:16] for each in publication.sets.values())} |"
    yield f"\nLicence: {say(publication.licence)}. The images derive from {say(about['name'])}, whose terms hold, too."
    yield f"\n`{disk.FILE}` holds all that a record says of a set, `{RECORDS}/` the records, `{croissant.FILE}` the"
    yield "metadata in Croissant, with what responsible use needs to know."
    if publication.bibtex:
        yield f"\n## Cite\n\n```bibtex\n{publication.bibtex}\n```"


def _accuracies(publication: Publication) -> Iterator[str]:
    """Yield the table of what records measured on these sets."""
    if not publication.records:
        yield "No record of these sets was at hand when they were published."
        return
    say = escaping.markdown
    yield "Test accuracy in percent, mean ± population standard deviation over the networks trained on one set.\n"
    yield "| configuration | protocol | network | labels | accuracy | networks | record |"
    yield "|---|---|---|---|---:|---:|---|"
    for config, one in publication.sets.items():
        for record in publication.records:
            if record.distilled.digest == one.about["digest"]:
                label = record.protocol.settings["label_type"]
                asked = ", ".join(f"{k}={v}" for k, v in sorted(record.cell.evaluator.explicit.items()))
                protocol = record.cell.evaluator.name + (f" ({asked})" if asked else "")
                small = " (scaled down)" if record.shrunk else ""
                yield (
                    f"| {config} | {say(protocol)}{small} | {say(record.cell.network)} | {say(str(label))} |"
                    f" {record.accuracy} | {len(record.result.values)} | {record.digest[:8]} |"
                )
