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
    "hookimpl": "ddbench.hookspecs",
    "MethodSpec": "ddbench.specs",
    "EvaluatorSpec": "ddbench.specs",
    "DatasetSpec": "ddbench.specs",
    "NetworkSpec": "ddbench.specs",
    "CaptionerSpec": "ddbench.specs",
    "Options": "ddbench.options",
    "Distiller": "ddbench.interfaces",
    "Evaluator": "ddbench.interfaces",
    "DatasetLoader": "ddbench.interfaces",
    "Captioner": "ddbench.interfaces",
    "Dataset": "ddbench.datasets",
    "Split": "ddbench.datasets",
    "DataStatus": "ddbench.datasets",
    "DistilledSet": "ddbench.contracts",
    "Protocol": "ddbench.contracts",
    "Embedding": "ddbench.embedding",
    "Score": "ddbench.contracts",
    "check_ipc": "ddbench.datasets",
    "ImageSource": "ddbench.images",
    "ArrayImages": "ddbench.images",
    "FileImages": "ddbench.images",
    "Context": "ddbench.context",
    "Machine": "ddbench.context",
    "Team": "ddbench.processes",
    "Step": "ddbench.store",
    "Done": "ddbench.store",
    "Effort": "ddbench.stages",
    "Stage": "ddbench.stages",
    "Weights": "ddbench.stages",
    "hub_weights": "ddbench.stages",
    "cached_first": "ddbench.stages",
    "derive_seed": "ddbench.keys",
    "digest": "ddbench.keys",
    "digest_bytes": "ddbench.keys",
    "write_atomic": "ddbench.store",
    "plugin_errors": "ddbench.plugins",
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
    from ddbench.context import Context as Context
    from ddbench.context import Machine as Machine
    from ddbench.contracts import DistilledSet as DistilledSet
    from ddbench.contracts import Protocol as Protocol
    from ddbench.contracts import Score as Score
    from ddbench.datasets import Dataset as Dataset
    from ddbench.datasets import DataStatus as DataStatus
    from ddbench.datasets import Split as Split
    from ddbench.datasets import check_ipc as check_ipc
    from ddbench.embedding import Embedding as Embedding
    from ddbench.errors import DataError as DataError
    from ddbench.errors import DDBenchError as DDBenchError
    from ddbench.errors import DivergedError as DivergedError
    from ddbench.errors import ModelError as ModelError
    from ddbench.errors import PluginError as PluginError
    from ddbench.errors import RecordError as RecordError
    from ddbench.errors import StorageError as StorageError
    from ddbench.errors import TeacherError as TeacherError
    from ddbench.errors import UsageError as UsageError
    from ddbench.hookspecs import hookimpl as hookimpl
    from ddbench.images import ArrayImages as ArrayImages
    from ddbench.images import FileImages as FileImages
    from ddbench.images import ImageSource as ImageSource
    from ddbench.interfaces import Captioner as Captioner
    from ddbench.interfaces import DatasetLoader as DatasetLoader
    from ddbench.interfaces import Distiller as Distiller
    from ddbench.interfaces import Evaluator as Evaluator
    from ddbench.keys import derive_seed as derive_seed
    from ddbench.keys import digest as digest
    from ddbench.keys import digest_bytes as digest_bytes
    from ddbench.options import Options as Options
    from ddbench.plugins import plugin_errors as plugin_errors
    from ddbench.processes import Team as Team
    from ddbench.specs import CaptionerSpec as CaptionerSpec
    from ddbench.specs import DatasetSpec as DatasetSpec
    from ddbench.specs import EvaluatorSpec as EvaluatorSpec
    from ddbench.specs import MethodSpec as MethodSpec
    from ddbench.specs import NetworkSpec as NetworkSpec
    from ddbench.stages import Effort as Effort
    from ddbench.stages import Stage as Stage
    from ddbench.stages import Weights as Weights
    from ddbench.stages import cached_first as cached_first
    from ddbench.stages import hub_weights as hub_weights
    from ddbench.store import Done as Done
    from ddbench.store import Step as Step
    from ddbench.store import write_atomic as write_atomic
else:

    def __getattr__(name: str) -> Any:
        """Import a public name on first use."""
        if name not in _HOME_OF:
            raise AttributeError(f"module 'ddbench' has no attribute {name!r}")
        return getattr(importlib.import_module(_HOME_OF[name]), name)

    def __dir__() -> list[str]:
        return __all__
