"""Steps that declare themselves: keys, what a body may read, order, bills, and steps of plugin files."""

from __future__ import annotations

import copy
import dataclasses
import enum
import functools
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ddbench
from ddbench.errors import PluginError
from ddbench.files.locks import leased
from ddbench.plugin.manager import load_plugins
from ddbench.plugin.options import Resolved
from ddbench.runtime.steps import AnyCall, cached, steps_of, walk
from ddbench.runtime.store import StepTaken, lease_of
from ddbench.testing.toy import toy_dataset

VALUE = 1


class Options(ddbench.Options):
    length: int = 3
    rate: float = 0.5
    file: str = ""
    network: str = ""
    batch: int = 8

    @property
    def doubled(self) -> int:
        return 2 * self.length


@ddbench.step(options=["length", "file"], ignore=["batch"], work=lambda ctx: 10 * ctx.options.length)
def first(ctx, out):
    out.info["length"] = ctx.options.doubled + 0 * ctx.options.batch


@ddbench.step(seeds=["draw"], needs=[first], options=["network"])
def second(ctx, out, factor=1):
    out.info["sum"] = first(ctx).info["length"] + factor + 0 * ctx.seed("draw", 3)


@pytest.fixture
def run(ctx):
    return replace(ctx, _dataset=toy_dataset(), resolved=Resolved(Options()), ipc=2)


def with_options(ctx, **values):
    return replace(ctx, resolved=Resolved(Options(**values)))


def test_a_step_makes_what_it_needs_once(run):
    done = second(run, factor=4)
    assert done.info == {"sum": 10} and not done.reused
    assert [entry["step"] for entry in run.ledger] == ["first", "second"]
    again = second(run, 4)
    assert again.reused and again.key == done.key
    assert [entry["step"] for entry in run.ledger] == ["first", "second"]


def test_a_finished_step_is_billed_with_what_it_was_made_from(run):
    second(run)
    other = replace(run, ledger=[])
    second(other)
    assert [entry["step"] for entry in other.ledger] == ["first", "second"]


def test_everything_declared_is_in_the_key_and_nothing_else(run, tmp_path):
    key = second.of(run).key
    assert second.of(with_options(run, batch=9, rate=0.1)).key == key
    assert second.of(replace(run, ipc=3)).key == key
    (tmp_path / "words.txt").write_text("one")
    files = with_options(run, file=str(tmp_path / "words.txt"))
    named = second.of(files).key
    (tmp_path / "words.txt").write_text("two")
    keys = [
        second.of(with_options(run, length=4)).key,
        second.of(replace(run, base_seed=1)).key,
        second.of(run, 2).key,
        named,
        second.of(files).key,
        second.of(with_options(run, network="convnet-3")).key,
        second.of(replace(run, machine=replace(run.machine, precision="bf16"))).key,
    ]
    assert len({key, *keys}) == 1 + len(keys)
    assert first.of(run).key == first.of(replace(run, base_seed=1)).key


@pytest.mark.parametrize(
    ("read", "named"),
    [
        (lambda ctx: ctx.options.rate, "option 'rate'"),
        (lambda ctx: ctx.options.doubled, "option 'length'"),
        (lambda ctx: ctx.seed("draw"), "seed 'draw'"),
        (lambda ctx: ctx.rng("draw"), "seed 'draw'"),
        (lambda ctx: ctx.base_seed, r"ctx\.base_seed"),
        (lambda ctx: ctx.ipc is None, r"ctx\.ipc"),
        (lambda ctx: isinstance(ctx.ipc, int), r"ctx\.ipc"),
        (lambda ctx: ctx.network == "convnet-3", r"ctx\.network"),
        (lambda ctx: ctx.build_network(seed=0), r"ctx\.network"),
        (lambda ctx: ctx.build_network("convnet-1", seed=0), "network 'convnet-1'"),
        (lambda ctx: ctx.method, r"ctx\.method"),
        (lambda ctx: ctx.preset, r"ctx\.preset"),
        (lambda ctx: ctx.match_context(), r"ctx\.ipc"),
        (lambda ctx: first(ctx), "step first"),
        (lambda ctx: ctx.use("captioner", "file"), "captioner 'file'"),
        (lambda ctx: ctx.with_dataset(ctx.dataset).ipc, r"ctx\.ipc"),
        (lambda ctx: ctx.without_options_of("captioner").ipc, r"ctx\.ipc"),
        (lambda ctx: replace(ctx, ipc=2), r"ctx\."),
    ],
)
def test_what_is_not_declared_cannot_be_read(run, read, named):
    @ddbench.step()
    def reader(ctx, out):
        read(ctx)

    with pytest.raises(PluginError, match=f"Step reader .*{named}.* not declare") as caught:
        reader(run)
    assert "@step(" in caught.value.hint


