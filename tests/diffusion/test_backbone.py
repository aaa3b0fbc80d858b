from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
import torch
from ddbench_plugins.diffusion.backbone import (
    BackboneUnavailableError,
    digest,
    load_pipeline,
    resolution,
    save_pipeline,
)

from ddbench.testing.diffusion import tiny_pipeline

if TYPE_CHECKING:
    from pathlib import Path


def test_tiny_pipeline_is_small_and_complete(tiny_folder: Path) -> None:
    weights = sum(path.stat().st_size for path in tiny_folder.rglob("*") if path.is_file())
    assert weights < 2**20
    assert (tiny_folder / "tokenizer" / "vocab.json").is_file()
    assert resolution(load_pipeline(tiny_folder)) == 16


def test_digest_follows_the_weights(tiny_folder: Path, tmp_path: Path) -> None:
    first, again = load_pipeline(tiny_folder), load_pipeline(tiny_folder)
    assert digest(first) == digest(again)
    assert digest(first) != digest(load_pipeline(tiny_pipeline(tmp_path / "other", seed=1)))


def test_weights_depend_on_the_seed_only(tiny_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(123)
    same = load_pipeline(tiny_pipeline(tmp_path / "same", seed=0))
    assert digest(same) == digest(load_pipeline(tiny_folder))


def test_missing_files_are_named(tiny_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_folder, broken)
    (broken / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(BackboneUnavailableError, match=r"vae/diffusion_pytorch_model\.safetensors"):
        load_pipeline(broken)


@pytest.mark.parametrize("source", ["./no/such/folder", "someone/never-downloaded"])
def test_unavailable_model_says_what_to_do(source: str) -> None:
    with pytest.raises(BackboneUnavailableError, match="hf download"):
        load_pipeline(source, offline=True)


def test_memory_savers_leave_the_images_alone(tiny_folder: Path) -> None:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    plain = load_pipeline(tiny_folder).vae.decode(latents).sample
    sliced = load_pipeline(tiny_folder, vae_slicing=True, attention="sliced").vae.decode(latents).sample
    torch.testing.assert_close(plain, sliced)


def test_options_are_checked(tiny_folder: Path) -> None:
    with pytest.raises(ValueError, match="dtype"):
        load_pipeline(tiny_folder, dtype="int8")
    with pytest.raises(ValueError, match="attention"):
        load_pipeline(tiny_folder, attention="flash")


def test_saving_again_gives_equal_files(tiny_folder: Path, tmp_path: Path) -> None:
    save_pipeline(load_pipeline(tiny_folder), tmp_path / "one")
    save_pipeline(load_pipeline(tmp_path / "one"), tmp_path / "two")
    one = {path.relative_to(tmp_path / "one"): path.read_bytes() for path in (tmp_path / "one").rglob("*.*")}
    two = {path.relative_to(tmp_path / "two"): path.read_bytes() for path in (tmp_path / "two").rglob("*.*")}
    assert one == two
    assert not any(str(tmp_path).encode() in content for content in one.values())
