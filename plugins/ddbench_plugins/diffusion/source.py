"""A diffusion model, or a part of one, by where it is: looked at and loaded when it is first needed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ddbench import ModelError, cached_first
from ddbench_plugins.diffusion.hub import published

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from ddbench import Context, Weights


@dataclass
class DiffusionModel(ABC):
    """A diffusion model that is loaded when it is first needed.

    Attributes:
        source: folder or hub id.
        revision: of a hub id.
        about: what a record says of it.
        facts: what was found when it was loaded: digest, resolution and number of weights.
    """

    ctx: Context
    source: str
    revision: str | None
    about: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)
    #: What is read of a model on the hub; the network that denoises; the parts that have weights.
    FILES: ClassVar[tuple[str, ...]]
    NETWORK: ClassVar[str]
    PARTS: ClassVar[tuple[str, ...]]
    #: What helps where it cannot be had.
    INSTEAD: ClassVar[str] = "Or use the small model, which needs no download: -o method.backbone=small."

    @abstractmethod
    def load(self, dtype: str = "fp32", device: str = "") -> Any:
        """Return a fresh pipeline on a device, that of the run when empty.

        Raises:
            ModelError: it is not there and cannot be fetched.
        """

    def measure(self) -> dict[str, Any]:
        """Load the model, where its weights are hashed, to see what it is: digest, resolution, number of weights."""
        return self.describe(self.load(device="cpu"))

    def describe(self, pipeline: Any) -> dict[str, Any]:
        """Return what a loaded model is."""
        from ddbench_plugins.diffusion.pipeline import digest, resolution

        return {
            "digest": digest(pipeline, self.PARTS),
            "resolution": resolution(pipeline, self.NETWORK),
            "parameters": sum(weight.numel() for weight in getattr(pipeline, self.NETWORK).parameters()),
        }

    def on_hub(self) -> Weights | None:
        """Return what is known of a model of the hub; None of one in a folder."""
        return published(self.source, self.FILES, self.revision)

    def _loaded(self, load: Callable[[bool], Any]) -> Any:
        """Load the model, given whether to open no connection, or explain why that cannot be done."""
        from ddbench_plugins.diffusion.pipeline import BackboneUnavailableError

        known = self.on_hub()
        here, offline = known is not None and known.here, self.ctx.machine.offline
        with unavailable_explained(self.INSTEAD):
            return cached_first(load, here=here, offline=offline, failures=(BackboneUnavailableError,))

    def digest(self) -> str:
        """Return the digest of the weights, the same wherever they were loaded from."""
        return str(self._look()["digest"])

    def resolution(self) -> int:
        """Return the side of the images that the model was built for."""
        return int(self._look()["resolution"])

    def parameters(self) -> int:
        """Return the number of weights of the network that denoises."""
        return int(self._look()["parameters"])

    def identity(self) -> dict[str, Any]:
        """Return which weights a model that was not trained here has: a name alone tells nothing.

        A model of the hub is fetched where it is not here.

        Raises:
            ModelError: it is not there and cannot be fetched.
        """
        if (folder := Path(self.source).expanduser()).is_dir():
            return {"folder": self.ctx.content_digest(folder)}
        if not self._on_this_machine():
            self.load(device="cpu")
        if known := self._on_this_machine():
            return {"hub": self.source, "commit": known.revision}
        return {"digest": self.measure()["digest"]}

    def _on_this_machine(self) -> Weights | None:
        known = self.on_hub()
        return known if known and known.here else None

    def _look(self) -> dict[str, Any]:
        self.facts = self.facts or self.measure()
        return self.facts

    def looked_at(self) -> dict[str, Any]:
        """Return :meth:`measure`, with progress where it loads gigabytes."""
        if self.about.get("model") == "small":
            return self.measure()
        with self.ctx.progress(f"looking at {self.about['model']}"):
            return self.measure()

    def encoding(self) -> AbstractContextManager[object]:
        """Return the context in which training images are encoded: mixed precision for a published tiny autoencoder.

        It is larger than one that was trained here, encodes all images several times, and loses nothing by it.
        """
        from ddbench_plugins.training.runtime import autocast

        machine = self.ctx.machine
        return autocast(machine.precision, machine.device) if "autoencoder" in self.about else nullcontext()

    @property
    def compute_dtype(self) -> str:
        """Precision of encoding and synthesis: the run's on a GPU, fp32 on a CPU."""
        precision = self.ctx.machine.precision
        return precision if self.ctx.machine.device.startswith("cuda") and precision != "tf32" else "fp32"


@contextmanager
def unavailable_explained(instead: str = DiffusionModel.INSTEAD) -> Iterator[None]:
    """Turn the error of a model that is not there, or of another kind, into one that says what helps."""
    from ddbench_plugins.diffusion.pipeline import BackboneUnavailableError

    try:
        yield
    except BackboneUnavailableError as error:
        raise ModelError(str(error), hint=instead) from error
