"""MVL and LoRS (Wu et al. 2023, distill.py; Xu et al. 2024, distill_tesla_lors.py): the self-tests of pairs."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest

import ddbench
from ddbench.experiment.pipeline import check_fit, distil, evaluate, held, prepare_evaluator, prepare_method
from ddbench.plugin.options import Preset, resolve
from ddbench.sets.folder import content_digest
from ddbench.testing.toy import toy_dataset

torch = pytest.importorskip("torch")
from ddbench_plugins.methods.mvl.distiller import MVL, LoRS  # noqa: E402
from ddbench_plugins.methods.mvl.experts import parameters  # noqa: E402
from ddbench_plugins.methods.mvl.matching import (  # noqa: E402
    PairMatching,
    Plan,
    Rank,
    Rates,
    Settings,
    SyntheticPairs,
)
from ddbench_plugins.pairs.branches import Flat, Head, cosines  # noqa: E402
from ddbench_plugins.pairs.losses import LOSSES, infonce, wbce  # noqa: E402

TOY = toy_dataset(channels=3)
RATES = Rates(10.0, 10.0, 1e-3, 1.0, 0.1, 0.0)
SETTINGS = Settings(2, 1, 1, 4, "infonce", 2.66, False, "unrolled", False, 0.0, False, 0)


@pytest.fixture(autouse=True)
def _exact():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def _matching(count=5, similarity=False, **settings):
    """Matching of two heads on vectors: images of 2×2 pixels are flattened as they are."""
    branches = Flat(Head(12, 6)), Flat(Head(7, 6))
    rank = Rank.begun(count, 2, 1.5, 3, "cpu") if similarity else None
    pairs = SyntheticPairs(
        torch.randn(count, 3, 2, 2), torch.zeros(count), torch.randn(count, 7), RATES, rank, lambda p: {}
    )
    return PairMatching(pairs, [], branches, lambda images: images.flatten(1), replace(SETTINGS, **settings))


def _ends(matching):
    starts = [torch.randn(sum(map(math.prod, branch.shapes.values()))) / 3 for branch in matching.branches]
    return starts, [start + torch.randn_like(start) / 9 for start in starts]


def _losses(matching, starts, targets, plans):
    missing, whole = matching.distances(starts, targets, plans)
    return [part / start for part, start in zip(missing, whole, strict=True)]


def test_losses_by_hand():
    logits, one = torch.tensor([[2.0, -1.0], [0.5, 1.0]]), torch.eye(2)
    rows = -(logits.log_softmax(1).diag().mean() + logits.log_softmax(0).diag().mean()) / 2
    assert infonce(logits, one) == pytest.approx(rows.item())
    p = logits.sigmoid()
    positive, negative = -(p.diag() + 1e-6).log().mean(), -(1 - p[[0, 1], [1, 0]] + 1e-6).log().mean()
    assert wbce(logits, one) == pytest.approx(((positive + negative) / 2).item(), rel=1e-5)
    soft = torch.tensor([[0.9, 0.6], [-0.2, 0.4]])  # two are positive, and one leaves [0, 1]
    assert all(torch.isfinite(loss(logits, soft)) for loss in LOSSES.values())
    each = -soft * (p + 1e-6).log() - (1 - soft) * (1 - p + 1e-6).log()
    assert wbce(logits, soft) == pytest.approx(((each[0].sum() + each[1].sum()) / 4).item(), rel=1e-5)


def test_a_similarity_begins_as_the_identity_and_only_a_and_r_move():
    rank = Rank.begun(4, 2, 3.0, 1, "cpu")
    assert torch.equal(rank.of(torch.arange(4)), torch.eye(4))
    matching = _matching(similarity=True, inner_loss="wbce")
    starts, targets = _ends(matching)
    sum(_losses(matching, starts, targets, matching.plans(0))).backward()
    learned = matching.pairs.similarity
    assert learned.left.grad.abs().max() == 0
    assert min(learned.right.grad.abs().max(), learned.diagonal.grad.abs().max()) > 0


def test_no_step_or_no_rate_is_a_loss_of_one_each_and_the_own_step_of_none():
    matching = _matching()
    starts, targets = _ends(matching)
    assert [loss.item() for loss in _losses(matching, starts, targets, [])] == [1, 1]
    plans = matching.plans(0)[:1]
    path = [start.requires_grad_() for start in starts]
    inner = matching.inner(path, matching.inputs(matching.pairs.images), matching.pairs.texts, plans[0])
    reached = [(start - 0.1 * by).detach() for start, by in zip(path, torch.autograd.grad(inner, path), strict=True)]
    assert [loss.item() for loss in _losses(matching, starts, reached, plans)] == pytest.approx([0, 0], abs=1e-12)
    with torch.no_grad():
        matching.pairs.rates.zero_()
    assert [loss.item() for loss in _losses(matching, starts, targets, plans)] == [1, 1]


def test_gradients_are_those_of_finite_differences():
    matching = _matching(similarity=True, inner_loss="wbce", syn_steps=3)
    (starts, targets), plans, pairs = _ends(matching), matching.plans(1), matching.pairs
    with torch.no_grad():
        pairs.similarity.right.normal_()

    def loss():
        return sum(_losses(matching, starts, targets, plans))

    loss().backward()
    chosen = plans[0].rows[0].item()
    learned = (pairs.images, pairs.texts, pairs.rates, *pairs.similarity[:3])
    for tensor, place in zip(
        learned, ((chosen, 0, 0, 1), (chosen, 2), (0,), (chosen,), (chosen, 1), (chosen, 0)), strict=True
    ):
        found, small = tensor.grad[place].item(), 1e-5
        reached = []
        for move in (small, -2 * small):
            tensor.data[place] += move
            reached.append(loss().item())
        tensor.data[place] += small
        assert found == pytest.approx((reached[0] - reached[1]) / (2 * small), rel=1e-4, abs=1e-9)


def test_teslas_gradient_is_the_unrolled_one_for_one_step_only():
    def gradient(kind, steps):
        torch.manual_seed(1)
        matching = _matching(gradient=kind, syn_steps=steps)
        starts, targets = _ends(matching)
        sum(_losses(matching, starts, targets, matching.plans(0))).backward()
        return matching.pairs.images.grad

    assert torch.allclose(gradient("tesla", 1), gradient("unrolled", 1), rtol=1e-8)
    assert not torch.allclose(gradient("tesla", 3), gradient("unrolled", 3), rtol=1e-3)


def test_merged_branches_of_equal_distances_give_half_the_gradient_but_of_the_rates():
    def gradients(merge):
        torch.manual_seed(2)
        matching = _matching()
        starts, targets = _ends(matching)
        width = (targets[0] - starts[0]).norm() / (targets[1] - starts[1]).norm()
        targets[1] = starts[1] + (targets[1] - starts[1]) * width
        missing, whole = matching.distances(starts, targets, matching.plans(0))
        loss = sum(part / start for part, start in zip(missing, whole, strict=True))
        matching.backward(loss, sum(missing) / sum(whole) if merge else loss)
        return matching.pairs.images.grad, matching.pairs.rates.grad

    (merged, rates), (plain, same) = gradients(True), gradients(False)
    assert torch.allclose(2 * merged, plain) and torch.allclose(rates, same)


def test_pairs_in_no_mini_batch_have_no_gradient_and_batches_follow_a_permutation():
    matching = _matching(count=7, batch_syn=3, similarity=True, inner_loss="wbce")
    plans = matching.plans(0)
    used = torch.cat([plan.rows for plan in plans])
    assert len(used.unique()) == 6
    (left,) = set(range(7)) - set(used.tolist())
    with torch.no_grad():
        matching.pairs.similarity.right.normal_()
    sum(_losses(matching, *_ends(matching), plans)).backward()
    pairs = matching.pairs
    for part in (pairs.images, pairs.texts, *pairs.similarity[:3]):
        assert part.grad[left].abs().max() == 0 and part.grad[used[0]].abs().max() > 0
    assert [plan.rows.tolist() for plan in matching.plans(0)] == [plan.rows.tolist() for plan in plans]


def test_mvl_draws_every_mini_batch_from_all_pairs():
    anew, others = (_matching(count=6, batch_syn=3, syn_steps=4, anew=anew).plans(0) for anew in (True, False))
    assert len({*others[0].rows.tolist(), *others[1].rows.tolist()}) == 6
    assert any(len({*a.rows.tolist(), *b.rows.tolist()}) < 6 for a, b in itertools.pairwise(anew))
    assert (MVL.anew, LoRS.anew) == (True, False)
    whole = [_matching(count=4, batch_syn=9, syn_steps=4, anew=anew).plans(0) for anew in (True, False)]
    assert [plan.rows.tolist() for plan in whole[0]] == [plan.rows.tolist() for plan in whole[1]]


def test_mixing_with_a_share_of_one_changes_nothing():
    matching = _matching()
    starts, targets = _ends(matching)
    plain = Plan(torch.arange(4), (None, None), None)
    whole, half = (plain._replace(mixed=(share, torch.tensor([1, 2, 3, 0]))) for share in (1.0, 0.5))
    found = [sum(_losses(matching, starts, targets, [plan])).item() for plan in (plain, whole, half)]
    assert found[0] == found[1] != found[2]
    assert all(plan.mixed is not None for plan in replace_mix(matching, 1.0).plans(0))


def replace_mix(matching, mix):
    matching.settings = replace(matching.settings, mix=mix)
    return matching


def test_rates_stay_above_their_bound_or_end_the_run():
    matching = _matching()
    for smallest, wanted in ((0.05, 0.05), (0.0, None)):
        matching.pairs.smallest = smallest
        matching.pairs.rates.grad = torch.full((2,), 1e3)
        if wanted is None:
            with pytest.raises(ddbench.DivergedError, match="cannot be trained with them") as caught:
                matching.pairs.update()
            assert "method.min_rate" in caught.value.hint
        else:
            matching.pairs.update()
            assert matching.pairs.rates.tolist() == [wanted] * 2


def _prepared(ctx, encoder, name, ipc=2, preset="", seed=0, data=TOY, **options):
    given = {
        "text_encoder": str(encoder), "image_encoder": "convnet-1", "trained": "encoder", "experts": "1",
        "train_epochs": "2", "iterations": "2", "lr_img": "1", "lr_text": "1",
    }  # fmt: skip
    evaluator = {key: given[key] for key in ("text_encoder", "image_encoder", "trained")} | {"epochs": "2"}
    ctx = replace(
        ctx,
        _dataset=data,
        explicit={"method": given | options, "evaluator": evaluator},
        preset=Preset.parse(preset),
    )
    return prepare_method(ctx, name, ipc, seed), ctx


@pytest.fixture
def usual():
    torch.set_default_dtype(torch.float32)


def test_a_set_holds_texts_rates_and_what_they_mean_and_is_evaluated(ctx, text_encoder, usual):
    bound, data = _prepared(ctx, text_encoder, "mvl")
    made = distil(bound)
    content = made.content
    assert content.labels.tolist() == [0, 0, 1, 1, 2, 2] and content.space == "normalized"
    assert content.texts.embeddings.shape == (6, 16) and content.texts.encoder == "tiny-bert"
    assert content.texts.learning_rate and content.learning_rate and len(content.prompts) == 6
    assert content.similarity is None
    record = evaluate(prepare_evaluator(data, "retrieval", "", 2), made, repeats=1)
    assert record.result.metrics[0]["learning_rate"] == pytest.approx(content.learning_rate)
    assert record.distilled.extra["texts"]["embeddings"] == [6, 16]
    assert distil(_prepared(ctx, text_encoder, "mvl", seed=1)[0]).digest != made.digest
    changed = [
        replace(content, learning_rate=0.5),
        replace(content, texts=replace(content.texts, learning_rate=0.5)),
        replace(content, texts=replace(content.texts, embeddings=content.texts.embeddings + 1)),
    ]
    assert len({made.digest, *map(content_digest, changed)}) == 4


def test_a_similarity_is_paid_for_in_pairs(ctx, text_encoder, usual):
    made = distil(_prepared(ctx, text_encoder, "lors", rank="3")[0]).content
    pair = TOY.image_size**2 * 3 + 16
    assert made.labels.tolist() == [0, 0, 1, 1, 2]
    assert made.numbers == 5 * (pair + 7) <= 6 * pair
    assert made.similarity.matrix().shape == (5, 5) and made.similarity.alpha == 1
    with pytest.raises(ddbench.UsageError, match="no segments"):
        distil(_prepared(ctx, text_encoder, "lors", max_start_epoch="3")[0])


def test_a_budget_without_room_for_a_pair_is_refused_beforehand(ctx, text_encoder, usual):
    one = replace(toy_dataset(channels=3), class_names=("thing",), class_ids=("thing",))
    split = {part: replace(getattr(one, part), labels=getattr(one, part).labels * 0) for part in ("train", "test")}
    with pytest.raises(ddbench.UsageError, match="no room for a pair with its similarity"):
        _prepared(ctx, text_encoder, "lors", ipc=1, data=replace(one, **split))
    assert _prepared(ctx, text_encoder, "lors", ipc=2, data=replace(one, **split))


@pytest.mark.parametrize("method", ["mvl", "lors"])
def test_an_evaluator_with_another_text_encoder_is_refused_beforehand(ctx, text_encoder, usual, method):
    bound, data = _prepared(ctx, text_encoder, method)
    check_fit(prepare_evaluator(data, "retrieval", "", 2), method, held(bound))
    for changed in ({"text_encoder": "minilm"}, {"text_encoder": "bert-base-nowhere"}, {"pooling": "mean"}):
        given = {**data.explicit["evaluator"], **changed}
        other = replace(data, method=method, explicit={**data.explicit, "evaluator": given})
        with pytest.raises(ddbench.UsageError, match=f"The texts of {method} will be vectors of another encoder"):
            check_fit(prepare_evaluator(other, "retrieval", "", 2), method, held(bound))


def test_experts_follow_plain_steps(ctx, text_encoder, usual):
    from ddbench_plugins.methods.mvl.experts import pair_expert
    from ddbench_plugins.pairs.branches import SCALE, kept
    from ddbench_plugins.pairs.setting import Setting
    from ddbench_plugins.training.seeding import make_generator

    bound, _ = _prepared(ctx, text_encoder, "mvl", expert_batch="1000")
    folder = pair_expert(bound.ctx, MVL.recipe(bound.ctx), 0).dir
    seed = ddbench.derive_seed(0, "mvl expert", 0)
    setting = Setting(bound.ctx, bound.ctx.options, seed)
    branches, known = setting.branches(seed), setting.captions
    flat = Flat(branches.image), Flat(branches.text)
    start = [parameters(folder, name, 0, "cpu").requires_grad_() for name in ("image", "text")]
    generator = make_generator(seed, "epoch", 0)
    rows = torch.randperm(len(TOY.train), generator=generator)
    _, mask = (kept(len(rows), branches.text.first.out_features, generator, "cpu") for _ in range(2))
    logits = SCALE * cosines(
        flat[0](start[0], setting.real("train")(rows)), flat[1](start[1], setting.texts(known.vectors[rows]), mask)
    )
    by = torch.autograd.grad(infonce(logits, torch.eye(len(rows))), start)
    for name, begun, gradient in zip(("image", "text"), start, by, strict=True):
        assert torch.allclose(parameters(folder, name, 1, "cpu"), begun - 0.1 * gradient, atol=1e-5)


def test_presets_are_the_papers():
    from ddbench_plugins.methods.mvl.distiller import MVL, LoRS

    found = resolve(LoRS, "lors", {"ipc": 500}, Preset.parse("paper+official"), {})
    options = found.values
    assert (options.rank, options.alpha, options.lr_similarity, options.batch_syn) == (20, 0.01, 100, 40)
    assert (options.gradient, options.inner_dropout, options.min_rate, options.trained) == ("tesla", True, 0, "encoder")
    assert found.experiment["eval"][0] == "retrieval"
    plain = resolve(MVL, "mvl", {"ipc": 100}, Preset.parse("paper"), {}).values
    assert (plain.iterations, plain.experts, plain.lr_img, plain.syn_steps) == (50_000, 20, 1000, 8)
    assert plain.inner_scale == math.log(1 / 0.07)


def test_networks_with_batch_norm_are_refused(ctx, text_encoder, usual):
    with pytest.raises(ddbench.UsageError, match="batch norm"):
        _prepared(ctx, text_encoder, "mvl", image_encoder="convnet-1-bn")
