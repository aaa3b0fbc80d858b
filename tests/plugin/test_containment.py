"""What a plugin does to its process, or to the data that all plugins are given, harms no other one and is named."""

from __future__ import annotations

import locale
import os
import random
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ddbench
from ddbench.errors import PluginError
from ddbench.experiment import pipeline
from ddbench.plugin.images import ArrayImages, unchangeable
from ddbench.plugin.manager import load_plugins
from ddbench.results import registry
from ddbench.testing.toy import toy_dataset

torch = pytest.importorskip("torch")
TOY = Path(__file__).parents[1] / "toy_plugin.py"
PLUGIN = """
import os, signal, sys
import numpy as np
import torch
import ddbench


class Mine(ddbench.Distiller):
    def distill(self, ctx):
        {body}
        return ddbench.DistilledSet(*(part[:3] for part in (ctx.dataset.arrays("train")[0][[0, 12, 24]], np.arange(3))))


class Judge(ddbench.Evaluator):
    default_repeats = 1
    needs_network = False

    def protocol(self, ctx, distilled):
        return ddbench.Protocol({{"network": ctx.network, "label_type": "hard", "selection": "last"}})

    def evaluate(self, ctx, distilled, repeat):
        {judge}
        correct = np.arange(len(ctx.dataset.test)) % 3 == 0
        return ddbench.Score(last=float(correct.mean()), correct=correct)


@ddbench.hookimpl
def ddbench_methods():
    return [ddbench.MethodSpec("mine", Mine)]


@ddbench.hookimpl
def ddbench_evaluators():
    return [ddbench.EvaluatorSpec("judge", Judge)]
"""


