"""A process that ends when it has nothing left to do.

As it ends Python looks through every object for cycles, which takes 2 to 3 s once napari and deep-learning libraries
are loaded.
"""

from __future__ import annotations

import atexit
import gc


def end_quickly() -> None:
    """At the end of this process leave objects to the system. Calling twice is harmless."""
    atexit.register(gc.freeze)
