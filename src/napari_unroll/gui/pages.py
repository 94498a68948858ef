"""The documentation's page of a dock, shown in a window of its own: from the files that are installed, so without a network.

Knows files and Qt; nothing of docks.
"""

from __future__ import annotations

import re
import sysconfig
from pathlib import Path

from qtpy.QtWidgets import QDialog, QTextBrowser, QVBoxLayout, QWidget

ONLINE = "https://github.com/napari-unroll/napari-unroll/tree/main/docs"
FOLDERS = (
    Path(__file__).parents[3] / "docs",  # a checkout
    Path(sysconfig.get_path("data")) / "share" / "doc" / "napari-unroll",  # an installed package
)


def text_of(page: str, heading: str) -> str:
    """A section of a page as Markdown, without pictures; where the page is not installed, where it stands online."""
    found = [folder / page for folder in FOLDERS if (folder / page).is_file()]
    if not found:
        return f"## {heading}\n\nThis page is not installed; it is at [{ONLINE}]({ONLINE}/{page})."
    parts = re.split(r"^(?=## )", found[0].read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = next((p for p in parts if p.startswith(f"## {heading}\n")), "".join(parts))
    without_pictures = re.sub(r"^!\[.*\n+", "", text, flags=re.MULTILINE)
    return re.sub(r"\]\((?!http)([^)]*)\)", rf"]({ONLINE}/\1)", without_pictures)


class Page(QDialog):
    """A window with one section of the documentation."""

    def __init__(self, page: str, heading: str, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"{heading}: documentation")
        self.resize(620, 560)
        self.text = QTextBrowser()
        self.text.setOpenExternalLinks(True)
        self.text.setMarkdown(text_of(page, heading))
        QVBoxLayout(self).addWidget(self.text)
