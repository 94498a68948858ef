"""Previews in a window: a slab costs what its part of the volume does; a slow one is not made at every change."""

from pathlib import Path

import pytest
import torch

from napari_unroll.events import Outcome
from napari_unroll.gui import demo, reconstruct_dock
from napari_unroll.gui.preview_box import LIVE_PAUSE_MS
from napari_unroll.physics.volume_physics import VolumePhysics
from tests.gui.conftest import TIMEOUT_MS
from tests.methods import tiny


class Work:
    """Rays of every application of an operator, and voxels of every convolution, since it was asked last."""

    def __init__(self, monkeypatch):
        self.rays = self.voxels = 0
        for name, times in (("A", 1), ("A_adjoint", 1), ("normal", 2)):
            monkeypatch.setattr(VolumePhysics, name, self._counted(getattr(VolumePhysics, name), times))
        self.hook = torch.nn.modules.module.register_module_forward_hook(self._convolved)

    def _counted(self, apply, times):
        def counted(physics, *arguments, **keywords):
            self.rays += times * physics.y_shape[-3] * physics.y_shape[-2] * physics.y_shape[-1]
            return apply(physics, *arguments, **keywords)

        return counted

    def _convolved(self, module, given, out):
        if isinstance(module, torch.nn.Conv3d):
            self.voxels += out[0, 0].numel() * len(out)

    def taken(self):
        done, self.rays, self.voxels = (self.rays, self.voxels), 0, 0
        return done


@pytest.fixture
def work(monkeypatch):
    counting = Work(monkeypatch)
    yield counting
    counting.hook.remove()


@pytest.fixture
def dock(viewer):
    docks = demo.open_docks(viewer)
    docks.front(docks.reconstruct)
    return docks.reconstruct


def run(qtbot, dock):
    dock.run_button.click()
    with qtbot.waitSignal(dock.session.runner.run.finished, timeout=TIMEOUT_MS) as blocker:
        pass
    assert blocker.args[0].outcome is Outcome.COMPLETED, blocker.args[0].advice
    return blocker.args[0].result


@pytest.mark.parametrize("method", ["tv-fista", "unrolled-pgd"])
def test_a_slab_of_a_tenth_of_the_planes_takes_at_most_a_third_of_the_work(dock, qtbot, work, tmp_path, method):
    scan = tiny.cone(20, 40)
    dock.session.set_scan(scan)
    if method == "unrolled-pgd":
        dock.session.use_weights(Path(tiny.weights(tmp_path, scan, method)), method)
        dock.settings.fields["patch_size"].value = 12
    dock.choose(method)
    assert run(qtbot, dock).shape == (20, 20, 20)
    whole = work.taken()
    dock.preview.region.setChecked(True)
    dock.preview.planes.setValue(2)
    for _ in range(2):
        assert run(qtbot, dock).shape == (2, 20, 20)
        preview = work.taken()
        print(method, whole, preview)
        assert all(part <= all_of_it / 3 for part, all_of_it in zip(preview, whole, strict=True))


def test_a_live_preview_that_takes_longer_than_was_foretold_ends_by_itself(dock, qtbot, monkeypatch):
    """Foretold to take no time."""
    monkeypatch.setattr(reconstruct_dock, "LIVE_S", 0.2)
    monkeypatch.setattr(type(dock), "_seconds", lambda *_: 0.0)
    dock.session.set_scan(tiny.cone(20, 40))
    dock.choose("tv-fista")
    for name, value in {"tolerance": 0.0, "n_iterations": 10_000}.items():
        dock.method.params.fields[name].value = value
    dock.preview.live.setChecked(True)
    qtbot.waitUntil(lambda: dock.session.runner.busy, timeout=TIMEOUT_MS)
    qtbot.waitUntil(lambda: not dock.preview.live.isChecked(), timeout=TIMEOUT_MS)
    assert "this preview takes longer than" in dock.message.text()
    assert dock.session.runner.busy, "what runs is not given up"
    dock.cancel_button.click()
    dock.method.params.fields["n_iterations"].value = 9999
    qtbot.wait(2 * LIVE_PAUSE_MS)
    assert not dock.session.runner.busy


def test_a_live_preview_of_more_than_ten_seconds_ends_by_itself(dock, qtbot):
    dock.session.set_scan(tiny.cone(20, 40))
    dock.choose("fdk")
    dock.preview.planes.setValue(20)
    dock.preview.live.setChecked(True)
    with qtbot.waitSignal(dock.session.result_added, timeout=TIMEOUT_MS):
        pass
    dock.choose("tv-fista")
    for name, value in {"tolerance": 0.0, "n_inner": 100, "n_iterations": 10_000}.items():
        dock.method.params.fields[name].value = value
    qtbot.waitUntil(lambda: not dock.preview.live.isChecked(), timeout=TIMEOUT_MS)
    assert "live preview is off" in dock.message.text()
    dock.cancel_button.click()
