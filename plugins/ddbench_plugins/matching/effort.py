"""What the time of methods that optimise pixels grows with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddbench import Effort, Stage

if TYPE_CHECKING:
    from ddbench import Context


def pixel_stages(ctx: Context, amount: float, *counted: str) -> list[Stage]:
    """Return the one stage of a method whose time is proportional to ``amount``, made of the options ``counted``.

    Only runs of the same number of images and of otherwise equal options are compared.
    """
    data = ctx.dataset
    options = {name: value for name, value in ctx.resolved.dump().items() if name not in (*counted, "snapshots")}
    facts = [data.image_size, data.channels, data.num_classes, ctx.ipc]
    return [Stage("distilled", Effort(amount, {"options": options, "data": facts}))]