@pytest.mark.parametrize("name", ["resolved", "explicit", "plugins", "store", "ledger"])
def test_what_no_key_holds_cannot_be_read(run, name):
    @ddbench.step(options=["length"], facts=["ipc"])
    def reader(ctx, out):
        getattr(ctx, name)

    with pytest.raises(PluginError, match=rf"Step reader reads ctx\.{name}, which it does not declare"):
        reader(run)


def test_a_step_of_an_instance_that_something_was_set_on_is_refused(run):
    class Stateful(Method):
        @ddbench.step()
        def read(self, ctx, out):
            out.info["rate"] = self.rate

    plugin = Stateful()
    plugin.rate = run.options.rate
    with pytest.raises(PluginError, match="Step read is a method of an instance that holds rate") as caught:
        plugin.read(run)
    assert "argument" in caught.value.hint
    Stateful.rate = 0.25  # a constant of the class
    assert Stateful().read(run).info["rate"] == 0.25


def test_all_options_of_a_plugin_that_a_step_uses_are_in_its_key(run, tmp_path):
    @ddbench.step(uses=[("captioner", "file"), ("network", "convnet-1")])
    def told(ctx, out):
        _, mine, _ = ctx.use("captioner", "file")
        with pytest.raises(PluginError, match=r"Captioner file reads ctx\.ipc"):
            _ = mine.ipc
        out.info.update(path=mine.options.path, features=ctx.build_network("convnet-1", seed=0).classifier.in_features)

    keys = []
    for text in ("one", "two"):
        path = tmp_path / f"{text}.jsonl"
        path.write_text(text)
        chosen = replace(run, explicit={"captioner": {"path": str(path)}})
        keys.append(told.of(chosen).key)
        assert told(chosen).info["path"] == str(path)
    other = load_plugins([Path(__file__).parents[1] / "toy_plugin.py"])
    entry = other.entries["network"]["convnet-1"]
    other.entries["network"]["convnet-1"] = replace(entry, spec=replace(entry.spec, cache_version=99))
    assert len({*keys, told.of(replace(chosen, plugins=other)).key}) == 3


def test_facts_are_declared_like_options(run):
    @ddbench.step(facts=["ipc"])
    def counted(ctx, out):
        out.info["ipc"] = ctx.ipc

    assert counted(run).info["ipc"] == 2
    assert counted.of(run).key != counted.of(replace(run, ipc=3)).key
    with pytest.raises(PluginError, match="facts of a run"):
        ddbench.step(facts=["colour"])(lambda ctx, out: None)


def test_arguments_are_in_the_key_by_content(run, tmp_path):
    @ddbench.step()
    def given(ctx, out, value):
        out.info["here"] = True

    path = tmp_path / "a.bin"
    path.write_bytes(b"one")
    one = given.of(run, path).key
    path.write_bytes(b"two")
    arrays = [np.zeros(3), np.zeros(3, np.float32), np.ones(3), range(2), first.of(run), run.machine, None, 1, "1"]
    assert len({one, given.of(run, path).key, *(given.of(run, each).key for each in arrays)}) == 2 + len(arrays)
    with pytest.raises(PluginError, match="no place in the key"):
        _ = given.of(run, object()).key


