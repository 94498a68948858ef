"""What the OpenGL driver is, and the cure for one of its crashes.

Knows napari's window and Qt; nothing of scans or reconstructions.
"""

from __future__ import annotations

import contextlib
from functools import lru_cache
from typing import Any

from qtpy.QtWidgets import QWidget

_SOFTWARE = ("llvmpipe", "softpipe", "swrast", "software")


@lru_cache(maxsize=1)
def renderer() -> str:
    """The driver's own name, empty before the first canvas exists or where none can be made."""
    from vispy.gloo import gl

    with contextlib.suppress(Exception):
        from napari._vispy.utils.gl import _opengl_context

        with _opengl_context():
            return str(gl.glGetParameter(gl.GL_RENDERER))
    return ""


def is_software() -> bool:
    """Whether 3-D pictures are drawn by the processor: ray casting is then slow."""
    return any(word in renderer().lower() for word in _SOFTWARE)


def _gl_widgets(window: Any) -> list[QWidget]:
    root = getattr(window, "_qt_window", None)
    if root is None:
        return []
    return [w for w in root.findChildren(QWidget) if hasattr(w, "makeCurrent")]


def guard_removal(viewer: Any) -> None:
    """Make the canvas current before a layer goes.

    Under Debian's Mesa with the xcb platform napari deletes textures in the wrong context and the process dies on
    the next added layer. Connecting twice is harmless.
    """
    if getattr(viewer, "_unroll_removal_guarded", False):
        return

    def make_current(event: Any = None) -> None:
        for widget in _gl_widgets(getattr(viewer, "window", None)):
            widget.makeCurrent()

    viewer.layers.events.removing.connect(make_current, position="first")
    with contextlib.suppress(Exception):
        object.__setattr__(viewer, "_unroll_removal_guarded", True)
