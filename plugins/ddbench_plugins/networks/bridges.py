"""Networks of timm and torchvision under ddbench's contract: any classifier that ends in one linear layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from ddbench_plugins.networks.base import Network

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


class Bridged(Network):
    """A foreign classifier split into its body and its last linear layer."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        linears = [(name, module) for name, module in body.named_modules() if isinstance(module, nn.Linear)]
        if not linears:
            raise ValueError(f"{type(body).__name__} does not end in a linear layer")
        name, linear = linears[-1]
        parent, _, leaf = name.rpartition(".")
        setattr(body.get_submodule(parent), leaf, nn.Identity())
        self.body = body
        self.classifier = linear
        self._head = f"{name}."

    def embed(self, x: Tensor) -> Tensor:
        """Input of the last linear layer, ``[B, F]``."""
        return self.body(x)

    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a state dict of the foreign classifier in this network's names; its own stays as it is."""
        if all(name.startswith(("body.", "classifier.")) for name in state) and any(
            n.startswith("body.") for n in state
        ):
            return dict(state)
        return {
            f"classifier.{name.removeprefix(self._head)}" if name.startswith(self._head) else f"body.{name}": value
            for name, value in state.items()
        }


def create_timm(name: str, image_size: int, **arguments: Any) -> nn.Module:
    """Make a timm model for an image size: given to those that depend on it; the others take any."""
    import timm

    try:
        return timm.create_model(name, img_size=image_size, **arguments)
    except TypeError:  # convolutional models refuse the argument
        return timm.create_model(name, **arguments)


def build_timm(*, in_channels: int, image_size: int, num_classes: int, name: str, **arguments: Any) -> Bridged:
    """Build ``timm.create_model(name, **arguments)`` with random weights.

    Raises ``ValueError`` for a name timm does not know, and for one with the tag of pretrained weights.
    """
    import timm

    _refuse_tag("timm", name)
    if not timm.is_model(name):
        raise ValueError(f"timm has no model {name!r}")
    arguments |= {"pretrained": False, "in_chans": in_channels, "num_classes": num_classes}
    return Bridged(create_timm(name, image_size, **arguments))


def build_torchvision(*, in_channels: int, image_size: int, num_classes: int, name: str) -> Bridged:
    """Build ``torchvision.models.get_model(name)`` with random weights (RDED's other students).

    Raises ``ValueError`` for an unknown name, one with a tag, and for other than three channels.
    """
    from torchvision import models

    _refuse_tag("torchvision", name)
    if in_channels != 3:
        raise ValueError(f"torchvision models take RGB images, not {in_channels} channels")
    if name not in models.list_models(module=models):
        raise ValueError(f"torchvision has no model {name!r}")
    arguments: dict[str, object] = {"weights": None, "num_classes": num_classes}
    if name.startswith("vit_"):
        arguments["image_size"] = image_size
    return Bridged(models.get_model(name, **arguments))


def _refuse_tag(family: str, name: str) -> None:
    plain, dot, _ = name.partition(".")
    if dot:
        raise ValueError(
            f"{family}:{name} names pretrained weights, which a teacher may have; networks under test start at random,"
            f" so say {family}:{plain}"
        )
