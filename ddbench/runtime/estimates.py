"""How long a step will take, and how much memory and disk: from finished steps of the same kind on this machine.

For a card that is not here, from what a step needs of a GPU, where its plugin counts that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ddbench.keys import canonical
from ddbench.runtime import environment
from ddbench.runtime.cards import Card, Demand
from ddbench.runtime.scope import Scope, changed

if TYPE_CHECKING:
    from ddbench.runtime.context import Context
    from ddbench.runtime.machine import Machine
    from ddbench.runtime.store import Done, Store

#: Amounts that differ by more are not compared: what does not grow with the amount would be most of one of them.
FARTHEST = 10.0
#: Below this many seconds, starting up is most of the time, and nothing is foretold from other amounts.
SHORTEST = 1.0
#: A step in which more modules than this were imported tells nothing of the next one's time, unless it took longer than
#: importing ever does (seconds).
IMPORTS, LONG = 50, 60.0
#: Folders of steps up to this size are as large whatever the amount.
SMALL = 1 << 20
#: Inputs that change a step's content and not its cost: seeds, and digests of what it is made from.
VOLATILE = ("seed", "repeat")
DIGEST = 64


@dataclass(frozen=True)
class Effort:
    """What the time of a step grows with, so that finished steps tell how long it takes.

    Attributes:
        amount: time is about proportional to it, e.g. images × epochs.
        comparable_by: plain data; only steps of the same name for which it is equal are compared.
        bytes: what the step leaves on disk, where that is known.
        demand: counts what it needs of a GPU.
    """

    amount: float
    comparable_by: Mapping[str, Any]
    bytes: int | None = None
    demand: Callable[[], Demand | None] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Estimate:
    """Seconds of work, peak bytes of memory and bytes on disk; None is unknown. ``advice``: whether it fits a card."""

    seconds: float | None = None
    memory: int | None = None
    disk: int | None = None
    advice: str = ""


def effort(
    ctx: Context,
    what: str,
    work: Callable[[Context], float | None],
    settings: Mapping[str, Any],
    disk: int | None = None,
    demand: Callable[[], Demand | None] | None = None,
) -> Effort | None:
    """Return what the time of something grows with, and with what else it can be compared.

    Args:
        ctx: of the run.
        what: is done.
        work: returns the amount.
        settings: options and arguments; those that ``work`` reads, and rates, leave things comparable.
        disk: bytes that it leaves.
        demand: counts what it needs of a GPU.
    """
    read: set[str] = set()
    amount = work(changed(ctx, _scope=Scope(what, reads=read)))
    if amount is None:
        return None
    comparable_by: dict[str, Any] = {
        name: value for name, value in settings.items() if name not in read and _word(value)
    }
    if ctx._dataset is not None:
        comparable_by["data"] = [ctx.dataset.image_size, ctx.dataset.channels, ctx.dataset.num_classes]
    return Effort(float(amount), {"of": what, **comparable_by}, disk, demand)


def marked(effort: Effort, machine: Machine) -> dict[str, Any]:
    """Return an effort as it is kept with a finished step: with the machine."""
    return {"amount": effort.amount, "comparable_by": canonical(_comparable_by(effort, machine))}


def _comparable_by(effort: Effort, machine: Machine) -> dict[str, Any]:
    return {**effort.comparable_by, "on": {**machine.numerics(), **environment.computer()}}


@dataclass
class History:
    """Finished steps of a store, read when they are first asked for; with a card, only what is counted is estimated."""

    store: Store
    machine: Machine
    card: Card | None = None
    _known: dict[str, list[Done]] = field(default_factory=dict)

    def estimate(self, name: str, effort: Effort | None, inputs: Mapping[str, Any] | None = None) -> Estimate:
        """Return what a step is likely to cost.

        Without an effort, one whose inputs differ in nothing but seeds and digests tells.
        """
        if self.card:
            return on_card(self.card, effort)
        if effort is None:
            return self._like(name, inputs) if inputs is not None else Estimate()
        mark = canonical(_comparable_by(effort, self.machine))
        comparable = [done for done in self._steps(name) if _effort(done).get("comparable_by") == mark]
        near = [done for done in comparable if _distance(done, effort) <= math.log(FARTHEST)]
        near.sort(key=lambda done: (_distance(done, effort), -done.seconds))
        if not near:
            return Estimate(disk=effort.bytes)
        disk = effort.bytes
        if disk is None and ((size := folder_bytes(near[0])) <= SMALL or _distance(near[0], effort) < 0.05):
            disk = size
        return Estimate(_seconds([done for done in near if _telling(done)], effort.amount), _memory(near[0]), disk)

    def _like(self, name: str, inputs: Mapping[str, Any]) -> Estimate:
        mark = canonical(_lasting(inputs))
        for done in self._steps(name):
            if canonical(_lasting(done.marker["inputs"])) == mark:
                return Estimate(own_seconds(done) if _telling(done) else None, _memory(done), folder_bytes(done))
        return Estimate()

    def _steps(self, name: str) -> list[Done]:
        if name not in self._known:
            self._known[name] = list(self.store.finished(name))
        return self._known[name]


def on_card(card: Card, effort: Effort | None) -> Estimate:
    """Return what a step costs on a card, as far as its plugin counts it."""
    demand = effort.demand() if effort and effort.demand else None
    disk = effort.bytes if effort else None
    if demand is None:
        return Estimate(disk=disk)
    return Estimate(card.seconds(demand), demand.memory, disk, card.advice(demand))


def own_seconds(done: Done) -> float:
    """Return the seconds that a step took without the steps that were built inside it."""
    return float(done.cost()["seconds"])


def folder_bytes(done: Done) -> int:
    """Return the size of a step's folder."""
    return sum(path.stat().st_size for path in done.dir.rglob("*") if path.is_file())


