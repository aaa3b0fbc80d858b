"""One model in several processes, which see parts of one batch and average their gradients."""

from __future__ import annotations

import itertools
import os
import socket
import sys
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from ddbench import DDBenchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import torch

Item = TypeVar("Item")
#: How many processes share a fine-tuning, each with a GPU of its own where there are GPUs.
VARIABLE = "DDBENCH_FINETUNE_PROCESSES"
#: How long a process may wait for the others to end their share.
PATIENCE = timedelta(days=60)
#: Seconds in which a process that has failed is asked why.
GRACE = 5.0


@dataclass(frozen=True)
class Team:
    """The processes that train a model together.

    Attributes:
        rank: number of this process, from 0.
        count: how many there are.
        group: by which they wait for each other.
    """

    rank: int = 0
    count: int = 1
    group: Any = field(default=None, compare=False)

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def shares(self, items: Sequence[Item]) -> list[Sequence[Item]]:
        """Return every process's part: consecutive items, in numbers that differ by at most one."""
        ends = [len(items) * rank // self.count for rank in range(self.count + 1)]
        return [items[start:end] for start, end in itertools.pairwise(ends)]

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return this process's part."""
        return self.shares(items)[self.rank]

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.count > 1:
            import torch.distributed

            torch.distributed.barrier(self.group)


def processes(device: str) -> int:
    """Return how many processes are to share a training on a device.

    Raises:
        UsageError: :data:`VARIABLE` is no number, or there are fewer GPUs. One where it is empty or not set.
    """
    text = os.environ.get(VARIABLE, "") or "1"
    if not text.isdecimal() or text == "0":
        raise UsageError(f"{VARIABLE}={text!r} is no number of processes.", hint="Use 1 or more, or unset it.")
    if (count := int(text)) > 1 and device.startswith("cuda"):
        import torch

        if count > (gpus := max(torch.cuda.device_count(), 1)):
            raise UsageError(
                f"{VARIABLE}={text}, but this process sees {gpus} GPUs.",
                hint="Every process has one; ask for more, or for fewer processes.",
            )
    return count


@contextmanager
def divided(count: int, device: str, work: Callable[..., object], *arguments: Any) -> Iterator[Team]:
    """Yield the team of this process, which leads, while others call ``work(*arguments, team)`` for their shares.

    Args:
        count: of processes; nothing is started for one.
        device: of this process; the others have the next ones, if it is a GPU.
        work, arguments: a function of a module, and what can be pickled.
    """
    if count == 1:
        yield Team()
        return
    from torch.multiprocessing import get_context, start_processes

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ready = get_context("spawn").Semaphore(0)
    about = (ready, count, port, device, work, arguments)
    # Spawned processes read the main module again, which may be a script that runs all of this.
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        others = start_processes(_other, about, nprocs=count - 1, join=False, start_method="spawn")
    finally:
        sys.modules["__main__"] = main
    try:
        for _ in others.processes:
            while not ready.acquire(timeout=0.5):
                _ended(others, 0)
        with _joined(0, count, port, device) as team:
            try:
                yield team
            except RuntimeError:  # perhaps of a connection that the end of another process has closed
                _ended(others, GRACE)
                raise
        while not _ended(others, None):
            pass
    finally:
        for process in others.processes:
            process.terminate()


def _ended(others: Any, timeout: float | None) -> bool:
    """Return whether all other processes have ended well within some seconds.

    Raises:
        DDBenchError: one has not; why.
    """
    from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

    try:
        return bool(others.join(timeout))
    except ProcessRaisedException as error:
        number, reason = error.error_index, str(error).strip().splitlines()[-1]
    except ProcessExitedException as error:
        number, reason = error.error_index, f"it was ended by {error.signal_name or f'exit code {error.exit_code}'}"
    raise DDBenchError(
        f"Process {number + 2} of those that share the fine-tuning failed: {reason}",
        hint="Run the same command again to go on from the last checkpoint; with SIGKILL, see that memory suffices.",
    )


def _other(
    index: int, ready: Any, count: int, port: int, device: str, work: Callable[..., object], arguments: Any
) -> None:
    ready.release()
    with _joined(index + 1, count, port, device) as team:
        work(*arguments, team)


@contextmanager
def _joined(rank: int, count: int, port: int, device: str) -> Iterator[Team]:
    """Be one of several processes, as ``accelerate`` knows them by their environment."""
    import torch
    import torch.distributed as dist
    from accelerate.state import AcceleratorState

    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    before = {name: os.environ.get(name) for name in place}
    os.environ.update({name: str(value) for name, value in place.items()})
    if gpu := device.startswith("cuda"):
        torch.cuda.set_device(rank)
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo")
        # Gradients have limits of time of their own; a share of the work before may take hours.
        yield Team(rank, count, dist.new_group(backend="gloo", timeout=PATIENCE))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        AcceleratorState._reset_state(reset_partial_state=True)
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})


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
            f"accelerate is set to {accelerator.distributed_type}; each device has a whole model here.",
            hint="Unset what chooses DeepSpeed or FSDP: ACCELERATE_USE_DEEPSPEED, ACCELERATE_USE_FSDP.",
        )
    return accelerator
