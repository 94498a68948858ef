import numpy as np
import pytest

from napari_unroll.errors import FileFormatError
from napari_unroll.io.number_files import angles_from, guess_unit, numbers_from


@pytest.mark.parametrize(
    "text", ["0\n45\n90\n", "0, 45, 90", " 0;45;90 ", "# degrees\n0\n45 # middle\n90", "angle\n0\n45\n90\n", "0 45\n90"]
)
def test_ways_to_write_angles(tmp_path, text):
    (tmp_path / "a.txt").write_text(text)
    found = angles_from("a.txt", 3, tmp_path / "scan.npy", "degrees")
    np.testing.assert_allclose(found, [0, np.pi / 4, np.pi / 2])


def test_ranges_hold_both_ends(tmp_path):
    np.testing.assert_allclose(np.rad2deg(angles_from("-60:60", 5, tmp_path, "degrees")), [-60, -30, 0, 30, 60])
    np.testing.assert_allclose(angles_from("0:3", 4, tmp_path, "radians"), [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"0\n1\n", "2 angles, but there are 3 views"),
        (b"", "empty"),
        (b"\n\n# nothing\n", "holds no numbers"),
        (b"0\none\n2", "line 2"),
        (b"\xff\xfe\x00\x01binary\x00", "line 1"),
        (b"0\nnan\n2", "NaN"),
        (b"\x89HDF\r\n\x1a\n rest", "text or .npy"),
    ],
)
def test_files_that_are_no_angles(tmp_path, content, words):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(FileFormatError, match=words):
        angles_from("a.txt", 3, tmp_path, "degrees")


def test_missing_angle_file(tmp_path):
    with pytest.raises(FileFormatError, match="no file"):
        angles_from("nothing.txt", 3, tmp_path, "degrees")


def test_units_by_range():
    assert guess_unit(np.linspace(0, np.pi, 50)) == "radians"
    assert guess_unit(np.linspace(0, 180, 50)) == "degrees"
    assert guess_unit(np.array([0.0, 1.0])) == "degrees"


def test_tables_keep_their_shape(tmp_path):
    (tmp_path / "v.txt").write_text("1 2 3\n4 5 6\n")
    assert numbers_from(tmp_path / "v.txt").shape == (2, 3)