def _effort(done: Done) -> Mapping[str, Any]:
    effort: Mapping[str, Any] = done.marker.get("effort", {})
    return effort


def _telling(done: Done) -> bool:
    """Whether a step's time is that of its work, not of importing torch and its like."""
    return int(_effort(done).get("modules", 0)) <= IMPORTS or own_seconds(done) >= LONG


def _amount(done: Done) -> float:
    return max(float(_effort(done)["amount"]), 1e-9)


def _distance(done: Done, effort: Effort) -> float:
    return abs(math.log(_amount(done) / max(effort.amount, 1e-9)))


def _seconds(near: list[Done], amount: float) -> float | None:
    """Return the seconds for an amount: on the line through the two nearest others, or in proportion to the nearest."""
    if not near:
        return None
    first = near[0]
    at, took = _amount(first), own_seconds(first)
    other = next((done for done in near if abs(_amount(done) / at - 1) > 0.5), None)
    if other is not None:
        slope = (own_seconds(other) - took) / (_amount(other) - at)
        if slope > 0 and took - slope * at >= 0:
            return took + slope * (amount - at)
    if took < SHORTEST and not 0.5 <= amount / at <= 2:
        return None
    return took * amount / at


def _memory(done: Done) -> int | None:
    return max((value for name, value in done.marker["costs"].items() if name.startswith("peak_")), default=None)


def _lasting(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs that a cost may depend on; which data it is counts although it is a digest."""
    return {
        name: value if name == "dataset" else _without_digests(value)
        for name, value in inputs.items()
        if name not in VOLATILE
    }


def _without_digests(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _lasting(value)
    if isinstance(value, list):
        return [_without_digests(item) for item in value]
    return "" if isinstance(value, str) and len(value) == DIGEST else value


def _word(value: Any) -> bool:
    """Whether things are to share a setting to be compared: words, switches and sizes, no rates."""
    return value is None or isinstance(value, (bool, int, str)) or (isinstance(value, list) and all(map(_word, value)))
