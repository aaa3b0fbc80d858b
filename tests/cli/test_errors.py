import json

import click
import pytest

from ddbench import cli
from ddbench.errors import DataError, StorageError


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(list(arguments))
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


@pytest.fixture
def failing(monkeypatch):
    """Make `ddbench list` raise what a test wants."""

    def arrange(error):
        @click.command("list")
        def command():
            raise error

        monkeypatch.setattr(cli.LazyGroup, "get_command", lambda self, ctx, name: command)

    return arrange


@pytest.mark.parametrize("error", [DataError("no images", hint="unpack them"), StorageError("disk full", hint="free")])
def test_explained_errors_have_a_hint_and_a_code_and_no_traceback(capsys, failing, error):
    failing(error)
    code, out, err = run(capsys, "list")
    assert code == error.exit_code
    assert out == ""
    assert err == f"error: {error}\n  → {error.hint}\n"


def test_unexpected_errors_say_how_to_see_more(capsys, failing):
    failing(KeyError("x"))
    code, _, err = run(capsys, "list")
    assert code == 1
    assert err.startswith("error: unexpected KeyError: 'x'\n") and "--traceback" in err
    assert "Traceback" not in err


def test_the_traceback_is_shown_when_asked_for(failing, monkeypatch):
    failing(KeyError("x"))
    with pytest.raises(KeyError):
        cli.main(["list", "--traceback"])
    monkeypatch.setenv("DDBENCH_DEBUG", "1")
    with pytest.raises(KeyError):
        cli.main(["list"])


def test_ctrl_c_says_how_to_go_on(capsys, failing):
    failing(KeyboardInterrupt())
    code, _, err = run(capsys, "list")
    assert code == 130
    assert "same command again" in err and "Traceback" not in err


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


@pytest.mark.parametrize(
    "error", [OutOfMemoryError("CUDA"), MemoryError(), RuntimeError("can't allocate memory: 9 GB")]
)
def test_out_of_memory_gets_advice(capsys, failing, error):
    failing(error)
    code, _, err = run(capsys, "list")
    assert code == 1
    assert "out of memory" in err and "batch size" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lst"], "Did you mean 'list'?"),
        (["run", "--methd", "x"], "No such option"),
        (["run", "-e", "rded"], "names no method"),
        (["run", "-m", "random", "-d", "digits"], "No evaluator is named"),
        (["run", "-m", "random", "-e", "rded", "--ipc", "ten"], "'ten' is not a list of whole numbers"),
        (["list", "metods"], "Did you mean 'method'?"),
        (["list", "DC"], "`ddbench show dc` shows what is called dc."),
        (["show", "evaluator/rdde"], "Did you mean 'rded'?"),
        (["show", "nothing.json"], "neither a record nor a distilled set"),
        (["run", "-m", "random", "-e", "rded", "-o", "epochs=3"], "SCOPE.KEY=VALUE"),
        (["leaderboard", "--registry", "nowhere"], "no records in nowhere"),
        (["list", "--plugin", "absent.py"], "does not exist"),
        (["new-plugin", "methd", "x"], "Did you mean 'method'?"),
        (["new-plugin", "method", "My Method"], "not a valid plugin name"),
        (["gallery"], "Missing argument"),
    ],
)
def test_mistakes_are_explained(capsys, arguments, message):
    code, _, err = run(capsys, *arguments)
    assert code in (2, 3)
    assert err.startswith("error: ") and message in err and "  → " in err
    assert "Traceback" not in err


def test_every_command_has_help_with_examples(capsys):
    for name in cli.COMMANDS:
        code, out, _ = run(capsys, name, "--help")
        assert code == 0
        assert "Examples:" in out and f"ddbench {name}" in out
    code, out, _ = run(capsys, "--help")
    assert code == 0 and all(name in out for name in cli.COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["-m", "random", "-e", "edc", "-o", "eval.teacher=convnet-3-bn,convnet-4x"], "evaluator/edc: teacher"),
        (["-m", "random", "-e", "lrs", "-o", 'eval.teachers=["convnet-4x"]'], "evaluator/lrs: teachers"),
        (["-m", "g-vbsm", "-e", "rded", "-o", 'method.ring=["convnet-4x"]'], "method/g-vbsm: ring"),
        (["-m", "vlcp", "-e", "rded", "-o", "method.acceptance_network=convnet-4x"], "method/vlcp: acceptance_network"),
        (["-m", "herding", "-e", "rded", "-o", "method.network=convnet-4x"], "method/herding: network"),
    ],
)
def test_a_mistyped_name_in_an_option_is_refused_before_anything_runs(capsys, arguments, option):
    code, _, err = run(capsys, "plan", *arguments)
    assert code == 2
    assert err.startswith(f"error: {option}: Unknown network 'convnet-4x'. Did you mean 'convnet-4")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("network.width=4", "Networks have no options, so 'width' cannot be set."),
        ("convnet-3-bn.width=4", "Networks have no options, so 'width' cannot be set."),
        ("vlcp.strengthx=0.6", "method/vlcp has no option 'strengthx'. Did you mean 'strength'?"),
        ("captioner.ntwork=convnet-3", "No captioner has an option 'ntwork'. Did you mean 'network'?"),
        ("replay.network=convnet-3", "evaluator/replay has no options, so 'network' cannot be set."),
        ("minimax.strength=1", "Option scope 'minimax' could be several plugins."),
    ],
)
def test_an_option_that_nothing_has_is_refused_though_nothing_used_has_it(capsys, option, message):
    code, _, err = run(capsys, "plan", "-m", "random", "-e", "rded", "-o", option)
    assert code == 2 and err.startswith(f"error: {message}"), err


