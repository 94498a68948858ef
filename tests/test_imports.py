"""What is left of the gui must work on machines without Qt, napari or a display."""

import subprocess
import sys

import pytest

ROOMS = ("scan", "io", "physics", "normal", "patches", "methods", "training", "pipeline", "cli")
PROBE = """
import importlib, pkgutil, sys
package = importlib.import_module("napari_unroll.{room}")
for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
loaded = {{name.partition(".")[0] for name in sys.modules}}
print(sorted(loaded & {{"napari", "qtpy", "superqt", "magicgui", "vispy", "pyqtgraph", "PyQt6", "PySide6", "astra"}}))
"""


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_neither_qt_nor_napari(room):
    done = subprocess.run([sys.executable, "-c", PROBE.format(room=room)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
