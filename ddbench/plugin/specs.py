"""What a plugin registers: small frozen descriptions whose targets are imported only when a run needs them."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ddbench.errors import PluginError, not_installed


@dataclass(frozen=True)
class Spec:
    """A named thing that a plugin offers.

    Attributes:
        name: lower-case name, unique within its kind; a trailing ``:`` makes it a prefix that takes an argument
            (``folder:PATH``, ``timm:NAME``).
        target: the class (or function, for networks) that does the work: ``"package.module:Name"`` or the object.
        summary: one line for ``ddbench list``.
        paper: who to cite, in one line.
        bibtex: the citation entry.
        cache_version: raise it when the target's results change for the same options; it is part of every key.
    """

    kind: ClassVar[str] = ""
    name: str
    target: Any
    summary: str = ""
    paper: str = ""
    bibtex: str = ""
    cache_version: int = 1

    def load(self) -> Any:
        """Import and return the target.

        Raises:
            PluginError: the module or the name in it cannot be imported.
        """
        if not isinstance(self.target, str):
            return self.target
        module, _, attribute = self.target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except Exception as error:  # whatever the plugin's module raises on import, it is named
            if lacking := not_installed(error):
                raise lacking from error
            raise PluginError(
                f"The {self.kind} {self.name!r} cannot be loaded from {self.target!r}: {error}",
                hint="Check the plugin's target and that its dependencies are installed.",
            ) from error


@dataclass(frozen=True)
class MethodSpec(Spec):
    """A distillation method; its target is a :class:`ddbench.Distiller`."""

    kind: ClassVar[str] = "method"


@dataclass(frozen=True)
class EvaluatorSpec(Spec):
    """An evaluation protocol; its target is a :class:`ddbench.Evaluator`.

    Attributes:
        label_type: ``hard``, ``soft``, ``real`` or ``texts``.
    """

    kind: ClassVar[str] = "evaluator"
    label_type: str = ""


@dataclass(frozen=True)
class DatasetSpec(Spec):
    """A data set; its target is a :class:`ddbench.DatasetLoader`.

    Attributes:
        default: used when no data set is named.
    """

    kind: ClassVar[str] = "dataset"
    default: bool = False


@dataclass(frozen=True)
class NetworkSpec(Spec):
    """A network.

    Its target is a function ``build(*, in_channels, image_size, num_classes, **settings) -> torch.nn.Module``.

    Attributes:
        settings: fixed keyword arguments of the target, as pairs, so that one function serves a family of names.
    """

    kind: ClassVar[str] = "network"
    settings: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class CaptionerSpec(Spec):
    """A captioner; its target is a :class:`ddbench.Captioner`."""

    kind: ClassVar[str] = "captioner"


@dataclass(frozen=True)
class ExecutorSpec(Spec):
    """A way to start workers; its target is a :class:`ddbench.Executor`."""

    kind: ClassVar[str] = "executor"


@dataclass(frozen=True)
class ShippedModel:
    """A trained model that comes with a plugin; no name chooses it: who needs it finds it.

    Attributes:
        what: in a word or two, as of a step that trains such models.
        dataset: that it was trained on.
        path: its file or folder.
        made: what trained it.
    """

    what: str
    dataset: str
    path: Path
    made: str


SPECS: tuple[type[Spec], ...] = (MethodSpec, EvaluatorSpec, DatasetSpec, NetworkSpec, CaptionerSpec, ExecutorSpec)
KINDS: tuple[str, ...] = tuple(spec.kind for spec in SPECS)
