"""Options of methods that sample from a diffusion transformer. Defaults are those of the cpu scale."""

from __future__ import annotations

from pydantic import Field

from ddbench_plugins.diffusion.options import BackboneOptions


class DiTOptions(BackboneOptions):
    """Options of the method ``dit``, and of every method that samples as it does."""

    backbone: str = Field(
        "small",
        description="diffusion transformer: 'small' (trained on the data set), a hub id, or a folder of a DiTPipeline",
        json_schema_extra={"file": ["small"]},
    )
    small_dit_steps: int | None = Field(None, ge=1, description="training steps of the small transformer")
    steps: int = Field(50, ge=2, le=1000, description="sampling steps, evenly spaced over the 1000 of training")
    guidance_scale: float = Field(4.0, ge=1, description="classifier-free guidance; 1 is none")
    cfg_channels: int = Field(
        4,
        ge=1,
        le=4,
        description="latent channels, of four, that guidance acts on; the released code guides three. Of more, all",
    )
    decoder: str = Field(
        "",
        description="autoencoder that decodes: a hub id or a folder; empty is the one of the model, which encodes",
        json_schema_extra={"file": True},
    )

    @property
    def trains_unet(self) -> bool:
        """Whether a U-Net is trained: with the autoencoder of the transformer's latents, where that is trained."""
        return not self.small_vae
