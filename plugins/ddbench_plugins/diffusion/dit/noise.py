"""The noise process of DiT and its loss: predicted noise and a variance within its analytic range.

Nichol and Dhariwal, *Improved Denoising Diffusion Probabilistic Models*, ICML 2021; Peebles and Xie, *Scalable
Diffusion Models with Transformers*, ICCV 2023.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: Half the width of a bin of the discretised likelihood at timestep 0, which the DiT code takes over from pixels.
HALF_BIN = 1 / 255


class Noise:
    """The noise process with variances ``betas`` [T]; what it is given and returns is on the same device."""

    def __init__(self, betas: Tensor) -> None:
        betas = betas.double()
        kept = (1 - betas).cumprod(0)
        before = torch.cat([kept.new_ones(1), kept[:-1]])
        posterior = betas * (1 - before) / (1 - kept)
        self._signal, self._noise = kept.sqrt(), (1 - kept).sqrt()
        self._of_clean = betas * before.sqrt() / (1 - kept)
        self._of_noisy = (1 - before) * (1 - betas).sqrt() / (1 - kept)
        # The posterior at timestep 0 has no variance; its logarithm is that of timestep 1.
        self._least = torch.cat([posterior[1:2], posterior[1:]]).log()
        self._most = betas.log()
        self.steps = len(betas)

    def noisy(self, clean: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Latents [n, C, h, w] at ``times`` [n]: √ᾱ·clean + √(1−ᾱ)·noise."""
        return _at(self._signal, times, clean) * clean + _at(self._noise, times, clean) * noise

    def clean(self, noisy: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """The clean latents that predicted ``noise`` implies, not clipped: noisy/√ᾱ − √(1/ᾱ−1)·noise."""
        signal, amount = _at(self._signal, times, noisy), _at(self._noise, times, noisy)
        return noisy / signal - amount / signal * noise

    def loss(self, output: Tensor, clean: Tensor, noisy: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Loss [n] of the transformer's ``output`` [n, 2C, h, w]: squared error of the noise, plus the bound.

        The bound trains the variance only: the mean in it carries no gradient.
        """
        predicted, variance = output.float().chunk(2, dim=1)
        squared = (predicted - noise).square().flatten(1).mean(1)
        return squared + self.bound(predicted.detach(), variance, clean, noisy, times)

    def bound(self, predicted: Tensor, variance: Tensor, clean: Tensor, noisy: Tensor, times: Tensor) -> Tensor:
        """The term of the variational bound [n] at ``times``, in bits per dimension.

        ``predicted`` noise gives the mean; ``variance`` in [-1, 1] lies between the logarithms of the posterior's
        variance and of β.
        """
        mean, log_variance = self.step_back(noisy, self.clean(noisy, predicted, times), times, variance)
        true_mean, true_log_variance = self.step_back(noisy, clean, times)
        apart = (true_mean - mean).square() * (-log_variance).exp()
        divergence = 0.5 * (log_variance - true_log_variance + (true_log_variance - log_variance).exp() - 1 + apart)
        first = -_discretised(clean, mean, 0.5 * log_variance)
        where = (times == 0).view(-1, 1, 1, 1)
        return torch.where(where, first, divergence).flatten(1).mean(1) / math.log(2)

    def step_back(
        self, noisy: Tensor, clean: Tensor, times: Tensor, variance: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latents one step before; without ``variance``, those of the true posterior."""
        mean = _at(self._of_clean, times, clean) * clean + _at(self._of_noisy, times, noisy) * noisy
        least, most = _at(self._least, times, noisy), _at(self._most, times, noisy)
        share = torch.zeros_like(noisy) if variance is None else (variance + 1) / 2
        return mean, share * most + (1 - share) * least


def _at(values: Tensor, times: Tensor, like: Tensor) -> Tensor:
    return values[times].to(like.dtype).view(-1, 1, 1, 1)


def _discretised(values: Tensor, mean: Tensor, log_deviation: Tensor) -> Tensor:
    """Log-likelihood of values in bins of width 2/255 under normal distributions; the outer bins reach to infinity."""
    scale = (-log_deviation).exp()
    above = torch.special.ndtr((values - mean + HALF_BIN) * scale)
    below = torch.special.ndtr((values - mean - HALF_BIN) * scale)
    inner = (above - below).clamp(min=1e-12).log()
    lowest, highest = above.clamp(min=1e-12).log(), (1 - below).clamp(min=1e-12).log()
    return torch.where(values < -0.999, lowest, torch.where(values > 0.999, highest, inner))
