"""A section that opens and closes: superqt's, whose content may grow. Knows widgets only."""

from __future__ import annotations

from qtpy.QtGui import QIcon
from qtpy.QtWidgets import QWidget
from superqt import QCollapsible

QWIDGETSIZE_MAX = 2**24 - 1
"""Qt's own largest size of a widget, which its bindings leave out."""


class Fold(QCollapsible):
    """A section that opens and closes with a click on its title; what is closed is out of reach of the keyboard too."""

    def __init__(self, title: str, *widgets: QWidget, open_: bool = False) -> None:
        super().__init__(title, expandedIcon=QIcon(), collapsedIcon=QIcon())
        self.setDuration(0)
        self.layout().setContentsMargins(0, 0, 0, 0)
        self.button = self.toggleButton()
        self.button.setStyleSheet(
            "QPushButton { border: none; text-align: left; padding: 3px; background: transparent; }"
        )
        self.button.setToolTip("Open or close this part.")
        self.inner = self.content().layout()
        self.inner.setContentsMargins(8, 0, 0, 4)
        for widget in widgets:
            self.inner.addWidget(widget)
        self.toggled.connect(self._follow)
        self.name(title)
        if open_:
            self.expand(animate=False)
        self._follow(open_)

    def name(self, title: str) -> None:
        """Call the section otherwise; the arrow before the name takes the theme's colour, as an icon would not."""
        self._title = title
        self.setText(f"{'▾' if self.isExpanded() else '▸'}  {title}")

    def _follow(self, on: bool) -> None:
        self.name(self._title)
        self.content().setMaximumHeight(QWIDGETSIZE_MAX if on else 0)  # what is inside may grow
        self.content().setVisible(on)
