"""The published tiny autoencoder that a small model starts from: found, read and named by its weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from ddbench import ModelError
from ddbench_plugins.diffusion.hub import DECODER
from ddbench_plugins.diffusion.source import DiffusionModel

if TYPE_CHECKING:
    from ddbench import Context
    from ddbench_plugins.diffusion.small.model import SmallPreset

#: Endings of files with weights.
ENDINGS = (".safetensors", ".pth")


def weights_digest(autoencoder: Any) -> str:
    """Return the digest of an autoencoder's weights."""
    from ddbench_plugins.diffusion.pipeline import digest

    return digest(SimpleNamespace(vae=autoencoder), ["vae"])


def published_autoencoder(ctx: Context, preset: SmallPreset) -> Any:
    """Return the autoencoder that the options name, for the preset's images, its channels not measured yet.

    Raises:
        ModelError: it is not there, cannot be fetched, or is of another kind.
    """
    return PublishedAutoencoder.of(ctx).build(preset)


class PublishedAutoencoder(DiffusionModel):
    """A tiny autoencoder of TAESD's family: diffusers' ``AutoencoderTiny``, or released encoder and decoder files."""

    FILES: ClassVar[tuple[str, ...]] = DECODER
    INSTEAD: ClassVar[str] = "Or let the small model train its own: leave out -o method.small_vae."

    @classmethod
    def of(cls, ctx: Context) -> PublishedAutoencoder:
        """Return the one that the options name."""
        return cls(ctx, ctx.options.small_vae, None, {})

    def build(self, preset: SmallPreset) -> Any:
        """Return a ``TinyAutoencoder`` for the preset's images on the CPU, its channels not measured yet.

        Raises:
            ModelError: it is not there, cannot be fetched, or is of another kind.
        """
        from ddbench_plugins.diffusion.small.tiny import from_diffusers, from_states
        from ddbench_plugins.teachers.files import read_state

        try:
            if files := self._files():
                encoder, decoder = map(read_state, files)
                return from_states(encoder, decoder, preset)
            return from_diffusers(self.load(device="cpu"), preset)
        except ValueError as error:
            hint = "It must be diffusers' AutoencoderTiny, or the released files of TAESD's family."
            raise ModelError(f"{Path(self.source).name} is no such autoencoder: {error}", hint=hint) from error

    def load(self, dtype: str = "fp32", device: str = "") -> Any:
        """Return an ``AutoencoderTiny`` of the hub or of a folder in diffusers' layout."""
        from diffusers import AutoencoderTiny

        from ddbench_plugins.diffusion.pipeline import open_pipeline, refuse_incomplete

        def check(folder: Path) -> None:
            if not (folder / "config.json").is_file():
                refuse_incomplete(folder, ["config.json"])

        def read(offline: bool) -> Any:
            return open_pipeline(
                AutoencoderTiny, self.source, self.revision, dtype, offline, check=check, layout="config.json"
            )

        return self._loaded(read).to(device or self.ctx.machine.device)

    def describe(self, pipeline: Any) -> dict[str, Any]:
        """Return what a loaded autoencoder is."""
        return {"digest": weights_digest(pipeline)}

    def identity(self) -> dict[str, Any]:
        """Return which weights it has."""
        if files := self._files():
            return {path.name: self.ctx.content_digest(path) for path in files}
        return super().identity()

    def _files(self) -> tuple[Path, Path] | None:
        """Return the released files of encoder and decoder; None where it is not given by such files.

        Raises:
            ModelError: one of the two is not there, or a folder has several.
        """
        path = Path(self.source).expanduser()
        if path.is_dir() and not (path / "config.json").is_file():
            found = [file for file in sorted(path.iterdir()) if "encoder" in file.name and file.suffix in ENDINGS]
            if len(found) != 1:
                raise ModelError(
                    f"The folder {path.name} holds {len(found)} files of an encoder.",
                    hint="Name one of them: -o method.small_vae=FOLDER/taesd_encoder.safetensors.",
                )
            path = found[0]
        if path.suffix not in ENDINGS:
            return None
        decoder = path.with_name(path.name.replace("encoder", "decoder"))
        for file in (path, decoder):
            if not file.is_file() or path == decoder:
                raise ModelError(
                    f"There is no {'pair of files' if path == decoder else file.name} of encoder and decoder at"
                    f" {path.name}.",
                    hint="Give the encoder's file, named like taesd_encoder.safetensors, with taesd_decoder.safetensors"
                    " beside it.",
                )
        return path, decoder
