"""The memory allocator of long CPU runs."""

from __future__ import annotations

import ctypes
import functools


@functools.cache
def keep_freed_memory() -> bool:
    """Tell glibc to keep large freed blocks instead of returning them to the kernel after every layer.

    Training a small ConvNet on a CPU spends up to half its time on page faults without this. Returns whether it was
    applied; elsewhere than glibc nothing happens.
    """
    trim_threshold, top_pad, mmap_max = -1, -2, -4
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return all((mallopt(mmap_max, 0), mallopt(trim_threshold, 2**31 - 1), mallopt(top_pad, 512 * 2**20)))
