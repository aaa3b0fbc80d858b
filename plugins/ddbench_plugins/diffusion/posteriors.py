"""Where each draw of a training image's latent comes from: its posterior, computed anew or once and kept in files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ddbench_plugins.diffusion.arrays import write_rows
from ddbench_plugins.diffusion.tensors import centre_cropped, to_model
from ddbench_plugins.training.pixels import finite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ddbench import Team

#: Images that are encoded at a time to be kept.
BATCH = 64
WHAT = "posteriors of the autoencoder"


class Posteriors:
    """Mean and deviation of the latents of images, plain or mirrored.

    Args:
        vae: the autoencoder.
        images: uint8 arrays, as an array or by :class:`~ddbench_plugins.diffusion.reading.Reading`.
        resolution: side of the images that are encoded.
    """

    def __init__(self, vae: Any, images: Any, resolution: int) -> None:
        self._vae, self._images, self._resolution = vae, images, resolution

    def of(self, rows: Sequence[int], mirrored: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and deviation, float32 [rows, 4, h, w] each, with some images mirrored (bool [rows])."""
        pixels = self._pixels(rows)
        mean, std = self.encode(torch.where(mirrored[:, None, None, None], pixels.flip(3), pixels))
        return mean, std

    @torch.no_grad()
    def encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and deviation, float32 [n, 4, h, w] each, of pixels in [-1, 1]."""
        posterior = self._vae.encode(pixels.to(self._vae.device, self._vae.dtype)).latent_dist
        return finite(posterior.mean.float().cpu(), WHAT), finite(posterior.std.float().cpu(), WHAT)

    def _pixels(self, rows: Sequence[int]) -> torch.Tensor:
        images = self._images
        # Lists of images of several sizes have no other way to be asked for some of them.
        chosen = [images[row] for row in rows] if isinstance(images, list) else images[list(rows)]
        return to_model(centre_cropped(chosen, self._resolution))

    def keep(self, folder: Path, mirror: bool, team: Team, progress: Callable[[int, int], None]) -> KeptPosteriors:
        """Encode all images into files of ``folder``, a part of them in each process of a team."""
        batches = [range(len(self._images))[start : start + BATCH] for start in range(0, len(self._images), BATCH)]
        parts = team.shares(batches)
        mine = parts[team.rank]

        def encoded() -> Iterator[np.ndarray]:
            for rows in mine:
                pixels = self._pixels(rows)
                views = [self.encode(view) for view in ((pixels, pixels.flip(3)) if mirror else (pixels,))]
                yield np.stack([torch.stack(view, 1).numpy() for view in views], 1)
                progress(rows.stop - mine[0].start, mine[-1].stop - mine[0].start)

        folder.mkdir(parents=True, exist_ok=True)
        if mine:
            write_rows(folder / f"{team.rank}.npy", sum(map(len, mine)), encoded())
        team.wait()
        return KeptPosteriors({part[0].start: folder / f"{rank}.npy" for rank, part in enumerate(parts) if part})


class KeptPosteriors:
    """Posteriors in files: float32 [n, 1 or 2 views, mean and deviation, 4, h, w], each from its first image on."""

    def __init__(self, files: dict[int, Path]) -> None:
        self._starts, self._files = sorted(files), files

    def of(self, rows: Sequence[int], mirrored: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what :meth:`Posteriors.of` does."""
        # Mapped anew each time: what was read stays the system's memory and does not become this process's.
        mapped = {start: np.load(path, mmap_mode="r", allow_pickle=False) for start, path in self._files.items()}
        rows_kept = []
        for row, view in zip(rows, mirrored.long().tolist(), strict=True):
            start = self._starts[int(np.searchsorted(self._starts, row, "right")) - 1]
            rows_kept.append(np.array(mapped[start][row - start, view]))
        both = torch.from_numpy(np.stack(rows_kept))
        # The autoencoder's layout: the network's last digits depend on it.
        mean, std = (part.contiguous(memory_format=torch.channels_last) for part in both.unbind(1))
        return mean, std