@pytest.mark.parametrize(
    "option", ["vlcp.strength=0.6", "traits.network=convnet-3", "digits.zca=mtt", "cifar10.zca=mtt"]
)
def test_options_of_other_plugins_may_be_set(capsys, option):
    code, _, err = run(capsys, "plan", "-m", "random", "-e", "dc", "-o", option)
    assert code == 0, err


@pytest.mark.parametrize(
    "variable", ["DDBENCH_FINETUNE_PROCESSES", "DDBENCH_REPEATS_AT_ONCE", "DDBENCH_CHECKPOINT_SECONDS"]
)
def test_a_bad_variable_is_refused_at_once(capsys, monkeypatch, variable, tmp_path):
    monkeypatch.setenv("DDBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(variable, "some")
    code, _, err = run(capsys, "run", "-m", "vlcp", "-e", "rded", "--registry", str(tmp_path / "registry"))
    assert code == 2
    assert f"{variable}" in err and "'some'" in err
    assert not list((tmp_path / "home").glob("captions*/*"))


@pytest.mark.parametrize(
    ("value", "refused"), [("nan", True), ("-1", True), ("-inf", True), (" ", True), ("", False), ("inf", False)]
)
def test_seconds_of_work_are_a_number_that_is_not_negative(capsys, monkeypatch, value, refused):
    monkeypatch.setenv("DDBENCH_CHECKPOINT_SECONDS", value)
    code, _, err = run(capsys, "plan", "-m", "random", "-e", "rded")
    assert (code, "DDBENCH_CHECKPOINT_SECONDS is" in err) == ((2, True) if refused else (0, False))


def test_an_empty_variable_is_as_one_that_is_not_set(capsys, monkeypatch):
    for name in ("FINETUNE_PROCESSES", "REPEATS_AT_ONCE", "CHECKPOINT_SECONDS"):
        monkeypatch.setenv(f"DDBENCH_{name}", "")
    assert run(capsys, "plan", "-m", "vlcp", "-e", "rded")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("-m herding -e rded -o method.network=", "method/herding: network: Unknown network ''."),
        ("-m vlcp -e rded -o method.acceptance_network=", "method/vlcp: acceptance_network: Unknown network ''."),
        ("-m random -e rded -o eval.teacher=convnet-3-bn,", "evaluator/rded: teacher: Unknown network 'convnet-3-bn,'"),
        ("-m dc -e dc -o method.network=convnet-3,convnet-2", "method/dc: network: Unknown network 'convnet-3,convnet"),
        ('-m g-vbsm -e rded -o method.ring=["lenet",""]', "method/g-vbsm: ring: Unknown network ''."),
        ("-m random -e rded -o eval.teacher=timm:nosuch", "evaluator/rded: teacher: Network timm:nosuch cannot"),
        ("-m herding -e rded -o method.network=convnet-6", "method/herding: network: Network convnet-6 cannot"),
        (
            "-m vlcp -e rded -o method.captioner=traits -o captioner.network=convnet-6",
            "captioner/traits: network: Network convnet-6 cannot be used",
        ),
    ],
)
def test_an_empty_name_several_for_one_and_networks_of_other_images_are_refused(capsys, arguments, message):
    code, _, err = run(capsys, "plan", *arguments.split())
    assert (code, f"error: {message}" in err, err.count("\n")) == (2, True, 2), err


