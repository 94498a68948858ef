"""The colours of napari's theme as they are now: whoever paints asks each time, so that a change of the theme shows at once."""

from __future__ import annotations

from typing import Any

from napari.utils.theme import get_theme
from qtpy.QtGui import QColor

NAMES = {"background": "background", "foreground": "foreground", "text": "text", "highlight": "current"}
"""What is painted → napari's name for it; foreground is that of boxes."""


class Theme:
    """``theme["text"]`` is a QColor of a viewer's present theme."""

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer

    def __getitem__(self, name: str) -> QColor:
        return QColor(*getattr(get_theme(self._viewer.theme), NAMES[name]).as_rgb_tuple()[:3])

    @property
    def is_light(self) -> bool:
        """Whether the background is bright."""
        return bool(self["background"].lightness() > 127)
