"""Which executor runs the cells of a command: of its options, of the study, or of the user's configuration."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from ddbench.errors import UsageError, unknown
from ddbench.experiment.setup import scoped
from ddbench.experiment.study import Nested, Study, merged
from ddbench.files.reading import read_text
from ddbench.files.schemas import parse_toml
from ddbench.plugin.interfaces import Executor
from ddbench.plugin.manager import load_plugins
from ddbench.runtime.context import Bound, Context

#: Names another configuration file than the user's own.
VARIABLE = "DDBENCH_CONFIG"
KEYS = ("executor", "option")


def named(study: Study, name: str = "", workers: int | None = None) -> str:
    """Return the name of the executor of a run; "" where its cells run in the process of the command.

    Args:
        study: whose ``executor`` comes before that of the configuration; an option of one names it, too.
        name: of the command.
        workers: ``--jobs``, which means the local executor.

    Raises:
        UsageError: two executors at once, or a wrong configuration.
    """
    if workers and name not in ("", "local"):
        raise UsageError(f"--jobs is for workers on this machine, not for --executor {name}.", hint="Leave out one.")
    own = _own(study)
    only = next((scope.removeprefix("executor/") for scope in own if scope != "executor"), "local" if own else "")
    return ("local" if workers else name) or study.executor or configuration().get("executor", "") or only


def bind(base: Context, study: Study, name: str, workers: int | None = None) -> Bound[Executor]:
    """Return an executor with its options: of the command, of the study, of the user's configuration.

    Raises:
        UsageError: an executor or an option that does not exist.
    """
    base.plugins.get("executor", name)
    usual = configuration()
    theirs = usual.get("option", {})
    if name != usual.get("executor", ""):  # its options for "whatever executor" are meant for that one
        theirs = {scope: options for scope, options in theirs.items() if scope != "executor"}
    explicit = merged(scoped(theirs, base.plugins), scoped(_own(study), base.plugins))
    if workers:
        explicit = merged(explicit, {"executor/local": {"workers": workers}})
    return replace(base, explicit=explicit).use("executor", name)


def configuration() -> dict[str, Any]:
    """Return what the user's configuration file holds: ``executor`` and ``option.EXECUTOR.KEY``.

    Raises:
        UsageError: it is not TOML, or holds something else.
    """
    import platformdirs

    chosen = os.environ.get(VARIABLE)
    path = Path(chosen) if chosen else platformdirs.user_config_path("ddbench") / "config.toml"
    if not path.exists():
        if chosen:
            raise UsageError(f"{VARIABLE} names {path}, which is not there.", hint="Unset it, or write the file.")
        return {}
    content = parse_toml(read_text(path, UsageError), str(path), UsageError)
    for key in content:
        if key not in KEYS:
            raise unknown(f"key of {path}", key, KEYS)
    if not isinstance(content.get("executor", ""), str):
        raise UsageError(f"{path}: `executor` is the name of one.")
    return {**content, "option": merged({}, content.get("option", {}), str(path))}


def _own(study: Study) -> Nested:
    """Return the options of executors in a study."""
    known = load_plugins().entries["executor"]
    own: Nested = {}
    for block in study.blocks:
        for scope, options in block.option.items():
            if scope.partition("/")[0] == "executor" or scope in known:
                own = merged(own, {scope: options})
    return own
