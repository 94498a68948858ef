"""The one way to write a file: under a temporary name beside the target, then a rename, so that bad luck loses nothing.

Logs that only grow by whole lines are the exception. It knows nothing of formats.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from napari_unroll.errors import ParameterError

LEFT_BEHIND = re.compile(r"\.[0-9a-f]{12}-")
"""How the names of half-written files begin."""
LONGEST_NAME = 255
"""Bytes of a name on the usual file systems."""
LOCK_TRIES, LOCK_PAUSE_S = 4, 0.05
"""How often a lock is tried: whoever asks whether it is held holds it for a moment."""


@contextmanager
def replacing(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary path (a file or folder to be made there) that takes the name ``path`` on success.

    On any error the temporary is removed and what was at ``path`` stays. Raises ParameterError when something is at
    ``path`` and ``overwrite`` is off.
    """
    check_target(path, overwrite)
    temporary = path.with_name(f"{_prefix()}{path.name}")
    try:
        yield temporary
        _rename(temporary, path)
    finally:
        remove(temporary)


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file ``path``; what killed processes left half written beside it is removed.

    The system lets go of it when the process ends, however that happens. Raises ParameterError where another process
    holds it; ``what`` begins that sentence.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise ParameterError(f"{what} cannot be written ({error.strerror}); choose another place.") from error
    with file:
        if not any(_takes(file.fileno(), LOCK_PAUSE_S) for _ in range(LOCK_TRIES)):
            raise ParameterError(f"{what} is being written by another process; wait for it, or choose another name.")
        for left in path.parent.iterdir():
            if LEFT_BEHIND.match(left.name):
                remove(left)
        yield


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock file ``path``."""
    try:
        with path.open("r+b") as file:
            return not _takes(file.fileno())
    except OSError:
        return False


def _takes(descriptor: int, pause_s: float = 0.0) -> bool:
    """Whether the lock can be had, after a pause where it cannot; the file holds it until it is closed."""
    try:
        _lock(descriptor)
    except OSError:
        time.sleep(pause_s)
        return False
    return True


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` whole or not at all, replacing what is there."""
    with replacing(path, overwrite=True) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, as :func:`write_bytes` does."""
    write_bytes(path, text.encode("utf-8"))


def check_target(path: Path, overwrite: bool, n_bytes: int = 0) -> None:
    """Raise where ``path`` surely cannot be written: before the work, not after it.

    The target exists and may not be replaced, its name is too long, or its folder is missing, not to be written into, or on a
    disk with less than ``n_bytes`` free. Raises ParameterError.
    """
    longest = LONGEST_NAME - len(_prefix())
    if len(os.fsencode(path.name)) > longest:
        raise ParameterError(
            f"The name {path.name[:30]}… is too long for a file; choose one of at most {longest} bytes."
        )
    try:
        if path.exists() and not overwrite:
            raise ParameterError(f"{path} exists already; choose another name, or allow overwriting.")
        if not path.parent.is_dir():
            raise ParameterError(f"There is no folder {path.parent} to write {path.name} into; make it first.")
        free = shutil.disk_usage(path.parent).free
    except OSError as error:
        raise ParameterError(
            f"{path.name} cannot be written there ({error.strerror}); choose another place."
        ) from error
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ParameterError(
            f"The folder {path.parent} may not be written into; choose another, or change its permissions."
        )
    if free < n_bytes:
        raise ParameterError(
            f"{path.name} needs about {n_bytes / 2**20:.0f} MiB, but its disk has {free / 2**20:.0f} MiB free; make room, or "
            "choose another place."
        )


def _prefix() -> str:
    return f".{uuid.uuid4().hex[:12]}-"


def _rename(temporary: Path, path: Path) -> None:
    if not (path.is_dir() or temporary.is_dir()):
        temporary.replace(path)
        return
    old = path.with_name(f"{_prefix()}{path.name}")
    if path.exists():
        path.rename(old)
    try:
        temporary.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    remove(old)


def remove(path: Path) -> None:
    """Delete a file or folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(FileNotFoundError):
            path.unlink()
