"""DiffFit: which parameters of a diffusion transformer are fine-tuned, and the scales that are added for it.

Xie et al., *DiffFit: Unlocking Transferability of Large Diffusion Models via Simple Parameter-Efficient Fine-Tuning*,
ICCV 2023, as MinimaxDiffusion uses it: a parameter is trained if its name in the DiT code contains ``bias``, ``norm``,
``gamma`` or ``y_embed``. DiT's norms have no parameters of their own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Scaled(nn.Module):
    """A module whose output channels are multiplied by learned factors, 1 at first."""

    def __init__(self, inner: nn.Module, width: int) -> None:
        super().__init__()
        self.inner = inner
        self.gamma = nn.Parameter(torch.ones(width, device=next(inner.parameters()).device))

    def forward(self, *args: Any, **options: Any) -> Tensor:
        """Scale what the module returns."""
        return self.gamma * self.inner(*args, **options)


def add_scales(transformer: Any) -> None:
    """Insert the scales into the first half of the blocks, without changing any output.

    On queries, keys and values, on the attention's projection, and on both gated residual branches: 6 · width numbers
    per block.
    """
    blocks = transformer.transformer_blocks
    for block in blocks[: len(blocks) // 2]:
        attention, width = block.attn1, block.norm1.linear.in_features
        for name in ("to_q", "to_k", "to_v"):
            setattr(attention, name, Scaled(getattr(attention, name), width))
        # The projection's own scale, and that of its residual branch; the gate in between multiplies as well.
        attention.to_out[0] = Scaled(Scaled(attention.to_out[0], width), width)
        block.ff.net[-1] = Scaled(block.ff.net[-1], width)


@torch.no_grad()
def fold_scales(transformer: Any) -> None:
    """Multiply the scales into the linear layers they follow, so that the transformer is an ordinary one again."""
    for parent in [module for module in transformer.modules() if not isinstance(module, Scaled)]:
        for name, child in list(parent.named_children()):
            if isinstance(child, Scaled):
                setattr(parent, name, _folded(child))


def _folded(scaled: Scaled) -> Any:
    inner: Any = _folded(scaled.inner) if isinstance(scaled.inner, Scaled) else scaled.inner
    inner.weight.mul_(scaled.gamma[:, None])
    inner.bias.mul_(scaled.gamma)
    return inner


def trained(name: str) -> bool:
    """Whether DiffFit trains the parameter of that name in diffusers' ``DiTTransformer2DModel``.

    There "norm1.linear.weight" is what DiT calls the modulation: no parameter of a norm.
    """
    return name.endswith((".bias", ".gamma")) or ".class_embedder." in name
