"""The diffusion transformer a method starts from: a published one, or a small one trained on the data set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from ddbench import Effort, UsageError, derive_seed
from ddbench_plugins.diffusion.backbone import (
    Backbone,
    about_published,
    base_model,
    identified,
    model_facts,
    unavailable_explained,
)
from ddbench_plugins.diffusion.hub import DIT

if TYPE_CHECKING:
    from ddbench import Context, Step
    from ddbench_plugins.diffusion.dit.options import DiTOptions
    from ddbench_plugins.diffusion.dit.small import DiTPreset


VERSION = 3


@dataclass
class DiTBackbone(Backbone):
    """A diffusion transformer that is loaded when it is first needed."""

    FILES: ClassVar[tuple[str, ...]] = DIT

    def load(self, dtype: str = "fp32") -> Any:
        """Return a fresh ``DiTPipeline`` on the run's device.

        Raises:
            ModelError: it is not there and cannot be fetched, or is of another kind.
        """
        from ddbench_plugins.diffusion.dit.pipeline import load_dit

        device = self.ctx.machine.device
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

    def class_ids(self) -> list[str]:
        """Return the class ids of the transformer's own labels."""
        return list(self._look()["classes"])

    def _measure(self) -> dict[str, Any]:
        from ddbench_plugins.diffusion.dit import pipeline as dit

        found = self.load()
        with unavailable_explained():
            classes = dit.class_ids(self.source, found)
        return {
            "digest": dit.digest(found),
            "resolution": dit.resolution(found),
            "parameters": sum(weight.numel() for weight in found.transformer.parameters()),
            "classes": classes,
        }


def base_dit(ctx: Context, options: DiTOptions) -> DiTBackbone:
    """Return the transformer as it was trained; ``small`` is trained on the data set, once for all seeds and IPCs."""
    if options.backbone == "small":
        return small_dit(ctx, options)
    return identified(DiTBackbone(ctx, options.backbone, options.revision, about_published(options)))


def small_preset(options: DiTOptions, resolution: int) -> DiTPreset:
    """Return size and training length of the small transformer for images of a side."""
    from ddbench_plugins.diffusion.dit.small import PRESETS

    preset = PRESETS[resolution]
    return replace(preset, steps=options.small_dit_steps or preset.steps)


def small_dit(ctx: Context, options: DiTOptions) -> DiTBackbone:
    """Return the small transformer in the latent space of the data set's small text-guided model."""
    from ddbench_plugins.diffusion.pipeline import digest

    guided = base_model(ctx, options)
    preset = small_preset(options, guided.resolution())
    data = ctx.dataset
    pipeline = guided.load()
    inputs = {
        "version": VERSION,
        "dataset": data.fingerprint,
        "autoencoder": digest(pipeline, ["vae"]),
        "preset": preset.describe(),
        "flip": data.flip,
        "seed": derive_seed(0, "small diffusion transformer"),
        "numerics": ctx.machine.numerics(),
    }

    def build(step: Step) -> None:
        from diffusers import DiTPipeline

        from ddbench_plugins.diffusion.dit import pipeline as dit
        from ddbench_plugins.diffusion.dit import posteriors, train
        from ddbench_plugins.diffusion.dit.small import build_scheduler
        from ddbench_plugins.training.engine import Loop
        from ddbench_plugins.training.memory import keep_freed_memory

        keep_freed_memory()
        with ctx.progress("encoding", len(data.train)) as advance:
            found = posteriors.encode(
                pipeline.vae, data.train.images, guided.resolution(), flip=data.flip, progress=advance
            )
        with ctx.progress("small diffusion transformer", preset.steps) as advance:
            transformer, report = train.train_transformer(
                found,
                data.train.labels,
                data.num_classes,
                preset,
                seed=inputs["seed"],
                loop=Loop.of(ctx, advance, step),
            )
        dit.save_dit(DiTPipeline(transformer, pipeline.vae, build_scheduler()), step.dir / "model", data.class_ids)
        step.info.update(report)

    done = ctx.step("small-dit", inputs, build, effort=small_effort(ctx, options))
    about = {"model": "small", "preset": preset.describe(), "trained": dict(done.info)}
    return DiTBackbone(ctx, str(done.dir / "model"), None, about)


def facts(ctx: Context, options: DiTOptions) -> dict[str, Any]:
    """Return what a transformer's speed depends on."""
    backbone, side = model_facts(ctx, options)
    if options.backbone != "small":
        return backbone
    preset = {name: value for name, value in small_preset(options, side).describe().items() if name != "steps"}
    return {"side": side, "transformer": preset}


def small_effort(ctx: Context, options: DiTOptions) -> Effort | None:
    """Training of the small transformer: steps."""
    if options.backbone != "small":
        return None
    _, side = model_facts(ctx, options)
    return Effort(small_preset(options, side).steps, {**facts(ctx, options), "images": len(ctx.dataset.train)})