class Kind(enum.Enum):
    ONE, TWO = 1, 2


def same_name(field):
    """Return two data classes of one name in two modules, with equal fields."""
    return [
        dataclasses.make_dataclass("Part", [field], frozen=True, namespace={"__module__": module})(1)
        for module in ("one", "two")
    ]


def test_values_of_every_kind_enter_by_content(run):
    torch = pytest.importorskip("torch")

    @ddbench.step()
    def given(ctx, out, value):
        pass

    x = torch.tensor([1.0, 2.0])
    different = [
        *(float("inf"), float("-inf"), float("nan"), 1.5, b"a", b"b", range(3), [0, 3, 1], Kind.ONE, Kind.TWO),
        *({1: "a"}, {"1": "a"}, {1: "b"}, {(1, 2), (2, 1)}, {(1, 2)}, *same_name("width")),
        *(x, -x, x.bfloat16(), -x.bfloat16(), x.half(), x.bool(), x.reshape(1, 2), x.cfloat(), x.cfloat() * 1j),
        *(torch.nn.Parameter(x[:1]), torch.zeros(0), np.float32(2), np.float64([2]), np.array(["a"]), np.array(["b"])),
    ]
    assert len({given.of(run, value).key for value in different}) == len(different)
    for one, other in [
        ({"b", "a", "c"}, {"c", "a", "b"}),
        ({1: "a", 2: "b"}, {2: "b", 1: "a"}),
        ((1j * x).conj(), (1j * x).conj().resolve_conj()),
        (torch.arange(6).reshape(2, 3).T, torch.arange(6).reshape(2, 3).T.contiguous()),
        (np.arange(6).reshape(2, 3).T, np.arange(6).reshape(2, 3).T.copy()),
    ]:
        assert given.of(run, one).key == given.of(run, other).key


def test_what_has_no_content_is_refused_by_name(run):
    torch = pytest.importorskip("torch")

    @ddbench.step()
    def given(ctx, out, value):
        pass

    objects = np.array([object(), None])
    for value in (
        *(objects, np.ma.masked_array([1], [True]), torch.eye(2).to_sparse(), "\ud800", {"a": objects}, [object()]),
        *(test_what_has_no_content_is_refused_by_name, torch.nn.Linear(1, 1), Kind, torch.float32),
    ):
        with pytest.raises(PluginError, match=r"given\(value\) is .*no place in the key of a step"):
            _ = given.of(run, value).key


def test_an_option_that_no_plugin_has_is_named(run):
    @ddbench.step(options=["lenght"])
    def misspelt(ctx, out):
        pass

    with pytest.raises(PluginError, match="declares the option 'lenght'"):
        misspelt(run)


class Method:
    def needs(self, ctx):
        return None

    @ddbench.step(options=["length"], needs=lambda self, ctx: [first.of(ctx)] if ctx.options.length > 2 else [])
    def mine(self, ctx, out):
        out.info["double"] = self.double(ctx.options.length)

    @ddbench.step()
    def told(self, ctx, out, word):
        out.info["word"] = word

    def double(self, value):
        return 2 * value


class Other(Method):
    def double(self, value):
        return 3 * value


def test_methods_are_steps_and_a_class_lists_them(run):
    assert Method().mine(run).info["double"] == 6 and Other().mine(run).info["double"] == 9
    assert Method().told(run, "yes").info["word"] == "yes"
    assert [call.name for call in walk(steps_of(Method(), run))] == ["first", "mine", "told"]
    assert [call.name for call in walk(steps_of(Method(), with_options(run, length=1)))] == ["mine", "told"]


