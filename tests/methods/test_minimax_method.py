"""Minimax diffusion: its terms and memories, DiffFit, resumption (Gu et al. 2024, train_dit.py)."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from ddbench.experiment.pipeline import distil, prepare_method
from ddbench.plugin.options import Preset
from ddbench.testing.diffusion import tiny_dit

torch = pytest.importorskip("torch")
from ddbench_plugins.diffusion.dit import pipeline as dit  # noqa: E402
from ddbench_plugins.diffusion.dit.small import build_scheduler  # noqa: E402
from ddbench_plugins.diffusion.posteriors import Posteriors  # noqa: E402
from ddbench_plugins.methods.minimax import scales  # noqa: E402
from ddbench_plugins.methods.minimax.finetune import FinetuneSettings, finetune  # noqa: E402
from ddbench_plugins.methods.minimax.terms import Memories, cosines, remember, terms  # noqa: E402
from ddbench_plugins.training.engine import Loop  # noqa: E402

SETTINGS = FinetuneSettings(
    steps=8,
    batch_size=4,
    learning_rate=1e-3,
    lambda_r=0.002,
    lambda_d=0.008,
    memory=3,
    ema_decay=0.9,
    trainable="difffit",
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Tensors this small are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tiny_dit(tmp_path_factory.mktemp("dit"), classes=10)
    (made / dit.CLASSES).write_text(json.dumps([str(digit) for digit in range(10)]))
    return made


def _rows(*rows):
    return torch.tensor(rows, dtype=torch.float32)


# Terms


def test_one_class_and_memories_of_one():
    memories, labels = Memories(1), torch.tensor([0])
    remember(memories, labels, real=_rows([1, 0]), predicted=_rows([0, 2]))
    represent, diversify = terms(_rows([3, 4]), labels, memories)
    assert float(represent) == pytest.approx(1 - 3 / 5)
    assert float(diversify) == pytest.approx(4 / 5)


def test_the_worst_pair_and_the_closest_pair_of_each_class_get_the_gradient():
    memories = Memories(8)
    remember(memories, torch.tensor([0, 0, 1]), _rows([1, 0], [0, 1], [1, 1]), _rows([1, 0], [1, 1], [5, 5]))
    predicted = _rows([2, 1], [1, 3], [0, 7]).requires_grad_()
    represent, diversify = terms(predicted, torch.tensor([0, 0, 1]), memories)
    worst = 1 - cosines(predicted[:2], memories.real[0]).min(), 1 - cosines(predicted[2:], memories.real[1]).min()
    closest = cosines(predicted[:2], memories.made[0]).max(), cosines(predicted[2:], memories.made[1]).max()
    assert float(represent.detach()) == pytest.approx(float(sum(worst).detach()) / 2)
    assert float(diversify.detach()) == pytest.approx(float(sum(closest).detach()) / 2)
    (gradient,) = torch.autograd.grad(represent, predicted)
    # Of class 0, the worst pair is the second prediction with the first real latent.
    assert [bool(row.abs().sum() > 1e-6) for row in gradient] == [False, True, True]


def test_the_first_occurrence_of_a_class_adds_nothing_but_counts_as_a_class():
    memories = Memories(4)
    predicted, labels = _rows([1, 0], [0, 1]), torch.tensor([0, 5])
    assert [float(each) for each in terms(predicted, labels, memories)] == [0, 0]
    remember(memories, torch.tensor([5]), real=_rows([1, 0]), predicted=_rows([0, 1]))
    represent, diversify = terms(predicted, labels, memories)
    assert (float(represent), float(diversify)) == (0.5, 0.5)


def test_memories_drop_the_oldest_of_their_class():
    memories = Memories(2)
    for value in range(1, 4):
        remember(memories, torch.tensor([0]), _rows([value, 0]), _rows([0, value]))
    remember(memories, torch.tensor([1]), _rows([9, 9]), _rows([8, 8]))
    assert memories.real[0][:, 0].tolist() == [2, 3]
    assert memories.made[0][:, 1].tolist() == [2, 3]
    assert (len(memories.real[1]), len(memories.made[1])) == (1, 1)
    again = Memories(2)
    again.load_state_dict(memories.state_dict())
    assert all(torch.equal(again.made[label], memories.made[label]) for label in (0, 1))


def test_no_gradient_goes_through_memories():
    memories, predicted = Memories(2), _rows([1, 2]).requires_grad_()
    remember(memories, torch.tensor([0]), _rows([1, 1]), predicted)
    assert not memories.made[0].requires_grad


# DiffFit


def test_difffit_trains_what_minimax_trains_of_dit_xl():
    from diffusers import DiTTransformer2DModel

    with torch.device("meta"):
        transformer = DiTTransformer2DModel(in_channels=4, out_channels=8)
        for block in transformer.transformer_blocks:
            block.norm1.emb = transformer.transformer_blocks[0].norm1.emb
        scales.add_scales(transformer)
    names = [name for name, _ in transformer.named_parameters() if scales.trained(name)]
    # 15 · width biases in each of 28 blocks, those of the embeddings and of the output, 1001 class vectors, and six
    # scales of the width in each of the first 14 blocks.
    assert sum(transformer.get_parameter(name).numel() for name in names) == 1_739_552
    gammas = {int(name.split(".")[1]) for name in names if name.endswith(".gamma")}
    assert gammas == set(range(14))
    weights = [name for name in names if name.endswith("weight")]
    assert weights == ["transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight"]
    assert "transformer_blocks.27.norm1.linear.bias" in names


def _output(transformer):
    stream = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 4, 8, 8, generator=stream)
    with torch.no_grad():
        return transformer(latents, timestep=torch.tensor([5, 800]), class_labels=torch.tensor([0, 10])).sample


def test_scales_change_nothing_at_first_and_fold_away(folder):
    transformer = dit.load_dit(folder).transformer.eval()
    names, before = list(transformer.state_dict()), _output(transformer)
    scales.add_scales(transformer)
    torch.testing.assert_close(_output(transformer), before)
    gammas = [value for name, value in transformer.named_parameters() if name.endswith(".gamma")]
    assert [len(value) for value in gammas] == [16] * 6
    with torch.no_grad():
        for place, value in enumerate(gammas):
            value.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(place))
    scaled = _output(transformer)
    assert not torch.allclose(scaled, before, atol=1e-4)
    scales.fold_scales(transformer)
    torch.testing.assert_close(_output(transformer), scaled, rtol=1e-4, atol=1e-5)
    assert list(transformer.state_dict()) == names


# Fine-tuning


def _finetuned(folder, checkpoint=None, seconds=60, **changes):
    stream = torch.Generator().manual_seed(1)
    mean = torch.randn(2, 9, 4, 8, 8, generator=stream)
    transformer = dit.load_dit(folder).transformer
    classes = torch.arange(9) % 3
    report = finetune(
        transformer,
        build_scheduler().betas,
        Posteriors(mean, torch.full_like(mean, 0.1), 1.0),
        9 - classes,
        classes,
        replace(SETTINGS, **changes),
        seed=0,
        loop=Loop(checkpoint=checkpoint, checkpoint_seconds=seconds),
    )
    return transformer.state_dict(), report


def _equal(one, other):
    return [name for name in one if torch.equal(one[name], other[name])]


class _Memory:
    def __init__(self, kill_after):
        self.state, self.saves, self.kill_after = None, 0, kill_after

    def load(self):
        return self.state

    def save(self, state):
        import copy

        self.state = copy.deepcopy(state)
        self.saves += 1
        if self.saves == self.kill_after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("kill_after", [1, 3])
def test_a_killed_fine_tuning_ends_with_the_same_model(folder, kill_after):
    whole, report = _finetuned(folder)
    memory = _Memory(kill_after)
    with pytest.raises(KeyboardInterrupt):
        _finetuned(folder, memory, seconds=0)
    resumed, again = _finetuned(folder, memory, seconds=0)
    assert _equal(whole, resumed) == list(whole)
    assert again["curve"] == report["curve"]


def test_difffit_leaves_other_weights_alone(folder):
    before = dit.load_dit(folder).transformer.state_dict()
    after, report = _finetuned(folder)
    kept = _equal(before, after)
    assert "transformer_blocks.1.ff.net.0.proj.weight" in kept
    assert "transformer_blocks.0.norm1.linear.weight" in kept  # the modulation is no norm's parameter
    assert not [name for name in kept if name.endswith("bias")]
    assert "transformer_blocks.0.attn1.to_q.weight" not in kept  # its scale was folded in
    whole, more = _finetuned(folder, trainable="all")
    assert not _equal(before, whole)
    assert more["parameters"] > report["parameters"]


def test_the_terms_pull_their_figures(folder):
    settings = {"steps": 150, "memory": 8, "trainable": "all"}
    plain, without = _finetuned(folder, lambda_r=0.0, lambda_d=0.0, **settings)
    near, represented = _finetuned(folder, lambda_r=20.0, lambda_d=0.0, **settings)
    _, varied = _finetuned(folder, lambda_r=0.0, lambda_d=20.0, **settings)
    assert set(without["curve"]) == {"base", "representativeness", "diversity"}
    assert represented["curve"]["representativeness"][1] < without["curve"]["representativeness"][1] - 0.005
    assert varied["curve"]["diversity"][1] < without["curve"]["diversity"][1] - 0.005
    assert not _equal(plain, near)


def test_the_average_forgets_the_base_without_a_warm_up(folder):
    before = dit.load_dit(folder).transformer.state_dict()
    kept, _ = _finetuned(folder, ema_decay=1.0)
    assert _equal(before, kept) == list(before)


# The method


def _prepared(ctx, data, preset="", **options):
    ctx = replace(ctx, _dataset=data, explicit={"method": options}, preset=Preset.parse(preset))
    return prepare_method(ctx, "minimax", 2, 0)


def test_settings_by_situation(ctx, digits):
    sane, paper, official = (_prepared(ctx, digits, preset)[1].options for preset in ("", "paper", "paper+official"))
    assert (sane.lambda_r, sane.lambda_d, sane.memory, sane.finetune_batch_size) == (0.002, 0.008, 64, 8)
    assert (sane.cfg_channels, sane.trainable) == (4, "difffit")
    for options in (sane, paper):
        assert options.decay**options.finetune_steps <= 0.3 + 1e-9
    assert (paper.backbone, paper.finetune_steps, paper.size) == ("facebook/DiT-XL-2-256", 12000, 256)
    assert (official.decay, official.cfg_channels, official.decoder) == (0.9999, 3, "stabilityai/sd-vae-ft-mse")
    assert official.decay**official.finetune_steps == pytest.approx(0.301, abs=1e-3)


def test_classes_beyond_those_together_start_from_the_base(ctx, digits, folder):
    options = {"backbone": str(folder), "finetune_steps": "3", "steps": "2", "together": "4", "acceptance": "never"}
    made = distil(_prepared(ctx, digits, **options)).content
    assert made.images.shape == (20, 16, 16, 1)
    assert made.labels.tolist() == [label for label in range(10) for _ in range(2)]
    assert [set(each) >= {"model", "finetuned"} for each in made.extra["backbone"]] == [True] * 3
    assert made.extra["backbone"][0]["finetuned"]["trainable"] == "difffit"
    plain = distil(
        prepare_method(
            replace(
                ctx,
                _dataset=digits,
                explicit={"method": {name: options[name] for name in ("backbone", "steps", "acceptance")}},
            ),
            "dit",
            2,
            0,
        )
    ).content
    assert np.abs(plain.images.astype(int) - made.images).max() > 0
    assert set(made.extra["latents"]) == set(plain.extra["latents"]) == {"coverage", "similarity"}
