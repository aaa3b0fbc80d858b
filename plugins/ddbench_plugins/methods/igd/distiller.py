"""IGD: a diffusion transformer led by the gradients of a classifier, and to diversity (Chen et al., ICLR 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ddbench import step
from ddbench_plugins.diffusion.dit.backbone import TRANSFORMER, base_dit, dit_facts
from ddbench_plugins.methods.dit.distiller import SAMPLED, DiT, decoder_identity, sampling_work
from ddbench_plugins.methods.igd.options import IGDOptions
from ddbench_plugins.methods.selection import ipc_of
from ddbench_plugins.training.whitening import refuse_whitening

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from ddbench import Context, DistilledSet, Step, StepCall
    from ddbench_plugins.methods.mtt.trajectories import FlatNetwork

GUIDANCE = ("influence", "deviation", "window_low", "window_high", "memory")
SURROGATE = ("surrogate", "surrogate_epochs", "surrogate_rate", "surrogate_batch")


def _training(ctx: Context) -> StepCall:
    """Return the step that trains the surrogate and keeps it after each epoch, as MTT's experts are trained."""
    from ddbench_plugins.methods.mtt.experts import ExpertRecipe, expert

    options: IGDOptions = ctx.options
    recipe = ExpertRecipe(
        network=options.surrogate,
        epochs=options.surrogate_epochs,
        lr=options.surrogate_rate,
        batch_size=options.surrogate_batch,
        augment="dsa",
        normalisation="dataset",
    )
    return expert.of(ctx, recipe, 0)


@step(
    options=(*SURROGATE, "similarity", "gradient_images"),
    needs=lambda ctx: [_training(ctx)],
    work=lambda ctx: 2 * ctx.dataset.num_classes * ctx.options.gradient_images * ctx.options.surrogate_epochs,
)
def epochs_chosen(ctx: Context, out: Step) -> None:
    """Choose the epochs of the surrogate whose gradients are used, ``epochs``, by how they differ."""
    from torch.nn.functional import cosine_similarity

    from ddbench_plugins.methods.igd.influence import chosen, class_gradient

    options: IGDOptions = ctx.options
    network, at = _surrogate(ctx)
    labels = range(ctx.dataset.num_classes)

    def similarity(one: int, other: int) -> float:
        found = []
        for label in labels:
            images = _real(ctx, label)
            pair = [class_gradient(network, at(epoch), images, label) for epoch in (one, other)]
            found.append(float(cosine_similarity(*pair, dim=0)))
        advance(other)
        return float(np.mean(found))

    with ctx.progress("comparing gradients", options.surrogate_epochs) as advance:
        out.info["epochs"] = chosen(options.surrogate_epochs + 1, similarity, options.similarity)


class IGD(DiT):
    """Sample as ``dit`` does, in some steps led by a classifier trained on the real images, and apart."""

    Options = IGDOptions
    presets = "presets.toml"

    def check(self, ctx: Context) -> None:
        """Refuse whitened images, and a surrogate without trajectory, where there is one."""
        if ctx.options.influence:
            refuse_whitening(ctx, "IGD's gradients")
            if "surrogate" in ctx.resolved.explicit:  # the default fits, and needs no torch to be built
                from ddbench_plugins.methods.mtt.experts import flat_network

                flat_network(ctx, ctx.options.surrogate)

    @step(
        options=(*TRANSFORMER, *SAMPLED, *GUIDANCE, *SURROGATE, "similarity", "checkpoints", "gradient_images"),
        ignore=["batch_size"],
        facts=["ipc"],
        seeds=["dit sampling"],
        needs=lambda self, ctx, start, stop: [
            dit_facts.of(ctx),
            *([epochs_chosen.of(ctx)] if ctx.options.influence else []),
        ],
        identity=decoder_identity,
        work=lambda self, ctx, start, stop: 3 * sampling_work(self, ctx, start, stop),
    )
    def sampled(self, ctx: Context, out: Step, start: int, stop: int) -> None:
        """Sample the images of some classes, one of each after the other."""
        import torch

        from ddbench_plugins.diffusion.ancestral import sample_latents
        from ddbench_plugins.diffusion.class_latents import batch_size
        from ddbench_plugins.diffusion.dit.images import decode, loaded, sample
        from ddbench_plugins.methods.igd.guide import Influence
        from ddbench_plugins.training.engine import Saving
        from ddbench_plugins.training.seeding import make_generator

        options: IGDOptions = ctx.options
        low, high = (round(share * options.steps) for share in (options.window_low, options.window_high))
        model, ipc, seed = base_dit(ctx), ipc_of(ctx), ctx.seed("dit sampling")
        if low >= options.steps or not (options.influence or options.deviation):
            sample(ctx, out, model, self.labels(ctx, start, stop))
            return
        pipeline, batch = loaded(ctx, model), batch_size(options, model.resolution())
        for part in (pipeline.transformer, pipeline.vae):
            part.requires_grad_(False)
        shape = pipeline.transformer.config.in_channels, *[pipeline.transformer.config.sample_size] * 2
        nothing = torch.zeros(stop - start, ipc, *shape)
        state = out.load() or {"latents": nothing, "made": torch.zeros(stop - start, dtype=torch.int)}
        saving = Saving(out, ctx.checkpoint_seconds)
        latents, made = state["latents"], state["made"]  # how many of each class, whatever the batches were
        with ctx.progress("sampling", made.numel() * ipc) as advance:
            for first in range(start, stop, batch):
                classes = np.arange(first, min(first + batch, stop))
                rows = slice(first - start, first - start + len(classes))
                if (begun := int(made[rows].min())) == ipc:
                    continue
                loss = _loss(ctx, pipeline, classes) if options.influence else _nothing
                for rank in range(begun, ipc):
                    memory = latents[rows, max(0, rank - options.memory) : rank]
                    found = sample_latents(
                        model.denoiser(pipeline, classes),
                        [make_generator(seed, int(label), rank) for label in classes],
                        batch_size=batch,
                        guide=Influence(loss, memory, options.influence, options.deviation, low, high),
                    )
                    latents[rows, rank], made[rows] = torch.from_numpy(found), rank + 1
                    if saving.due():  # the latents of all classes: a gigabyte of ImageNet's at IPC 50
                        saving.save(state)
                    advance(int(made.sum()))
            saving.save(state)
        decode(ctx, out, pipeline, latents.flatten(0, 1).numpy())

    def distill(self, ctx: Context) -> DistilledSet:
        """Return ``ctx.ipc`` images per class; classes that cannot be drawn are refused before a surrogate is trained.

        Raises:
            UsageError: the transformer does not know a class.
        """
        base_dit(ctx).labels()
        return super().distill(ctx)