def test_a_killed_step_goes_on(run):
    @ddbench.step()
    def long(ctx, out):
        assert ctx.checkpoint is out
        if (state := out.load()) is None:
            out.save({"at": 5})
            raise KeyboardInterrupt
        out.info["from"] = state["at"]

    with pytest.raises(KeyboardInterrupt):
        long(run)
    assert long(run).info["from"] == 5


def test_work_tells_what_can_be_compared(run):
    effort = first.of(run).effort
    assert effort.amount == 30 and "length" not in effort.comparable_by and effort.comparable_by["file"] == ""
    assert second.of(run).effort is None


def test_the_text_of_a_plugin_file_is_in_the_keys_of_its_steps(run, tmp_path):
    text = (
        "import ddbench\nTABLE = {'a': 1}\n"
        "@ddbench.step()\ndef made(ctx, out):\n    out.info['value'] = TABLE['a']\n"
        "class Mine(ddbench.Distiller):\n    needs = lambda self, ctx: [made]\n    def distill(self, ctx): ...\n"
        "@ddbench.hookimpl\ndef ddbench_methods():\n    return [ddbench.MethodSpec('mine', Mine)]\n"
    )

    def key(folder: str, content: str) -> str:
        path = tmp_path / folder / "mine.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        entry = load_plugins([path]).get("method", "mine")
        return steps_of(entry.spec.load()(), run)[0].key

    plain = key("a", text)
    assert key("b", text) == plain  # wherever it lies
    assert key("c", text.replace("{'a': 1}", "{'a': 2}")) != plain


def test_the_text_of_a_plugin_file_is_in_the_keys_of_steps_that_its_class_inherits(run, tmp_path):
    def key(value: str, name: str = "Mine") -> str:
        (tmp_path / "mine.py").write_text(
            f"import ddbench\nfrom {Method.__module__} import Method\n"
            f"class {name}(Method, ddbench.Distiller):\n    def distill(self, ctx): ...\n"
            f"    def double(self, value): return {value}\n"
            f"@ddbench.hookimpl\ndef ddbench_methods():\n    return [ddbench.MethodSpec('mine', {name})]\n"
        )
        return load_plugins([tmp_path / "mine.py"]).get("method", "mine").spec.load()().mine.of(run).key

    assert len({key("1"), key("2"), key("1", "Other"), Method().mine.of(run).key}) == 4
    assert key("1") == key("1")


def test_plugins_of_one_name_in_two_modules_have_steps_of_their_own(run):
    kinds = [type("Same", (Method,), {"__module__": module}) for module in ("one", "two")]
    assert len({kind().mine.of(run).key for kind in kinds}) == 2


def _squares(ctx, out, part, power=2):
    start, stop = part
    models.append(ctx.loaded(lambda: len(models)))
    if broken == part:
        raise KeyboardInterrupt
    out.info["values"] = [row**power for row in range(start, stop)]


@ddbench.step(
    options=["length"],
    needs=[first],
    work=lambda ctx, power: ctx.options.length,
    shards=lambda ctx, power: [
        (start, min(start + 2, ctx.options.length)) for start in range(0, ctx.options.length, 2)
    ],
    shard=_squares,
)
def squares(ctx, out, power=2):
    out.info["values"] = [value for shard in out.shards for value in shard.info["values"]]


models: list[int] = []
broken: tuple[int, int] | None = None


@pytest.fixture
def broken_at(monkeypatch):
    models.clear()
    return lambda part: monkeypatch.setattr("test_steps.broken", part)


