"""Several students trained as one get the numbers of students trained one after the other."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from ddbench_plugins.training import augment, dsa, stacking, steps
from ddbench_plugins.training.engine import Loop, copied
from ddbench_plugins.training.loop import train, train_together
from ddbench_plugins.training.optimisers import adamw, sgd
from ddbench_plugins.training.seeding import seeded
from pretended_gpu import pretended
from registered import build_network

from ddbench.testing.toy import toy_dataset

SCALED = augment.normalise([0.5] * 3, [0.3] * 3)
SEEDS = (3, 4, 5)


def networks(name: str, size: int = 8) -> list[torch.nn.Module]:
    made = []
    for seed in SEEDS:
        with seeded(seed):
            made.append(build_network(name, in_channels=3, image_size=size, num_classes=3))
    return made


def teacher() -> torch.nn.Module:
    with seeded(9):
        return build_network("convnet-1-bn", in_channels=3, image_size=8, num_classes=3).eval()


def recipe(name: str) -> dict[str, Any]:
    crop = augment.random_resized_crop.of(size=8, scale=(0.5, 1.0))
    match name:
        case "soft labels":
            chain = augment.compose(augment.patch_shuffle.of(factor=2), crop, augment.random_flip, SCALED)
            return {
                "augment": chain,
                "optimiser": adamw(0.003),
                "step": steps.soft_label_step(teacher(), temperature=4),
            }
        case "cutmix":
            chain = augment.compose(SCALED, dsa.dsa("idc"))
            return {"augment": chain, "optimiser": sgd(0.05), "step": steps.hard_label_step(cutmix_probability=0.5)}
        case _:
            return {"augment": augment.compose(SCALED, dsa.dsa("dc")), "optimiser": sgd(0.05), "step": None}


def data(count: int) -> dict[str, Any]:
    images, labels = toy_dataset(per_class=12, channels=3).arrays("train")
    return {
        "images": torch.tensor(images.transpose(0, 3, 1, 2))[:count],
        "labels": torch.tensor(labels)[:count],
        "batch_size": 4,
    }


def test_of_the_networks_of_the_field_those_can_be_one_whose_layers_keep_channels_apart():
    example = torch.rand(2, 3, 16, 16)
    for name in ("mlp", "convnet-3", "convnet-3-bn", "frepo-convnet-3-w32", "resnet-ap-10"):
        stacking.check(networks(name, 16), example)
    with pytest.raises(stacking.NotStackableError, match="mixes channels"):
        stacking.check(networks("densenet-cifar", 16), example)


class Noisy(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.classifier = torch.nn.Linear(192, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.nn.functional.dropout(x.flatten(1), training=self.training))


def test_networks_that_draw_random_numbers_are_refused():
    with pytest.raises(stacking.NotStackableError, match="random numbers"):
        stacking.check([Noisy(), Noisy()], torch.rand(2, 3, 8, 8))


@pytest.mark.parametrize("name", ["convnet-1-bn", "convnet-1"])
@pytest.mark.parametrize("kind", ["soft labels", "cutmix", "dsa"])
def test_each_student_gets_the_numbers_it_gets_alone(name, kind):
    given = {**data(10), **recipe(kind), "epochs": 3, "restart_optimiser_at": [2], "test_epochs": [1, 2]}
    alone, together = networks(name), networks(name)
    seen = given["images"][:3].float() / 255

    def test(network: torch.nn.Module) -> float:
        return float(copy.deepcopy(network).eval()(seen).sum().detach())

    if kind == "soft labels":  # AdamW has a test below: where a gradient is 0, rounding decides
        given["optimiser"] = sgd(0.05)
    wanted = [train(network, seed=seed, test=test, **given) for network, seed in zip(alone, SEEDS, strict=True)]
    found = train_together(together, seeds=SEEDS, test=test, **given)
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.losses == pytest.approx(theirs.losses, rel=1e-4)
        assert [epoch for epoch, _ in mine.tests] == [1, 2]
        assert [value for _, value in mine.tests] == pytest.approx(
            [value for _, value in theirs.tests], rel=1e-3, abs=1e-3
        )
    for one, other in zip(together, alone, strict=True):
        for key, value in other.state_dict().items():
            torch.testing.assert_close(one.state_dict()[key], value, rtol=1e-3, atol=1e-4)


def test_on_a_gpu_they_take_the_launches_of_one_and_can_be_killed():
    given = {**data(12), **recipe("soft labels"), "epochs": 5}  # AdamW
    alone = zip(networks("convnet-1-bn"), SEEDS, strict=True)
    wanted = [train(network, seed=seed, **given) for network, seed in alone]
    kept: list[Any] = []

    class Checkpoint:
        def load(self) -> Any:
            return kept[-1] if kept else None

        def save(self, state: Any) -> None:
            kept.append(copied(state))

    def killed(done: int, *_: Any) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pretended() as gpu:
        there = {**given, "step": steps.soft_label_step(teacher().to("cuda"), temperature=4)}
        loop = Loop("cuda", checkpoint=Checkpoint(), checkpoint_seconds=0, progress=killed)
        with pytest.raises(KeyboardInterrupt):
            train_together(networks("convnet-1-bn"), seeds=SEEDS, **there, loop=loop)
        found = train_together(
            networks("convnet-1-bn"), seeds=SEEDS, **there, loop=Loop("cuda", checkpoint=Checkpoint())
        )
        cost = gpu.cost_of_a_step(
            lambda count: train_together(
                networks("convnet-1-bn"), seeds=SEEDS, **{**there, **data(4 * count), "epochs": 1}, loop=Loop("cuda")
            )
        )
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.losses == pytest.approx(theirs.losses, rel=1e-3)
    assert cost.launches == 2 and not cost.waits  # numbers and a graph, as for one
