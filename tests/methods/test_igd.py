"""IGD: gradients of a classifier that lead samples, and earlier samples that they are kept apart from."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from ddbench_plugins.diffusion.ancestral import Moment
from ddbench_plugins.diffusion.dit import pipeline
from ddbench_plugins.methods.igd import guide
from ddbench_plugins.methods.igd.influence import Checkpoint, apart, chosen, class_gradient
from ddbench_plugins.methods.mtt.trajectories import FlatNetwork, flat
from ddbench_plugins.training import seeding

import ddbench
from ddbench.experiment.pipeline import distil, prepare_method
from ddbench.plugin.options import Preset
from ddbench.runtime.store import Step, Store
from ddbench.testing.diffusion import tiny_dit

if TYPE_CHECKING:
    from pathlib import Path

    from ddbench import Context, Dataset

OFF = {"influence": "0", "deviation": "0"}
QUICK = {"surrogate": "convnet-1", "surrogate_epochs": "1", "gradient_images": "3", "steps": "6"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tiny_dit(tmp_path_factory.mktemp("dit"), classes=10)
    (made / pipeline.CLASSES).write_text(json.dumps([str(place) for place in range(10)]))
    return made


def latents(ctx: Context, data: Dataset, folder: Path, method: str, ipc: int = 2, **options: Any) -> Any:
    explicit = {"backbone": str(folder), "acceptance": "never", "steps": "6", **options}
    bound = prepare_method(replace(ctx, _dataset=data, explicit={"method": explicit}), method, ipc, 0)
    images = distil(bound).content.images
    done = bound.plugin.sampled(bound.ctx, 0, 10)
    return images, np.concatenate([np.load(path) for path in sorted((done.dir / "latents").glob("*.npy"))])


def network() -> FlatNetwork:
    torch.manual_seed(0)
    return FlatNetwork(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))
    )


def test_a_checkpoint_joins_where_its_gradients_differ_from_the_last_one_that_joined() -> None:
    places = [0.0, 0.2, 0.5, 0.6, 0.9]
    assert chosen(5, lambda one, other: 1 - abs(places[one] - places[other]), 0.7) == [0, 2, 4]


def test_the_loss_of_the_class_s_own_gradient_is_0() -> None:
    surrogate, images, labels = network(), torch.rand(2, 3, 2, 2), torch.tensor([0, 2])
    at = [flat(surrogate.network), flat(surrogate.network) + 0.3]
    real = [
        torch.stack([class_gradient(surrogate, where, images[i : i + 1], int(labels[i])) for i in range(2)])
        for where in at
    ]
    same = apart(surrogate, [Checkpoint(*pair) for pair in zip(at, real, strict=True)], images, labels)
    torch.testing.assert_close(same, torch.zeros(2), atol=1e-6, rtol=0)
    opposite = apart(surrogate, [Checkpoint(at[0], -real[0]), Checkpoint(at[1], real[1])], images, labels)
    torch.testing.assert_close(opposite, torch.ones(2))  # 2 at one of the two


def test_a_class_gradient_is_that_of_the_mean_loss() -> None:
    surrogate, images = network(), torch.rand(70, 3, 2, 2)
    where = flat(surrogate.network).requires_grad_()
    (wanted,) = torch.autograd.grad(surrogate.loss(where, images, torch.full((70,), 1)), where)
    torch.testing.assert_close(class_gradient(surrogate, where, images, 1), wanted)


def test_the_way_apart_is_the_gradient_of_the_largest_cosine() -> None:
    noisy, memory = torch.randn(2, 4, 3, 3, requires_grad=True), torch.randn(2, 5, 4, 3, 3)
    cosines = torch.nn.functional.cosine_similarity(noisy.flatten(1)[:, None], memory.flatten(2), dim=2)
    (wanted,) = torch.autograd.grad(cosines.max(1).values.sum(), noisy)
    torch.testing.assert_close(guide.similarity_gradient(noisy.detach(), memory), wanted)


def test_both_steps_by_hand() -> None:
    noisy = torch.full((1, 1, 1, 2), 2.0, requires_grad=True)
    found = guide.Influence(
        lambda clean, rows: clean.square().flatten(1).sum(1), torch.empty(1, 0, 1, 1, 2), 5, 120, 3, 4
    )
    assert [index for index in range(7) if found.acts(index)] == [3, 4]
    moment = Moment(3, noisy, 3 * noisy, torch.ones_like(noisy), torch.ones_like(noisy), torch.tensor(0.5))
    with torch.no_grad():
        added = found.added(moment, slice(0, 1))
    # The gradient of (3x)² is positive; only its direction counts, and there is nothing yet to be kept apart from.
    torch.testing.assert_close(added, torch.full_like(added, -5 * 0.0015 * 0.5))


def test_without_guidance_the_samples_are_dits(ctx: Context, digits: Dataset, folder: Path) -> None:
    plain, _ = latents(ctx, digits, folder, "dit")
    for options in (OFF, {"window_low": "1", "window_high": "1"}):
        np.testing.assert_array_equal(latents(ctx, digits, folder, "igd", **QUICK, **options)[0], plain)


def test_both_terms_change_the_samples(ctx: Context, digits: Dataset, folder: Path) -> None:
    _, plain = latents(ctx, digits, folder, "dit")
    for options in ({"deviation": "0"}, {"influence": "0"}):
        _, led = latents(ctx, digits, folder, "igd", **QUICK, **options)
        first, second = np.abs(led - plain).reshape(10, 2, -1).max((0, 2)) > 1e-3
        assert second and first == ("influence" not in options)  # a class's first image has none before it


def test_an_image_is_kept_apart_from_the_last_ones_of_its_class(
    ctx: Context, digits: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memories = []

    class Heard(guide.Influence):
        def __init__(self, loss: Any, memory: torch.Tensor, *more: Any) -> None:
            memories.append(memory.clone())
            super().__init__(loss, memory, *more)

    monkeypatch.setattr(guide, "Influence", Heard)
    _, made = latents(ctx, digits, folder, "igd", 4, influence="0", memory="2")
    assert [memory.shape[1] for memory in memories] == [0, 1, 2, 2]
    np.testing.assert_array_equal(memories[3], made.reshape(10, 4, *made.shape[1:])[:, 1:3])


def test_what_is_resumed_in_other_batches_ends_alike(
    ctx: Context, digits: Dataset, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    class Killed(guide.Influence):
        def __init__(self, *parts: Any) -> None:
            begun.append(0)
            if len(begun) == 3:
                raise KeyboardInterrupt
            super().__init__(*parts)

    _, wanted = latents(ctx, digits, folder, "igd", 4, influence="0")
    ctx = replace(ctx, store=Store(tmp_path))
    monkeypatch.setenv("DDBENCH_CHECKPOINT_SECONDS", "0")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(guide, "Influence", Killed)
        latents(ctx, digits, folder, "igd", 4, influence="0")
    ranks = []
    draw = seeding.make_generator
    monkeypatch.setattr(seeding, "make_generator", lambda *where: (ranks.append(where[-1]), draw(*where))[1])
    _, found = latents(ctx, digits, folder, "igd", 4, influence="0", batch_size="3")
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    assert sorted(ranks) == [2] * 10 + [3] * 10  # two images of each class were kept


def test_latents_are_kept_now_and_then(
    ctx: Context, digits: Dataset, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DDBENCH_CHECKPOINT_SECONDS", "1000")
    kept, save = [], Step.save
    monkeypatch.setattr(Step, "save", lambda step, state: (kept.append(int(state["made"].sum())), save(step, state)))
    latents(replace(ctx, store=Store(tmp_path)), digits, folder, "igd", 4, influence="0", batch_size="3")
    assert kept == [40]


def test_what_cannot_be_done_is_refused(ctx: Context, digits: Dataset, folder: Path) -> None:
    with pytest.raises(ddbench.UsageError, match="batch norm"):
        latents(ctx, digits, folder, "igd", **{**QUICK, "surrogate": "convnet-1-bn", "surrogate_epochs": "1000"})
    with pytest.raises(ddbench.UsageError, match="window_low"):
        latents(ctx, digits, folder, "igd", window_low="0.95")


def test_a_class_that_cannot_be_drawn_is_refused_before_the_surrogate_is_trained(
    ctx: Context, digits: Dataset, folder: Path
) -> None:
    data = replace(digits, class_ids=("x", *digits.class_ids[1:]))
    with pytest.raises(ddbench.UsageError, match="cannot draw 1 of the 10 classes"):
        latents(ctx, data, folder, "igd", **QUICK)
    assert not (ctx.home / "expert").exists()


def test_settings_by_situation(ctx: Context, digits: Dataset) -> None:
    paper = prepare_method(
        replace(ctx, _dataset=digits, preset=Preset.parse("paper+official")), "igd", 1, 0
    ).ctx.options
    assert (paper.backbone, paper.checkpoints) == ("facebook/DiT-XL-2-256", 0)
    assert (paper.influence, paper.deviation, paper.window_low, paper.window_high) == (5, 120, 0.6, 0.9)
    assert (paper.cfg_channels, paper.decoder) == (3, "stabilityai/sd-vae-ft-mse")
    assert prepare_method(replace(ctx, _dataset=digits), "igd", 1, 0).ctx.options.surrogate == "convnet-3-w32"
    assert paper.surrogate == "convnet-3"  # six blocks would leave nothing of images this small
    for size, deviation in ((16, 1.875), (32, 7.5), (64, 30), (128, 30)):  # 120 / 4096 of the latent's numbers
        bound = prepare_method(replace(ctx, _dataset=replace(digits, image_size=size)), "igd", 1, 0)
        assert bound.ctx.options.deviation == deviation
        assert "deviation" in {name for name, _, _ in bound.ctx.resolved.shrunk}
    large = replace(digits, image_size=256)
    paper = prepare_method(replace(ctx, _dataset=large, preset=Preset.parse("paper")), "igd", 1, 0).ctx.options
    assert paper.surrogate == "convnet-6"
