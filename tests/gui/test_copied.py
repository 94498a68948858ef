"""What the Reconstruct dock copies is the run: edits drawn at random, the text in a shell or in Python, equal values."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from napari_unroll.events import Outcome
from napari_unroll.gui import demo, jobs
from napari_unroll.gui.session import session_of
from napari_unroll.io.writers import read_volume
from napari_unroll.physics import samples
from napari_unroll.pipeline.geometry_sweep import QUANTITIES
from napari_unroll.scan.scan import Provenance
from tests.gui.conftest import TIMEOUT_MS
from tests.methods import tiny

FILE = {"view_step": (1, 2), "bin": (1, 2), "hot_pixels": (0.0, 20.0), "stripes": ("off", "offset"), "axis_px": (9.25,)}
METHODS = {
    "fdk": {"window": ("hann", "shepp-logan"), "positivity": (True, False)},
    "cgls": {"n_iterations": (2, 3), "precondition": (True,), "damping": (0.1, 0.0)},
    "tv-fista": {"n_iterations": (2, 3), "strength": (0.2, 1e-5), "positivity": (False, True)},
}
MRI_METHODS = {"cg-sense": {"n_iterations": (2, 3)}, "wavelet-l1": {"n_iterations": (2, 3)}}
LEARNED = "unrolled-pgd"
FITS = {"n_probes": (3, 4), "seed": (5, 6), "form": ("dcd", "dc")}
SETTINGS = {"patch_size": ("auto", 12), "overlap": ("auto", 2), "device": ("cpu",), "precision": ("auto", "float32")}


class Edits:
    """A window in which somebody clicks about, always the same for a seed."""

    def __init__(self, viewer, qtbot, seed):
        self.docks, self.session, self.qtbot = demo.open_docks(viewer), session_of(viewer), qtbot
        self.seed, self.rng = seed, np.random.default_rng(seed)

    def draw(self, values):
        return values[int(self.rng.integers(len(values)))]

    def fill(self, form, values):
        for name, some in values.items():
            form.fields[name].value = self.draw(some)

    def ended(self):
        with self.qtbot.waitSignal(self.session.runner.run.finished, timeout=TIMEOUT_MS) as blocker:
            pass
        assert blocker.args[0].outcome is Outcome.COMPLETED, blocker.args[0].advice
        return blocker.args[0]

    def open_file(self, scan, folder):
        """Projections whose geometry is typed in, among other options of the reader."""
        angles = np.linspace(0, 360, len(scan.measurements), endpoint=False)
        np.savez(folder / "walnut's views.npz", line_integrals=scan.measurements, angles_deg=angles)
        dock = self.docks.scan
        dock.open_path(folder / "walnut's views.npz")
        self.ended()
        lengths = {"pixel_mm": (8.0,), "source_origin_mm": (150.0,), "source_detector_mm": (450.0,)}
        self.fill(dock.options, FILE | lengths)
        dock.again.click()
        self.ended()

    def open_sample(self, scan, folder):
        self.docks.scan.open_sample(next(iter(jobs.SAMPLES)))
        self.ended()

    def open_layer(self, scan, folder):
        """A scan that is in no file, until the copying asks where to save it."""
        dock = self.docks.scan
        layer = self.session.viewer.add_image(scan.measurements, name="sinograms")
        dock.layer_box.layer.setCurrentText(layer.name)
        self.fill(
            dock.layer_box.projections, {"beam": ("cone", "parallel"), "angle_range": (360.0,), "axis_px": (15.0, None)}
        )
        dock.layer_box.use_button.click()
        assert self.session.scan.provenance == Provenance(source="", format="napari layer")
        self.docks.reconstruct.output._ask_scan_path = lambda: folder / "layer.h5"

    def open_mri(self, scan, folder):
        self.docks.scan.open_sample(list(jobs.SAMPLES)[1])
        self.ended()

    def open_learned(self, scan, folder):
        """A sample, and weights of a file of the user's."""
        self.open_sample(scan, folder)
        self.session.use_weights(Path(tiny.weights(folder, self.session.scan, LEARNED)), LEARNED)

    def change_volume(self):
        """Another grid, and the detector where the slice that is clicked on has it."""
        if self.session.scan.modality != "ct":
            return
        dock = self.docks.scan
        self.fill(dock.volume, {"z": (10, 12), "y": (13, 15), "x": (14, 16), "voxel_mm": (2.5, 3.0)})
        dock.apply_volume.click()
        for _ in range(2):
            dock.geometry_box.sweep.choose(self.draw(QUANTITIES).title)
            dock.geometry_box.sweep.step.setValue(self.draw((0.25, 0.5)))
            dock.geometry_box.sweep.try_button.click()
            self.ended()
            dock.geometry_box.sweep.pick(self.draw((0, 2, 5, 8)))
            dock.geometry_box.sweep.take_button.click()

    def change_run(self):
        """Method, parameters, the operator's fit, settings, and the region of a preview."""
        dock = self.docks.reconstruct
        if dock.method.chosen.name != LEARNED:
            methods = METHODS if self.session.scan.modality == "ct" else MRI_METHODS
            dock.choose(list(methods)[self.seed % len(methods)])
            self.fill(dock.method.params, methods[dock.method.chosen.name])
        self.fill(dock.settings, SETTINGS)
        self.fill(self.docks.normal.form, FITS)
        self.docks.normal.fit_button.click()
        self.ended()
        dock.preview.region.setChecked(self.draw((True, False)))
        dock.preview.planes.setValue(self.draw((3, 5)))
        dock.preview.inside.setChecked(self.draw((True, False)))
        self.session.layers.viewpoint.go_to(self.session.scan.grid, (self.draw((0, 4, 9)), 0, 0))

    def run(self):
        self.docks.reconstruct.run_button.click()
        return self.ended().result

    def copied(self, button):
        """What the button puts on the clipboard, after a scan in no file is saved."""
        QApplication.clipboard().setText("")
        button.click()
        self.qtbot.waitUntil(lambda: QApplication.clipboard().text() != "", timeout=TIMEOUT_MS)
        return QApplication.clipboard().text()


