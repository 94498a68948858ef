import numpy as np
import pytest

from napari_unroll.errors import FileFormatError, MissingInformation
from napari_unroll.io.registry import find_reader, read
from napari_unroll.scan.geometry import ConeBeam
from tests.io import samples


@pytest.mark.parametrize("name", ["a.yaml", "a.json"])
def test_described_numbers(tmp_path, name):
    path = samples.write_raw(tmp_path / name)
    scan = read(path)
    assert find_reader(path).name == "described-raw"
    assert find_reader(tmp_path / "a.raw").name == "raw"
    np.testing.assert_allclose(scan.measurements, samples.line_integrals())
    assert np.rad2deg(np.unwrap(scan.geometry.angles_rad)) == pytest.approx(samples.ANGLES_DEG)
    assert scan.geometry.pixel_mm == pytest.approx((0.5, 0.5))
    assert read(tmp_path / "a.raw").geometry == scan.geometry
    assert read(path, pixel_mm=2).geometry.pixel_mm == pytest.approx((2, 2))


def test_the_hash_counts_the_numbers(tmp_path):
    path = samples.write_raw(tmp_path / "a.yaml")
    first = read(path).provenance.sha256
    path.with_suffix(".raw").write_bytes(path.with_suffix(".raw").read_bytes()[:-1] + b"x")
    assert read(path).provenance.sha256 != first


def test_a_range_of_angles_and_distances(tmp_path):
    path = samples.write_raw(tmp_path / "a.yaml", angles="0:180", source_origin_mm=60, source_detector_mm=100)
    scan = read(path)
    assert isinstance(scan.geometry, ConeBeam)
    assert np.rad2deg(np.unwrap(scan.geometry.angles_rad))[[0, -1]] == pytest.approx([0, 180])


def test_another_order(tmp_path):
    path = samples.write_raw(
        tmp_path / "a.yaml", order="row,view,column", shape=[samples.ROWS, samples.N_VIEWS, samples.COLS]
    )
    stack = samples.line_integrals().swapaxes(0, 1)
    path.with_suffix(".raw").write_bytes(bytes(7) + np.ascontiguousarray(stack).astype(">f4").tobytes())
    np.testing.assert_allclose(read(path).measurements, samples.line_integrals())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"shape": [10**6, 10**6, 10**6]}, "declares"),
        ({"shape": [10**30, 1, 1]}, "shape"),
        ({"shape": [13, 6]}, "shape"),
        ({"shape": [13, 6, 33]}, "declares"),
        ({"dtype": "object"}, "dtype"),
        ({"offset_bytes": -1}, "offset_bytes"),
        ({"offset_bytes": 8}, "declares"),
        ({"pixel_mm": 0}, "pixel_mm"),
        ({"colour": "red"}, "no option 'colour'"),
        ({"file": "../a.raw"}, "outside its folder"),
        ({"file": "/etc/passwd"}, "outside its folder"),
        ({"file": "C:\\a.raw"}, "outside its folder"),
        ({"flats": "~/flat.npy"}, "outside its folder"),
        ({"file": "b.raw"}, "not beside it"),
        ({"angles": ["a"]}, "could not convert"),
        ({"angles": [1, 2]}, "13 views but 2 angles"),
        ({"angles": [[1, 2]]}, "could not convert"),
    ],
)
def test_senseless_descriptions(tmp_path, changed, said):
    with pytest.raises(FileFormatError, match=said) as caught:
        read(samples.write_raw(tmp_path / "a.yaml", **changed))
    assert len(str(caught.value)) < 280
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "file: a.raw\nshape: &x [13, 6, 32]\ndtype: float32\nangles: [*x, *x]",
        "file: !!python/object/apply:os.system [ls]\nshape: 3\ndtype: x",
        "- file\n- shape\n- dtype",
        "file: [shape\ndtype",
        "[" * 3000 + "file shape dtype",
    ],
)
def test_hostile_descriptions(tmp_path, text):
    samples.write_raw(tmp_path / "a.yaml").write_text(text)
    with pytest.raises(FileFormatError) as caught:
        read(tmp_path / "a.yaml")
    assert len(str(caught.value)) < 280


def test_without_angles_they_are_asked_for(tmp_path):
    path = samples.write_raw(tmp_path / "a.yaml", angles=None)
    with pytest.raises(MissingInformation, match="angles"):
        read(path)
    samples.write_angles(tmp_path / "a.txt")
    assert read(path).geometry.n_views == samples.N_VIEWS


def test_raw_numbers_alone_are_not_known(tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(range(256)))
    with pytest.raises(FileFormatError, match="describe them"):
        read(tmp_path / "a.raw")
