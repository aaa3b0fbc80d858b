"""Every error a user can meet: one class per exit code, each message with what to do about it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches


class DDBenchError(Exception):
    """An error that is explained instead of traced.

    Attributes:
        exit_code: what the command line exits with.
        hint: what the user can do; printed under the message.
    """

    exit_code = 1
    summary = "something else went wrong inside ddbench"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(DDBenchError):
    """A name, option or combination that does not exist."""

    exit_code = 2
    summary = "a name, an option or a combination that does not exist"


#: Modules of the packages that come with the extra ``run``.
RUN = (
    "accelerate",
    "diffusers",
    "huggingface_hub",
    "sklearn",
    "threadpoolctl",
    "timm",
    "tokenizers",
    "torch",
    "torchvision",
    "transformers",
)
#: The extra that a module comes with, and what it brings.
EXTRAS = {
    **dict.fromkeys(RUN, ("run", "all that distilling and evaluating need")),
    "pyarrow": ("hub", "what reading and writing parquet files of the hub needs"),
    "submitit": ("slurm", "what the executor slurm needs"),
    "ray": ("ray", "what the executor ray needs"),
}


def not_installed(error: BaseException) -> UsageError | None:
    """Return what to say where the packages of an extra are missing; None of any other error."""
    module = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if module not in EXTRAS:
        return None
    extra, brings = EXTRAS[module]
    return UsageError(
        f"This needs the package {module}, which is not installed.",
        hint=f"pip install 'ddbench[{extra}]' brings {brings}.",
    )


class PluginError(DDBenchError):
    """A plugin broke its contract; the message names the plugin and the mistake."""

    exit_code = 3
    summary = "a plugin is broken or breaks its contract"


class DataError(DDBenchError):
    """Image data is missing, incomplete or corrupt."""

    exit_code = 4
    summary = "image data is missing, incomplete or corrupt"


class ModelError(DDBenchError):
    """Model weights are missing, unreadable or of the wrong kind."""

    exit_code = 5
    summary = "model weights are missing, unreadable or of the wrong kind"


class TeacherError(DDBenchError):
    """A teacher is below its floor accuracy or of another class order."""

    exit_code = 6
    summary = "a teacher is below its floor accuracy or of another class order"


class StorageError(DDBenchError):
    """A folder cannot be written: full, read-only or locked."""

    exit_code = 7
    summary = "a folder cannot be written: the disk is full, read-only or locked"


class RecordError(DDBenchError):
    """A record or distilled set on disk is not what its schema says."""

    exit_code = 8
    summary = "a record or distilled set on disk is not what its schema says"


class DivergedError(DDBenchError):
    """The loss of a training, or what a model made, stopped being finite numbers."""

    exit_code = 9
    summary = "a training or a distillation diverged: its loss or its images are not finite"


#: Exit code of a run stopped with Ctrl-C (the shell's convention: 128 + SIGINT).
INTERRUPTED = 130


#: Names listed at most when one is not known.
LISTED = 20


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for a near miss (case and accents do not count), else an empty string."""
    close = closest(word, known)
    return f" Did you mean {close!r}?" if close else ""


def closest(word: str, known: Iterable[str]) -> str:
    """Return the known name nearest to a word, or "" where none is near; case and accents do not count."""
    return next(iter(_near(word, known, 1)), "")


def unknown(what: str, word: str, known: Iterable[str], *, hint: str = "") -> UsageError:
    """Build the error for an unknown name: what it is, a near miss, and what is known, the nearest of many."""
    names = sorted(known)
    if len(names) > LISTED:
        near = _near(word, names, 5, cutoff=0.4) or names[:5]
        listed = f"{', '.join(near)} and {len(names) - len(near)} others (`ddbench list` shows names)"
    else:
        listed = ", ".join(names) if names else "none"
    return UsageError(f"Unknown {what} {word!r}.{did_you_mean(word, names)}", hint=hint or f"Known: {listed}.")


def same_but_case(word: str, known: Iterable[str]) -> str:
    """Return the known name that differs from a word in case and accents at most, or ""."""
    return next((name for name in known if _plain(name) == _plain(word)), "")


def _near(word: str, known: Iterable[str], count: int, cutoff: float = 0.6) -> list[str]:
    spelled: dict[str, str] = {}
    for name in known:
        spelled.setdefault(_plain(name), name)
    return [spelled[close] for close in get_close_matches(_plain(word), list(spelled), n=count, cutoff=cutoff)]


def _plain(name: str) -> str:
    """Spell a name without case and accents."""
    letters = unicodedata.normalize("NFKD", name)
    return "".join(letter for letter in letters if not unicodedata.combining(letter)).casefold()
