"""Protocols that evaluate all methods alike: RD³'s, and rethinkdc's with soft and with hard labels.

Zhong et al., *Rectified Decoupled Dataset Distillation* (RD³), ICLR 2026; Xiao, Liu, He, Wang, *Rethinking Large-scale
Dataset Compression*, 2025 (rethinkdc/train_KD.py and dc_config/). Both train on augmented views that a teacher labels,
as :mod:`.evaluator` does, and state what the labels cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ddbench_plugins.evaluators.fkd.evaluator import Fkd, FkdOptions, FkdRecipe

if TYPE_CHECKING:
    from ddbench import Context

#: What is known of RD³'s protocol, and from whom.
RD3_EXTENSION = (
    "RD³'s settings as third parties report them; temperature, weight decay and area of crops are not among them"
)
RETHINKDC_EXTENSION = "rethinkdc's setting for ImageNet-1K on a data set for which it has none"
#: Of a stored logit (float16), and of the class of one that is kept by top_k (uint16).
LOGIT_BYTES, CLASS_BYTES = 2, 2


class UnifiedOptions(FkdOptions):
    """Options of RD³'s protocol."""

    labels: Literal["stored", "online", "fixed", "hard"] = Field(
        "online",
        description="online: the teacher in every step; stored: once for all students; fixed: one soft label per image,"
        " of the image as it is; hard: the class, no teacher",
    )
    epochs: int = Field(100, ge=1, description="passes over the distilled set")
    teacher: str = Field(
        "convnet-3-bn",
        description="network of the teacher, one for all students; the student's when empty",
        json_schema_extra={"names": "network", "blank": True},
    )
    batch_size: int = Field(50, ge=1, description="images per step, at most the set")
    optimiser: Literal["adamw", "adam", "sgd"] = Field(
        "adam", description="AdamW or Adam with betas 0.9, 0.999, or SGD"
    )
    weight_decay: float = Field(0.0, ge=0, description="of the parameters that decay")
    temperature: float = Field(20.0, gt=0, description="of both softmaxes in the KL loss")
    mix: Literal["cutmix", "mixup", "none"] = Field("cutmix", description="how images of a batch are mixed")
    crop: Literal["resized", "padded", "none"] = Field(
        "resized", description="random resized crop, or random crop of the padded image"
    )


@dataclass(frozen=True, kw_only=True)
class UnifiedRecipe(FkdRecipe):
    """FKD's recipe with the price of its labels."""

    def settings(self) -> dict[str, Any]:
        """Return what the protocol states, the price of the labels of a distilled image included."""
        labels, views = self.options.labels, self.epochs
        asked = {"hard": 0, "fixed": 1}.get(labels, views)
        top_k = self.options.top_k  # beside which there is one more logit, of all other classes
        label = LOGIT_BYTES * (top_k + 1) + CLASS_BYTES * top_k if top_k else LOGIT_BYTES * self.dataset.num_classes
        kept = {"hard": 0, "online": 0}.get(labels, asked) * label
        return super().settings() | {"label_bytes_per_image": kept, "teacher_forwards_per_image": asked}


class Rd3(Fkd):
    """Soft labels of one teacher, KL, Adam, CutMix, resized crops, 400 epochs in batches of 50."""

    Options = UnifiedOptions
    Recipe = UnifiedRecipe
    presets = "rd3.toml"

    def extension(self, ctx: Context) -> str:
        """Say what is not known of the protocol."""
        return RD3_EXTENSION


class RethinkdcOptions(UnifiedOptions):
    """Options of rethinkdc's soft protocol."""

    epochs: int = Field(300, ge=1, description="passes over the distilled set")
    batch_size: int = Field(128, ge=1, description="images per step, at most the set")
    optimiser: Literal["adamw", "adam", "sgd"] = Field(
        "adamw", description="AdamW or Adam with betas 0.9, 0.999, or SGD"
    )
    weight_decay: float = Field(0.01, ge=0, description="of the parameters that decay")
    decay: Literal["matrices", "all"] = Field("matrices", description="which parameters decay")
    schedule: Literal["cosine", "half_cosine", "linear", "warmup_cosine"] = Field(
        "cosine", description="cosine to 0; to one half; linear to 0; 5 epochs of linear warm-up, then cosine to 0"
    )
    test_resize: bool = Field(True, description="test at 8/7 of the side, centre-cropped, as 256 → 224")
    test_every: int = Field(50, ge=1, description="epochs between tests under best_test")


class RethinkdcHardOptions(RethinkdcOptions):
    """Options of rethinkdc's hard protocol."""

    labels: Literal["stored", "online", "fixed", "hard"] = Field("hard", description="hard: the class, no teacher")
    mix: Literal["cutmix", "mixup", "none"] = Field("none", description="how images of a batch are mixed")


class Rethinkdc(Fkd):
    """Soft labels of one teacher online, KL at T = 20, CutMix, AdamW, cosine."""

    Options = RethinkdcOptions
    Recipe = UnifiedRecipe
    presets = "rethinkdc.toml"

    def extension(self, ctx: Context) -> str:
        """Say that the protocol is for ImageNet-1K."""
        return "" if ctx.dataset.name == "imagenet-1k" else RETHINKDC_EXTENSION


class RethinkdcHard(Rethinkdc):
    """The classes of the images, cross-entropy, no mixing; else as with soft labels."""

    Options = RethinkdcHardOptions
