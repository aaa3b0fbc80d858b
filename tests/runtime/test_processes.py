"""How work is divided, and what goes from one process to another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ddbench
from ddbench.plugin.manager import load_plugins
from ddbench.runtime import distributed as processes
from ddbench.testing.toy import toy_dataset


@given(st.integers(0, 50), st.integers(1, 9))
def test_shares_are_even_and_in_order(items, count):
    shares = ddbench.Team(0, count).shares(range(items))
    assert [item for share in shares for item in share] == list(range(items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert [ddbench.Team(rank, count).share(range(items)) for rank in range(count)] == shares


def test_one_process_just_calls_the_function(ctx):
    ddbench.Team().wait()
    assert ctx.together(lambda a, team: (a, team), 3) == (3, ddbench.Team(0, 1))


def sent(content):
    return processes._load(processes._dump(content))


def test_a_context_arrives_with_what_the_other_process_has_of_its_own(ctx, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    machine = ddbench.Machine("cuda", "bf16", offline=True)
    mine = replace(ctx, machine=machine, base_seed=3, _dataset=toy_dataset(), _building=[1], _keep=lambda: None)
    theirs, step = sent((mine, ddbench.Step("name", "key", mine.home)))
    assert theirs.machine == replace(machine, device="cuda:1")
    assert theirs.plugins is load_plugins()
    assert (theirs.seed("role"), theirs.home, theirs.dataset.fingerprint) == (
        *(mine.seed("role"), mine.home, mine.dataset.fingerprint),
    )
    assert theirs._building == [] and theirs._keep is None and step.dir == mine.home


def test_mapped_files_are_mapped_again_and_not_copied(tmp_path):
    np.save(tmp_path / "images.npy", np.arange(1 << 20, dtype=np.uint8).reshape(1, 1024, 1024, 1))
    images = ddbench.ArrayImages(np.load(tmp_path / "images.npy", mmap_mode="r"))
    message = processes._dump(images)
    assert len(message[1]) < 10_000
    theirs = processes._load(message)
    assert isinstance(theirs.array, np.memmap)
    np.testing.assert_array_equal(theirs.array, images.array)
    np.testing.assert_array_equal(sent(images.array[:, 5:9]), images.array[:, 5:9])


def test_what_cannot_be_sent_is_explained():
    with pytest.raises(ddbench.UsageError, match="cannot be used by several processes") as found:
        processes._dump(lambda: None)
    assert "one process" in found.value.hint


def test_one_device_is_not_for_several_processes(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(ddbench.UsageError, match="'cuda:1'"):
        ddbench.Machine.choose("cuda:1")
