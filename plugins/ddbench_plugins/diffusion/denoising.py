"""What a denoising network is trained to predict, by the scheduler it comes with: noise or velocity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ddbench import ModelError

if TYPE_CHECKING:
    from torch import Tensor

#: Least ᾱ by which noise tells of an image, as in diffusers' Euler scheduler: zero-SNR schedules end at 0.
LEAST = 2.0**-24


class Denoising:
    """The training task of a diffusers scheduler's ``prediction_type``, as in diffusers' text-to-image script.

    "epsilon" is the noise ε; "v_prediction" the velocity √ᾱ·ε − √(1 − ᾱ)·x (Salimans & Ho, *Progressive Distillation
    for Fast Sampling of Diffusion Models*, ICLR 2022), as Stable Diffusion 2.1 predicts it.

    Attributes:
        predicts: the ``prediction_type``.
        times: how many timesteps there are.

    Raises:
        ModelError: the scheduler's network predicts something else.
    """

    def __init__(self, scheduler: Any) -> None:
        from diffusers import DDPMScheduler

        self._scheduler = DDPMScheduler.from_config(scheduler.config)
        self.predicts = self._scheduler.config.prediction_type
        self.times: int = self._scheduler.config.num_train_timesteps
        if self.predicts not in ("epsilon", "v_prediction"):
            raise ModelError(
                f"The diffusion model predicts {self.predicts!r}.",
                hint="Take one whose scheduler_config.json has the prediction_type epsilon or v_prediction.",
            )

    def task(self, clean: Tensor, noise: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """Return the noisy latents and what is to be predicted of them, [n, C, h, w] as ``clean`` and ``noise``."""
        noisy = self._scheduler.add_noise(clean, noise, times)
        target = noise if self.predicts == "epsilon" else self._scheduler.get_velocity(clean, noise, times)
        return noisy, target

    def noise(self, output: Tensor, noisy: Tensor, times: Tensor) -> Tensor:
        """Return the noise in ``noisy`` [n, C, h, w] at times [n] or one for all, by the network's output."""
        if self.predicts == "epsilon":
            return output
        kept = self._scheduler.alphas_cumprod.clamp(min=LEAST).to(output.device)[times].view(-1, 1, 1, 1)
        return kept.sqrt() * output + (1 - kept).sqrt() * noisy

    def min_snr_weights(self, times: Tensor, gamma: float) -> Tensor:
        """Return the loss's weights [n]: min(SNR, γ) / SNR for noise, / (SNR + 1) for velocities.

        Both weigh the error of the clean latents by min(SNR, γ) (Hang et al., *Efficient Diffusion Training via Min-SNR
        Weighting Strategy*, ICCV 2023).
        """
        kept = self._scheduler.alphas_cumprod.to(times.device)[times]
        weights = (gamma * (1 - kept) / kept).clamp(max=1)
        return weights if self.predicts == "epsilon" else weights * kept
