"""Settings of every method and evaluator on the digits that end within seconds, by name; ``TEACHER`` is a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Stands for the file of the one teacher that all devices share.
TEACHER = "TEACHER"
TEACHER_NETWORK = "convnet-3-bn"
IPC = 2

_SMALL = {"steps": 8, "acceptance": "never"}
_DIT = {**_SMALL, "small_dit_steps": 8}
_PIXELS = {"network": "convnet-3-w32", "batch_real": 32}
_RECOVERY = {"network": TEACHER_NETWORK, "teacher_file": TEACHER, "iterations": 20}
_TRAJECTORIES = {
    **{"experts": 1, "train_epochs": 2, "max_start_epoch": 1, "expert_epochs": 1},
    **{"iterations": 6, "syn_steps": 5, "keep": "last"},
}

#: Options by method.
METHODS: Mapping[str, Mapping[str, Any]] = {
    **{name: {} for name in ("random", "full", "herding", "k-center", "k-means", "ls")},
    **{name: {"network": "convnet-3-w32", "epochs": 2} for name in ("forgetting", "el2n", "grand", "ccs")},
    "dm": {**_PIXELS, "iterations": 12},
    "dc": {**_PIXELS, "iterations": 2, "outer": 3, "inner": 2},
    "dsa": {**_PIXELS, "iterations": 2, "outer": 3, "inner": 2},
    "cafe": {**_PIXELS, "iterations": 2, "query": 16, "window": 3, "max_outer": 3, "max_inner": 3},
    "idm": {**_PIXELS, "iterations": 12, "push_every": 4, "train_steps": 2, "batch_train": 32},
    "ncfm": {**_PIXELS, "iterations": 12, "pool": 2, "pretrain_epochs": 1, "frequencies": 64},
    "dcc": {**_PIXELS, "iterations": 2, "outer": 3, "inner": 2, "warmup_outer": 1},
    "dsac": {**_PIXELS, "iterations": 2, "outer": 3, "inner": 2, "warmup_outer": 1},
    "it-gan": {
        **{"gan_steps": 20, "gan_width": 4, "recognised": 0, "judge": TEACHER_NETWORK, "inversion_steps": 10},
        **{**_PIXELS, "inversion_network": TEACHER_NETWORK, "iterations": 6},
    },
    "idc-1": {**_PIXELS, "iterations": 2, "inner": 3, "train_images": 64},
    "idc": {**_PIXELS, "iterations": 2, "inner": 3, "train_images": 64},
    "dream": {**_PIXELS, "iterations": 2, "inner": 3, "train_images": 64, "cluster_every": 2},
    "mtt": _TRAJECTORIES,
    "ftd": _TRAJECTORIES,
    "datm": {**_TRAJECTORIES, "init": "real", "first_max_start_epoch": None, "threshold": None},
    "rded": {"network": TEACHER_NETWORK, "teacher_file": TEACHER, "crops": 3},
    "sre2l": _RECOVERY,
    "cda": _RECOVERY,
    "dwa": {**_RECOVERY, "adjustments": 2},
    "delt": {**_RECOVERY, "round": 10},
    "g-vbsm": {**_RECOVERY, "ring": ["lenet"], "statistics_images": 200},
    "edc": {**_RECOVERY, "ring": ["lenet"], "statistics_images": 200},
    "d4m": _SMALL,
    "vlcp": {**_SMALL, "finetune_epochs": 1},
    "dit": _DIT,
    "minimax": {**_DIT, "finetune_steps": 8},
    "mgd3": _DIT,
    "cao2": {**_DIT, "selector": TEACHER_NETWORK, "candidates": 2, "refine_steps": 3},
    "d3hr": {**_DIT, "inverted": 4, "groups": 20},
    "igd": {**_DIT, "surrogate": "convnet-3", "surrogate_epochs": 1, "gradient_images": 4},
    "kip": {"iterations": 20, "targets": 500},
    "dd": {"iterations": 4, "batch_real": 64},
    "sldd": {"iterations": 4, "batch_real": 64},
    "rtp": {"iterations": 3, "inner": 4, "bases": 4, "batch_syn": 4, "batch_real": 16},
    "rfad": {"iterations": 8, "networks": 2, "width": 16, "batch_real": 64, "check": 4, "validation_images": 10},
    "frepo": {"iterations": 8, "batch_real": 64, "pool": 2, "updates": 4},
}

#: Methods and evaluators that are left out, and why.
LEFT_OUT: Mapping[str, str] = {
    **dict.fromkeys(("mvl", "lors", "retrieval"), "is of pairs of images and texts, which the digits are not"),
    "replay": "evaluates sets of DD and SLDD only",
}

_TAUGHT = {"epochs": 10, "teacher_file": TEACHER}

#: Evaluator and options by label.
EVALUATORS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "rded": ("rded", {**_TAUGHT, "factor": 2}),
    "minimax": ("minimax", {"epochs": 10}),
    "minimax, ImageNet chain": ("minimax", {"epochs": 10, "augment": "imagenet"}),
    "dc": ("dc", {"epochs": 10}),
    "dc, DSA": ("dc", {"epochs": 10, "augment": "dsa"}),
    "dc, crop, scale, rotate": ("dc", {"epochs": 10, "augment": "crop_scale_rotate"}),
    "datm": ("datm", {"epochs": 10}),
    "idc": ("idc", {"epochs": 10}),
    "fkd": ("fkd", {**_TAUGHT, "teacher": TEACHER_NETWORK}),
    "fkd, labels online": ("fkd", {**_TAUGHT, "teacher": TEACHER_NETWORK, "labels": "online", "top_k": 3}),
    "edc": ("edc", {"epochs": 10, "teacher": TEACHER_NETWORK, "teacher_file": TEACHER}),
    "g-vbsm": ("g-vbsm", {**_TAUGHT, "teacher": TEACHER_NETWORK}),
    "rd3": ("rd3", {**_TAUGHT, "teacher": TEACHER_NETWORK}),
    "rethinkdc-soft": ("rethinkdc-soft", {**_TAUGHT, "teacher": TEACHER_NETWORK}),
    "rethinkdc-hard": ("rethinkdc-hard", {"epochs": 10}),
    "ncfm": ("ncfm", {"epochs": 10}),
    "lrs": ("lrs", {"epochs": 10, "lr": 0.01}),
    "lrs, soft labels": ("lrs", {**_TAUGHT, "lr": 0.01, "labels": "soft", "teachers": [TEACHER_NETWORK]}),
    "krr, random features": ("krr", {"kernel": "random-features", "width": 32}),
    "krr": ("krr", {}),
    "rtp": ("rtp", {"epochs": 10}),
    "frepo": ("frepo", {"steps": 20}),
    "kip-nn": ("kip-nn", {"steps": 20}),
    "rfad-nn": ("rfad-nn", {"steps": 20, "check": 10, "validation_images": 10}),
    "quality": ("quality", {"teacher": TEACHER_NETWORK}),
    "rded-robust": ("rded-robust", {**_TAUGHT, "measured": 100}),
    "dc-robust": ("dc-robust", {"epochs": 10, "measured": 100}),
}


def filled(options: Mapping[str, Any], teacher: str) -> dict[str, Any]:
    """Return options with the teacher's file in place."""
    return {name: teacher if value == TEACHER else value for name, value in options.items()}
