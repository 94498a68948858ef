"""The heavy imports behind the window: a thread of their own, and signals that tell the docks how far they are.

Not a run of ``worker``: nothing can be cancelled or computed here, and napari's workers are waited for when a window
closes. Knows threads and signals; nothing of docks.
"""

from __future__ import annotations

import atexit
import gc
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_unroll.gui import heavy


class Loader(QObject):
    """Imports in a thread. ``told`` carries its events, ``ended`` the error or None, both to the window's thread."""

    told = Signal(object)
    ended = Signal(object)
    _left = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._busy = False
        self._left.connect(self._on_left)

    def start(self) -> None:
        """Begin, or go on where the imports run already; ``ended`` follows in any case."""
        if not self._busy:
            self._busy = True
            threading.Thread(target=self._work, name="unroll-imports", daemon=True).start()

    def _work(self) -> None:
        """In the thread: import, and report what happened."""
        try:
            with _EndsWithProcess(), _no_garbage_collection():
                for event in heavy.importing():
                    self.told.emit(event)
        except Exception as error:
            self._left.emit(error)
        else:
            self._left.emit(None)

    def _on_left(self, error: Exception | None) -> None:
        self._busy = False
        self.ended.emit(error)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Each collection walks all that was imported so far and holds every thread up meanwhile."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


class _EndsWithProcess:
    """Lets the present thread end when Python does: its next import statement raises SystemExit.

    A thread that is killed while a library initialises aborts the process.
    """

    def __enter__(self) -> None:
        self._thread, self._ending = threading.current_thread(), False
        sys.meta_path.insert(0, self)
        atexit.register(self._end)

    def __exit__(self, *_: object) -> None:
        sys.meta_path.remove(self)
        atexit.unregister(self._end)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Find nothing, which leaves every import to the finders of Python."""
        if self._ending and threading.current_thread() is self._thread:
            raise SystemExit

    def _end(self) -> None:
        self._ending = True
        self._thread.join()


@lru_cache(maxsize=1)
def loader() -> Loader:
    """The loader of this process; first called in the window's thread, where its signals arrive."""
    return Loader()