@pytest.mark.parametrize(
    "arguments",
    [
        "-m random -e rded -o eval.teacher=",
        "-m random -e rd3 -o eval.teacher=",
        "-m random -e edc -o eval.teacher=convnet-3-bn,convnet-2-bn",
        "-m random -e lrs -o eval.labels=soft -o eval.teachers=[]",
        "-m random -e rded -o eval.teacher=timm:resnet18.tv_in1k",
    ],
)
def test_no_name_where_there_is_a_default_and_published_weights_are_planned(capsys, arguments):
    code, _, err = run(capsys, "plan", *arguments.split())
    assert code == 0, err


@pytest.mark.parametrize(
    ("told", "evaluator", "code", "message"),
    [
        ("", "replay", 0, ""),
        ("", "lrs -o eval.labels=soft -o eval.soft_label_mode=S -o eval.loss=kl", 0, ""),
        ("", "fkd -o eval.top_k=10", 2, "none of the 10 classes"),
        ("holds = lambda self, ctx: ()", "replay", 2, "Sets of mine have no ordered steps"),
        ("holds = lambda self, ctx: ('schedule',)", "replay", 0, ""),
        ("holds = lambda self, ctx: ('soft_labels', 'free')", "rded", 2, "cannot train on the free labels of mine"),
        ("holds = lambda self, ctx: 'schedule'", "replay", 0, ""),
        ("holds = lambda self, ctx: ('steps',)", "replay", 3, "that they hold 'steps'"),
        ("holds = lambda self, ctx: 3", "rded", 3, "'int' object is not iterable"),
    ],
)
def test_sets_of_a_plugin_that_tells_nothing_of_them_are_not_refused_beforehand(
    capsys, tmp_path, told, evaluator, code, message
):
    file = tmp_path / "mine.py"
    file.write_text(
        f"""
from ddbench import Distiller, MethodSpec, hookimpl
class Mine(Distiller):
    {told}
    def distill(self, ctx):
        raise AssertionError
@hookimpl
def ddbench_methods():
    return [MethodSpec("mine", Mine, "nothing")]
"""
    )
    found, _, err = run(capsys, "plan", "-m", "mine", "-e", *evaluator.split(), "--plugin", str(file))
    assert (found, message in err) == (code, True), err


