"""Ancestral sampling (DDPM) from a denoising network of any kind, with something added to its steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ddbench_plugins.training.pixels import finite

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np


class Denoiser(ABC):
    """A network that predicts the noise in the latents of some images.

    Attributes:
        network: what denoises; it has diffusers' ``config``, ``device`` and ``dtype``.
        scheduler: a ``DDPMScheduler`` with its times set.
    """

    network: Any
    scheduler: Any

    @abstractmethod
    def predict(self, latents: Tensor, time: Tensor, rows: slice) -> Tensor:
        """Return the noise float32 [n, C, h, w] in latents of the images ``rows``.

        Where the variances are learned, what they follow from comes after it: [n, 2C, h, w].
        """


class Moment(NamedTuple):
    """One step of some images, [n, C, h, w] each."""

    left: int
    """Steps that are left after it: their number − 1 … 0."""
    noisy: Tensor
    """The latents before it."""
    clean: Tensor
    """The clean latents predicted in it."""
    noise: Tensor
    """The noise predicted in it."""
    deviation: Tensor
    """Of the noise that it adds."""
    amount: Tensor
    """Of the noise in ``noisy``: √(1 − ᾱ), a number."""


class Guide:
    """What is added to the result of steps, such as a way to a mode of the class.

    Attributes:
        differentiates: whether it needs the gradient of ``clean`` by ``noisy``, through the network.
    """

    differentiates: bool = False

    def acts(self, index: int) -> bool:
        """Return whether it adds anything to a step."""
        return True

    def added(self, moment: Moment, rows: slice) -> Tensor:
        """Return what is added to the images ``rows``, [n, C, h, w]."""
        raise NotImplementedError


def sample_latents(
    denoiser: Denoiser,
    streams: Sequence[torch.Generator],
    *,
    batch_size: int = 64,
    guide: Guide | None = None,
    progress: Callable[..., None] | None = None,
) -> np.ndarray:
    """Scaled latents float32 [n, C, h, w] of the images of a denoiser; image i draws all its noise from stream i.

    ``progress`` hears how many images the work done amounts to.
    """
    latents, steps = [], len(denoiser.scheduler.timesteps)
    for start in range(0, len(streams), batch_size):
        rows = slice(start, min(start + batch_size, len(streams)))

        def steps_done(done: int, rows: slice = rows) -> None:
            if progress is not None:
                progress(rows.start + (rows.stop - rows.start) * done // steps)

        latents.append(_batch(denoiser, rows, streams[rows], guide, steps_done))
    return finite(torch.cat(latents).numpy(), "sampled latents")


@torch.no_grad()
def _batch(
    denoiser: Denoiser,
    rows: slice,
    streams: Sequence[torch.Generator],
    guide: Guide | None,
    progress: Callable[[int], None],
) -> Tensor:
    network, scheduler = denoiser.network, denoiser.scheduler
    channels, size = network.config.in_channels, network.config.sample_size
    drawn = [torch.randn((channels, size, size), generator=stream) for stream in streams]
    latents = torch.stack(drawn).to(network.device)
    for done, time in enumerate(scheduler.timesteps, start=1):
        index = len(scheduler.timesteps) - done
        mine = guide if guide is not None and guide.acts(index) else None
        with torch.set_grad_enabled(mine is not None and mine.differentiates):
            noisy = latents.requires_grad_(torch.is_grad_enabled())
            output = denoiser.predict(noisy, time, rows)
            made = scheduler.step(output, time, noisy, generator=list(streams))
        latents = made.prev_sample.detach()
        if mine is not None:
            noise, learned = output[:, :channels], output[:, channels:]
            amount = (1 - scheduler.alphas_cumprod[time]).sqrt()
            about = made.pred_original_sample, noise, deviation(scheduler, time, learned), amount
            latents = latents + mine.added(Moment(index, noisy, *about), rows)
        progress(done)
    return latents.cpu()


def deviation(scheduler: Any, time: Tensor, learned: Tensor) -> Tensor:
    """Return the deviation of the noise that a step adds, that of the posterior where nothing is learned of it.

    ``learned`` [n, C, h, w] in [−1, 1] lies between the logarithms of the posterior's variance and of β; C may be 0.
    """
    before, kept = scheduler.previous_timestep(time), scheduler.alphas_cumprod
    kept_before = kept[before] if before >= 0 else torch.ones(())
    most = 1 - kept[time] / kept_before
    least = ((1 - kept_before) / (1 - kept[time]) * most).clamp(min=1e-20)
    if not learned.shape[1]:
        return least.sqrt()
    share = (learned + 1) / 2
    return (0.5 * (share * most.log() + (1 - share) * least.log())).exp()
