"""What a captioner depends on: cached steps and seeds that it names, nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ddbench_plugins.captioners.metadata import read_metadata
from ddbench_plugins.diffusion.captions import captions

import ddbench
from ddbench.errors import PluginError
from ddbench.plugin.manager import load_plugins
from ddbench.testing.toy import toy_dataset

TEXT = """
import ddbench

class Options(ddbench.Options):
    word: str = "bright"

class Mine(ddbench.Captioner):
    Options = Options
    {attributes}

    @ddbench.step(options=["word"], facts=[{facts}])
    def measured(self, ctx, out):
        out.info["mean"] = float(ctx.dataset.train.images.batch([0], 4).mean())
        {measure}

    def caption(self, ctx, split, class_names, size):
        return [f"{{{read}}}"] * len(split)

@ddbench.hookimpl
def ddbench_captioners():
    return [ddbench.CaptionerSpec("mine", Mine, "says what it was told")]
"""


@pytest.fixture
def run(ctx, tmp_path):
    def made(read, attributes="", facts="", measure="", **changes):
        path = tmp_path / "mine.py"
        path.write_text(TEXT.format(read=read, attributes=attributes, facts=facts, measure=measure))
        return replace(ctx, plugins=load_plugins([path]), _dataset=toy_dataset(), ipc=1, **changes)

    return made


def texts(ctx):
    return {text for _, text in read_metadata(captions(ctx, "mine").dir / "metadata.jsonl")}


def test_a_captioner_has_cached_steps(run):
    ctx = run("self.measured(ctx).info['mean']:.3f")
    assert texts(ctx) == {f"{toy_dataset().train.images.batch([0], 4).mean():.3f}"}
    assert [entry["step"] for entry in ctx.ledger] == ["measured", "captions"]
    key = captions.of(ctx, "mine").key
    assert captions.of(replace(ctx, base_seed=1, ipc=5), "mine").key == key
    other = replace(ctx, explicit={"captioner/mine": {"word": "dark"}})
    assert captions.of(other, "mine").key != key


def test_what_its_steps_declare_asks_for_other_captions(run):
    ctx = run("self.measured(ctx).info['ipc']", facts="'ipc'", measure="out.info['ipc'] = ctx.ipc")
    assert texts(ctx) == {"1"}
    assert texts(replace(ctx, ipc=2, ledger=[])) == {"2"}


def test_a_seeded_captioner_draws_and_captions_anew_for_every_seed(run):
    ctx = run("ctx.rng('words', 1).integers(1000)", attributes="seeded = True")
    seeds = [replace(ctx, base_seed=seed, ledger=[]) for seed in (0, 1)]
    for each in seeds:
        assert texts(each) == {str(each.rng("words", 1).integers(1000))}
    assert len({captions.of(each, "mine").key for each in seeds}) == 2


@pytest.mark.parametrize(
    ("read", "attributes", "named", "fix"),
    [
        ("ctx.seed('words')", "", "draws the seed 'words'", "seeded = True"),
        ("ctx.base_seed + 1", "", r"reads ctx\.base_seed", "seeded = True"),
        ("ctx.ipc + 1", "seeded = True", r"reads ctx\.ipc", "may declare facts"),
        ("ctx.method", "", r"reads ctx\.method", "may declare facts"),
        ("self.measured(ctx)", "needs = lambda self, ctx: ()", "uses the step measured", "`needs`"),
    ],
)
def test_what_it_does_not_name_is_refused_with_its_name_and_what_to_do(run, read, attributes, named, fix):
    with pytest.raises(PluginError, match=f"Captioner mine {named}") as caught:
        texts(run(read, attributes))
    assert fix in caught.value.hint


def test_built_in_captions_do_not_depend_on_the_seed(run):
    for name in ("attributes", "traits", "file", "llava"):
        assert not run("1").use("captioner", name).plugin.seeded
    ctx = run("1")
    assert captions.of(ctx, "attributes").key == captions.of(replace(ctx, base_seed=1), "attributes").key
    assert isinstance(ctx.use("captioner", "attributes").plugin, ddbench.Captioner)
