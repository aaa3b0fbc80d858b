"""Every hook a plugin can implement: each returns the specs it offers of one kind."""

from __future__ import annotations

from collections.abc import Sequence

import pluggy

from ddbench.plugin.specs import (
    CaptionerSpec,
    DatasetSpec,
    EvaluatorSpec,
    ExecutorSpec,
    MethodSpec,
    NetworkSpec,
    ShippedModel,
)

hookspec = pluggy.HookspecMarker("ddbench")
hookimpl = pluggy.HookimplMarker("ddbench")


@hookspec
def ddbench_methods() -> Sequence[MethodSpec]:
    """Return the distillation methods of this plugin."""
    return ()


@hookspec
def ddbench_evaluators() -> Sequence[EvaluatorSpec]:
    """Return the evaluation protocols of this plugin."""
    return ()


@hookspec
def ddbench_datasets() -> Sequence[DatasetSpec]:
    """Return the data sets of this plugin."""
    return ()


@hookspec
def ddbench_networks() -> Sequence[NetworkSpec]:
    """Return the networks of this plugin."""
    return ()


@hookspec
def ddbench_captioners() -> Sequence[CaptionerSpec]:
    """Return the captioners of this plugin."""
    return ()


@hookspec
def ddbench_executors() -> Sequence[ExecutorSpec]:
    """Return the executors of this plugin."""
    return ()


@hookspec
def ddbench_models() -> Sequence[ShippedModel]:
    """Return the trained models that come with this plugin, for ``ddbench models list``."""
    return ()


#: Hook name of each kind.
HOOKS = {
    "method": "ddbench_methods",
    "evaluator": "ddbench_evaluators",
    "dataset": "ddbench_datasets",
    "network": "ddbench_networks",
    "captioner": "ddbench_captioners",
    "executor": "ddbench_executors",
}
#: The hook of what is no plugin by name.
MODELS = "ddbench_models"