@pytest.mark.parametrize(
    ("extra", "default", "code", "message"),
    [
        ('"network"', '["convnet-4x"]', 2, "method/mine: networks: Unknown network 'convnet-4x'"),
        ('"network"', "[]", 0, ""),
        ('"net"', '["convnet-3"]', 3, "names a plugin of kind 'net'"),
    ],
)
def test_a_plugin_may_name_several_in_a_list(capsys, tmp_path, extra, default, code, message):
    file = tmp_path / "mine.py"
    file.write_text(
        f"""
from ddbench import DistilledSet, Distiller, MethodSpec, Options, hookimpl
from pydantic import Field
class Mine(Distiller):
    class Options(Options):
        networks: list[str] = Field({default}, description="some", json_schema_extra={{"names": {extra}}})
    def distill(self, ctx):
        raise AssertionError
@hookimpl
def ddbench_methods():
    return [MethodSpec("mine", Mine, "nothing")]
"""
    )
    found, _, err = run(capsys, "plan", "-m", "mine", "-e", "dc", "--plugin", str(file))
    assert (found, message in err) == (code, True), err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("-m random,sldd -e replay", "Sets of random have no ordered steps to replay."),
        ("-m random -e rded -o data.zca=mtt", "evaluator rded tests on others"),
        ("-m sldd -e rded", "Evaluator rded cannot train on the free labels of sldd."),
        ("-m ls -e minimax", "Evaluator minimax cannot train on the centred labels of ls."),
        ("-m kip -e rded -o method.learn_labels=true", "the centred labels of kip"),
        ("-m random -e lrs -o eval.labels=soft -o eval.soft_label_mode=S", "Sets of random bring no soft labels"),
        ("-m random -e fkd -o eval.top_k=10", "none of the 10 classes"),
        ("-m random -e edc -o eval.teacher=convnet-3-bn,convnet-3-bn", "a network stands twice in it"),
        ("-m random -e quality -o eval.k=100000", "neighbours of each of"),
        ("-m igd -e rded -o method.surrogate=convnet-3-bn", "batch norm"),
        ("-m mtt -e dc -o method.network=convnet-3-bn", "batch norm"),
        ("-m rtp -e rtp -o method.network=convnet-3-bn", "batch norm"),
        ("-m rfad -e krr -o method.patience=50", "no image is held out, so that patience changes nothing"),
        ("-m rfad -e krr -o method.loss=mse -o method.lr_scale=0.1", "so that lr_scale changes nothing"),
        ("-m rfad -e krr -o eval.depth=5", "need images of at least 32 pixels"),
        ("-m random -e krr -o eval.width=64", "Kernel ntk is of no random networks, so that width changes nothing"),
        ("-m kip -e rfad-nn -o eval.selection=last -o eval.patience=5", "so that patience changes nothing"),
        ("-m it-gan -e dc -o method.pool=3", "so that pool changes nothing"),
        ("-m dd -e replay -o method.network=convnet-3-bn", "batch norm"),
        ("-m dc -e dc -o method.network=timm:resnet18.tv_in1k", "names published weights"),
        ("-m dsac -e dc -o method.network=torchvision:resnet18.DEFAULT", "names published weights"),
        ("-m frepo -e frepo -o method.network=timm:resnet18.tv_in1k", "names published weights"),
        ("-m it-gan -e dc -o method.network=timm:resnet18.tv_in1k", "names published weights"),
        ("-m sldd -e replay -o method.learn_labels=false -o method.label_init=smoothed", "learn_labels is false"),
        ("-m sre2l -e rded -o method.network=convnet-3", "batch-norm statistics, and convnet-3 has none"),
        ("-m idc -e idc -o data.zca=mtt", "cannot whiten"),
        ("-m idc -e idc -o method.network=mlp", "no convolutions whose gradients could be matched"),
        ("-m rded -e rded -o method.factor=9", "810 images per class"),
        ("-m rtp -e rtp -o method.bases=100000", "no room for coefficients"),
        ("-m dd -e replay -o method.batches=3", "cannot be divided into 3 batches"),
        ("-m d4m -e rded -o method.repeats=3", "IPC 10 is no multiple"),
        ("-m vlcp -e rded --ipc 1 -o method.text=swapped", "at IPC 1"),
        ("-m mvl -e retrieval -o method.image_encoder=convnet-4x", "Unknown network 'convnet-4x'"),
        ("-m mvl -e retrieval -o method.image_encoder=convnet-4", "begins at random"),
        ("-m random -e retrieval -o eval.image_encoder=convnet-4", "begins at random"),
        ("-m random -e retrieval -o eval.image_encoder=timm:resnet18.none", "no published weights"),
        ("-m mvl -e retrieval -o method.image_encoder=convnet-3-bn -o method.trained=encoder", "batch norm"),
        ("-m lors -e retrieval -o method.trained=encoder", "Trajectories of efficientnet-lite0 cannot be matched"),
        ("-m mvl -e retrieval -o eval.text_encoder=bert-base-uncased", "vectors of another encoder than bert"),
        ("-m mvl -e dc -o data.zca=kip", "cannot whiten them"),
        ("-m mvl -e retrieval -o eval.captioner=traits", "would be trained on the test images"),
        ("-m cafe -e dc -o method.network=convnet-4", "its levels need 5 weights, not 4"),
        ("-m cafe -e dc -o method.weights=[1,1]", "its levels need 4 weights, not 2"),
        ("-m idm -e dc -o method.factor=17", "cannot hold 17 images in a row"),
        ("-m idm -e dc -o method.factor=4 -o method.init=real", "begins with 160 training images"),
        ("-m ncfm -e ncfm -o method.factor=17", "cannot hold 17 images in a row"),
        ("-m mgd3 -e rded -o method.conditioning=text -o method.cfg_channels=3", "samples from no transformer"),
    ],
)
def test_what_does_not_fit_is_refused_while_it_is_planned(capsys, arguments, message):
    code, _, err = run(capsys, "plan", *arguments.split())
    assert (code, message in err, err.count("\n")) == (2, True, 2), err


FIT = (
    "-m mvl -e retrieval -o eval.trained=encoder -o eval.image_encoder=convnet-3-bn",
    "-m mvl -e retrieval -o method.trained=encoder -o method.image_encoder=convnet-3",
    "-m idc -e idc -o method.network=mlp -o method.classifier=true",
    "-m cafe -e dc -o method.network=convnet-2 -o method.weights=[0.1,1,1]",
    "-m idm -e idc -o method.factor=16 -o method.init=noise",
)


@pytest.mark.parametrize(
    "arguments", ["-m dd,sldd -e replay", "-m ls -e krr", "-m datm -e lrs -o eval.labels=soft", *FIT]
)
def test_what_fits_is_planned(capsys, arguments):
    assert run(capsys, "plan", *arguments.split())[0] == 0


def test_the_default_and_its_name_make_one_set(capsys):
    keys = set()
    for more in ([], ["-o", "method.conditioning=class"], ["-o", "method.conditioning=none"]):
        _, out, _ = run(capsys, "plan", "-m", "mgd3", "-e", "rded", "--json", *more)
        keys |= {step["key"] for step in json.loads(out)["steps"] if step["name"] == "distilled"}
    assert len(keys) == 1
