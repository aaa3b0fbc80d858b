"""Several processes, one per device: the first runs the command, the others help with the steps that can be divided.

``accelerate launch -m ddbench …`` or ``torchrun -m ddbench …`` starts them. The first process alone decides, locks,
records and prints, as if there were no other. A step that can be divided calls ``ctx.together(function, …)``: the
function and its arguments go to the waiting processes, all call it at once, and each does its share. All see the same
artifact folder.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import mmap
import os
import pickle
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np

from ddbench.errors import DDBenchError, UsageError
from ddbench.plugin.manager import Plugins, load_plugins
from ddbench.runtime.machine import Machine
from ddbench.runtime.progress import Reporter

Item = TypeVar("Item")
#: How long a process may wait for work, or for the others to end theirs.
PATIENCE = timedelta(days=60)


@dataclass(frozen=True)
class Team:
    """The processes that run a function together.

    Attributes:
        rank: number of this process, from 0.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

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

            torch.distributed.barrier(_own.group)


@dataclass
class _Own:
    """What this process knows of the launch: its team, how it hears of work, and whether all are ready for some."""

    team: Team = Team()
    group: Any = None
    ready: bool = True


_own = _Own()


def join() -> Team:
    """Meet the other processes of the launch."""
    import torch
    import torch.distributed as dist

    if gpu := torch.cuda.is_available():
        torch.cuda.set_device(_local_rank())
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo")
    # Gradients have the launch's own limits of time; work may be hours away.
    _own.group = dist.new_group(backend="gloo", timeout=PATIENCE)
    _own.team = Team(dist.get_rank(), dist.get_world_size())
    return _own.team


def together(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return ``function(*arguments, team)`` of this process, once all processes have called it.

    Raises:
        UsageError: an argument cannot be sent.
        DDBenchError: the processes parted in the middle of an earlier call.
    """
    if _own.group is None:
        return function(*arguments, _own.team)
    if not _own.ready:
        raise DDBenchError(
            "A step failed on which several processes were working, so they are out of step.",
            hint="Run the same command again: finished steps are kept.",
        )
    message = _dump((function, arguments))
    _own.ready = False
    _tell(message)
    result = function(*arguments, _own.team)
    _own.team.wait()
    _own.ready = True
    return result


def dismiss() -> None:
    """Let the other processes end; those in the middle of something are ended by the launcher."""
    if _own.ready:
        with contextlib.suppress(RuntimeError):  # Ctrl-C ends them all
            _tell(None)
            _leave()


def assist() -> None:
    """Do what the first process asks for until it needs no more."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # waiting happens outside of Python, where Ctrl-C is not heard
    while (message := _tell(None)) is not None:
        function, arguments = _load(message)
        function(*arguments, _own.team)
        del function, arguments  # a model, perhaps
        _own.team.wait()
    _leave()


def _leave() -> None:
    """Part from the others: threads of theirs that still run when Python ends would abort this process."""
    import torch.distributed as dist

    dist.destroy_process_group()
    _own.group = None


def _tell(message: Any) -> Any:
    """Return the first process's message in every process."""
    import torch.distributed as dist

    box = [message]
    dist.broadcast_object_list(box, src=0, group=_own.group)
    return box[0]


def _local_rank() -> int:
    return int(os.environ["LOCAL_RANK"])


class _Pickler(pickle.Pickler):
    """Leaves out what every process has of its own, and files that are mapped into memory."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.files: list[str] = []

    def persistent_id(self, value: Any) -> Any:
        """Name what is not sent, so that the other side can put its own in its place."""
        if isinstance(value, Plugins):
            self.files = list(value.files)
            return "plugins", self.files
        if isinstance(value, Reporter):
            return "reporter", None
        if isinstance(value, Machine):
            return "machine", (value.device, value.precision, value.offline)
        if isinstance(value, np.memmap) and isinstance(value.base, mmap.mmap):  # the whole of it, not a part
            return "memmap", (str(value.filename), value.dtype, value.offset, value.shape)
        return None


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, name: Any) -> Any:
        """Return this process's own."""
        kind, about = name
        if kind == "plugins":
            return load_plugins(about)
        if kind == "reporter":
            return _Silent()
        if kind == "machine":
            machine = Machine(*about)
            own = machine.device.startswith("cuda")
            return replace(machine, device=f"cuda:{_local_rank()}") if own else machine
        filename, dtype, offset, shape = about
        return np.memmap(filename, dtype, "r", offset, shape)


class _Silent(Reporter):
    """The first process reports it already."""

    def warn(self, message: str) -> None:
        """Say nothing."""


def _dump(content: Any) -> tuple[list[str], bytes]:
    """Return the plugin files to load first, and the content."""
    file = io.BytesIO()
    pickler = _Pickler(file)
    try:
        pickler.dump(content)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise UsageError(
            f"This data set or plugin cannot be used by several processes: {error}",
            hint="Start the command without accelerate or torchrun: one process does the same.",
        ) from error
    return pickler.files, file.getvalue()


def _load(message: tuple[list[str], bytes]) -> Any:
    """Return what the first process of this very launch sent; nothing else may be read so."""
    files, content = message
    load_plugins(files)
    return _Unpickler(io.BytesIO(content)).load()
