"""Repositories on the Hugging Face hub: addresses, what is fetched of them, and what is said where it cannot be.

Network, login and cache are huggingface_hub's; no token passes through here, and none reaches a message.
"""

from __future__ import annotations

import glob
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddbench.errors import DataError, DDBenchError, UsageError
from ddbench.escaping import one_line
from ddbench.files.reading import first_line
from ddbench.files.writing import REASONS
from ddbench.sets import card, repository
from ddbench.sets import folder as disk
from ddbench.sets.card import Card
from ddbench.sets.repository import Found

PREFIX = "hf:"
FORM = "hf:USER/REPO[@REVISION][:CONFIG]"
ADDRESS = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^:@]+))?(?::(?P<config>.+))?")
COMMIT = re.compile(r"[0-9a-f]{40}")
#: Where a repository of sets is looked for: most are data sets, some lie beside models.
KINDS = ("dataset", "model")
#: What a message must not repeat: what an address carries behind its path, and tokens.
SECRET = re.compile(r"\?[^\s'\")]+|\bhf_\w+")
Choose = Callable[[Sequence[str], Card], list[Found]]


@dataclass(frozen=True)
class Address:
    """A repository, perhaps at a revision, perhaps one of its sets."""

    repo: str
    revision: str | None = None
    config: str = ""

    def __str__(self) -> str:
        return f"{PREFIX}{self.repo}{f'@{self.revision}' if self.revision else ''}"


@dataclass(frozen=True)
class Fetched:
    """What was fetched of a repository: where it lies, at which commit, and the sets that were chosen."""

    root: Path
    commit: str
    sets: list[Found]


def parse(source: str) -> Address | None:
    """Read an address; None for a path.

    Raises:
        UsageError: it begins as an address but is none.
    """
    if not source.startswith(PREFIX):
        return None
    match = ADDRESS.fullmatch(source)
    if match is None:
        raise UsageError(f"{source!r} is no address on the hub.", hint=f"Write {FORM}.")
    return Address(match["repo"], match["revision"], (match["config"] or "").strip("/"))


def fetch(address: Address, choose: Choose, *, offline: bool, warn: Callable[[str], None]) -> Fetched:
    """Fetch sets of a repository into the cache of huggingface_hub, or find them there.

    Args:
        address: of the repository.
        choose: given the names of its files and its card, which sets are wanted.
        offline: whether to open no connection.
        warn: told where the hub is out of reach and what is here is taken.

    Raises:
        DataError: it cannot be fetched, or holds no set; says what to fetch and where to put it.
        UsageError: there is no such repository or revision.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import RepositoryNotFoundError

    if not (offline or constants.HF_HUB_OFFLINE):
        for kind in KINDS:
            with suppress(_Elsewhere), _explained(address, kind):
                try:
                    return _online(address, kind, choose)
                except RepositoryNotFoundError as error:
                    if kind != KINDS[-1] and type(error) is RepositoryNotFoundError:
                        raise _Elsewhere from error
                    raise
                except ConnectionError as error:
                    if not any(_here(address, one) for one in KINDS):
                        raise
                    warn(f"The hub cannot be reached ({_reason(error)}); {address} is read as it was fetched before.")
                    break
    for kind in KINDS:
        with _explained(address, kind):
            if folder := _here(address, kind):
                return _cached(address, kind, folder, choose)
    raise DataError(f"{address} is not on this machine, and nothing may be fetched.", hint=advice(address, KINDS[0]))


class _Elsewhere(Exception):
    """The repository is none of this kind."""


def _online(address: Address, kind: str, choose: Choose) -> Fetched:
    from huggingface_hub import HfApi, constants
    from huggingface_hub.hf_api import RepoFile

    api = HfApi()
    with _connection_errors():
        commit = str(api.repo_info(address.repo, repo_type=kind, revision=address.revision).sha)
    if not COMMIT.fullmatch(commit):
        raise DataError(f"{address} is at {ascii(commit)[:60]}, which is no commit.")
    tree = api.list_repo_tree(address.repo, repo_type=kind, revision=commit, recursive=True)
    sizes: dict[str, int] = {}
    for entry in tree:
        if isinstance(entry, RepoFile):
            repository.check_names([entry.path], str(address))
            sizes[entry.path] = int(entry.size)
        if len(sizes) > repository.MOST_FILES:
            raise DataError(f"{address} has more than {repository.MOST_FILES:,} files.")
    where: dict[str, Any] = {"repo_id": address.repo, "repo_type": kind, "revision": commit}
    about = card.read(Path(api.hf_hub_download(filename=card.CARD, **where))) if card.CARD in sizes else Card()
    sets = choose(list(sizes), about)
    need = sum(sizes[name] for found in sets for name in found.files)
    there = next(
        path for path in (Path(constants.HF_HUB_CACHE), *Path(constants.HF_HUB_CACHE).parents) if path.exists()
    )
    if need > (free := shutil.disk_usage(there).free):
        raise DataError(
            f"{address} has {need / 1e9:.1f} GB to fetch, and {free / 1e9:.1f} GB are free.",
            hint="Free some space, or point HF_HOME somewhere else.",
        )
    where["revision"] = address.revision  # so that the cache knows which commit the name stands for
    root = Path(api.snapshot_download(allow_patterns=[one for found in sets for one in found.patterns], **where))
    if root.name != commit:
        raise DataError(f"{address} was changed while it was fetched.", hint="Run the command again.")
    return Fetched(root, commit, sets)


def _here(address: Address, kind: str) -> Path | None:
    """Return the folder of a repository at its revision in the cache; some of its files may not be there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    with suppress(LocalEntryNotFoundError):
        where = snapshot_download(
            address.repo, repo_type=kind, revision=address.revision, local_files_only=True, allow_patterns=[]
        )
        return Path(where)
    return None


