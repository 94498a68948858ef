import numpy as np
import pytest

from napari_unroll.errors import FileFormatError, MissingInformation
from napari_unroll.io.registry import read
from tests.io import samples


@pytest.mark.parametrize("suffix", [".rawtlt", ".tlt", ".txt"])
def test_angles_beside_the_stack(tmp_path, suffix):
    path = samples.write_mrc(tmp_path / "a.mrc")
    samples.write_angles(path.with_suffix(suffix))
    scan = read(path)
    np.testing.assert_array_equal(scan.measurements, samples.line_integrals())
    np.testing.assert_allclose(scan.geometry.angles_rad, np.deg2rad(samples.ANGLES_DEG), atol=1e-7)
    assert any("line-integrals" in note for note in scan.notes)


def test_angles_are_asked_for(tmp_path):
    with pytest.raises(MissingInformation, match="angles"):
        read(samples.write_mrc(tmp_path / "a.mrc"))


def test_air_and_bad_pixels_of_a_transmission(tmp_path):
    stack = (0.67 * np.exp(-samples.line_integrals())).astype(np.float32)
    stack[:, 2, 5] = np.nan
    scan = read(samples.write_mrc(tmp_path / "a.mrc", stack), angles="0:180")
    np.testing.assert_allclose(scan.measurements, samples.line_integrals(), atol=0.03)
    assert any("Repaired 13 bad pixels" in note for note in scan.notes)
    assert any("value of air, 0.67" in note for note in scan.notes)


def test_given_air(tmp_path):
    stack = (0.5 * np.exp(-samples.line_integrals())).astype(np.float32)
    scan = read(samples.write_mrc(tmp_path / "a.mrc", stack), angles="0:180", air=0.5, values="transmission")
    np.testing.assert_allclose(scan.measurements, samples.line_integrals(), atol=1e-5)


def test_background_of_integer_line_integrals(tmp_path):
    stack = (1000 * samples.line_integrals() - 30_000).round().astype(np.int16)
    scan = read(samples.write_mrc(tmp_path / "a.mrc", stack), angles="0:180")
    np.testing.assert_allclose(scan.measurements, 1000 * samples.line_integrals(), atol=1.5)


def test_horizontal_axis_is_suspected_and_turned(tmp_path):
    path = samples.write_mrc(tmp_path / "a.mrc", np.ascontiguousarray(samples.line_integrals().swapaxes(1, 2)))
    assert any("axis were horizontal" in note for note in read(path, angles="0:180").notes)
    turned = read(path, angles="0:180", rotation_axis="horizontal")
    np.testing.assert_array_equal(turned.measurements, samples.line_integrals())
    assert not any("look as if" in note for note in turned.notes)


def test_truncated_stack(tmp_path):
    path = samples.write_mrc(tmp_path / "a.mrc")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FileFormatError, match="truncated"):
        read(path, angles="0:180")


def test_huge_declared_stack(tmp_path):
    path = samples.write_mrc(tmp_path / "a.mrc")
    raw = bytearray(path.read_bytes())
    raw[:12] = np.array([2_000_000_000] * 3, "<i4").tobytes()
    path.write_bytes(raw)
    with pytest.raises(FileFormatError, match=r"declares|header"):
        read(path, angles="0:180")


def test_other_content_under_the_suffix(tmp_path):
    path = tmp_path / "a.mrc"
    path.write_text("no stack at all " * 100)
    with pytest.raises(FileFormatError, match="MRC header"):
        read(path)
