"""What is left of the gui must work on machines without Qt, napari or a display; and nothing imports in a circle."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest

import napari_unroll

SOURCES = Path(napari_unroll.__file__).parent

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


def test_no_files_of_the_package_import_each_other_in_a_circle():
    try:
        graphlib.TopologicalSorter(_imports()).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def _imports() -> dict[str, set[str]]:
    """Module → modules of the package that it imports, in functions and for type checkers too."""
    files = {_module(path): path for path in SOURCES.rglob("*.py")}
    return {name: _imported(name, path.read_text(encoding="utf-8"), files.keys()) for name, path in files.items()}


def _module(path: Path) -> str:
    return ".".join(path.relative_to(SOURCES.parent).with_suffix("").parts).removesuffix(".__init__")


def _imported(name: str, text: str, known: Collection[str]) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports relatively; write the package's name"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return (found & set(known)) - {name}