def _cached(address: Address, kind: str, folder: Path, choose: Choose) -> Fetched:
    from huggingface_hub import snapshot_download

    try:
        sets = choose(repository.listing(folder), card.read(folder / card.CARD))
    except DDBenchError as error:
        raise DataError(
            f"Of what was fetched of {address}: {error}", hint=f"{error.hint}\n{advice(address, kind)}".strip()
        ) from error
    patterns = [pattern for found in sets for pattern in found.patterns]
    where: dict[str, Any] = {"repo_type": kind, "revision": folder.name, "local_files_only": True}
    snapshot_download(address.repo, allow_patterns=patterns, **where)  # knows what is missing
    return Fetched(folder, folder.name, sets)


def advice(address: Address, kind: str) -> str:
    """Return what to fetch on a machine with network, and where to put it."""
    revision = f" --revision {address.revision}" if address.revision else ""
    command = f"hf download {address.repo} --repo-type {kind}{revision} --local-dir FOLDER"
    return (
        f"On a machine with network: {command}; copy FOLDER here and name it in place of {address}"
        f"{f', with :{address.config}' if address.config else ''}."
    )


@contextmanager
def _connection_errors() -> Iterator[None]:
    """Turn what the hub's HTTP library raises where there is no connection into Python's own error."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except (DDBenchError, HfHubHTTPError):
        raise
    except Exception as error:
        if isinstance(error, OSError) or type(error).__module__.partition(".")[0].startswith("httpx"):
            raise ConnectionError(str(error)) from error
        raise


@contextmanager
def _explained(address: Address, kind: str, to: str = "fetched") -> Iterator[None]:
    """Explain what the hub's library raises.

    Raises:
        DataError, UsageError: in its place.
    """
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    login = "`hf auth login` says who you are."
    remedy = advice(address, kind) if to == "fetched" else f"{login} Or write a folder with --out, and upload it later."
    try:
        yield
    except (DDBenchError, _Elsewhere):
        raise
    except GatedRepoError as error:
        raise DataError(
            f"{address} is gated: its owner asks you to accept terms.", hint=f"Accept them on its page; {login}"
        ) from error
    except RepositoryNotFoundError as error:
        raise UsageError(
            f"There is no repository {address.repo} on the hub that you may read.", hint=f"If it is private: {login}"
        ) from error
    except RevisionNotFoundError as error:
        raise UsageError(f"{address.repo} has no revision {address.revision!r}.") from error
    except HFValidationError as error:
        raise UsageError(
            f"{str(address)!r} is no address on the hub: {_reason(error)}.", hint=f"Write {FORM}."
        ) from error
    except Exception as error:  # of HTTP libraries, which change with versions of the hub's
        if isinstance(error, OSError) and error.errno in REASONS:
            raise
        raise DataError(f"{address} cannot be {to}: {_reason(error)}.", hint=remedy) from error


def upload(address: Address, folder: Path, configs: Sequence[str], *, private: bool) -> str:
    """Upload a folder to a data set repository, which is made where it is not there, and return the commit.

    Args:
        address: of the repository.
        folder: its new content; files of these configurations that it does not have are removed there.
        configs: names of the configurations.
        private: whether a new repository is to be seen by its owner alone.

    Raises:
        UsageError: the repository holds other configurations.
        DataError: it cannot be written.
    """
    from huggingface_hub import HfApi

    api, kind = HfApi(), KINDS[0]
    with _explained(address, kind, to="written"):
        api.create_repo(address.repo, repo_type=kind, exist_ok=True, private=private or None)
        _check_free(configs, api.list_repo_files(address.repo, repo_type=kind), str(address))
        done = api.upload_folder(
            repo_id=address.repo,
            repo_type=kind,
            folder_path=folder,
            commit_message=f"Distilled sets {', '.join(configs)}",
            delete_patterns=[f"{glob.escape(config)}/*" for config in configs],
        )
    return str(done.oid)


def _check_free(configs: Sequence[str], there: Iterable[str], where: str) -> None:
    """Refuse a repository with other configurations: its card would no longer name them.

    Raises:
        UsageError: there are some.
    """
    lost = sorted({name.partition("/")[0] for name in there if name.endswith(f"/{disk.FILE}")} - set(configs))
    if lost:
        raise UsageError(
            f"{where} holds {', '.join(lost[:12])} as well, which the new card would not name.",
            hint="Push those sets together with these (`ddbench pull` brings them), or take another repository.",
        )


def _reason(error: BaseException) -> str:
    """Return an error's first line without what addresses carry in secret."""
    return SECRET.sub("…", one_line(first_line(error))).rstrip(".")