def test_a_step_in_shards_is_theirs_together_and_has_the_bill(run, broken_at):
    mine = with_options(run, length=5)
    done = squares(mine, power=3)
    assert done.info["values"] == [0, 1, 8, 27, 64]
    assert models == [0, 0, 0]  # loaded once
    shards = [shard.found() for shard in squares.of(mine, power=3).shards]
    assert [shard.info["values"] for shard in shards] == [[0, 1], [8, 27], [64]]
    (before, entry) = mine.ledger
    assert (before["step"], entry["step"]) == ("first", "squares")
    assert entry["seconds"] >= sum(shard.seconds for shard in shards)
    keys = {squares.of(other, power=3).key for other in (mine, replace(mine, ipc=9), with_options(run, length=6))}
    assert len(keys) == 2 and squares.of(mine).key not in keys
    assert len({shard.key for shard in (*shards, *squares.of(mine).shards)}) == 6


def test_an_interrupted_step_goes_on_with_the_shard_that_is_missing(run, broken_at):
    mine = with_options(run, length=5)
    broken_at((2, 4))
    with pytest.raises(KeyboardInterrupt):
        squares(mine)
    whole = squares.of(mine)
    assert [shard.path.exists() for shard in whole.shards] == [True, False, False] and not whole.path.exists()
    broken_at(None)
    models.clear()
    assert squares(mine).info["values"] == [0, 1, 4, 9, 16] and len(models) == 2


def test_seconds_of_steps_inside_an_interrupted_one_are_not_billed_twice(run, broken_at):

    @ddbench.step()
    def inner(ctx, out):
        time.sleep(0.1)
        if not models:
            models.append(1)
            raise KeyboardInterrupt

    @ddbench.step(needs=[inner])
    def outer(ctx, out):
        pass

    def distilling(step):
        outer(run)
        if len(models) == 1:
            models.append(2)
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            cached(run, "set", {}, distilling)
    done = cached(run, "set", {}, distilling)
    assert done.marker["costs"]["inside_seconds"] >= 0.2 and inner(run).seconds >= 0.2
    assert done.seconds - done.cost()["seconds"] >= 0.199


def test_a_shard_that_another_process_makes_is_left_to_it_and_the_others_are_made(run, broken_at):
    mine = with_options(run, length=5)
    first(mine)
    told = []
    mine.store.waits, mine.store.divides = False, lambda step, missing: told.append((step, missing))
    whole = squares.of(mine)
    assert whole.help() and whole.shards[0].path.exists() and told == []
    (mine.store.root / "squares-shard").mkdir(exist_ok=True)
    with leased(lease_of(whole.shards[1].path)):
        with pytest.raises(StepTaken, match="squares-shard is being built by another process"):
            squares(mine)
        assert [shard.path.exists() for shard in whole.shards] == [True, False, True] and not whole.help()
        assert told == [(whole.path, 2), (whole.path, 0)]
    assert squares(mine).info["values"] == [0, 1, 4, 9, 16]


def test_a_shard_loads_once_as_it_would_get_the_same_thing_twice(run):
    def both(ctx, out, part):
        assert ctx.loaded(lambda: "a model") == "a model"
        ctx.loaded(lambda: "another")

    @ddbench.step(shards=range(2), shard=both)
    def loading(ctx, out):
        pass

    @ddbench.step()
    def whole(ctx, out):
        out.info["loaded"] = [ctx.loaded(lambda: "a model"), ctx.loaded(lambda: "another")]

    with pytest.raises(PluginError, match=r"calls ctx\.loaded twice"):
        loading(run)
    assert whole(run).info["loaded"] == ["a model", "another"]


@pytest.mark.parametrize("half", [{"shards": range(2)}, {"shard": _squares}])
def test_shards_and_what_builds_one_are_declared_together(half):
    with pytest.raises(PluginError, match="only one of `shards`"):
        ddbench.step(**half)(lambda ctx, out: None)


