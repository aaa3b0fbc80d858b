"""Encoders and branches of a run, and what both sides of a pair look like to them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import torch

import ddbench
from ddbench_plugins.pairs.branches import Branches
from ddbench_plugins.pairs.encoders import ImageEncoder, image_encoder
from ddbench_plugins.pairs.features import Captioned, captioned, features
from ddbench_plugins.training.predict import as_float

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from ddbench_plugins.pairs.options import PairOptions

#: Images that go through the image branch together, in tests.
BATCH = 256


class Setting:
    """The encoders that options name, with the constants that their vectors are divided by.

    Where the encoder of images is trained, ``seed`` draws the weights of one that begins at random.
    """

    def __init__(self, ctx: ddbench.Context, options: PairOptions, seed: int) -> None:
        self.ctx, self.options, self.seed = ctx, options, seed
        self.device = ctx.machine.device

    @cached_property
    def frozen(self) -> bool:
        """Whether the image branch begins at features of a frozen encoder."""
        return self.options.trained == "head"

    @cached_property
    def captions(self) -> Captioned:
        """Captions of the training images."""
        return captioned(self.ctx, self.options, "train")

    @cached_property
    def scales(self) -> tuple[float, float]:
        """What image features and text vectors are divided by."""
        if not self.options.standardise:
            return 1.0, 1.0
        return float(self._real("train").std()) if self.frozen else 1.0, float(self.captions.vectors.std())

    def inputs(self, images: Tensor) -> Tensor:
        """Return what the image branch takes, of images [n, C, S, S] in the [0, 1] scale; differentiable."""
        pixels = self._encoder.inputs(as_float(images))
        return self._encoder.network.embed(pixels) / self.scales[0] if self.frozen else pixels

    def texts(self, vectors: Tensor) -> Tensor:
        """Return what the text branch takes, of vectors [n, D]."""
        return vectors.to(self.device) / self.scales[1]

    def real(self, part: str) -> Callable[[Tensor], Tensor]:
        """Return what gives the image branch's inputs of images of a split, by their places."""
        if self.frozen:
            whole = (self._real(part) / self.scales[0]).to(self.device)
            return lambda rows: whole[rows.to(self.device)]
        images, size = getattr(self.ctx.dataset, part).images, self.ctx.dataset.image_size
        return lambda rows: self.inputs(
            torch.from_numpy(images.batch(rows.tolist(), size)).to(self.device).permute(0, 3, 1, 2)
        )

    def branches(self, seed: int) -> Branches:
        """Return branches as they begin."""
        image = self._real("train").shape[1] if self.frozen else self._encoder.network
        width = self.options.width if self.frozen else int(self._encoder.network.head.in_features)
        begun: Branches = Branches.begun(image, self.captions.vectors.shape[1], width, seed).to(self.device)
        return begun

    @torch.inference_mode()
    def embed(self, branches: Branches, part: str) -> tuple[Tensor, Tensor]:
        """Return the embeddings [n, E] of all images and of all captions of a split, on the CPU."""
        branches.eval()
        give, known = self.real(part), captioned(self.ctx, self.options, part)
        count = len(getattr(self.ctx.dataset, part))

        def batches() -> Iterator[Tensor]:
            for rows in torch.arange(count).split(BATCH):
                yield branches.image(give(rows)).float().cpu()

        texts = branches.text(self.texts(known.vectors)).float().cpu()
        return torch.cat(list(batches())), texts

    @cached_property
    def _encoder(self) -> ImageEncoder:
        return image_encoder(self.ctx, self.options, self.seed)

    def _real(self, part: str) -> Tensor:
        return features(self.ctx, self.options, part)
