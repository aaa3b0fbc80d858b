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

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a public name on first use."""
        if name not in _HOME_OF:
            raise AttributeError(f"module 'ddbench' has no attribute {name!r}")
        return getattr(importlib.import_module(_HOME_OF[name]), name)

    def __dir__() -> list[str]:
        return __all__
