"""The reader of docs/adding_a_reader.md, added as the page says: it appears everywhere by itself."""

import importlib.util
import re
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from napari_unroll.cli.app import app
from napari_unroll.errors import FileFormatError, ParameterError
from napari_unroll.gui.contributions import get_reader
from napari_unroll.gui.layers import SCAN
from napari_unroll.gui.scan_dock import ScanDock
from napari_unroll.gui.worker import Runner
from napari_unroll.io import registry
from tests.gui.conftest import TIMEOUT_MS, model  # noqa: F401 (a fixture)
from tests.io import samples

PAGE = Path(__file__).parents[1] / "docs" / "adding_a_reader.md"


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """The page's module, imported from a file and put into the registry by one line."""
    code = re.search(r"## The file.*?```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "lab.py").write_text(code[1], encoding="utf-8")
    spec = importlib.util.spec_from_file_location("lab", tmp_path / "lab.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "lab", module)
    spec.loader.exec_module(module)
    readers = (registry.READERS[0], module.READER, *registry.READERS[1:])
    monkeypatch.setattr(registry, "READERS", readers)
    monkeypatch.setattr(registry, "FORMATS", {reader.name: reader for reader in readers})
    return module


@pytest.fixture
def path(tmp_path):
    raw, flat, _ = samples.counts()
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["lab/views"], file["lab/open_beam"], file["lab/angles"] = raw, np.stack([flat, flat]), samples.ANGLES_DEG
    return tmp_path / "scan.h5"


def test_without_it_the_file_is_not_known(path):
    with pytest.raises(FileFormatError, match="not one that is read here"):
        registry.read(path)


def test_it_reads_and_its_options_are_checked(lab, path):
    assert registry.find_reader(path) is lab.READER
    scan = registry.read(path, first_view="4", pixel_mm=0.5)
    assert scan.measurements.shape == (samples.N_VIEWS - 4, samples.ROWS, samples.COLS)
    assert np.rad2deg(scan.geometry.angles_rad[0]) == pytest.approx(60)
    assert scan.provenance.format == "lab"
    assert dict(scan.provenance.options) == {"first_view": 4, "pixel_mm": 0.5}
    assert registry.read(path, format="lab").measurements.shape[0] == samples.N_VIEWS
    with pytest.raises(ParameterError, match="Option 'first_view' of lab scanner HDF5"):
        registry.read(path, first_view=-1)
    with pytest.raises(FileFormatError):
        registry.read(path, first_view=samples.N_VIEWS)


def test_the_command_line_shows_it(lab, path):
    done = CliRunner().invoke(app, ["info", str(path), "-o", "first_view=3"])
    assert done.exit_code == 0, done.output
    assert "lab scanner HDF5" in done.stdout
    assert "Leave out the views before this one." in done.stdout
    assert "Views from 3 on." in done.stdout


def test_napari_opens_it(lab, path):
    data, arguments, kind = get_reader(str(path))(str(path))[0]
    assert kind == "image"
    assert data.shape == (samples.N_VIEWS, samples.ROWS, samples.COLS)
    assert arguments["metadata"][SCAN].provenance.format == "lab"


def test_the_dock_has_a_form_for_it(lab, path, model, qtbot):  # noqa: F811
    dock = ScanDock(model)
    qtbot.addWidget(dock)
    dock.open_path(path)
    with qtbot.waitSignal(dock.session.runner.run.finished, timeout=TIMEOUT_MS):
        pass
    assert "lab scanner HDF5" in dock.options_fold.button.text()
    dock.options.fields["first_view"].value = 2
    dock.again.click()
    with qtbot.waitSignal(dock.session.runner.run.finished, timeout=TIMEOUT_MS):
        pass
    assert dock.session.scan.measurements.shape[0] == samples.N_VIEWS - 2
    Runner.wait()
