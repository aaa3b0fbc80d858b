"""The diffusion model a method starts from: Stable Diffusion, or a small one trained on the data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from ddbench import ModelError, cached_first, step
from ddbench_plugins.diffusion.hub import STABLE_DIFFUSION, published
from ddbench_plugins.diffusion.small.preset import SMALL, autoencoder, small_preset
from ddbench_plugins.diffusion.small.step import shipped_model, small_diffusion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from ddbench import Context, Done, Step, Weights
    from ddbench_plugins.diffusion.options import BackboneOptions, DiffusionOptions

#: Side of Stable Diffusion v1's images, for what is estimated before the model is there.
SIDE = 512
#: Options that say which model a method starts from.
BACKBONE = ("backbone", "revision", *SMALL)
Model = TypeVar("Model", bound="DiffusionModel")


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


@dataclass
class Backbone(DiffusionModel):
    """Stable Diffusion or a small model of its kind."""

    FILES: ClassVar[tuple[str, ...]] = STABLE_DIFFUSION
    NETWORK: ClassVar[str] = "unet"
    PARTS: ClassVar[tuple[str, ...]] = ("unet", "vae", "text_encoder")

    def load(
        self, dtype: str = "fp32", device: str = "", *, decodes: bool = False, safety_checker: bool = False
    ) -> Any:
        """Return a fresh ``StableDiffusionImg2ImgPipeline`` on a device, that of the run when empty.

        ``decodes``: on a GPU, images are decoded one by one, those larger than the autoencoder's own size by tiles.

        Raises:
            ModelError: it is not there and cannot be fetched.
        """
        from ddbench_plugins.diffusion.pipeline import load_pipeline

        device = device or self.ctx.machine.device
        sparing = decodes and device.startswith("cuda")
        where = self.source, self.revision, device, dtype
        return self._loaded(partial(load_pipeline, *where, sparing=sparing, safety_checker=safety_checker))


@contextmanager
def unavailable_explained(instead: str = DiffusionModel.INSTEAD) -> Iterator[None]:
    """Turn the error of a model that is not there, or of another kind, into one that says what helps."""
    from ddbench_plugins.diffusion.pipeline import BackboneUnavailableError

    try:
        yield
    except BackboneUnavailableError as error:
        raise ModelError(str(error), hint=instead) from error


@step(
    data=False,
    needs=lambda ctx: [small_diffusion.of(ctx)] if _is_trained(ctx) else [],
    identity=lambda ctx: {} if _is_trained(ctx) else _source(ctx).identity(),
    ignore=BACKBONE,
)
def model_facts(ctx: Context, out: Step) -> None:
    """Look at the model before fine-tuning: digest, resolution and number of weights."""
    out.info.update(_source(ctx).looked_at())


def base_model(ctx: Context) -> Backbone:
    """Return the model before fine-tuning; ``small`` is trained on the data set, once for all seeds and IPCs.

    Raises:
        ModelError: it is not there and cannot be fetched.
    """
    return identified(_source(ctx), model_facts(ctx))


def _is_trained(ctx: Context) -> bool:
    return ctx.options.backbone == "small" and not shipped_model(ctx, small_preset(ctx, ctx.options))


def _source(ctx: Context) -> Backbone:
    """Return the model with nothing known of it but where it is."""
    options: BackboneOptions = ctx.options
    if options.backbone != "small":
        return Backbone(ctx, options.backbone, options.revision, about_published(options))
    preset = small_preset(ctx, options)
    if shipped := shipped_model(ctx, preset):
        return Backbone(ctx, str(shipped), None, {"model": "small", "preset": preset.describe(), "shipped": True})
    done, about = small_diffusion(ctx), {"model": "small", "preset": preset.describe(), "shipped": False}
    if options.small_vae:
        about["autoencoder"] = {"name": Path(options.small_vae).name, "weights": done.info["autoencoder"]}
    return Backbone(ctx, str(done.dir), None, about)


def about_published(options: BackboneOptions) -> dict[str, Any]:
    """Return what a record says of a model that was not trained here before that is read."""
    folder = Path(options.backbone).expanduser()
    return {"model": folder.name if folder.is_dir() else options.backbone, "revision": options.revision}


def identified(model: Model, looked_at: Done) -> Model:
    """Return a model with what was found when it was looked at; ``about`` names weights that were not trained here."""
    model = replace(model, facts=dict(looked_at.info))
    if model.about["model"] == "small":
        return model
    model.about |= {"weights": model.digest(), "parameters": model.parameters()}
    known = model.on_hub()
    if known and known.here:
        model.about["revision"] = known.revision
    return model


def backbone_identity(ctx: Context, files: tuple[str, ...] = STABLE_DIFFUSION) -> dict[str, Any]:
    """Return which weights a method starts from, for its ``identity``; nothing for a model that is trained here.

    A model of the hub that is not here yet has no commit before it is fetched.
    """
    options: BackboneOptions = ctx.options
    if options.backbone == "small":
        shipped = shipped_model(ctx, small_preset(ctx, options))
        return {"shipped": ctx.content_digest(shipped)} if shipped else autoencoder(ctx)
    if (folder := Path(options.backbone).expanduser()).is_dir():
        return {"folder": ctx.content_digest(folder)}
    known = published(options.backbone, files, options.revision)
    return {"commit": known.revision} if known and known.here else {}


def side_of(ctx: Context) -> int:
    """Return the side at which images are encoded and generated, as far as it is known without loading the model."""
    options: DiffusionOptions = ctx.options
    return options.resolution or (small_preset(ctx, options).resolution if options.backbone == "small" else SIDE)
