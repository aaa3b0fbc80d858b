"""The regression that both methods are made for; the defaults are those of KIP.ipynb and of the evaluator ``krr``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

import ddbench


class KernelOptions(ddbench.Options):
    """Kernel and ridge."""

    kernel: Literal["ntk", "nngp"] = Field(
        "ntk", description="neural tangent kernel, or covariance, of infinitely wide fully connected ReLU networks"
    )
    depth: int = Field(1, ge=1, description="hidden layers")
    ridge: float = Field(1e-6, ge=0, description="λ, relative to the mean of the kernel's diagonal")
