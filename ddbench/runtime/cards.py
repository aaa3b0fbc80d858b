"""What steps need of a GPU, counted on their models, and what known cards make of that. Nothing here was measured."""

from __future__ import annotations

from dataclasses import dataclass

from ddbench.errors import unknown

GIB = 1 << 30
#: Shares of the peaks that are assumed, of arithmetic and of bandwidth: what eager half-precision code of large
#: convolutions, attention and matrix products usually reaches.
ARITHMETIC, BANDWIDTH = 0.35, 0.6
#: Memory that is no step's: the context, libraries and their workspaces.
RESERVED = 3 * GIB // 2


@dataclass(frozen=True)
class Demand:
    """What a step needs of a GPU.

    Attributes:
        flops: floating-point operations, in half precision.
        traffic: bytes that pass between memory and processor where that takes the time, such as weights read for
            every word.
        fixed: bytes of memory whatever the batch.
        each: bytes of memory for each item of a batch.
        batch: items at a time.
        option: that sets ``batch``, e.g. ``method.batch_size``.
    """

    flops: float
    traffic: float = 0.0
    fixed: int = 0
    each: int = 0
    batch: int = 1
    option: str = ""

    @property
    def memory(self) -> int:
        """Bytes of memory in all."""
        return self.fixed + self.each * self.batch


@dataclass(frozen=True)
class Card:
    """A GPU.

    Attributes:
        name: in full.
        memory: bytes.
        flops: dense operations per second in bfloat16, added up in float32.
        bandwidth: bytes per second.
        source: of the figures.
    """

    name: str
    memory: int
    flops: float
    bandwidth: float
    source: str

    def seconds(self, demand: Demand) -> float:
        """Return how long a step takes, at the assumed shares of the peaks."""
        return demand.flops / (ARITHMETIC * self.flops) + demand.traffic / (BANDWIDTH * self.bandwidth)

    def largest(self, demand: Demand) -> int:
        """Return the largest batch that fits, a power of two; 0 where none does."""
        room = self.memory - RESERVED - demand.fixed
        count = room // demand.each if demand.each else demand.batch
        return 1 << (int(count).bit_length() - 1) if count > 0 else 0

    def advice(self, demand: Demand) -> str:
        """Say whether a step fits, and with which batches."""
        needed, largest = f"{(demand.memory + RESERVED) / GIB:.1f} GiB", self.largest(demand)
        batch = f" with {demand.option}={demand.batch}" if demand.option else ""
        if demand.memory + RESERVED <= self.memory:
            more = f", up to {largest} fit" if demand.option and largest > demand.batch else ""
            return f"fits: {needed}{batch}{more}"
        if demand.option and largest:
            return f"too large: {needed}{batch}; -o {demand.option}={largest} fits"
        return f"too large: {needed}{batch}, and no smaller batch fits"


CARDS = {
    "rtx-3090": Card(
        "GeForce RTX 3090", 24 * GIB, 71e12, 936e9, "NVIDIA Ampere GA102 architecture whitepaper, v2.1, Appendix A"
    ),
    "rtx-4090": Card(
        "GeForce RTX 4090", 24 * GIB, 165.2e12, 1008e9, "NVIDIA Ada GPU architecture whitepaper, v2.1, Appendix A"
    ),
    "l40s": Card("L40S", 48 * GIB, 362e12, 864e9, "NVIDIA L40S datasheet"),
    "a100-40": Card("A100 40GB", 40 * GIB, 312e12, 1555e9, "NVIDIA A100 datasheet"),
    "a100-80": Card("A100 80GB SXM", 80 * GIB, 312e12, 2039e9, "NVIDIA A100 datasheet"),
    "h100": Card("H100 80GB SXM", 80 * GIB, 989e12, 3350e9, "NVIDIA H100 datasheet"),
    "h200": Card("H200 141GB SXM", 141 * 10**9, 989e12, 4800e9, "NVIDIA H200 datasheet"),
}


def card(name: str) -> Card | None:
    """Return a card by name; None for an empty one.

    Raises:
        UsageError: there is no such card.
    """
    if name and name not in CARDS:
        raise unknown("card", name, CARDS, hint=f"Known: {', '.join(CARDS)}.")
    return CARDS.get(name)
