"""The diffusion transformer a method starts from: a published one, or a small one trained on the data set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ddbench import UsageError, derive_seed, step
from ddbench_plugins.diffusion.backbone import (
    BACKBONE,
    about_published,
    base_model,
    identified,
    model_facts,
)
from ddbench_plugins.diffusion.hub import DECODER, DIT
from ddbench_plugins.diffusion.small.encoded import encoded_images, encoded_posteriors
from ddbench_plugins.diffusion.small.preset import small_preset
from ddbench_plugins.diffusion.source import DiffusionModel, unavailable_explained

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ddbench import Context, Step
    from ddbench_plugins.diffusion.ancestral import Denoiser
    from ddbench_plugins.diffusion.dit.options import DiTOptions
    from ddbench_plugins.diffusion.dit.small import DiTPreset


#: Options that say which transformer a method starts from.
TRANSFORMER = (*BACKBONE, "small_dit_steps")


@dataclass
class DiTBackbone(DiffusionModel):
    """A diffusion transformer that is loaded when it is first needed."""

    FILES: ClassVar[tuple[str, ...]] = DIT
    NETWORK: ClassVar[str] = "transformer"
    PARTS: ClassVar[tuple[str, ...]] = ("transformer", "vae")

    def load(self, dtype: str = "fp32", device: str = "") -> Any:
        """Return a fresh ``DiTPipeline`` on a device, that of the run when empty.

        Raises:
            ModelError: it is not there and cannot be fetched, or is of another kind.
        """
        from ddbench_plugins.diffusion.dit.pipeline import load_dit
        from ddbench_plugins.diffusion.small import tiny  # noqa: F401 diffusers loads classes of imported modules only

        device = device or self.ctx.machine.device
        return self._loaded(lambda offline: load_dit(self.source, self.revision, device, dtype, offline))

    def labels(self) -> list[int]:
        """Return the transformer's label of every class of the data set, matched by class id.

        Raises:
            UsageError: it does not know a class.
        """
        data = self.ctx.dataset
        places = {name: place for place, name in enumerate(self.class_ids())}
        lacking = [f"{name} ({i})" for i, name in zip(data.class_ids, data.class_names, strict=True) if i not in places]
        if lacking:
            few = ", ".join(lacking[:5]) + (", …" if len(lacking) > 5 else "")
            raise UsageError(
                f"The diffusion transformer {self.about['model']} cannot draw {len(lacking)} of the {data.num_classes}"
                f" classes of {data.name}: {few}.",
                hint="Its classes are matched by id (ImageNet's by synset id). Use -o method.backbone=small, which is"
                " trained on the data set.",
            )
        return [places[name] for name in data.class_ids]

    def denoiser(self, pipeline: Any, labels: NDArray[np.int64]) -> Denoiser:
        """Return what samples images of the data set's labels [n]."""
        from ddbench_plugins.diffusion.dit.sample import LabelledDenoiser

        options: DiTOptions = self.ctx.options
        own = np.asarray(self.labels())[labels].tolist()
        return LabelledDenoiser(pipeline, own, options.steps, options.guidance_scale, options.cfg_channels)

    def class_ids(self) -> list[str]:
        """Return the class ids of the transformer's own labels."""
        return list(self._look()["classes"])

    def describe(self, pipeline: Any) -> dict[str, Any]:
        """Return what a loaded model is, with the class ids of its labels."""
        from ddbench_plugins.diffusion.dit.pipeline import class_ids

        with unavailable_explained():
            return {**super().describe(pipeline), "classes": class_ids(self.source, pipeline)}


class Decoder(DiffusionModel):
    """An autoencoder that decodes in place of the transformer's own."""

    FILES: ClassVar[tuple[str, ...]] = DECODER
    INSTEAD: ClassVar[str] = "Or decode with the model's own autoencoder: -o method.decoder=''."

    def load(self, dtype: str = "fp32", device: str = "") -> Any:
        """Return an ``AutoencoderKL`` on a device, that of the run when empty.

        Raises:
            ModelError: it is not there and cannot be fetched.
        """
        from ddbench_plugins.diffusion.dit.pipeline import load_autoencoder

        device = device or self.ctx.machine.device
        return self._loaded(lambda offline: load_autoencoder(self.source, device, dtype, offline))

    def describe(self, pipeline: Any) -> dict[str, Any]:
        """Return what a loaded autoencoder is."""
        from ddbench_plugins.diffusion.pipeline import digest

        return {"digest": digest(SimpleNamespace(vae=pipeline), ["vae"])}


