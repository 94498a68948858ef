"""Fixtures of the GUI tests: a real window on a virtual display, tiny samples, nothing written to the user's folders.

With a display (pytest-xvfb starts one) Qt runs on it whatever the environment asks for, so that OpenGL really draws; the
offscreen platform draws nothing and remains for machines without X11.
"""

import ctypes
import gc
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from qtpy.QtCore import QEvent, QLibraryInfo


def _xcb_loads() -> bool:
    """Whether Qt's X11 platform and the libraries it needs are here; Qt would end the process if they were not."""
    folder = Path(QLibraryInfo.path(QLibraryInfo.LibraryPath.PluginsPath))
    try:
        ctypes.CDLL(str(folder / "platforms" / "libqxcb.so"))
    except OSError:
        return False
    return True


if sys.platform.startswith("linux"):
    has_screen = bool(os.environ.get("DISPLAY") or shutil.which("Xvfb"))
    os.environ["QT_QPA_PLATFORM"] = "xcb" if has_screen and _xcb_loads() else "offscreen"

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import napari  # noqa: F401
    import pyqtgraph  # noqa: F401
    from napari.components import ViewerModel
    from napari.qt import threading  # noqa: F401

    from napari_unroll.gui import jobs, memory
    from napari_unroll.gui.session import Session, session_of
    from napari_unroll.gui.worker import Runner
    from napari_unroll.physics import samples

TIMEOUT_MS = 60_000

needs_opengl = pytest.mark.skipif(
    os.environ.get("QT_QPA_PLATFORM") == "offscreen",
    reason="the offscreen platform draws no OpenGL; run with a display or pytest-xvfb",
)

THIRD_PARTY = (
    "ignore::DeprecationWarning:vispy.*",
    "ignore::DeprecationWarning:napari.*",
    "ignore::FutureWarning:napari.*",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Warnings of napari's own parts do not fail our tests."""
    for item in items:
        if "tests/gui" in str(item.path):
            for text in THIRD_PARTY:
                item.add_marker(pytest.mark.filterwarnings(text))


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches go to a temporary folder, docks remember nothing; samples are tiny."""
    monkeypatch.setattr(memory, "settings_file", lambda: None)
    monkeypatch.setenv("NAPARI_UNROLL_CACHE", str(tmp_path / "cache"))
    cone = ("cone-beam", {"n": 16, "n_views": 12, "oversample": 1})
    mri = ("multi-coil", {"shape": (8, 16, 16), "n_coils": 4, "acceleration": 3})
    blur, small = ("deblur", {"shape": (1, 24, 24)}), ("super-resolution", {"shape": (1, 24, 24)})
    monkeypatch.setattr(jobs, "SAMPLES", dict(zip(jobs.SAMPLES, (cone, mri, blur, small), strict=True)))


@pytest.fixture
def no_leaks(qapp: Any) -> Iterator[None]:
    """Top-level widgets that outlive a test fail it."""
    before = set(qapp.topLevelWidgets())
    yield
    left = _new_windows(qapp, before)
    if left:
        del left
        gc.collect()
        left = _new_windows(qapp, before)
    assert not left, f"widgets left over: {left}"


def _new_windows(qapp: Any, before: set[Any]) -> list[Any]:
    qapp.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    qapp.processEvents()
    return [w for w in set(qapp.topLevelWidgets()) - before if type(w).__name__ != "CanvasBackendDesktop"]


@pytest.fixture
def viewer(no_leaks: None, make_napari_viewer: Callable[..., Any]) -> Iterator[Any]:
    """A real window; workers are stopped before it closes, leaked widgets fail the test."""
    made = make_napari_viewer(show=True)
    yield made
    Runner.wait()


@pytest.fixture
def model(qapp: Any) -> Any:
    """A viewer without a window, for logic that draws nothing."""
    return ViewerModel()


@pytest.fixture
def session(viewer: Any) -> Session:
    """The session of the window."""
    return session_of(viewer)


@pytest.fixture
def cone_scan() -> Any:
    """A tiny cone-beam scan with its truth."""
    return samples.sample_cone_beam(n=16, n_views=12, oversample=1)


@pytest.fixture
def mri_scan() -> Any:
    """A tiny multi-coil scan with its truth."""
    return samples.sample_multicoil(shape=(8, 16, 16), n_coils=4, acceleration=3)
