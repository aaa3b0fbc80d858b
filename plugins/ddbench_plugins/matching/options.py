"""Options that all methods of this kind have, and what their time grows with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

import ddbench
from ddbench import Effort, Stage

if TYPE_CHECKING:
    from ddbench import Context


#: Gradients of pixels become 0 in fp16, and losses that are gradients themselves have no one scale against that.
PRECISIONS = ("fp32", "bf16")


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


def pixel_stages(ctx: Context, amount: float, *counted: str) -> list[Stage]:
    """Return the one stage of a method whose time is proportional to ``amount``, made of the options ``counted``.

    Only runs of the same number of images and of otherwise equal options are compared.
    """
    data = ctx.dataset
    options = {name: value for name, value in ctx.resolved.dump().items() if name not in (*counted, "snapshots")}
    facts = [data.image_size, data.channels, data.num_classes, ctx.ipc]
    return [Stage("distilled", Effort(amount, {"options": options, "data": facts}))]
