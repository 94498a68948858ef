"""Coil maps by ESPIRiT where they are asked for; without the library a sentence says how to get it."""

import sys

import numpy as np
import pytest

from napari_unroll.errors import FileFormatError
from napari_unroll.io.espirit import espirit_maps
from napari_unroll.io.registry import read, summary
from napari_unroll.physics.samples import sample_multicoil


@pytest.fixture(scope="module")
def scan():
    return sample_multicoil((1, 64, 64), n_coils=6, acceleration=3)


def test_maps_agree_with_the_true_ones(scan):
    pytest.importorskip("bartorch")
    maps = espirit_maps(scan.measurements, scan.geometry.mask)
    inside = (np.abs(scan.truth) > 0.1) & (np.abs(maps).sum(0) > 0)
    assert inside.sum() > 0.9 * (np.abs(scan.truth) > 0.1).sum()
    np.testing.assert_allclose((np.abs(maps) ** 2).sum(0)[inside], 1, atol=1e-3)
    assert np.abs((maps.conj() * scan.csm).sum(0))[inside].mean() > 0.995


def test_a_reader_takes_them_where_asked(tmp_path, scan):
    pytest.importorskip("bartorch")
    np.savez(tmp_path / "a.npz", kspace=scan.measurements, mask=scan.geometry.mask)
    assert read(tmp_path / "a.npz").csm is None
    found = read(tmp_path / "a.npz", coil_maps="espirit")
    np.testing.assert_allclose(found.csm, espirit_maps(scan.measurements, scan.geometry.mask), atol=1e-5)
    assert summary(found)["origins"]["coil maps"] == "inferred"
    assert any("ESPIRiT" in note for note in found.notes)
    assert ("coil_maps", "espirit") in found.provenance.options


def test_without_the_library_it_says_how_to_get_it(tmp_path, scan, monkeypatch):
    monkeypatch.setitem(sys.modules, "bartorch.tools", None)
    np.savez(tmp_path / "a.npz", kspace=scan.measurements)
    with pytest.raises(FileFormatError, match=r"pip install 'napari-unroll\[espirit\]'"):
        read(tmp_path / "a.npz", coil_maps="espirit")