@pytest.fixture
def run(ctx, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def prepare(body="pass", judge="pass"):
        path = tmp_path / "mine.py"
        path.write_text(PLUGIN.format(body=body, judge=judge))
        return replace(ctx, plugins=load_plugins([path]), _dataset=toy_dataset())

    return prepare


def distil(run, name="mine"):
    return pipeline.distil(pipeline.prepare_method(run, name, 1, 0))


def state():
    return {
        "folder": Path.cwd(),
        "mask": (mask := os.umask(0), os.umask(mask))[0],
        "streams": (sys.stdout, sys.stderr),
        "interrupt": signal.getsignal(signal.SIGINT),
        "recursion": sys.getrecursionlimit(),
        "numpy": np.geterr(),
        "type": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "gradients": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "products": torch.get_float32_matmul_precision(),
        "anomalies": torch.is_anomaly_enabled(),
        "benchmark": torch.backends.cudnn.benchmark,
        "kernels": torch.backends.mkldnn.enabled,
        "attention": torch.backends.cuda.flash_sdp_enabled(),
        "flushes": (torch.tensor([1e-310], dtype=torch.float64) * torch.ones(1, dtype=torch.float64)).item() == 0,
        "pixels": Image.MAX_IMAGE_PIXELS,
        "locale": locale.setlocale(locale.LC_ALL),
    }


CHANGES = {
    'os.chdir("/")': "current folder",
    "os.umask(0o077)": "file mask",
    "sys.stdout = open(os.devnull, 'w')": "streams",
    "signal.signal(signal.SIGINT, print)": "signal handlers",  # a job in the background ignores it already
    "sys.setrecursionlimit(4321)": "recursion limit",
    "np.seterr(all='raise')": "NumPy's handling of errors",
    "torch.set_default_dtype(torch.float64)": "default type",
    "torch.set_default_device('meta')": "default device",
    "torch.set_grad_enabled(False)": "gradients",
    "torch.set_num_threads(torch.get_num_threads() + 1)": "number of threads",
    "torch.use_deterministic_algorithms(True)": "deterministic mode",
    "torch.set_float32_matmul_precision('medium')": "precision of products",
    "torch.autograd.set_detect_anomaly(True)": "anomalies",
    "os.environ['DDBENCH_HOME'] = '/elsewhere'": "environment",
    "torch.set_autocast_enabled('cpu', True)": "autocast",
    "torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark": "settings of kernels",
    "torch.backends.mkldnn.enabled = False": "settings of kernels",
    "torch.backends.cuda.enable_flash_sdp(False)": "settings of kernels",
    "torch.set_flush_denormal(True)": "flushing of tiny numbers",
    "from PIL import Image; Image.MAX_IMAGE_PIXELS = None": "truncated or large images",
    "import locale; locale.setlocale(locale.LC_ALL, 'C' if locale.setlocale(locale.LC_ALL) != 'C' else 'C.UTF-8')": (
        "the locale"
    ),
}


@pytest.mark.parametrize("body", CHANGES)
def test_what_a_plugin_changes_of_the_process_is_put_back_and_named(run, body):
    before = state()
    with pytest.warns(UserWarning, match=rf"'mine' of mine.py .*{CHANGES[body]}.* was restored"):
        distil(run(body))
    assert state() == before


def test_torch_that_a_plugin_imports_itself_is_left_as_it_begins(tmp_path):
    """In a process of its own, which has not imported torch before."""
    code = (
        "import sys, warnings\n"
        "from ddbench.plugin.containment import contained\n"
        "assert 'torch' not in sys.modules\n"
        "with contained('mine'):\n"
        "    import torch\n"
        "    usual = torch.get_num_threads()\n"
        "    torch.set_num_threads(usual + 1)\n"
        "    torch.set_default_dtype(torch.float64)\n"
        "assert torch.get_num_threads() == usual and torch.get_default_dtype() == torch.float32\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "mine changed torch's default type, torch's number of threads" in done.stderr


@pytest.mark.parametrize(
    "body",
    ["import random; random.seed(5)", "np.random.seed(5)", "np.random.rand()", "torch.manual_seed(5)", "torch.rand(2)"],
)
def test_random_numbers_of_the_process_go_on_as_if_no_plugin_had_drawn(run, body, recwarn):
    prepared = run(body)

    def states():
        return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()

    before = states()
    distil(prepared)
    assert states() == before
    assert not [each for each in recwarn if "restored" in str(each.message)]


def test_what_cannot_be_put_back_is_refused(run, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdout", (tmp_path / "out").open("w"))
    prepared = run("sys.stdout.close()")
    with pytest.raises(PluginError, match=r"'mine' of mine\.py \(file\) changed the streams .*cannot be restored"):
        distil(prepared)
    assert not list(prepared.store.finished("distilled"))


def test_its_own_error_says_more_than_what_cannot_be_put_back(run, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdout", (tmp_path / "out").open("w"))
    with pytest.raises(PluginError, match="RuntimeError: the cause"):
        distil(run("sys.stdout.close(); raise RuntimeError('the cause')"))


def test_notes_of_torch_in_the_environment_are_no_change(run, recwarn, monkeypatch):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    distil(run("os.environ['TORCHINDUCTOR_CACHE_DIR'] = '/elsewhere'"))
    assert os.environ.pop("TORCHINDUCTOR_CACHE_DIR") == "/elsewhere"
    assert not [each for each in recwarn if "restored" in str(each.message)]


@pytest.mark.parametrize("hidden", ["'ignore'", "'ignore', UserWarning"])
def test_a_plugin_cannot_hide_warnings_about_itself(run, hidden):
    with pytest.warns(UserWarning, match="current folder"):
        distil(run(f"import warnings; warnings.simplefilter({hidden}); os.chdir('/')"))


def test_the_command_line_warns_in_one_line(run, tmp_path):
    run("os.chdir('/')")
    code = "import sys; from ddbench.cli import main; main(sys.argv[1:])"
    words = ["distill", "-m", "mine", "-d", "digits", "--ipc", "1", "--plugin", "mine.py"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    (line,) = [line for line in done.stderr.splitlines() if "restored" in line]
    assert line.startswith("warning: The method 'mine' of mine.py (file) changed the current folder")
    assert "contextlib" not in done.stderr


def test_warnings_that_a_plugin_turns_into_errors_stay_warnings(run):
    distil(run("import warnings; warnings.simplefilter('error')"))
    with pytest.warns(UserWarning, match="still a warning"):
        warnings.warn("still a warning", stacklevel=1)


@pytest.mark.parametrize("body", ["os.chdir('/'); raise RuntimeError('x')", "os.chdir('/'); sys.exit(3)"])
def test_also_where_it_fails(run, body, tmp_path):
    with pytest.warns(UserWarning, match="current folder"), pytest.raises(PluginError, match=r"'mine' of mine\.py"):
        distil(run(body))
    assert Path.cwd() == tmp_path


def test_a_module_that_goes_elsewhere_when_it_is_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(TOY.read_text("utf-8") + "\nimport os\nos.chdir('/')\n")
    with pytest.warns(UserWarning, match=r"plugin file mine.py changed the current folder"):
        load_plugins(["mine.py"])
    assert Path.cwd() == tmp_path


def test_a_plugin_that_leaves_nothing_behind_is_not_warned_of(run, recwarn):
    distil(run("with torch.no_grad(): pass"))
    assert not [each for each in recwarn if "restored" in str(each.message)]


WRITES = (
    "ctx.dataset.train.labels[:] = 0",
    "np.random.default_rng(0).shuffle(ctx.dataset.train.labels)",
    "ctx.dataset.train.labels.setflags(write=True); ctx.dataset.train.labels[:] = 0",
    "ctx.dataset.test.labels[0] = 1",
    "ctx.dataset.train.images.array[:] = 0",
    "ctx.dataset.train.images.array.flags.writeable = True",
    "ctx.dataset.train.images.load(0, 8)[:] = 0",
)


@pytest.mark.parametrize("body", WRITES)
def test_data_of_all_cannot_be_written_to(run, body):
    prepared = run(body)
    honest = distil(run(), "random").digest
    with pytest.raises(PluginError, match=r"'mine' of mine.py \(file\) failed: ValueError"):
        distil(prepared)
    later = replace(prepared, store=type(prepared.store)(prepared.store.root / "other"))
    assert distil(later, "random").digest == honest


def test_writing_past_numpy_is_found_and_nothing_is_stored(run):
    body = "torch.from_numpy(ctx.dataset.train.labels)[:] = 0"
    prepared = run(body)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says once per process that the array is not writable
        with pytest.raises(PluginError, match=r"mine.py .*in place"):
            distil(prepared)
    assert not list(prepared.store.finished("distilled"))


def evaluate(run, made):
    return pipeline.evaluate(pipeline.prepare_evaluator(run, "judge", "", 1), made, repeats=1)


def test_an_evaluator_that_changes_the_set_is_named(run):
    made = distil(run())
    with pytest.raises(PluginError, match=r"Evaluator judge of mine.py \(file\) changed"):
        evaluate(run(judge="distilled.images[:] = 0"), made)


def test_an_evaluator_without_a_network_has_none_in_its_record(run):
    prepared = run()
    record = evaluate(prepared, distil(prepared))
    assert record.cell.network == record.protocol.settings["network"] == "none"
    assert registry.flaws(record) == []
    evaluator, mine, _ = pipeline.prepare_evaluator(prepared, "judge", "convnet-3", 1)
    assert mine.network == "none" and not evaluator.needs_network
    pipeline.check_network(mine)


def test_it_runs_once_whatever_networks_are_named(run, tmp_path):
    run()
    found = ddbench.run(
        "random", "judge", dataset="digits", ipc=1, network=["convnet-1", "convnet-2"], plugins=[tmp_path / "mine.py"],
        registry=tmp_path / "registry",
    )  # fmt: skip
    assert [record.cell.network for record in found] == ["none"]
    assert registry.check(tmp_path / "registry").problems == ()


@pytest.mark.parametrize("array", [np.arange(3), np.zeros((0,), np.int64), np.zeros((2, 3), np.uint8)[:, ::2]])
def test_arrays_that_cannot_be_written_to_hold_the_same(array):
    made = unchangeable(array)
    assert np.array_equal(made, array) and made.dtype == array.dtype and made.shape == array.shape
    assert not made.flags.writeable and unchangeable(made) is made


def test_large_arrays_are_not_copied(monkeypatch):
    from ddbench.plugin import images

    monkeypatch.setattr(images, "COPIED", 10)
    array = np.zeros((2, 4, 4, 1), np.uint8)
    held = ArrayImages(array).array
    assert np.shares_memory(held, array) and not held.flags.writeable


def test_folders_are_printed_as_they_were_asked_for(tmp_path, monkeypatch, capsys):
    from ddbench.cli import main

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["distill", "-m", "random", "-d", "digits", "--ipc", "1", "--out", "sets"])
    assert end.value.code == 0
    assert capsys.readouterr().out.rstrip().endswith(f"  {Path('sets', 'digits-random-ipc1-seed0')}")
    assert Path("sets", "digits-random-ipc1-seed0", "distilled.json").is_file()
