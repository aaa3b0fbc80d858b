"""What a plugin leaves behind in the process is put back, so that it harms no later one, and told with its name."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

#: Signals by which users and systems stop a run.
STOPPING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM")


@contextlib.contextmanager
def contained(who: str) -> Iterator[None]:
    """Put back what a block changes of the process: folder, file mask, streams, signals, NumPy's and torch's settings.

    Args:
        who: the plugin, for the warning that names what it changed.
    """
    states, begun, on_import = _read(SETTINGS), {}, _OnImport()
    filters = list(warnings.filters)
    if "torch" in sys.modules:
        begun = _read(TORCH)
    else:
        sys.meta_path.insert(0, on_import)
    try:
        yield
    finally:
        if on_import in sys.meta_path:
            sys.meta_path.remove(on_import)
        _forgive(filters)
        changed = [*_put_back(SETTINGS, states), *_put_back(TORCH, begun or on_import.states)]
        if changed:
            listed = ", ".join(changed)
            warnings.warn(f"{who} changed {listed} of the process; it was put back.", stacklevel=2)


Setting = tuple[Callable[[], Any], Callable[[Any], Any]]


def _read(settings: dict[str, Setting]) -> dict[str, Any]:
    return {name: read() for name, (read, _) in settings.items()}


def _put_back(settings: dict[str, Setting], states: dict[str, Any]) -> list[str]:
    changed = []
    for name, (read, write) in settings.items():
        if states.get(name) is not None and read() != states[name]:  # None: of a module that was not there
            write(states[name])
            changed.append(name)
    return changed


def _folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 (text, to be compared)
    except OSError:  # it was removed
        return ""


def _mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _signals() -> list[Any]:
    return [signal.getsignal(getattr(signal, name)) for name in STOPPING]


def _set_signals(handlers: list[Any]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    for name, handler in zip(STOPPING, handlers, strict=True):
        if handler is not None:  # one that was not set from Python
            signal.signal(getattr(signal, name), handler)


def _set_environment(values: dict[str, str]) -> None:
    for name in os.environ.keys() - values.keys():
        del os.environ[name]
    os.environ.update(values)


def _truncated() -> Any:
    return getattr(sys.modules.get("PIL.ImageFile"), "LOAD_TRUNCATED_IMAGES", None)


def _set_truncated(allowed: Any) -> None:
    if "PIL.ImageFile" in sys.modules:
        sys.modules["PIL.ImageFile"].LOAD_TRUNCATED_IMAGES = bool(allowed)  # type: ignore[attr-defined]


def _forgive(filters: list[Any]) -> None:
    """Take back filters that turn others' warnings into errors; those that hide a warning harm nobody."""
    if any(each[0] == "error" and each not in filters for each in warnings.filters):
        kept = [each for each in warnings.filters if each[0] != "error" or each in filters]
        warnings.resetwarnings()
        warnings.filters[:] = kept  # type: ignore[index]


def _numpy_errors() -> Any:
    return sys.modules["numpy"].geterr() if "numpy" in sys.modules else None


def _set_numpy_errors(errors: Any) -> None:
    if errors is not None:
        sys.modules["numpy"].seterr(**errors)


def _set_streams(streams: tuple[Any, Any]) -> None:
    sys.stdout, sys.stderr = streams


SETTINGS: dict[str, Setting] = {
    "the current folder": (_folder, lambda folder: os.chdir(folder) if folder else None),
    "the file mask": (_mask, os.umask),
    "the streams": (lambda: (sys.stdout, sys.stderr), _set_streams),
    "the signal handlers": (_signals, _set_signals),
    "the recursion limit": (sys.getrecursionlimit, sys.setrecursionlimit),
    "the environment": (lambda: dict(os.environ), _set_environment),
    "the reading of truncated images": (_truncated, _set_truncated),
    "NumPy's handling of errors": (_numpy_errors, _set_numpy_errors),
}


def _torch() -> Any:
    return sys.modules["torch"]


def _flags() -> dict[str, Any]:
    backends = _torch().backends
    return {
        "benchmark": backends.cudnn.benchmark,
        "deterministic": backends.cudnn.deterministic,
        "enabled": backends.cudnn.enabled,
        "allow_tf32": backends.cudnn.allow_tf32,
        "mkldnn": backends.mkldnn.enabled,
    }


def _set_flags(flags: dict[str, Any]) -> None:
    backends = _torch().backends
    for name in ("benchmark", "deterministic", "enabled", "allow_tf32"):
        setattr(backends.cudnn, name, flags[name])
    backends.mkldnn.enabled = flags["mkldnn"]


def _deterministic() -> tuple[bool, bool]:
    return _torch().are_deterministic_algorithms_enabled(), _torch().is_deterministic_algorithms_warn_only_enabled()


TORCH: dict[str, Setting] = {
    "torch's default type": (lambda: _torch().get_default_dtype(), lambda kind: _torch().set_default_dtype(kind)),
    "torch's default device": (
        lambda: str(_torch().get_default_device()),
        lambda name: _torch().set_default_device(None if name == "cpu" else name),
    ),
    "torch's recording of gradients": (
        lambda: _torch().is_grad_enabled(),
        lambda enabled: _torch().set_grad_enabled(enabled),
    ),
    "torch's number of threads": (lambda: _torch().get_num_threads(), lambda count: _torch().set_num_threads(count)),
    "torch's deterministic mode": (
        _deterministic,
        lambda mode: _torch().use_deterministic_algorithms(mode[0], warn_only=mode[1]),
    ),
    "torch's precision of products": (
        lambda: _torch().get_float32_matmul_precision(),
        lambda name: _torch().set_float32_matmul_precision(name),
    ),
    "torch's search for anomalies": (
        lambda: _torch().is_anomaly_enabled(),
        lambda enabled: _torch().autograd.set_detect_anomaly(enabled),
    ),
    "torch's settings of kernels": (_flags, _set_flags),
    "torch's autocast": (
        lambda: [_torch().is_autocast_enabled(kind) for kind in ("cpu", "cuda")],
        lambda on: [_torch().set_autocast_enabled(kind, each) for kind, each in zip(("cpu", "cuda"), on, strict=True)],
    ),
}


class _OnImport(MetaPathFinder):
    """Sees torch at the end of its import: what a block imports itself has no state from before the block."""

    def __init__(self) -> None:
        self.states: dict[str, Any] = {}

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Let the other finders find torch, and look at it when it has been executed."""
        if fullname != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def then_look(module: ModuleType) -> None:
                execute(module)
                self.states = _read(TORCH)

            spec.loader.exec_module = then_look  # type: ignore[method-assign]
        return spec
