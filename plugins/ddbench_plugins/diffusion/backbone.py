"""The diffusion model a method starts from: Stable Diffusion, or a small one trained on the data set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from ddbench import step
from ddbench_plugins.diffusion.hub import STABLE_DIFFUSION, published
from ddbench_plugins.diffusion.small.preset import SMALL, autoencoder, small_preset
from ddbench_plugins.diffusion.small.step import shipped_model, small_diffusion
from ddbench_plugins.diffusion.source import DiffusionModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ddbench import Context, Done, Step
    from ddbench_plugins.diffusion.ancestral import Denoiser
    from ddbench_plugins.diffusion.options import BackboneOptions, DiffusionOptions

#: Side of Stable Diffusion v1's images, for what is estimated before the model is there.
SIDE = 512
#: Options that say which model a method starts from.
BACKBONE = ("backbone", "revision", *SMALL)
Model = TypeVar("Model", bound="DiffusionModel")


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
        from ddbench_plugins.diffusion.small import tiny  # noqa: F401 diffusers loads classes of imported modules only

        device = device or self.ctx.machine.device
        sparing = decodes and device.startswith("cuda")
        where = self.source, self.revision, device, dtype
        return self._loaded(partial(load_pipeline, *where, sparing=sparing, safety_checker=safety_checker))

    def denoiser(self, pipeline: Any, labels: NDArray[np.int64]) -> Denoiser:
        """Return what samples images of the data set's labels [n], each under its class's name."""
        from ddbench_plugins.diffusion.text_to_image import PromptedDenoiser

        options, names = self.ctx.options, self.ctx.dataset.class_names
        return PromptedDenoiser(pipeline, [names[label] for label in labels], options.steps, options.guidance_scale)


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
