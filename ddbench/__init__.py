"""ddbench: the plugin-based benchmarking toolkit of dataset distillation.

Everything a plugin author or a notebook needs is here; names are imported on first use, so ``import ddbench`` is cheap.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Threads that wait for each other sleep instead of spinning: two trainings on the same cores would else slow each other
# down many times over. OpenMP reads this when torch is imported, and digits do not depend on it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

_HOME_OF = {
    "run": "ddbench.api",
    "distill": "ddbench.api",
    "evaluate": "ddbench.api",
    "import_set": "ddbench.api",
    "load": "ddbench.api",
    "load_dataset": "ddbench.api",
    "hookimpl": "ddbench.plugin.hookspecs",
    "MethodSpec": "ddbench.plugin.specs",
    "EvaluatorSpec": "ddbench.plugin.specs",
    "DatasetSpec": "ddbench.plugin.specs",
    "NetworkSpec": "ddbench.plugin.specs",
    "CaptionerSpec": "ddbench.plugin.specs",
    "Options": "ddbench.plugin.options",
    "Distiller": "ddbench.plugin.interfaces",
    "Evaluator": "ddbench.plugin.interfaces",
    "DatasetLoader": "ddbench.plugin.interfaces",
    "Captioner": "ddbench.plugin.interfaces",
    "Dataset": "ddbench.plugin.datasets",
    "Split": "ddbench.plugin.datasets",
    "DataStatus": "ddbench.plugin.datasets",
    "DistilledSet": "ddbench.plugin.contracts",
    "Protocol": "ddbench.plugin.contracts",
    "Embedding": "ddbench.plugin.embedding",
    "Score": "ddbench.plugin.contracts",
    "check_ipc": "ddbench.plugin.datasets",
    "ImageSource": "ddbench.plugin.images",
    "ArrayImages": "ddbench.plugin.images",
    "FileImages": "ddbench.plugin.images",
    "Context": "ddbench.runtime.context",
    "Machine": "ddbench.runtime.machine",
    "Team": "ddbench.runtime.distributed",
    "step": "ddbench.runtime.steps",
    "CachedStep": "ddbench.runtime.steps",
    "StepCall": "ddbench.runtime.steps",
    "Step": "ddbench.runtime.store",
    "Done": "ddbench.runtime.store",
    "Effort": "ddbench.plugin.stages",
    "Stage": "ddbench.plugin.stages",
    "Weights": "ddbench.plugin.stages",
    "hub_weights": "ddbench.plugin.stages",
    "cached_first": "ddbench.plugin.stages",
    "derive_seed": "ddbench.keys",
    "digest": "ddbench.keys",
    "digest_bytes": "ddbench.keys",
    "write_atomic": "ddbench.files.writing",
    "plugin_errors": "ddbench.plugin.manager",
    "DDBenchError": "ddbench.errors",
    "UsageError": "ddbench.errors",
    "PluginError": "ddbench.errors",
    "DataError": "ddbench.errors",
    "ModelError": "ddbench.errors",
    "TeacherError": "ddbench.errors",
    "RecordError": "ddbench.errors",
    "StorageError": "ddbench.errors",
    "DivergedError": "ddbench.errors",
}

__all__ = sorted([*_HOME_OF, "__version__"])

if TYPE_CHECKING:  # the same names, for editors and type checkers, which run nothing
    from ddbench.api import distill as distill
    from ddbench.api import evaluate as evaluate
    from ddbench.api import import_set as import_set
    from ddbench.api import load as load
    from ddbench.api import load_dataset as load_dataset
    from ddbench.api import run as run
    from ddbench.errors import DataError as DataError
    from ddbench.errors import DDBenchError as DDBenchError
    from ddbench.errors import DivergedError as DivergedError
    from ddbench.errors import ModelError as ModelError
    from ddbench.errors import PluginError as PluginError
    from ddbench.errors import RecordError as RecordError
    from ddbench.errors import StorageError as StorageError
    from ddbench.errors import TeacherError as TeacherError
    from ddbench.errors import UsageError as UsageError
    from ddbench.files.writing import write_atomic as write_atomic
    from ddbench.keys import derive_seed as derive_seed
    from ddbench.keys import digest as digest
    from ddbench.keys import digest_bytes as digest_bytes
    from ddbench.plugin.contracts import DistilledSet as DistilledSet
    from ddbench.plugin.contracts import Protocol as Protocol
    from ddbench.plugin.contracts import Score as Score
    from ddbench.plugin.datasets import Dataset as Dataset
    from ddbench.plugin.datasets import DataStatus as DataStatus
    from ddbench.plugin.datasets import Split as Split
    from ddbench.plugin.datasets import check_ipc as check_ipc
    from ddbench.plugin.embedding import Embedding as Embedding
    from ddbench.plugin.hookspecs import hookimpl as hookimpl
    from ddbench.plugin.images import ArrayImages as ArrayImages
    from ddbench.plugin.images import FileImages as FileImages
    from ddbench.plugin.images import ImageSource as ImageSource
    from ddbench.plugin.interfaces import Captioner as Captioner
    from ddbench.plugin.interfaces import DatasetLoader as DatasetLoader
    from ddbench.plugin.interfaces import Distiller as Distiller
    from ddbench.plugin.interfaces import Evaluator as Evaluator
    from ddbench.plugin.manager import plugin_errors as plugin_errors
    from ddbench.plugin.options import Options as Options
    from ddbench.plugin.specs import CaptionerSpec as CaptionerSpec
    from ddbench.plugin.specs import DatasetSpec as DatasetSpec
    from ddbench.plugin.specs import EvaluatorSpec as EvaluatorSpec
    from ddbench.plugin.specs import MethodSpec as MethodSpec
    from ddbench.plugin.specs import NetworkSpec as NetworkSpec
    from ddbench.plugin.stages import Effort as Effort
    from ddbench.plugin.stages import Stage as Stage
    from ddbench.plugin.stages import Weights as Weights
    from ddbench.plugin.stages import cached_first as cached_first
    from ddbench.plugin.stages import hub_weights as hub_weights
    from ddbench.runtime.context import Context as Context
    from ddbench.runtime.distributed import Team as Team
    from ddbench.runtime.machine import Machine as Machine
    from ddbench.runtime.steps import CachedStep as CachedStep
    from ddbench.runtime.steps import StepCall as StepCall
    from ddbench.runtime.steps import step as step
    from ddbench.runtime.store import Done as Done
    from ddbench.runtime.store import Step as Step
else:

    def __getattr__(name: str) -> Any:
        """Import a public name on first use."""
        if name not in _HOME_OF:
            raise AttributeError(f"module 'ddbench' has no attribute {name!r}")
        return getattr(importlib.import_module(_HOME_OF[name]), name)

    def __dir__() -> list[str]:
        return __all__