def _nothing(clean: Tensor, rows: slice) -> Tensor:
    raise NotImplementedError


def _loss(ctx: Context, pipeline: Any, classes: np.ndarray) -> Callable[[Tensor, slice], Tensor]:
    """Return how far the gradients of images, given as clean latents, are from those of their classes, one each."""
    import torch
    from torch.nn.functional import interpolate

    from ddbench_plugins.methods.igd.influence import Checkpoint, apart, class_gradient

    data, options, device = ctx.dataset, ctx.options, pipeline.transformer.device
    network, at = _surrogate(ctx)
    checkpoints = []
    for epoch in epochs_chosen(ctx).info["epochs"][-options.checkpoints :]:
        real = [class_gradient(network, at(epoch), _real(ctx, int(label)), int(label)) for label in classes]
        checkpoints.append(Checkpoint(at(epoch), torch.stack(real)))
    labels = torch.from_numpy(classes).to(device)

    def loss(clean: Tensor, rows: slice) -> Tensor:
        scaled = (clean / pipeline.vae.config.scaling_factor).to(pipeline.vae.dtype)
        images = pipeline.vae.decode(scaled, return_dict=False)[0].float() / 2 + 0.5
        if data.channels == 1:
            images = images.mean(1, keepdim=True)
        if images.shape[-1] != data.image_size:
            images = interpolate(images, (data.image_size,) * 2, mode="bilinear", antialias=True)
        mine = [Checkpoint(parameters, real[rows]) for parameters, real in checkpoints]
        return apart(network, mine, _normalised(ctx, images), labels[rows])

    return loss


def _surrogate(ctx: Context) -> tuple[FlatNetwork, Callable[[int], Tensor]]:
    """Return the surrogate, and its parameters [P] after an epoch.

    Raises:
        UsageError: it has batch norm.
    """
    from ddbench_plugins.methods.mtt.experts import Experts, flat_network

    options: IGDOptions = ctx.options
    network = flat_network(ctx, options.surrogate, device=ctx.machine.device)
    experts = Experts([_training(ctx).done().dir], options.surrogate_epochs, ctx.machine.device)
    return network, lambda epoch: experts.at(0, epoch)


def _real(ctx: Context, label: int) -> Tensor:
    """Return the images of a class [m, C, S, S], normalised, that its gradient is the mean of."""
    import torch

    data = ctx.dataset
    members = data.train.of_class(label)
    rows = members[np.linspace(0, len(members) - 1, min(ctx.options.gradient_images, len(members))).astype(int)]
    pixels = torch.from_numpy(data.train.images.batch(rows.tolist(), data.image_size)).permute(0, 3, 1, 2)
    return _normalised(ctx, pixels.to(ctx.machine.device).float() / 255)


def _normalised(ctx: Context, images: Tensor) -> Tensor:
    from ddbench_plugins.training.augment import normalise

    return normalise(ctx.dataset.mean, ctx.dataset.std).apply(images)
