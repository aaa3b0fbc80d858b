"""From images to noise and back: DDIM inversion, and groups of latents that are like their class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ddbench_plugins.diffusion.dit.sample import predict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

#: Numbers of groups that are in memory at once.
MOST = 2**22
#: Keeps numbers in which all images of a class agree from dividing by zero.
TINY = 1e-20


def times(total: int, steps: int) -> list[int]:
    """Return the timesteps of DDIM, 0 first, evenly spaced with the last stride left out."""
    return [step * (total // steps) for step in range(steps)]


class Path:
    """The deterministic path between latents and noise that a transformer predicts.

    Args:
        pipeline: transformer and scheduler.
        steps: from image to noise.
        guidance, channels: classifier-free guidance, and how many of the latent's channels it acts on.
    """

    def __init__(self, pipeline: Any, steps: int, guidance: float, channels: int) -> None:
        self._transformer, self._guidance, self._channels = pipeline.transformer, guidance, channels
        self._kept = pipeline.scheduler.alphas_cumprod.to(pipeline.transformer.device)
        self._times = times(len(self._kept), steps)

    @torch.no_grad()
    def invert(self, latents: Tensor, labels: Sequence[int], until: int) -> Tensor:
        """Return latents [n, C, h, w] after ``until`` steps towards noise."""
        for step in range(1, until + 1):
            latents = self._moved(latents, labels, self._times[step], self._times[step - 1], self._times[step])
        return latents

    @torch.no_grad()
    def denoise(self, latents: Tensor, labels: Sequence[int], start: int, *, misaligned: bool = False) -> Tensor:
        """Return what latents after ``start`` steps of inversion come from; ``misaligned`` as D3HR's code does.

        That begins a step further, and takes 1 for the earliest time, which it reaches from the last two.
        """
        for step in range(start + misaligned, 0, -1):
            then = max(self._times[step - 1], int(misaligned))
            latents = self._moved(latents, labels, self._times[step], self._times[step], then)
        return self._moved(latents, labels, 0, 0, 1) if misaligned else latents

    def _moved(self, latents: Tensor, labels: Sequence[int], asked: int, now: int, then: int) -> Tensor:
        """Return latents taken from time ``now`` to ``then`` by the noise predicted at time ``asked``."""
        classes = torch.as_tensor(list(labels), device=latents.device)
        output = predict(self._transformer, latents, torch.tensor(asked), classes, self._guidance, self._channels)
        noise, kept, kept_then = output[:, : latents.shape[1]], self._kept[now], self._kept[then]
        clean = (latents - (1 - kept).sqrt() * noise) / kept.sqrt()
        return kept_then.sqrt() * clean + (1 - kept_then).sqrt() * noise


def best_group(
    mean: Tensor, std: Tensor, ipc: int, groups: int, skewness: float, stream: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the group [ipc, d] drawn from N(mean, std²) that has the lowest score, and the scores [groups] of all."""
    best, scores = None, torch.empty(0)
    at_once = max(1, MOST // (ipc * len(mean)))
    for start in range(0, groups, at_once):
        count = min(at_once, groups - start)
        drawn = mean + std * torch.randn((count, ipc, len(mean)), generator=stream)
        found = score(drawn, mean, std, skewness)
        if best is None or found.min() < scores.min():
            best = drawn[found.argmin()]
        scores = torch.cat([scores, found])
    assert best is not None
    return best, scores


def score(groups: Tensor, mean: Tensor, std: Tensor, skewness: float) -> Tensor:
    """Return how far groups [g, ipc, d] are from a distribution: mean, deviation and, weighted, skewness.

    The skewness is that of the numbers of each latent, standardised over its group, as in the released code. A single
    latent has no deviation: only its mean counts.
    """
    centre = groups.mean(1)
    apart = (centre - mean).norm(dim=1)
    if groups.shape[1] < 2:
        return apart
    spread, count = groups.std(1), groups.shape[2]
    skewed = ((groups - centre[:, None]) / spread[:, None].clamp(min=TINY)).pow(3).sum(2) * (
        count / ((count - 1) * (count - 2))
    )
    return apart + (spread - std).norm(dim=1) + skewness * skewed.norm(dim=1)
