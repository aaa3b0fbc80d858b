"""Latents and prototypes of an interrupted run go on with the next class, to the same files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ddbench_plugins.diffusion import arrays, class_latents, clustering, latents
from ddbench_plugins.diffusion.class_latents import latents_of
from ddbench_plugins.methods.d4m import prototypes as d4m
from ddbench_plugins.methods.d4m.options import D4MOptions
from ddbench_plugins.methods.vlcp import stages as vlcp
from ddbench_plugins.methods.vlcp.options import VLCPOptions

import ddbench
from ddbench.plugin.options import Resolved
from ddbench.runtime.store import Store
from ddbench.testing.toy import toy_dataset

WIDE = 24


@pytest.fixture(params=["narrow", "wide"])
def width(request, monkeypatch):
    """Wide latents are kept in half precision, and VLCP's are clustered in their span by threads."""
    if request.param == "wide":
        for module in (clustering, class_latents):
            monkeypatch.setattr(module, "WIDE", WIDE)
    return request.param


@pytest.fixture
def prepare(ctx, tiny_folder, tmp_path):
    """Return a context with a method's options and an artifact folder of its own."""

    def prepared(options, home):
        return replace(
            ctx,
            store=Store(tmp_path / home),
            machine=ddbench.Machine("cpu", "fp32", offline=True),
            ipc=2,
            resolved=Resolved(options(backbone=str(tiny_folder), resolution=32)),
            _dataset=toy_dataset(channels=3),
        )

    return prepared


def encoded(mine):
    return class_latents.class_latents(mine)


def by_vlcp(mine):
    return vlcp.prototypes(mine)


def by_d4m(mine):
    return d4m.prototypes(mine)


def contents(done):
    """Return every file of a step but its bill."""
    files = [path for path in done.dir.rglob("*") if path.is_file() and path.name != "step.json"]
    return {path.relative_to(done.dir).as_posix(): path.read_bytes() for path in files}


def stop_at(monkeypatch, module, name, call):
    """Interrupt the given call of a function as Ctrl-C would; return the list of calls that ended."""
    original, ended = getattr(module, name), []

    def interrupted(*arguments, **options):
        if len(ended) == call:
            raise KeyboardInterrupt
        found = original(*arguments, **options)
        ended.append(name)
        return found

    monkeypatch.setattr(module, name, interrupted)
    return ended


@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize(("options", "find", "module"), [(VLCPOptions, by_vlcp, vlcp), (D4MOptions, by_d4m, d4m)])
def test_prototypes_go_on_with_the_next_class(prepare, monkeypatch, width, options, find, module, after):
    whole = find(prepare(options, "whole"))
    monkeypatch.setattr("ddbench_plugins.diffusion.clustering.os.cpu_count", lambda: 1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, module, "cluster", after)
        find(prepare(options, "killed"))
    with monkeypatch.context() as patch:
        again = stop_at(patch, module, "cluster", 9)
        resumed = find(prepare(options, "killed"))
    assert len(again) == 3 - after
    assert resumed.key == whole.key and contents(resumed) == contents(whole)
    assert "classes" not in {path.name for path in resumed.dir.iterdir()}


def test_a_class_whose_files_were_cut_short_is_done_again(prepare, monkeypatch):
    whole = by_vlcp(prepare(VLCPOptions, "whole"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, vlcp, "write_rows", 0)
        by_vlcp(prepare(VLCPOptions, "killed"))
    (parts,) = (prepare(VLCPOptions, "killed").home / "prototypes").glob("*.partial/classes")
    assert len(list(parts.iterdir())) == 6
    (parts / "00001.json").unlink()  # between the two files of a class
    (parts / "00001.npy").write_bytes(b"half")
    (parts.parent / "centres.npy").write_bytes(b"half")  # a kill while the classes were put together
    with monkeypatch.context() as patch:
        again = stop_at(patch, vlcp, "cluster", 9)
        resumed = by_vlcp(prepare(VLCPOptions, "killed"))
    assert len(again) == 1 and contents(resumed) == contents(whole)


def test_encoding_goes_on_with_the_next_class(prepare, monkeypatch, width):
    whole = encoded(prepare(D4MOptions, "whole"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, latents, "encoded_batches", 1)
        encoded(prepare(D4MOptions, "killed"))
    with monkeypatch.context() as patch:
        again = stop_at(patch, latents, "encoded_batches", 9)
        resumed = encoded(prepare(D4MOptions, "killed"))
    assert len(again) == 2 and contents(resumed) == contents(whole)
    stored = latents_of(resumed, 0)
    assert isinstance(stored, np.memmap) and stored.dtype == (np.float16 if width == "wide" else np.float32)


def test_rows_written_in_parts_are_those_saved_together(tmp_path):
    parts = [np.arange(12, dtype=np.float32).reshape(2, 6), np.ones((3, 6), np.float32)]
    arrays.write_rows(tmp_path / "parts.npy", 5, parts)
    arrays.save_array(tmp_path / "together.npy", np.concatenate(parts))
    assert (tmp_path / "parts.npy").read_bytes() == (tmp_path / "together.npy").read_bytes()
    with pytest.raises(ddbench.DataError, match="2 rows instead of 5"):
        arrays.write_rows(tmp_path / "short.npy", 5, parts[:1])
    assert not (tmp_path / "short.npy").exists()
