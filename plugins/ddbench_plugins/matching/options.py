"""Options that all methods of this kind have."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

import ddbench

#: Gradients of pixels become 0 in fp16, and losses that are gradients themselves have no one scale against that.
PRECISIONS = ("fp32", "tf32", "bf16")


class PixelOptions(ddbench.Options):
    """How long the images are optimised, and which of them are kept on the way."""

    iterations: int = Field(1000, ge=1, description="iterations of the outermost loop")
    snapshots: tuple[int, ...] = Field(
        (),
        description="iterations whose images are kept beside the result, for `ddbench evaluate`",
        json_schema_extra={"aside": True},
    )

    @model_validator(mode="after")
    def _snapshots_are_reached(self) -> Self:
        for iteration in self.snapshots:
            if not 1 <= iteration <= self.iterations:
                raise ValueError(f"a snapshot of iteration {iteration}, but iterations are 1 to {self.iterations}")
        return self
