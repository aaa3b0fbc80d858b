"""ddbench: the plugin-based benchmarking toolkit of dataset distillation.

Everything a plugin author or a notebook needs is here; names are imported on first use, so ``import ddbench`` is cheap.
"""

from __future__ import annotations

import functools
import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Threads that wait for each other sleep instead of spinning: two trainings on the same cores would else slow each other
# down many times over. OpenMP reads this when torch is imported, and digits do not depend on it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

if TYPE_CHECKING:  # the one list of public names: editors and type checkers read it, and so does Python (_homes)
    from ddbench.api import compare as compare
    from ddbench.api import distill as distill
    from ddbench.api import evaluate as evaluate
    from ddbench.api import import_set as import_set
    from ddbench.api import leaderboard as leaderboard
    from ddbench.api import load as load
    from ddbench.api import load_dataset as load_dataset
    from ddbench.api import plan as plan
    from ddbench.api import pull as pull
    from ddbench.api import push as push
    from ddbench.api import records as records
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
    from ddbench.experiment.plan import Plan as Plan
    from ddbench.files.writing import write_atomic as write_atomic
    from ddbench.keys import derive_seed as derive_seed
    from ddbench.keys import digest as digest
    from ddbench.keys import digest_bytes as digest_bytes
    from ddbench.plugin.contents import Bases as Bases
    from ddbench.plugin.contents import Schedule as Schedule
    from ddbench.plugin.contents import Similarity as Similarity
    from ddbench.plugin.contents import Texts as Texts
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
    from ddbench.plugin.interfaces import Executor as Executor
    from ddbench.plugin.interfaces import Launch as Launch
    from ddbench.plugin.manager import plugin_errors as plugin_errors
    from ddbench.plugin.options import DatasetOptions as DatasetOptions
    from ddbench.plugin.options import Options as Options
    from ddbench.plugin.specs import CaptionerSpec as CaptionerSpec
    from ddbench.plugin.specs import DatasetSpec as DatasetSpec
    from ddbench.plugin.specs import EvaluatorSpec as EvaluatorSpec
    from ddbench.plugin.specs import ExecutorSpec as ExecutorSpec
    from ddbench.plugin.specs import MethodSpec as MethodSpec
    from ddbench.plugin.specs import NetworkSpec as NetworkSpec
    from ddbench.plugin.specs import ShippedModel as ShippedModel
    from ddbench.plugin.weights import Weights as Weights
    from ddbench.plugin.weights import cached_first as cached_first
    from ddbench.plugin.weights import hub_weights as hub_weights
    from ddbench.plugin.whitening import Whitened as Whitened
    from ddbench.results.collection import Records as Records
    from ddbench.results.schema import Record as Record
    from ddbench.runtime.cards import Demand as Demand
    from ddbench.runtime.context import Context as Context
    from ddbench.runtime.machine import Machine as Machine
    from ddbench.runtime.progress import Reporter as Reporter
    from ddbench.runtime.steps import CachedStep as CachedStep
    from ddbench.runtime.steps import StepCall as StepCall
    from ddbench.runtime.steps import step as step
    from ddbench.runtime.store import Done as Done
    from ddbench.runtime.store import Step as Step
    from ddbench.sets.declared import Declared as Declared
    from ddbench.sets.folder import LoadedSet as LoadedSet
    from ddbench.sets.pushing.upload import Pushed as Pushed
    from ddbench.sets.whitening import Whitening as Whitening
    from ddbench.tables.boards import Boards as Boards
    from ddbench.tables.comparing import Comparison as Comparison
else:

    @functools.cache
    def _homes() -> dict[str, str]:
        """Return public name → module, from the imports above."""
        import ast

        source = __spec__.loader.get_source(__name__)
        branch = next(node for node in ast.parse(source).body if isinstance(node, ast.If))
        imports = (node for node in branch.body if isinstance(node, ast.ImportFrom))
        return {name.name: node.module for node in imports for name in node.names}

    def __getattr__(name: str) -> Any:
        """Import a public name on first use."""
        if name == "__all__":
            return sorted(["__version__", *_homes()])
        if name in ("Stage", "Effort"):
            raise ImportError(
                f"ddbench.{name} is no longer there: put @ddbench.step(…) above what builds a step, and delete stages()"
                ' (docs/plugins/method.md, "Cached steps")'
            )
        if name not in _homes():
            raise AttributeError(f"module 'ddbench' has no attribute {name!r}")
        return getattr(importlib.import_module(_homes()[name]), name)

    def __dir__() -> list[str]:
        return __getattr__("__all__")
