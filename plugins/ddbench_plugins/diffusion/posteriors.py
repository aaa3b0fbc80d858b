"""Posteriors of training images under an autoencoder: computed when drawn from, or once, kept in files or in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from ddbench_plugins.diffusion.arrays import write_rows
from ddbench_plugins.diffusion.tensors import centre_cropped, resized, to_model
from ddbench_plugins.training.engine import silent
from ddbench_plugins.training.numbers import moved
from ddbench_plugins.training.pixels import finite
from ddbench_plugins.training.transfer import fetched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from ddbench import ImageSource
    from ddbench_plugins.diffusion.replicas import Team

#: Images that are encoded at a time to be kept.
BATCH = 64
WHAT = "posteriors of the autoencoder"


class Encoder:
    """Computes mean and deviation of the latents of images, plain or mirrored, whenever they are asked for.

    Args:
        vae: the autoencoder.
        images: uint8 arrays, as an array or by :class:`~ddbench_plugins.diffusion.reading.Reading`.
        resolution: side of the images that are encoded.
    """

    def __init__(self, vae: Any, images: Any, resolution: int) -> None:
        self._vae, self._images, self._resolution = vae, images, resolution

    def of(self, rows: Sequence[int], mirrored: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and deviation, float32 [rows, 4, h, w] each, with some images mirrored (bool [rows]).

        They are where the autoencoder is.

        Raises:
            DivergedError: they are not finite.
        """
        pixels = self._pixels(rows)
        mean, std = posterior(self._vae, torch.where(mirrored[:, None, None, None], pixels.flip(3), pixels))
        return finite(mean, WHAT), finite(std, WHAT)

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
                views = [checked(self._vae, view) for view in ((pixels, pixels.flip(3)) if mirror else (pixels,))]
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
        """Return what :meth:`Encoder.of` does."""
        # Mapped each time: what was read stays the system's memory and does not become this process's.
        mapped = {start: np.load(path, mmap_mode="r", allow_pickle=False) for start, path in self._files.items()}
        rows_kept = []
        for row, view in zip(rows, mirrored.long().tolist(), strict=True):
            start = self._starts[int(np.searchsorted(self._starts, row, "right")) - 1]
            rows_kept.append(np.array(mapped[start][row - start, view]))
        both = torch.from_numpy(np.stack(rows_kept))
        # The autoencoder's layout: the network's last digits depend on it.
        mean, std = (part.contiguous(memory_format=torch.channels_last) for part in both.unbind(1))
        return mean, std


class Posteriors:
    """Means and deviations [V, N, 4, h, w] of N images in memory; V = 2 (plain, mirrored) where flips keep the label.

    What is drawn is on the device that they are on.

    Attributes:
        scaling: the autoencoder's scaling factor.
    """

    def __init__(self, mean: torch.Tensor, std: torch.Tensor, scaling: float) -> None:
        self.mean, self.std, self.scaling = mean, std, scaling

    @classmethod
    def of(cls, vae: Any, batches: Iterable[torch.Tensor], *, flip: bool) -> Self:
        """Encode batches of pixels [n, 3, H, W] in [-1, 1]: 2·V·4 bytes per latent number."""
        views: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[] for _ in range(2 if flip else 1)]
        for pixels in batches:
            for view, parts in enumerate(views):
                parts.append(checked(vae, pixels.flip(3) if view else pixels))
        mean, std = (torch.stack([torch.cat([part[kind] for part in parts]) for parts in views]) for kind in (0, 1))
        return cls(mean, std, float(vae.config.scaling_factor))

    def __len__(self) -> int:
        return int(self.mean.shape[1])

    def on(self, device: str) -> Posteriors:
        """Return the same on a device: copied once, so that nothing but random numbers is copied for every draw."""
        return Posteriors(self.mean.to(device), self.std.to(device), self.scaling)

    def draw(self, rows: torch.Tensor, stream: torch.Generator) -> torch.Tensor:
        """Scaled latents [n, 4, h, w] of the images ``rows``: a random view of each, sampled from its posterior."""
        views = torch.randint(len(self.mean), (len(rows),), generator=stream)
        noise = torch.randn((len(rows), *self.mean.shape[2:]), generator=stream)
        views, rows, noise = moved((views, rows, noise), self.mean.device)
        return self.scaling * (self.mean[views, rows] + self.std[views, rows] * noise)


@torch.no_grad()
def posterior(vae: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and deviation, float32 [n, 4, h, w] each, of pixels [n, 3, H, W] in [-1, 1], where ``vae`` is."""
    encoded = vae.encode(moved(pixels, vae.device).to(vae.dtype)).latent_dist
    return encoded.mean.float(), encoded.std.float()


def checked(vae: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the same on the CPU.

    Raises:
        DivergedError: they are not finite.
    """
    mean, std = fetched(*posterior(vae, pixels))
    return finite(mean, WHAT), finite(std, WHAT)


def encode(
    vae: Any,
    images: ImageSource,
    resolution: int,
    *,
    flip: bool,
    batch_size: int = BATCH,
    rows: Sequence[int] | None = None,
    progress: Callable[[int, int], None] = silent,
) -> Posteriors:
    """Return the posteriors of a data set's images (``rows`` of them, else all) at a resolution."""
    rows = range(len(images)) if rows is None else rows

    def batches() -> Iterator[torch.Tensor]:
        for start in range(0, len(rows), batch_size):
            chosen = rows[start : start + batch_size]
            yield to_model(resized(images.batch(chosen, resolution), resolution))
            progress(start + len(chosen), len(rows))

    return Posteriors.of(vae, batches(), flip=flip)
