"""Every option of VLCP. Defaults are those of the cpu scale; ``presets.toml`` holds the paper's values."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ddbench import ImageSource
from ddbench_plugins.diffusion.options import ImageToImageOptions


class VLCPOptions(ImageToImageOptions):
    """Options of the method ``vlcp``."""

    captioner: str = Field(
        "attributes",
        description="which captioner describes the training images",
        json_schema_extra={"names": "captioner"},
    )

    # Fine-tuning
    finetune: bool = Field(True, description="fine-tune the U-Net on (image, caption) pairs")
    finetune_resolution: int | None = Field(
        None, ge=8, le=ImageSource.LARGEST_SIDE, description="side of the training images; None is the model's"
    )
    finetune_epochs: int = Field(8, ge=1, description="passes over the training images")
    finetune_batch_size: int = Field(32, ge=1, description="images per batch, of all devices together")
    finetune_accumulate: int = Field(1, ge=1, description="batches per optimiser step")
    finetune_learning_rate: float = Field(1e-4, gt=0, description="constant learning rate of AdamW")
    finetune_weight_decay: float = Field(0.01, ge=0, description="weight decay of AdamW")
    finetune_clip_norm: float = Field(1.0, gt=0, description="largest gradient norm")
    finetune_ema_decay: float = Field(0.9999, ge=0, le=1, description="decay of the averaged weights")
    finetune_flip: bool = Field(True, description="random horizontal flips, where a mirrored image keeps its label")
    gradient_checkpointing: bool | None = Field(
        None, description="save memory by computing activations twice; None: for U-Nets of over 100 million weights"
    )
    cache_latents: bool | None = Field(
        None, description="encode every training image once instead of at every step; None: where that takes under 2 GB"
    )

    # Prototypes
    contamination: float = Field(0.0, ge=0, le=0.5, description="share of outliers removed from each class (α)")
    neighbours: int = Field(10, ge=1, description="neighbours of the Local Outlier Factor")
    text: Literal["prototype", "label", "swapped", "shuffled"] = Field(
        "prototype",
        description="prompt of a cluster: its text prototype, or the class's name; controls: that of the class's next"
        " cluster, or everything with captions that are dealt out at random among the images of their class",
    )
    beta: float = Field(0.7, gt=0, description="words in at least this share of a class's captions are dropped (β)")
    top_k: int = Field(30, ge=1, description="words in a cluster's vocabulary (k)")
    matching: Literal["word", "substring"] = Field(
        "word", description="compare whole words whatever their case, or substrings as the released code does"
    )
    stop_words: str = Field(
        "sklearn",
        description="'sklearn' (its English list), 'none', or a text file (the released code uses NLTK's)",
        json_schema_extra={"file": ["sklearn", "none"]},
    )

    # Synthesis
    pad_prompts: bool = Field(
        True, description="fill the last window of a long prompt; the released code leaves it short"
    )
