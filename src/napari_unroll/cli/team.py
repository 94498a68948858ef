"""A command under ``torchrun``: its processes find each other, and the first one speaks and writes for all."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator

from torch import distributed

from napari_unroll.errors import ParameterError


class _Nowhere(io.TextIOBase):
    """Where the others' progress goes."""

    def write(self, text: str) -> int:
        return len(text)


@contextlib.contextmanager
def joined(device: str) -> Iterator[bool]:
    """Join the processes that ``torchrun`` has started (gloo); whether this one is the first, or alone.

    Raises ParameterError where there are others and the ``device`` is not the CPU.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield True
        return
    if device != "cpu":
        raise ParameterError("Processes of torchrun share work on the CPU only; choose --device cpu.")
    distributed.init_process_group("gloo")
    try:
        if distributed.get_rank() == 0:
            yield True
        else:
            with contextlib.redirect_stderr(_Nowhere()):
                yield False
    finally:
        distributed.destroy_process_group()
