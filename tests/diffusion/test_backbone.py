from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
import torch
from ddbench_plugins.diffusion.pipeline import (
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


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("unet/diffusion_pytorch_model.safetensors", None, "invalid header|incomplete|header"),
        ("unet/diffusion_pytorch_model.safetensors", b"", "is empty"),
        (
            "vae/diffusion_pytorch_model.safetensors",
            b"version https://git-lfs.github.com/spec/v1\n",
            "is a Git LFS pointer",
        ),
        ("text_encoder/model.safetensors", b"<!DOCTYPE html><html>", "is a web page"),
        ("unet/config.json", b"{", "cannot be read"),
        ("scheduler/scheduler_config.json", b"\xff\xfe", "cannot be read"),
    ],
)
@pytest.mark.parametrize("offline", [False, True])
def test_the_damaged_file_of_a_folder_is_named(
    tiny_folder: Path, tmp_path: Path, name: str, content: bytes | None, reason: str, offline: bool
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_folder, broken)
    (broken / name).write_bytes((broken / name).read_bytes()[:1000] if content is None else content)
    with pytest.raises(BackboneUnavailableError, match=f"{name} .*({reason})") as error:
        load_pipeline(broken, offline=offline)
    assert "offline" not in str(error.value) and "hf download" not in str(error.value)


def test_what_a_library_says_of_a_folder_is_passed_on(tiny_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_folder, broken)
    settings = json.loads((broken / "unet" / "config.json").read_text())
    (broken / "unet" / "config.json").write_text(json.dumps(settings | {"cross_attention_dim": 7}))
    with pytest.raises(BackboneUnavailableError, match="is there, but cannot be loaded") as error:
        load_pipeline(broken, offline=True)
    assert "offline" not in str(error.value)


def test_a_damaged_model_of_the_local_cache_is_not_called_missing(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    commit = "0" * 40
    cached = tmp_path / "models--someone--cached"
    shutil.copytree(tiny_folder, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    path = cached / "snapshots" / commit / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BackboneUnavailableError, match="'someone/cached'") as error:
        load_pipeline("someone/cached", offline=True)
    assert "not in the local cache" not in str(error.value)


@pytest.mark.parametrize("source", ["./no/such/folder", "someone/never-downloaded"])
def test_unavailable_model_says_what_to_do(source: str) -> None:
    with pytest.raises(BackboneUnavailableError, match="hf download"):
        load_pipeline(source, offline=True)


def test_memory_savers_leave_the_images_alone(tiny_folder: Path) -> None:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    plain = load_pipeline(tiny_folder).vae.decode(latents).sample
    sliced = load_pipeline(tiny_folder, sparing=True).vae.decode(latents).sample
    torch.testing.assert_close(plain, sliced)


def test_dtype_is_checked(tiny_folder: Path) -> None:
    with pytest.raises(ValueError, match="dtype"):
        load_pipeline(tiny_folder, dtype="int8")


def test_saving_again_gives_equal_files(tiny_folder: Path, tmp_path: Path) -> None:
    save_pipeline(load_pipeline(tiny_folder), tmp_path / "one")
    save_pipeline(load_pipeline(tmp_path / "one"), tmp_path / "two")
    one = {path.relative_to(tmp_path / "one"): path.read_bytes() for path in (tmp_path / "one").rglob("*.*")}
    two = {path.relative_to(tmp_path / "two"): path.read_bytes() for path in (tmp_path / "two").rglob("*.*")}
    assert one == two
    assert not any(str(tmp_path).encode() in content for content in one.values())
