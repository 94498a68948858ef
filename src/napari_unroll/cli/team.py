"""A command under ``torchrun``: its processes find each other, and the first one speaks and writes for all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from torch import distributed


@contextlib.contextmanager
def joined() -> Iterator[bool]:
    """Join the processes that ``torchrun`` has started (gloo); whether this one is the first, or alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield True
        return
    distributed.init_process_group("gloo")
    try:
        if distributed.get_rank() == 0:
            yield True
        else:
            with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
                yield False
    finally:
        distributed.destroy_process_group()
