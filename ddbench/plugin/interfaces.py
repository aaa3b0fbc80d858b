"""The classes that plugins derive from: methods, evaluators, data sets, captioners and executors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ddbench.plugin.options import DatasetOptions

if TYPE_CHECKING:
    from ddbench.plugin.contracts import DistilledSet, Protocol, Score
    from ddbench.plugin.datasets import Dataset, DataStatus, Split
    from ddbench.plugin.embedding import Embedding
    from ddbench.plugin.options import Options
    from ddbench.plugin.weights import Weights
    from ddbench.runtime.cards import Demand
    from ddbench.runtime.context import Context
    from ddbench.runtime.steps import CachedStep, StepCall


class Plugin:
    """What methods, evaluators, data sets, captioners and executors have in common.

    Attributes:
        Options: the typed options (:class:`ddbench.Options`); defaults are those of the ``cpu+sane`` preset.
        presets: rules that set options by context, as the name of a TOML file beside the class's module, or a
            list of such names and of tables (docs/cli/presets.md).
    """

    Options: ClassVar[type[Options] | None] = None
    presets: ClassVar[str | Sequence[Mapping[str, Any] | str]] = ()

    def identity(self, ctx: Context) -> Mapping[str, Any]:
        """Return what results depend on beyond the options (a file's content, a model's weights); part of their key."""
        return {}

    def weights(self, ctx: Context) -> Sequence[Weights]:
        """Return the published models that are read under these options, for ``ddbench plan``.

        Nothing may be fetched, and no data set needs to be there.
        """
        return ()


class Distiller(Plugin, ABC):
    """A distillation method.

    Attributes:
        needs_ipc: False for a method that keeps the whole training set.
        seeded: False for a method whose result does not depend on the distillation seed.
        precisions: those it can compute in; a run in another one is refused.
    """

    needs_ipc: ClassVar[bool] = True
    seeded: ClassVar[bool] = True
    precisions: ClassVar[Sequence[str]] = ("fp32", "tf32", "bf16", "fp16")

    @abstractmethod
    def distill(self, ctx: Context) -> DistilledSet:
        """Distil ``ctx.dataset`` to ``ctx.ipc`` images per class."""

    def check(self, ctx: Context) -> None:
        """Refuse options, data and IPC that do not fit each other, while a run is planned: in no time.

        Raises:
            UsageError: with what to do about it.
        """

    def holds(self, ctx: Context) -> Collection[str] | None:
        """Return what its sets hold that an evaluator may need, as known beforehand; None: that shows in the set.

        Names of fields of a :class:`DistilledSet` (``schedule``, ``soft_labels``), the kind of soft labels that are
        no probabilities (``centred``, ``free``), and ``tiles`` where each image holds several (``factor``). More about
        one, for evaluators that know of it, follows its name in another entry (``texts:ENCODER``). Of a built-in method
        None is nothing of all this.
        """
        return None

    def needs(self, ctx: Context) -> Sequence[CachedStep[Any] | StepCall] | None:
        """Return the cached steps that :meth:`distill` uses, any other being refused; None for all of the class.

        ``ddbench plan`` follows them and what they need, and their keys are part of the key of the result. A step whose
        arguments are known only while :meth:`distill` works is named without them: ``[self.features.of(ctx), judged]``.
        """
        return None

    def work(self, ctx: Context) -> float | None:
        """Return what the time of :meth:`distill` outside of steps grows with (images × iterations), for estimates."""
        return None

    def embedding(self, ctx: Context, label: int) -> Embedding | None:
        """Return what the method saw of one class, for ``ddbench tsne``, or None; the steps it needs are cached."""
        return None


class Evaluator(Plugin, ABC):
    """An evaluation protocol: trains networks on a distilled set and tests them on the real test split.

    Attributes:
        default_network: the network used when the user names none.
        default_repeats: networks trained per distilled set when the user names no number.
        needs_network: False for an evaluator that trains no network: ``ctx.network`` and the protocol's ``network`` are
            then ``none``, and ``--network`` does not concern it.
        label_kinds: of soft labels that it can train on (:data:`ddbench.plugin.contracts.LABEL_KINDS`); a set with
            others is refused.
        whitens: whether it trains and tests on whitened images where the set (space ``zca``) or the data set
            (``zca``) asks for them; else it is refused for these.
    """

    default_network: ClassVar[str] = ""
    default_repeats: ClassVar[int] = 3
    needs_network: ClassVar[bool] = True
    label_kinds: ClassVar[Collection[str]] = ("probabilities",)
    whitens: ClassVar[bool] = False

    def decodes(self, ctx: Context) -> bool:
        """Return whether it cuts images that hold several (``factor`` of a set's ``extra``) apart.

        Whoever has such a set evaluated otherwise is told so.
        """
        return False

    def network_for(self, dataset: Dataset, scale: str) -> str:
        """Return the network used on a data set when the user names none."""
        return self.default_network

    def check(self, ctx: Context, holds: Collection[str]) -> None:
        """Refuse options and sets that do not fit each other, while a run is planned: in no time.

        Args:
            ctx: ``ctx.method`` names who makes the set.
            holds: what the set will hold, as of :meth:`Distiller.holds`; anything is in it where that is not known.

        Raises:
            UsageError: with what to do about it.
        """

    def needs(self, ctx: Context, distilled: DistilledSet, repeat: int) -> Sequence[CachedStep[Any] | StepCall] | None:
        """Return the cached steps, such as a teacher, that network number ``repeat`` uses; as of a :class:`Distiller`.

        :meth:`protocol` may use those of number 0.
        """
        return None

    @abstractmethod
    def protocol(self, ctx: Context, distilled: DistilledSet) -> Protocol:
        """Return everything the numbers will depend on, before any student is trained."""

    @abstractmethod
    def evaluate(self, ctx: Context, distilled: DistilledSet, repeat: int) -> Score:
        """Train one network (number ``repeat``) and test it."""

    def at_once(self, ctx: Context, distilled: DistilledSet, most: int | None) -> int:
        """Return how many networks, at most ``most``, :meth:`evaluate_together` takes; None: as many as pay."""
        return 1

    def evaluate_together(self, ctx: Context, distilled: DistilledSet, repeats: Sequence[int]) -> Sequence[Score]:
        """Train and test networks of several numbers at once, each as by :meth:`evaluate` but for rounding."""
        return [self.evaluate(ctx, distilled, repeat) for repeat in repeats]


class DatasetLoader(Plugin, ABC):
    """A data set plugin; its options, if it has any of its own, derive from :class:`ddbench.DatasetOptions`."""

    Options: ClassVar[type[Options] | None] = DatasetOptions

    @abstractmethod
    def load(self, ctx: Context, argument: str) -> Dataset:
        """Return the data set; ``argument`` is what follows the colon of a prefix name (``folder:PATH``)."""

    def status(self, ctx: Context, argument: str) -> DataStatus | None:
        """Say whether the files are there, without reading or fetching any; None where only loading can tell."""
        return None


class Captioner(Plugin, ABC):
    """Describes images in words.

    Attributes:
        seeded: True for captions that depend on the distillation seed: they are made for every seed.
        shard: how many images are captioned as one shard, which any worker may do and no interruption undoes; None for
            all at once. Captions must then depend on nothing but their own image, class and id.
    """

    seeded: ClassVar[bool] = False
    shard: ClassVar[int | None] = None

    def needs(self, ctx: Context) -> Sequence[CachedStep[Any] | StepCall] | None:
        """Return the cached steps that :meth:`caption` uses; as of a :class:`Distiller`."""
        return None

    def demand(self, ctx: Context) -> Demand | None:
        """Count what captioning the training split needs of a GPU, for ``ddbench plan --card``; None: not known."""
        return None

    @abstractmethod
    def caption(self, ctx: Context, split: Split, class_names: Sequence[str], size: int) -> Iterable[str]:
        """Return one caption per image of the split, in order; a generator need not hold them all in memory.

        ``split`` is that of training, or a shard of it; a model is loaded by ``ctx.loaded(load)`` once for several.
        """


@dataclass(frozen=True)
class Launch:
    """How a worker of a run is started, on any machine that sees the same files.

    Attributes:
        command: its words. A worker takes one cell after the other until none is left that it can run. SIGTERM ends it
            cleanly: it gives its cell back, of which nothing is lost up to the last checkpoint.
        environment: variables that it needs beside those of its machine.
        folder: of the run; what a worker prints outside of cells belongs into ``folder / "logs"``.
        name: of the run, for the listing of a queue.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    name: str

    def words(self, cells: int | None = None) -> list[str]:
        """Return the command of a worker that ends after a number of cells; None for no limit."""
        return [*self.command, *([] if cells is None else ["--cells", str(cells)])]


class Executor(Plugin, ABC):
    """Starts workers somewhere: on this machine, by a queue, on a cluster.

    Workers are alike and find their cells themselves, so that an executor knows nothing of methods or results. It is
    asked by one process at a time, perhaps not the one that started the workers: what it must know is in the handles.

    Attributes:
        detaches: whether workers are an engine's, which runs by itself: Ctrl-C leaves them, and ``--detach`` does not
            wait for them. Else they end with the command.
        interval: seconds between two questions which workers run.
    """

    detaches: ClassVar[bool] = False
    interval: ClassVar[float] = 1.0

    def check(self, ctx: Context) -> None:
        """Refuse what cannot work here (a program or a partition that does not exist), before anything is started.

        Raises:
            UsageError: with what to do about it.
        """

    @abstractmethod
    def capacity(self, ctx: Context, cells: int) -> int:
        """Return how many workers there should be, running or in a queue, while ``cells`` cells can be run at once."""

    @abstractmethod
    def start(self, ctx: Context, launch: Launch, count: int) -> Sequence[str]:
        """Start ``count`` workers and return a handle of each: text by which any process finds it again."""

    @abstractmethod
    def running(self, ctx: Context, handles: Sequence[str]) -> Collection[str]:
        """Return those of the workers that run, or wait in a queue."""

    @abstractmethod
    def cancel(self, ctx: Context, handles: Sequence[str]) -> None:
        """End workers, in a queue or by SIGTERM; those that have ended are no error."""

    def why(self, ctx: Context, handle: str) -> str:
        """Return why a worker has ended, as far as the engine knows ("out of memory", "time limit"), else ""."""
        return ""
