"""Options that methods with a diffusion model share. Defaults are those of the cpu scale."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from ddbench import ImageSource, Options


class BackboneOptions(Options):
    """Options of every method that starts from a latent diffusion model, of whatever kind."""

    backbone: str = Field(
        "small",
        description="diffusion model: 'small' (trained on the data set), a hub id, or a folder in diffusers' layout",
        json_schema_extra={"file": ["small"]},
    )
    revision: str | None = Field(None, description="commit, tag or branch of a hub model")
    small_preset: Literal["auto", "digits", "cifar10", "imagenette64", "long", "medium"] = Field(
        "auto",
        description="size of the small model; 'auto' goes by the data set's image size, 'long' trains one for half"
        " an hour on a CPU, 'medium' a larger one for a GPU",
    )
    small_vae: str | None = Field(
        None,
        description="published tiny autoencoder (TAESD's family) of the small model: a hub id, a folder, or the file of"
        " the encoder with the decoder's beside it; None: one is trained on the data set",
        json_schema_extra={"file": True, "later": True},
    )
    small_vae_side: int | None = Field(
        None,
        ge=8,
        le=ImageSource.LARGEST_SIDE,
        description="side at which the published autoencoder encodes: the image's (None) times a power of two",
        json_schema_extra={"later": True},
    )
    small_vae_steps: int | None = Field(None, ge=1, description="training steps of the small model's autoencoder")
    small_unet_steps: int | None = Field(None, ge=1, description="training steps of the small model's U-Net")
    small_prediction: Literal["epsilon", "v_prediction"] | None = Field(
        None,
        description="what the small model's U-Net is trained to predict, in diffusers' words: the noise (epsilon, also"
        " when none), or the velocity (v_prediction), which is learned in fewer steps",
        json_schema_extra={"later": True},
    )
    batch_size: int | None = Field(
        None, ge=1, description="images encoded or generated at a time; None: 64 up to 64 pixels, 8 above"
    )
    size: int | None = Field(
        None, ge=8, le=ImageSource.LARGEST_SIDE, description="side of the distilled images; None is the data set's"
    )
    acceptance: Literal["small", "always", "never"] = Field(
        "small", description="when the distilled images are checked: for small models only, always, or never"
    )
    acceptance_network: str = Field(
        "convnet-3-bn",
        description="network, trained on real images, that recognises them",
        json_schema_extra={"names": "network"},
    )

    @field_validator("small_prediction")
    @classmethod
    def _noise_is_the_default(cls, value: str | None) -> str | None:
        return None if value == "epsilon" else value  # one result, one key

    @model_validator(mode="after")
    def _none_is_idle(self) -> Self:
        if self.backbone != "small":
            of_small = {name: field for name, field in type(self).model_fields.items() if name.startswith("small_")}
            if idle := [name for name, field in of_small.items() if getattr(self, name) != field.default]:
                raise ValueError(f"{idle[0]} is of the small model, which backbone={self.backbone} is not")
        elif self.small_vae_side and not self.small_vae:
            raise ValueError("small_vae_side is of a published autoencoder, which small_vae names")
        elif self.small_vae_steps and self.small_vae:
            raise ValueError("small_vae_steps trains an autoencoder, and small_vae names one that is trained already")
        elif not self.trains_unet and (self.small_unet_steps or self.small_prediction):
            name = "small_unet_steps" if self.small_unet_steps else "small_prediction"
            raise ValueError(f"{name} is of the U-Net, which a transformer beside small_vae does not need")
        return self

    @property
    def trains_unet(self) -> bool:
        """Whether a method's small model has a U-Net."""
        return True

    @property
    def checks_images(self) -> bool:
        """Whether the distilled images are to be checked."""
        return self.acceptance == "always" or (self.acceptance == "small" and self.backbone == "small")


class DiffusionOptions(BackboneOptions):
    """Options of methods that encode training images and guide a text-conditioned model."""

    resolution: int | None = Field(
        None,
        ge=8,
        le=ImageSource.LARGEST_SIDE,
        description="side at which images are encoded and generated; None is the model's own",
    )
    latent: Literal["sample", "mode"] = Field(
        "sample", description="draw latents from the autoencoder's posterior (seeded), or take its mode"
    )
    acceptance_images: int = Field(100, ge=1, description="most images of the test that swaps the prompts")


class ImageToImageOptions(DiffusionOptions):
    """Options of methods that noise a prototype part of the way and denoise it under a prompt."""

    strength: float = Field(0.7, gt=0, le=1, description="how far towards noise a prototype is taken (s)")
    guidance_scale: float = Field(10.0, ge=1, description="classifier-free guidance (g)")
    steps: int = Field(50, ge=1, description="inference steps for strength 1")
    negative_prompt: str = Field("cartoon, anime, painting", description="what guidance leads away from")
