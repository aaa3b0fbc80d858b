"""One model in several processes, which see parts of one batch and average their gradients."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from ddbench import UsageError

if TYPE_CHECKING:
    import torch

    from ddbench import Team


class Replica:
    """This process's copy of a model; of a team of one, the model itself.

    Attributes:
        model: to be called in place of the original, whose parameters it has.
    """

    def __init__(self, model: torch.nn.Module, team: Team, device: str) -> None:
        self.model: Any = model
        self._accelerator: Any = None
        if team.count > 1:
            team.wait()  # the first may still be reading what the others have read; gradients are not waited for long
            self._accelerator = _accelerator(device)
            self.model = self._accelerator.prepare_model(model, device_placement=False)

    def alone(self) -> AbstractContextManager[Any]:
        """Gradients of losses in this context are averaged only with those of the next loss outside of it."""
        return self._accelerator.no_sync(self.model) if self._accelerator else nullcontext()

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """Return the mean of a number over all processes."""
        reduced: torch.Tensor = self._accelerator.reduce(value, "mean") if self._accelerator else value
        return reduced


def _accelerator(device: str) -> Any:
    from accelerate import Accelerator
    from accelerate.utils import DistributedType

    accelerator = Accelerator(cpu=device == "cpu", device_placement=False, mixed_precision="no")
    if accelerator.distributed_type not in (DistributedType.MULTI_CPU, DistributedType.MULTI_GPU):
        raise UsageError(
            f"The launcher is set to {accelerator.distributed_type}; each device has a whole model here.",
            hint="Use torchrun, or accelerate launch with --multi_gpu and without DeepSpeed or FSDP.",
        )
    return accelerator
