"""What is left of the gui must work on machines without Qt, napari or a display."""

import subprocess
import sys

ROOMS = ("scan", "io", "physics", "normal", "patches", "methods", "training", "pipeline", "cli")
PROBE = """
import importlib, pkgutil, sys
unwanted = {"napari", "qtpy", "superqt", "magicgui", "vispy", "pyqtgraph", "PyQt6", "PySide6", "astra"}
for room in sys.argv[1:]:
    package = importlib.import_module(f"napari_unroll.{room}")
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
        loaded = {name.partition(".")[0] for name in sys.modules} & unwanted
        if loaded:
            sys.exit(f"{found.name} imports {sorted(loaded)}")
"""


def test_no_room_left_of_the_gui_imports_qt_or_napari():
    done = subprocess.run([sys.executable, "-c", PROBE, *ROOMS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
