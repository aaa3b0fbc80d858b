"""IDC's images: pixels in the [0, 1] scale, what they begin as, and what a stored image decodes to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch

from ddbench_plugins.matching.images import SyntheticImages
from ddbench_plugins.training.formation import decode_class, stitch
from ddbench_plugins.training.seeding import make_generator

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor

    from ddbench import DistilledSet
    from ddbench_plugins.matching.images import RealImages
    from ddbench_plugins.training.formation import Formation

Init = Literal["real", "noise", "mix"]
#: Most decoded images of a class in one matching step (batch_syn_max).
MOST_DECODED = 128


class FormedImages(SyntheticImages):
    """Pixels [K·ipc, C, S, S] in the [0, 1] scale; the loop clamps them now and then, not after every step."""

    def __init__(
        self, images: Tensor, ipc: int, lr: float, *, factor: int, formation: Formation, clamp_final: bool
    ) -> None:
        super().__init__(images, ipc, lr)
        self.factor, self.formation, self.clamp_final = factor, formation, clamp_final
        self.decoded_count = len(decode_class(self.images[:ipc].detach(), factor, formation, MOST_DECODED))

    def clamp(self) -> None:
        """Bring all pixels back into [0, 1]."""
        with torch.no_grad():
            self.images.clamp_(0, 1)

    def draw_decoded(self, generator: Generator) -> tuple[Tensor, ...]:
        """Draw which of the images that those of a class decode to are seen: all but where that are too many."""
        if self.decoded_count <= MOST_DECODED:
            return ()
        return (torch.randperm(self.decoded_count, generator=generator)[:MOST_DECODED],)

    def decoded(self, label: int | Tensor, *chosen: Tensor) -> Tensor:
        """Return what the images of a class decode to, or what was drawn of that."""
        images = decode_class(self.of_class(label), self.factor, self.formation, MOST_DECODED)
        return images[chosen] if chosen else images

    def distilled(self, space: str = "unit", **fields: Any) -> DistilledSet:
        """Return the images with their factor, which evaluators decode by."""
        extra = {**fields.pop("extra", {}), "factor": self.factor}
        result = super().distilled(space, extra=extra, **fields)
        return replace(result, images=result.images.clip(0, 1)) if self.clamp_final else result


def initial_images(
    real: RealImages,
    ipc: int,
    init: Init,
    factor: int,
    seed: int,
    first: bool,
    choose: Callable[[int, int], Tensor] | None = None,
) -> Tensor:
    """Return float32 [K·ipc, C, S, S] in [0, 1], class by class.

    ``real``: training images; ``mix``: factor² of them in each image; ``noise``: N(0.5, 0.25²), clamped. Training
    images are drawn at random, or are the first of the class, or those whose positions ``choose`` returns for a class
    and a number.
    """
    classes = []
    for label in range(real.classes):
        generator = make_generator(seed, label + 1)
        if init == "noise":
            classes.append((torch.randn((ipc, *real.shape), generator=generator) / 4 + 0.5).to(real.device))
            continue
        members, count = real.members(label), ipc * factor**2 if init == "mix" else ipc
        if choose:
            members = choose(label, count)
        elif not first:
            members = members[torch.randperm(len(members), generator=generator)]
        # A class too small to fill all cells with different images starts over.
        chosen = members.repeat(-(-count // len(members)))[:count]
        pixels = real.plain(real.at(chosen))
        classes.append(stitch(pixels, factor, real.shape[-1]) if init == "mix" else pixels)
    return torch.cat(classes).clamp(0, 1)