def _preset(ctx: Context) -> DiTPreset:
    """Return size and training length of the small transformer, in the space of the data set's small model."""
    from ddbench_plugins.diffusion.dit.small import PRESETS

    space = small_preset(ctx, ctx.options)
    preset = PRESETS[space.resolution]
    # Latents of 4×4 have few positions as it is.
    patch = preset.patch if space.latent_side > 4 else 1
    return replace(preset, patch=patch, steps=ctx.options.small_dit_steps or preset.steps)


@step(
    options=TRANSFORMER,
    needs=lambda ctx: [encoded_images.of(ctx) if ctx.options.small_vae else model_facts.of(ctx)],
    identity=lambda ctx: {"preset": _preset(ctx).describe()},
    version=4,
    work=lambda ctx: _preset(ctx).steps,
    model="diffusion transformer",
)
def small_dit(ctx: Context, out: Step) -> None:
    """Train the small transformer in the latent space of the data set's small text-guided model.

    A published autoencoder needs no such model to be trained.
    """
    from diffusers import DiTPipeline

    from ddbench_plugins.diffusion.dit import pipeline as dit
    from ddbench_plugins.diffusion.dit import train
    from ddbench_plugins.diffusion.dit.small import build_scheduler
    from ddbench_plugins.diffusion.posteriors import encode
    from ddbench_plugins.diffusion.small.published import published_autoencoder
    from ddbench_plugins.training.engine import Loop

    data, preset = ctx.dataset, _preset(ctx)
    if ctx.options.small_vae:
        vae = published_autoencoder(ctx, small_preset(ctx, ctx.options))
        encoded = encoded_posteriors(ctx, vae)
    else:
        guided = base_model(ctx)
        vae = guided.load().vae
        with ctx.progress("encoding", len(data.train)) as advance:
            encoded = encode(vae, data.train.images, guided.resolution(), flip=data.flip, progress=advance)
    with ctx.progress("small diffusion transformer", preset.steps) as advance:
        transformer, report = train.train_transformer(
            encoded,
            data.train.labels,
            data.num_classes,
            preset,
            seed=derive_seed(0, "small diffusion transformer"),
            loop=Loop.of(ctx, advance, out),
        )
    dit.save_dit(DiTPipeline(transformer, vae, build_scheduler()), out.dir / "model", data.class_ids)
    out.info.update(report)


@step(
    name="model-facts",
    data=False,
    needs=lambda ctx: [small_dit.of(ctx)] if ctx.options.backbone == "small" else [],
    identity=lambda ctx: {} if ctx.options.backbone == "small" else _source(ctx).identity(),
    ignore=TRANSFORMER,
)
def dit_facts(ctx: Context, out: Step) -> None:
    """Look at the transformer as it was trained: digest, resolution, number of weights and classes."""
    out.info.update(_source(ctx).looked_at())


def base_dit(ctx: Context) -> DiTBackbone:
    """Return the transformer as it was trained; ``small`` is trained on the data set, once for all seeds and IPCs.

    Raises:
        ModelError: it is not there and cannot be fetched.
    """
    return identified(_source(ctx), dit_facts(ctx))


def _source(ctx: Context) -> DiTBackbone:
    """Return the transformer with nothing known of it but where it is."""
    options: DiTOptions = ctx.options
    if options.backbone != "small":
        return DiTBackbone(ctx, options.backbone, options.revision, about_published(options))
    done = small_dit(ctx)
    about = {"model": "small", "preset": _preset(ctx).describe(), "trained": dict(done.info)}
    return DiTBackbone(ctx, str(done.dir / "model"), None, about)