def test_a_step_in_shards_has_some(run):
    @ddbench.step(shards=lambda ctx: [], shard=_squares)
    def empty(ctx, out):
        pass

    with pytest.raises(PluginError, match="empty is made in shards, and names none"):
        empty(run)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("def distill(self, ctx): ctx.step('mine', {}, lambda step: None)", r"ctx\.step\('mine', inputs, build\)"),
        ("def stages(self, ctx): return ()\n    distill = stages", r"defines stages\(\)"),
        ("def distill(self, ctx): return ddbench.Effort(1, {})", r"ddbench\.Effort is no longer there"),
    ],
)
def test_a_plugin_of_the_way_before_is_told_what_to_change(tmp_path, body, named):
    path = tmp_path / "old.py"
    path.write_text(
        f"import ddbench\nclass Old(ddbench.Distiller):\n    {body}\n"
        "@ddbench.hookimpl\ndef ddbench_methods():\n    return [ddbench.MethodSpec('old', Old)]\n"
    )
    toy = Path(__file__).parents[1] / "toy_plugin.py"
    with pytest.raises(PluginError, match=named):
        ddbench.distill("old", dataset="toy", ipc=1, plugins=[path, toy])


def test_files_stay_in_the_folder(run):
    @ddbench.step(name="named")
    def kept(ctx, out):
        (out.dir / "a.txt").write_text("here")

    done = kept(run)
    assert done.name == "named" and (Path(done.dir) / "a.txt").read_text() == "here"


def test_options_are_dumped_as_far_as_they_are_declared(run):
    @ddbench.step(options=["length", "rate"])
    def dumped(ctx, out):
        out.info.update(ctx.options.model_dump())

    assert dumped(run).info == {"length": 3, "rate": 0.5}


def test_networks_inside_of_arguments_count_with_their_versions(run):
    @ddbench.step()
    def nested(ctx, out, settings):
        pass

    assert "network/convnet-1" in nested.of(run, {"teachers": ["convnet-1"]}).inputs["uses"]


def test_a_preset_and_cached_properties_are_read_only_where_declared(run):
    @ddbench.step()
    def undeclared(ctx, out):
        out.info["scale"] = ctx.preset.scale

    @ddbench.step(facts=["preset"])
    def declared(ctx, out):
        out.info["scale"] = ctx.preset.scale

    with pytest.raises(PluginError, match=r"reads ctx\.preset"):
        undeclared(run)
    assert declared(run).info == {"scale": "cpu"}
    paper = replace(run, preset=type(run.preset).parse("paper"))
    assert declared.of(paper).key != declared.of(run).key


def test_other_images_need_another_fingerprint(run):
    data = run.dataset
    fewer = replace(data, train=replace(data.train))
    with pytest.raises(PluginError, match="has the fingerprint of toy"):
        run.with_dataset(fewer)
    other = replace(fewer, fingerprint=ddbench.digest([data.fingerprint, "fewer"]))
    assert run.with_dataset(other).dataset is other


def made_by(rate):
    @ddbench.step(name="factory")
    def made(ctx, out):
        out.info["rate"] = rate

    return made


def test_what_a_step_closes_over_is_in_its_key(run):
    assert [made_by(rate)(run).info["rate"] for rate in (1, 2)] == [1, 2]
    with pytest.raises(PluginError, match=r"made: rate, which is <object .*no place in the key"):
        made_by(object())(run)


def test_classes_of_one_name_are_told_apart_by_their_constants(run):
    class Rated(Method):
        tool = object()  # which is no constant

        @ddbench.step()
        def read(self, ctx, out):
            out.info["rate"] = self.rate

    kinds = [type("Made", (Rated,), {"rate": rate}) for rate in (1, 2)]
    assert [kind().read(run).info["rate"] for kind in kinds] == [1, 2]


