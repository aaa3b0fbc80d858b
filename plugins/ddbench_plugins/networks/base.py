"""What every network of the toolkit has: ``embed`` gives the features that its last linear layer reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


class Network(nn.Module):
    """A classifier ``[B, C, S, S] -> [B, K]`` that is a feature extractor followed by one linear layer.

    Subclasses set ``head`` (an ``nn.Linear``) and implement :meth:`embed`.
    """

    head_name = "classifier"

    @property
    def head(self) -> nn.Linear:
        """The last linear layer."""
        return getattr(self, self.head_name)

    def embed(self, x: Tensor) -> Tensor:
        """Features of shape ``[B, F]``: the input of the last linear layer."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape ``[B, K]``."""
        return self.head(self.embed(x))


def initialise_he_fan_out(network: nn.Module) -> None:
    """Draw every convolution from N(0, 2/(k·k·C_out)) and set norms to 1 and 0 (IDC and torchvision ResNets)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.GroupNorm | nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
