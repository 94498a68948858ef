import numpy as np
import pytest

from napari_unroll.errors import FileFormatError, MissingInformation
from napari_unroll.io.registry import find_reader, read
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam
from tests.io import samples
from tests.io.ole import ole_bytes

olefile = pytest.importorskip("olefile")
SHIFTS = np.linspace(-2, 1, samples.N_VIEWS)


def test_a_tomography_says_everything(tmp_path):
    scan = read(samples.write_txrm(tmp_path / "a.txrm"))
    assert find_reader(tmp_path / "a.txrm").name == "zeiss"
    assert isinstance(scan.geometry, ConeBeam)
    np.testing.assert_allclose(scan.measurements, samples.line_integrals(), atol=2e-4)
    assert scan.geometry.source_origin_mm == pytest.approx(20)
    assert scan.geometry.source_detector_mm == pytest.approx(50)
    assert scan.grid.spacing_mm == pytest.approx((0.004,) * 3)
    assert scan.geometry.pixel_mm == pytest.approx((0.01, 0.01))
    assert np.rad2deg(np.unwrap(scan.geometry.angles_rad)) == pytest.approx(-samples.ANGLES_DEG)
    assert any("reference picture of the file" in note for note in scan.notes)


def test_every_view_is_moved_by_its_shift(tmp_path):
    streams = {"Alignment/X-Shifts": SHIFTS.astype("<f4").tobytes(), "Alignment/Y-Shifts": bytes(4 * samples.N_VIEWS)}
    moved = read(samples.write_txrm(tmp_path / "a.txrm", **streams), bin=2, view_step=2).geometry.vectors
    still = read(samples.write_txrm(tmp_path / "b.txrm"), bin=2, view_step=2).geometry.vectors
    np.testing.assert_allclose(moved[:, 3:6] - still[:, 3:6], SHIFTS[::2, None] * still[:, 6:9] / 2, atol=1e-9)


def test_a_parallel_beam_has_its_voxels_for_pixels(tmp_path):
    scan = read(samples.write_txrm(tmp_path / "a.txrm", **{"ImageInfo/XrayGeometry": np.int32(2).tobytes()}))
    assert isinstance(scan.geometry, ParallelBeam)
    assert scan.geometry.pixel_mm == pytest.approx((0.004, 0.004))


def test_the_reference_may_be_another_file(tmp_path):
    path = samples.write_txrm(tmp_path / "a.txrm", **{"ReferenceData/Image": None})
    assert any("has no reference picture" in note for note in read(path).notes)
    _, flat, dark = samples.counts()
    flat = flat.astype(np.float32) - dark
    samples.write_txrm(tmp_path / "ref.xrm", views=flat[None])
    given = read(path, flats="ref.xrm")
    np.testing.assert_allclose(
        given.measurements, read(samples.write_txrm(tmp_path / "b.txrm")).measurements, atol=1e-5
    )
    samples.write_txrm(tmp_path / "ref.xrm", views=flat[None, :3])
    with pytest.raises(FileFormatError, match=r"ref\.xrm has \(3, 32\) pixels"):
        read(path, flats="ref.xrm")


def test_a_single_picture_is_said_to_be_one(tmp_path):
    samples.write_txrm(tmp_path / "a.xrm", views=samples.counts()[0][:1])
    with pytest.raises(FileFormatError, match="single picture of 6 × 32 pixels: one view, or a reference"):
        read(tmp_path / "a.xrm")


@pytest.mark.parametrize(
    ("stream", "value", "said"),
    [
        ("ImageInfo/ImageWidth", np.int32(2_000_000_000), "declares"),
        ("ImageInfo/ImageWidth", np.int32(900_000), "lacks ReferenceData/Image"),
        ("ImageInfo/NoOfImages", np.int32(-3), "declares -3 pictures"),
        ("ImageInfo/NoOfImages", np.int32(500), "500 pictures without angles"),
        ("ImageInfo/DataType", np.int32(7), "pictures of type 7"),
        ("ImageInfo/PixelSize", np.float32(np.nan), "pixel_mm = nan"),
        ("ImageInfo/PixelSize", None, "no ImageInfo/PixelSize"),
        ("ImageInfo/StoRADistance", np.full(samples.N_VIEWS, np.inf, "<f4"), "pixel_mm = nan|source_origin_mm = inf"),
        ("Alignment/X-Shifts", np.full(samples.N_VIEWS, np.nan, "<f4"), "shifts"),
    ],
)
def test_senseless_numbers(tmp_path, stream, value, said):
    path = samples.write_txrm(tmp_path / "a.txrm", **{stream: None if value is None else value.tobytes()})
    with pytest.raises(FileFormatError, match=said) as caught:
        read(path)
    assert len(str(caught.value)) < 280


def test_without_angles_they_are_asked_for(tmp_path):
    path = samples.write_txrm(tmp_path / "a.txrm", **{"ImageInfo/Angles": None})
    with pytest.raises(MissingInformation, match="13 pictures without angles: a reconstructed volume"):
        read(path)
    assert read(path, angles="0:180").geometry.n_views == samples.N_VIEWS


def test_a_volume_has_no_angles(tmp_path):
    path = samples.write_txrm(tmp_path / "a.txm", **{"ImageInfo/Angles": bytes(4 * samples.N_VIEWS)})
    with pytest.raises(MissingInformation, match="without angles"):
        read(path)


def test_without_the_library_the_command_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "olefile", None)
    samples.write_txrm(tmp_path / "a.txrm")
    with pytest.raises(FileFormatError, match=r"pip install 'napari-unroll\[formats\]'"):
        read(tmp_path / "a.txrm")


def test_another_ole_file(tmp_path):
    (tmp_path / "a.doc").write_bytes(ole_bytes({"WordDocument": bytes(5000), "Data/x": b"abc"}))
    with pytest.raises(FileFormatError, match="OLE container, but not one that is read here"):
        read(tmp_path / "a.doc")


def test_a_chip(shared_data):
    folder = shared_data / "zeiss_xradia"
    scan = read(folder / "chip_tomo.txrm")
    assert isinstance(scan.geometry, ParallelBeam)
    assert scan.measurements.shape == (7, 256, 256)
    assert scan.grid.spacing_mm == pytest.approx((1.5578948e-4,) * 3)
    assert np.rad2deg(scan.geometry.angles_rad) == pytest.approx(np.arange(45, -46, -15), abs=0.02)
    offset = np.einsum("vi,vi->v", scan.geometry.vectors[:, 3:6], scan.geometry.vectors[:, 6:9]) / 1.5578948e-4**2
    assert offset == pytest.approx([0.259, -0.944, 1.281, -1.077, 1.105, -0.956, 0.332], abs=1e-3)
    with pytest.raises(FileFormatError, match="single picture of 512 × 512"):
        read(folder / "chip00.xrm")
