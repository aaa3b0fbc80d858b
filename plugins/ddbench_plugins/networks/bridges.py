"""Networks of timm and torchvision under ddbench's contract: any classifier that ends in one linear layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from ddbench_plugins.networks.base import Network

if TYPE_CHECKING:
    from torch import Tensor


class Bridged(Network):
    """A foreign classifier split into its body and its last linear layer."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        found = [(name, module) for name, module in body.named_modules() if isinstance(module, nn.Linear)]
        if not found:
            raise ValueError(f"{type(body).__name__} does not end in a linear layer")
        name, linear = found[-1]
        parent, _, leaf = name.rpartition(".")
        setattr(body.get_submodule(parent), leaf, nn.Identity())
        self.body = body
        self.classifier = linear

    def embed(self, x: Tensor) -> Tensor:
        """Input of the last linear layer, ``[B, F]``."""
        return self.body(x)


def build_timm(*, in_channels: int, image_size: int, num_classes: int, name: str) -> Bridged:
    """Build ``timm.create_model(name)`` with random weights.

    Raises ``ValueError`` for a name timm does not know.
    """
    import timm

    if not timm.is_model(name):
        raise ValueError(f"timm has no model {name!r}")
    arguments: dict[str, object] = {"pretrained": False, "in_chans": in_channels, "num_classes": num_classes}
    try:
        return Bridged(timm.create_model(name, img_size=image_size, **arguments))
    except TypeError:  # convolutional models take any size and refuse the argument
        return Bridged(timm.create_model(name, **arguments))


def build_torchvision(*, in_channels: int, image_size: int, num_classes: int, name: str) -> Bridged:
    """Build ``torchvision.models.get_model(name)`` with random weights (RDED's other students).

    Raises ``ValueError`` for an unknown name and for other than three channels.
    """
    from torchvision import models

    if in_channels != 3:
        raise ValueError(f"torchvision models take RGB images, not {in_channels} channels")
    if name not in models.list_models(module=models):
        raise ValueError(f"torchvision has no model {name!r}")
    arguments: dict[str, object] = {"weights": None, "num_classes": num_classes}
    if name.startswith("vit_"):
        arguments["image_size"] = image_size
    return Bridged(models.get_model(name, **arguments))