def elsewhere(command, folder):
    """Run a command in a fresh folder that knows nothing of this window, where programs of this environment are found."""
    folder.mkdir()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "NAPARI_UNROLL_CACHE": str(folder / "cache")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}{done.stderr}"
    return read_volume(folder / "result.ome.zarr").values


def same(values, again):
    """Equal but for the order of sums, which depends on how many threads a process has."""
    np.testing.assert_allclose(again, values, rtol=0, atol=1e-5 * np.abs(values).max())
    assert np.ptp(values) > 0


@pytest.fixture
def edited(viewer, qtbot, tmp_path):
    """A window after random edits from opening to settings, by seed and where the scan comes from."""

    def edit(seed, origin):
        edits = Edits(viewer, qtbot, seed)
        getattr(edits, f"open_{origin}")(samples.sample_cone_beam(n=16, n_views=16, oversample=1), tmp_path)
        edits.change_volume()
        edits.change_run()
        return edits

    return edit


@pytest.mark.parametrize(
    ("seed", "origin"), [(0, "file"), (1, "sample"), (2, "layer"), (3, "file"), (6, "mri"), (7, "mri"), (8, "learned")]
)
def test_the_copied_command_in_a_shell_gives_the_values_of_the_window(edited, tmp_path, seed, origin):
    edits = edited(seed, origin)
    values, dock = edits.run(), edits.docks.reconstruct
    command = edits.copied(dock.output.copy_button)
    assert ("--fit" in command) == dock.runs.plan.needs_normal
    same(values, elsewhere(["bash", "-c", command], tmp_path / "shell"))


@pytest.mark.parametrize(("seed", "origin"), [(4, "file"), (5, "layer")])
def test_the_copied_script_in_python_gives_the_values_of_the_window(edited, tmp_path, seed, origin):
    edits = edited(seed, origin)
    values = edits.run()
    script = edits.copied(edits.docks.reconstruct.output.python_button)
    same(values, elsewhere([sys.executable, "-c", script], tmp_path / "python"))


def test_the_command_of_a_result_gives_its_values_whatever_was_clicked_since(edited, tmp_path):
    edits = edited(3, "file")
    values, dock = edits.run(), edits.docks.reconstruct
    dock.preview.region.setChecked(not dock.preview.region.isChecked())
    dock.choose("cgls")
    edits.session.layers.viewpoint.go_to(edits.session.scan.grid, (1, 0, 0))
    same(values, elsewhere(["bash", "-c", edits.copied(dock.output.result_button)], tmp_path / "shell"))
