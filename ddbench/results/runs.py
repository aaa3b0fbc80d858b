"""What counts as one: which records are of one experiment, and which networks among them are distinct."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from ddbench.keys import canonical
from ddbench.plugin.contracts import Protocol
from ddbench.results.schema import Cell, Record

#: Right and wrong answers of a network from which on the same ones are no coincidence.
TELLING = 20
Value = TypeVar("Value")
Name = TypeVar("Name", bound=Hashable)


def by_set(records: Iterable[Record], values: Callable[[Record], Sequence[Value]]) -> dict[str, list[Value]]:
    """Return one value per distinct network, by the digest of the distilled set.

    A network is what training with one evaluation seed and repeat on one set of images gives. Several records hold the
    same ones where seeds, options or names come to the same images; they count once. So do repeats that answer every
    test image the same way, because the evaluator draws nothing.

    Args:
        records: of one protocol and network under test.
        values: returns one value per repeat.
    """
    networks: dict[str, dict[tuple[int, int], Value]] = defaultdict(dict)
    answers: set[tuple[str, str]] = set()
    for record in records:
        digest, result = record.distilled.digest, record.result
        distinctive = telling(record)
        for repeat, (value, correct) in enumerate(zip(values(record), result.correct, strict=True)):
            place = record.cell.evaluation_seed, repeat
            if place not in networks[digest] and not (distinctive and (digest, correct) in answers):
                networks[digest][place] = value
                answers.add((digest, correct))
    return {digest: list(of_set.values()) for digest, of_set in networks.items()}


def telling(record: Record) -> bool:
    """Whether two networks hardly give a record's answers by chance: not all of one class, nor nearly all right."""
    result = record.result
    right = sum(result.last) * result.test_images
    wrong = len(result.last) * result.test_images - right
    above_chance = max(result.last) > 1 / record.cell.dataset["num_classes"] + 0.01
    return above_chance and min(right, wrong) >= TELLING * len(result.last)


def same_images(named: Iterable[tuple[Name, Record]]) -> list[list[Name]]:
    """Return the names that stand for the same images, each group in the given order and without repetition."""
    names: dict[str, dict[Name, None]] = defaultdict(dict)
    for name, record in named:
        names[record.distilled.digest][name] = None
    return list(map(list, dict.fromkeys(tuple(group) for group in names.values() if len(group) > 1)))


def unified(records: Iterable[Record]) -> list[Record]:
    """Let records of one experiment say the same of it, in the given order, so that they share a row.

    A preset only names options: where two of them, or options set by hand, come to the same, the experiment goes by one
    of them: by that under which most others compete with it, else by the one with the fewest options set. A rate that
    was learned belongs to the distilled set: such a record goes by the protocol of the others under the same evaluator.
    """
    shared = list(records)
    rough: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for place, record in enumerate(shared):
        rough[_place(record)].append(place)
    for places in rough.values():
        if any(_learned(shared[place].protocol.settings) for place in places):
            _share_protocols(shared, places)
    rivals: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for place, record in enumerate(shared):
        rivals[(*_place(record), record.cell.ipc, record.protocol.digest)].append(place)
    for places in rivals.values():
        wording = _wording(shared[places[0]])
        if any(_wording(shared[place]) != wording for place in places):
            _share_names(shared, places)
    return shared


def experiment(record: Record) -> str:
    """Return what the seeds of one experiment share: everything that was resolved, however it was worded."""
    content: dict[str, Any] = record.cell.model_dump(mode="json", exclude={"preset", "seed", "evaluation_seed"})
    del content["method"]["explicit"], content["evaluator"]["explicit"]
    return canonical([content, record.protocol.digest])


def _place(record: Record) -> tuple[object, ...]:
    cell = record.cell
    return cell.dataset["name"], cell.dataset["fingerprint"], cell.evaluator.name, cell.network


def _wording(record: Record) -> tuple[object, ...]:
    cell = record.cell
    return cell.preset, cell.method.explicit, cell.evaluator.explicit


def _learned(settings: Mapping[str, Any]) -> list[str]:
    return [name for name, value in settings.items() if value == Protocol.LEARNED]


def _share_protocols(records: list[Record], places: Sequence[int]) -> None:
    """Give records whose sets learned a setting the protocol of those with none that agree in everything else."""

    def rule(record: Record, without: Sequence[str]) -> str:
        protocol, evaluator = record.protocol, record.cell.evaluator
        kept = {name: value for name, value in protocol.settings.items() if name not in without}
        return canonical([kept, protocol.extension, evaluator.version, evaluator.options, record.cell.ipc])

    plain = [records[place] for place in places if not _learned(records[place].protocol.settings)]
    for place in places:
        record = records[place]
        if own := _learned(record.protocol.settings):
            peers = [peer for peer in plain if rule(peer, own) == rule(record, own)]
            if peers:
                first = min(peers, key=lambda peer: peer.protocol.digest)
                records[place] = record.model_copy(update={"protocol": first.protocol})


def _share_names(records: list[Record], places: Sequence[int]) -> None:
    groups: dict[str, list[int]] = defaultdict(list)
    for place in places:
        groups[experiment(records[place])].append(place)
    single: Counter[str] = Counter()
    for members in groups.values():
        presets = {records[place].cell.preset for place in members}
        single.update(presets if len(presets) == 1 else ())

    def rank(cell: Cell) -> tuple[object, ...]:
        explicit = [cell.method.explicit, cell.evaluator.explicit]
        return -single[cell.preset], sum(map(len, explicit)), cell.preset, canonical(explicit)

    for members in groups.values():
        first = min((records[place].cell for place in members), key=rank)
        for place in members:
            cell = records[place].cell
            changes = {
                "preset": first.preset,
                "method": cell.method.model_copy(update={"explicit": first.method.explicit}),
                "evaluator": cell.evaluator.model_copy(update={"explicit": first.evaluator.explicit}),
            }
            records[place] = records[place].model_copy(update={"cell": cell.model_copy(update=changes)})
