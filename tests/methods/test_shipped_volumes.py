"""The shipped weights make the volumes that they made when they were trained, whatever became of the code since.

``shipped_volumes.json`` holds voxels of these volumes as they were before learned methods shared one frame. Tolerance: 1e-4
of the volume's largest value, what float32 sums in another order cost. They began from total variation that saw all views in
every step and took eight dual steps; from the ordered subsets and three dual steps of today volumes differ by up to 5e-3.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from napari_unroll.methods.steps import start
from napari_unroll.physics.samples import sample_cone_beam, sample_multicoil
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run

TOLERANCE, OF_SUBSETS = 1e-4, 5e-3
CASES = json.loads((Path(__file__).parent / "shipped_volumes.json").read_text())


@cache
def scan(name):
    if name == "cone-beam":
        return sample_cone_beam(n=32, n_views=20, oversample=1)
    return sample_multicoil(shape=(12, 32, 32), n_coils=4, acceleration=3)


@pytest.mark.parametrize("name", CASES)
def test_shipped_weights_give_the_same_volume(name, monkeypatch, tmp_path):
    monkeypatch.setattr(start, "LEAST_VIEWS", 1000)
    monkeypatch.setattr(start, "N_INNER", 8)
    assert difference(name, monkeypatch, tmp_path) < TOLERANCE


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name]["scan"] == "cone-beam"])
def test_a_start_by_ordered_subsets_and_few_dual_steps_hardly_changes_it(name, monkeypatch, tmp_path):
    assert difference(name, monkeypatch, tmp_path) < OF_SUBSETS


def difference(name, monkeypatch, tmp_path):
    """The largest of the known voxels, relative to the volume's largest value."""
    monkeypatch.setenv("NAPARI_UNROLL_CACHE", str(tmp_path))
    case, sample = CASES[name], scan(CASES[name]["scan"])
    params = {"final_data_step": "none", **case["params"]}
    chosen = Choices(method=case["method"], params=params, patch_size=24, overlap=6, device="cpu", precision="float32")
    *_, finished = run(resolve(chosen, sample), sample)
    assert finished.result is not None, finished.advice
    voxels = finished.result.ravel()[case["indices"]]
    expected = np.array(case["real"]) + (1j * np.array(case["imag"]) if "imag" in case else 0)
    return np.abs(voxels - expected).max() / case["largest"]