FROM_OUTSIDE = """
import ddbench
from toy_plugin import ToyMethod
RATE = 0
class Options(ToyMethod.Options):
    rate: int = 1
class Mine(ToyMethod):
    Options = Options
    __slots__ = ("rate",)
    def distill(self, ctx):
        global RATE
        {body}
        self.read(ctx)
        return super().distill(ctx)
    @ddbench.step()
    def read(self, ctx, out):
        helped()
def helped(): return RATE
@ddbench.hookimpl
def ddbench_methods(): return [ddbench.MethodSpec("mine", Mine)]
"""


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("RATE = ctx.options.rate", "uses the step read, which it does not declare"),
        ("type(self).shared = ctx.options.rate", "uses the step read, which it does not declare"),
        ("self.rate = ctx.options.rate", "an instance that holds rate"),
        ("ctx.rate = ctx.options.rate", r"ctx\.rate is set, which steps would read"),
        ("ctx.preset.scale", r"Method mine reads ctx\.preset"),
        ("ctx.explicit", r"Method mine reads ctx\.explicit"),
        ("ctx.resolved.sources", r"Method mine reads ctx\.resolved"),
    ],
)
def test_what_a_method_tells_its_steps_by_other_ways_is_refused(tmp_path, body, named):
    path = tmp_path / "mine.py"
    path.write_text(FROM_OUTSIDE.format(body=body))
    with pytest.raises(PluginError, match=named):
        ddbench.distill("mine", dataset="toy", ipc=1, plugins=[path, Path(__file__).parents[1] / "toy_plugin.py"])


def test_files_that_arguments_name_enter_by_content(run, tmp_path):
    @ddbench.step()
    def given(ctx, out, value):
        pass

    keys = []
    for text in ("one", "two"):
        (tmp_path / "words.txt").write_text(text)
        keys += [given.of(run, str(tmp_path / "words.txt")).key, given.of(run, [str(tmp_path / "words.txt")]).key]
    assert len(set(keys)) == 4
    assert given.of(run, "words").key != given.of(run, "words.txt").key


def test_values_with_attributes_are_refused(run):
    @ddbench.step()
    def given(ctx, out, value):
        pass

    table = type("Table", (dict,), {})(a=1)
    table.rate = 0.5
    with pytest.raises(PluginError, match=r"given\(value\) is a Table with rate"):
        given(run, table)


def test_a_step_of_any_arguments_stands_for_all_that_it_says_without_them(run, tmp_path):
    class Judge(Method):
        @ddbench.step(uses=[("captioner", "file")], needs=[first], identity=lambda self, ctx: {"file": told[0]})
        def judged(self, ctx, out, number):
            pass

        @ddbench.step(identity=lambda self, ctx, number: {"number": number})
        def numbered(self, ctx, out, number):
            pass

        def needs(self, ctx):
            return [self.judged]

    def key(of):
        (call,) = steps_of(Judge(), of)
        return call.key

    def captioned(name):
        (tmp_path / name).write_text(name)
        return replace(run, explicit={"captioner": {"path": str(tmp_path / name)}})

    told, one = ["a"], captioned("one.jsonl")
    plain = key(one)
    others = [key(with_options(one, length=4)), key(captioned("two.jsonl"))]
    told[0] = "b"
    assert len({plain, *others, key(one)}) == 4
    with pytest.raises(PluginError, match="Step numbered tells its identity by its arguments") as caught:
        _ = AnyCall(Judge().numbered, run).key
    assert "numbered.of(ctx, …)" in caught.value.hint


def test_a_step_may_need_the_one_that_it_overrides(run):
    class Tenfold(Method):
        @ddbench.step(options=["length"], needs=[Method.mine])
        def mine(self, ctx, out):
            out.info["double"] = 10 * super().mine(ctx).info["double"]

    assert Tenfold().mine(run).info["double"] == 60


def test_options_of_a_step_can_be_copied_and_listed(run):
    @ddbench.step(options=["length", "rate"])
    def copied(ctx, out):
        out.info.update(dict(copy.copy(ctx.options)) | dict(copy.deepcopy(ctx.options)))

    assert copied(run).info == {"length": 3, "rate": 0.5}


def test_only_functions_are_steps():
    with pytest.raises(PluginError, match=r"declares a function or a method, not functools\.partial"):
        ddbench.step()(functools.partial(made_by, 1))
