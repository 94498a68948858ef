"""Tilt series of electron microscopes: HyperSpy and EMD."""

import h5py
import numpy as np
import pytest

from napari_unroll.errors import FileFormatError, MissingInformation
from napari_unroll.io.registry import find_reader, read
from tests.io import samples

N = samples.N_VIEWS


def check(scan):
    """The scan is the one that was written, with its tilts and its pixels."""
    np.testing.assert_allclose(scan.measurements, samples.line_integrals(), atol=1e-6)
    assert np.rad2deg(np.unwrap(scan.geometry.angles_rad)) == pytest.approx(samples.ANGLES_DEG, abs=1e-4)
    assert scan.geometry.pixel_mm == pytest.approx((2.5e-6, 2.5e-6))


def test_a_series_of_etspy_tilts_about_x(tmp_path):
    scan = read(samples.write_hspy(tmp_path / "a.hspy"))
    assert find_reader(tmp_path / "a.hspy").name == "hspy"
    check(scan)
    assert "Tilt axis horizontal (from the file)." in scan.notes
    upright = read(tmp_path / "a.hspy", rotation_axis="vertical")
    assert upright.measurements.shape == (N, samples.COLS, samples.ROWS)


def test_another_series_does_not_say_its_axis(tmp_path):
    scan = read(samples.write_hspy(tmp_path / "a.hspy", etspy=False))
    check(scan)
    assert any("does not say; set rotation_axis" in note for note in scan.notes)


def test_tilts_of_the_stage_come_before_those_of_the_axis(tmp_path):
    scan = read(samples.write_hspy(tmp_path / "a.hspy", tilts=samples.ANGLES_DEG / 2))
    assert np.rad2deg(scan.geometry.angles_rad[-1]) == pytest.approx(90)
    padded = read(samples.write_hspy(tmp_path / "b.hspy", tilts=np.zeros(1024)))
    assert np.rad2deg(scan.geometry.angles_rad[0]) == pytest.approx(0)
    check(padded)


@pytest.mark.parametrize("axis", [{"units": "frames"}, {"scale": None}, {"scale": "two"}])
def test_without_tilts_they_are_asked_for(tmp_path, axis):
    path = samples.write_hspy(tmp_path / "a.hspy", **axis)
    with pytest.raises(MissingInformation, match="angles"):
        read(path)
    samples.write_angles(tmp_path / "a.rawtlt")
    check(read(path))


def test_a_series_that_is_not_there(tmp_path):
    with pytest.raises(FileFormatError, match="has 1 stacks"):
        read(samples.write_hspy(tmp_path / "a.hspy"), dataset=1)
    with pytest.raises(FileFormatError, match="has 1 stacks"):
        read(samples.write_ncem(tmp_path / "a.emd"), dataset=1)


@pytest.mark.parametrize("along", [0, 1, 2])
@pytest.mark.parametrize("units", ["[deg]", "rad"])
def test_ncem_files_have_their_tilts_along_any_axis(tmp_path, along, units):
    path = samples.write_ncem(tmp_path / "a.emd", along, units)
    assert find_reader(path).name == "emd"
    check(read(path, rotation_axis="vertical"))


def test_velox_has_a_tilt_per_frame(tmp_path):
    scan = read(samples.write_velox(tmp_path / "a.emd"), values="line-integrals", air=0)
    np.testing.assert_allclose(scan.measurements / 10_000, samples.line_integrals(), atol=2e-4)
    assert np.rad2deg(np.unwrap(scan.geometry.angles_rad)) == pytest.approx(samples.ANGLES_DEG, abs=1e-4)
    assert scan.geometry.pixel_mm == pytest.approx((2.5e-6, 2.5e-6))
    with pytest.raises(MissingInformation):
        read(samples.write_velox(tmp_path / "b.emd", tilted=False))


@pytest.mark.parametrize("content", [b"[[[[" * 100, b"{}", b"not json", b'{"Stage": 3}'])
def test_velox_of_odd_metadata(tmp_path, content):
    path = samples.write_velox(tmp_path / "a.emd")
    with h5py.File(path, "a") as file:
        column = np.zeros((500, N), np.uint8)
        column[: len(content)] = np.frombuffer(content, np.uint8)[:, None]
        file["Data/Image/0a1b/Metadata"][...] = column
    with pytest.raises(FileFormatError, match=r"no JSON|holds no angles"):
        read(path)


@pytest.mark.parametrize("name", ["a.hspy", "a.emd"])
def test_what_rosettasciio_writes_is_read(tmp_path, name):
    library = pytest.importorskip("rsciio." + name[2:])
    axes = [{"name": "tilt", "units": "deg", "offset": 0.0, "scale": 15.0, "size": N, "navigate": True}]
    axes += [
        {"name": k, "units": "nm", "offset": 0.0, "scale": 2.5, "size": n, "navigate": False}
        for k, n in (("y", samples.ROWS), ("x", samples.COLS))
    ]
    axes = [{"_type": "UniformDataAxis", "is_binned": False, "index_in_array": k, **a} for k, a in enumerate(axes)]
    signal = {
        "data": samples.line_integrals(), "axes": axes, "original_metadata": {},
        "metadata": {"General": {"title": "series"}, "Signal": {"signal_type": ""}},
        "attributes": {"_lazy": False, "ragged": False}, "package_info": {"package": "x", "package_version": "1"},
        "learning_results": {}, "tmp_parameters": {}, "models": {},
    }  # fmt: skip
    library.file_writer(str(tmp_path / name), signal)
    check(read(tmp_path / name))


def test_a_needle(shared_data):
    scan = read(shared_data / "etspy_haadf" / "HAADF_Aligned.hspy")
    assert scan.measurements.shape == (77, 256, 256)
    assert np.rad2deg(scan.geometry.angles_rad[[0, 1, -1]]) == pytest.approx([-76, -74, 76])
    assert scan.geometry.pixel_mm == pytest.approx((3.36e-6, 3.36e-6))
    assert "Tilt axis horizontal (from the file)." in scan.notes
