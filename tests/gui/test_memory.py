"""Forms come back as they were left; what no longer fits is forgotten; the page of a dock opens without a network."""

import pytest

from napari_unroll.gui import memory, pages
from napari_unroll.gui.forms import RecordForm
from napari_unroll.gui.memory import Memory
from napari_unroll.gui.scan_dock import ScanDock, VolumeChoice
from napari_unroll.gui.worker import Runner


@pytest.fixture
def file(tmp_path, monkeypatch):
    path = tmp_path / "docks.ini"
    monkeypatch.setattr(memory, "settings_file", lambda: path)
    return path


def form_of(qtbot, kept, default=None):
    form = RecordForm(VolumeChoice)
    qtbot.addWidget(form)
    kept.form("volume", form, default)
    return form


def test_a_form_comes_back_as_it_was_left_until_it_is_reset(qtbot, file):
    form_of(qtbot, Memory("Scan")).fields["z"].value = 7
    kept = Memory("Scan")
    again = form_of(qtbot, kept, VolumeChoice(y=5))
    assert again.value() == VolumeChoice(z=7, y=5)
    kept.reset()
    assert again.value() == VolumeChoice(y=5)
    assert form_of(qtbot, Memory("Scan")).value() == VolumeChoice()


@pytest.mark.parametrize("text", ["{z: many}", "{gone: 3}", "no yaml: ]", "3"])
def test_what_no_longer_fits_is_forgotten(qtbot, file, text):
    kept = Memory("Scan")
    kept._store.setValue("Scan/volume", text)
    assert form_of(qtbot, Memory("Scan")).value() == VolumeChoice()


def test_the_question_mark_opens_the_page(qtbot, model):
    dock = ScanDock(model)
    qtbot.addWidget(dock)
    dock.help_button.click()
    (page,) = dock.findChildren(pages.Page)
    assert "Check geometry" in page.text.toPlainText()
    assert "Export figure" not in page.text.toPlainText()
    page.close()
    Runner.wait()


def test_where_no_page_is_installed_its_address_is_shown(monkeypatch, tmp_path):
    monkeypatch.setattr(pages, "FOLDERS", (tmp_path,))
    assert "github.com" in pages.text_of("docks.md", "Scan")
