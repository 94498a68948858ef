"""The tutorials, followed in a real window: what is bold in their numbered steps must be there, and must work."""

import re
from pathlib import Path

import pytest
from qtpy.QtWidgets import QAbstractButton, QAbstractSlider, QAbstractSpinBox, QComboBox

from napari_unroll.gui import train_form
from napari_unroll.gui.docks import DOCKS, frame_of
from napari_unroll.gui.session import session_of
from napari_unroll.pipeline import sources
from tests.gui.conftest import needs_opengl

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
TIMEOUT_MS = 120_000
TINY = {
    "cone-beam": {"n": 16, "n_views": 12, "oversample": 1},
    "multi-coil": {"shape": (8, 16, 16), "n_coils": 4, "acceleration": 3},
}


def walks() -> dict[str, list[str]]:
    """Title → what is bold in its numbered steps, in order."""
    found = {}
    for part in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        title, _, text = part.partition("\n")
        steps = re.findall(r"^\d+\. (.*?)(?=^\d+\. |\Z)", text, flags=re.MULTILINE | re.DOTALL)
        found[title] = [
            re.sub(r"\s+", " ", word) for step in steps for word in re.findall(r"\*\*(.+?)\*\*", step, re.DOTALL)
        ]
    return found


class Walker:
    """Does what a reader of the page does."""

    def __init__(self, viewer, qtbot) -> None:
        self._viewer, self._qtbot = viewer, qtbot
        self._session = session_of(viewer)
        self._title = ""

    @property
    def dock(self):
        """The dock that the reader is in."""
        return self._viewer.window.dock_widgets[f"{self._title} (Unroll)"].dock

    def do(self, word: str) -> None:
        """One step; fails where it is not possible, or ends in an error."""
        if " ▸ " in word:
            self._open(word.split(" ▸ "))
        elif word in DOCKS:
            self._go_to(word)
        elif ": " in word:
            self._choose(*word.split(": ", 1))
        else:
            self._press(word)
        self._qtbot.wait(150)  # what waits for a pause of the user begins
        self._qtbot.waitUntil(self._is_quiet, timeout=TIMEOUT_MS)
        if self._title:
            assert self.dock.message.kind != "error", f"{word}: {self.dock.message.text()}"

    def _is_quiet(self) -> bool:
        return not (self._session.runner.busy or self._session.training.busy)

    def _open(self, menus: list[str]) -> None:
        names = [contribution for contribution in manifest().sample_data if contribution.display_name == menus[-1]]
        if names:
            self._viewer.open_sample("napari-unroll", names[0].key)
            return
        self._viewer.window.add_plugin_dock_widget("napari-unroll", menus[-1])
        windows = self._viewer.window.dock_widgets
        self._qtbot.waitUntil(lambda: f"{[*DOCKS][-1]} (Unroll)" in windows, timeout=TIMEOUT_MS)

    def _go_to(self, title: str) -> None:
        widget = self._viewer.window.dock_widgets[f"{title} (Unroll)"]
        frame_of(widget).raise_()
        self._qtbot.waitUntil(lambda: widget.dock is not None and widget.dock.isVisible(), timeout=TIMEOUT_MS)
        self._title = title

    def _choose(self, name: str, value: str) -> None:
        (field,) = [w for w in self._seen((QComboBox, QAbstractSpinBox, QAbstractSlider)) if w.accessibleName() == name]
        if isinstance(field, QComboBox):
            assert field.findText(value) >= 0, f"{value} is none of {[field.itemText(k) for k in range(field.count())]}"
            field.setCurrentText(value)
        else:
            field.setValue(int(value))

    def _press(self, text: str) -> None:
        buttons = [b for b in self._seen(QAbstractButton) if b.text().strip("▸▾ ") == text]
        assert buttons, f"{self._title} has no {text}"
        self._qtbot.waitUntil(buttons[0].isEnabled, timeout=TIMEOUT_MS)
        buttons[0].click()

    def _seen(self, kinds):
        """Widgets that are not hidden; for several kinds only the outermost of those with one name."""
        found = []
        for kind in kinds if isinstance(kinds, tuple) else (kinds,):
            found += [w for w in self.dock.findChildren(kind) if w.isVisibleTo(self.dock)]
        return [w for w in found if not any(v is not w and v.isAncestorOf(w) for v in found)]


def manifest():
    """What this plugin contributes."""
    from npe2 import PluginManager

    return PluginManager.instance().get_manifest("napari-unroll").contributions


@pytest.fixture
def walker(viewer, qtbot, monkeypatch, tmp_path):
    make = sources.sample
    monkeypatch.setattr(sources, "sample", lambda name, options=None: make(name, TINY[name]))
    monkeypatch.setattr(train_form, "UNLIMITED_STEPS", 2)
    monkeypatch.setattr(train_form, "HOME", tmp_path)
    made = Walker(viewer, qtbot)
    made.do("Plugins ▸ Unroll ▸ Start here")
    made.do("Train")
    for name, value in {"n_objects": 1, "n_held_out": 1}.items():
        made.dock.form.more.fields[name].value = value
    made.dock.form.effort.fields["patch"].value = 8
    return made


@pytest.mark.slow
@needs_opengl
@pytest.mark.parametrize("title", walks())
def test_a_tutorial_can_be_followed(walker, title):
    for word in walks()[title]:
        walker.do(word)


def test_every_tutorial_has_steps():
    assert all(len(words) > 5 for words in walks().values())
    assert len(walks()) == 4
