import numpy as np
import pytest
import tifffile

from napari_unroll.errors import FileFormatError, MissingInformation
from napari_unroll.io.pictures import check_directories, load_tiff, tiff_files
from napari_unroll.io.registry import find_reader, read
from tests.io import samples


def test_folder_with_fields_and_angles(tmp_path):
    scan = read(samples.write_tiff_folder(tmp_path / "scan"))
    assert find_reader(tmp_path / "scan").name == "tiff-folder"
    np.testing.assert_allclose(scan.measurements, samples.line_integrals(), atol=2e-4)
    assert any("angles.txt" in note for note in scan.notes)
    assert sum("found by their names" in note for note in scan.notes) == 2


def test_views_are_in_the_order_of_their_numbers(tmp_path):
    files = tiff_files(samples.write_tiff_folder(tmp_path / "scan"))
    assert [f.name for f in files if f.name.startswith("view")] == [f"view_{k}.tif" for k in range(samples.N_VIEWS)]


def test_multipage_with_fields_by_option(tmp_path):
    raw, flat, dark = samples.counts()
    tifffile.imwrite(tmp_path / "scan.tif", raw)
    tifffile.imwrite(tmp_path / "f.tif", np.stack([flat, flat]))
    np.save(tmp_path / "d.npy", dark)
    scan = read(tmp_path / "scan.tif", angles="0:180", flats="f.tif", darks=str(tmp_path / "d.npy"))
    np.testing.assert_allclose(scan.measurements, samples.line_integrals(), atol=2e-4)


def test_flat_as_one_number(tmp_path):
    stack = (2000 * np.exp(-samples.line_integrals())).astype(np.float32)
    tifffile.imwrite(tmp_path / "scan.tif", stack)
    scan = read(tmp_path / "scan.tif", angles="0:180", flats="2000")
    np.testing.assert_allclose(scan.measurements, samples.line_integrals(), atol=1e-5)


def test_step_and_bin(tmp_path):
    scan = read(samples.write_tiff_folder(tmp_path / "scan"), view_step=3, bin=2)
    assert scan.measurements.shape == (5, 3, 16)
    expected = -np.log(np.exp(-samples.line_integrals()[::3]).reshape(5, 3, 2, 16, 2).mean((2, 4)))
    np.testing.assert_allclose(scan.measurements, expected, atol=2e-4)
    middle = 7.5 - scan.geometry.vectors[0, 3] / 2
    assert abs(2 * middle + 0.5 - samples.AXIS) < 0.4
    assert scan.geometry.pixel_mm == pytest.approx((2, 2))


def test_compressed_pages(tmp_path):
    tifffile.imwrite(tmp_path / "scan.tif", samples.line_integrals(), compression="zlib")
    scan = read(tmp_path / "scan.tif", angles="0:180")
    np.testing.assert_array_equal(scan.measurements, samples.line_integrals())


def test_one_picture_is_no_stack(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", samples.line_integrals()[0])
    with pytest.raises(FileFormatError, match="one picture of 6 × 32"):
        read(tmp_path / "a.tif")


def test_colours_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 8, 9, 3), np.uint8), photometric="rgb")
    with pytest.raises(FileFormatError, match="colour"):
        read(tmp_path / "a.tif")


def test_odd_sized_view_in_a_folder(tmp_path):
    folder = samples.write_tiff_folder(tmp_path / "scan")
    tifffile.imwrite(folder / "view_5.tif", np.zeros((3, 3), np.uint16))
    with pytest.raises(FileFormatError, match="View 5 has shape"):
        read(folder)


@pytest.mark.parametrize(
    ("flat", "dark"),
    [
        ("ob_0001", "dc_0001"),
        ("scan-OB-60s-3", "scan-DC-60s-3"),
        ("ff_before_1", "df 1"),
        ("open_beam1", "dark_current_2"),
    ],
)
def test_open_beams_and_dark_currents_are_no_views(tmp_path, flat, dark):
    raw, white, black = samples.counts()
    folder = tmp_path / "scan"
    folder.mkdir()
    for name, picture in [*((f"disc_{i:03d}", view) for i, view in enumerate(raw)), (flat, white), (dark, black)]:
        tifffile.imwrite(folder / f"{name}.tif", picture)
    scan = read(folder, angles="0:180")
    assert len(scan.measurements) == len(raw)
    np.testing.assert_allclose(scan.measurements, samples.line_integrals(), atol=2e-3)


def test_flats_of_another_size(tmp_path):
    folder = samples.write_tiff_folder(tmp_path / "scan")
    tifffile.imwrite(folder / "flat_0.tif", np.zeros((3, 3), np.uint16))
    with pytest.raises(FileFormatError, match="flats have"):
        read(folder)


def test_folder_without_angles(tmp_path):
    folder = samples.write_tiff_folder(tmp_path / "scan")
    (folder / "angles.txt").unlink()
    with pytest.raises(MissingInformation, match="angles"):
        read(folder)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_cut_chain_of_pages_is_seen(tmp_path, compression):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for view in samples.line_integrals():
            writer.write(view, contiguous=False, metadata=None, compression=compression)
    whole = path.read_bytes()
    assert check_directories(path) == samples.N_VIEWS
    for cut in range(len(whole) // 2, len(whole), 61):
        path.write_bytes(whole[:cut])
        with pytest.raises(FileFormatError):
            load_tiff(path)


def test_directories_without_end_are_refused(tmp_path):
    """A million empty ones, six bytes each: readers take minutes and gigabytes for them."""
    n = 1_000_000
    chain = np.zeros(n, np.dtype([("entries", "<u2"), ("next", "<u4")]))
    chain["next"][:-1] = 8 + 6 * np.arange(1, n)
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0\x08\0\0\0" + chain.tobytes())
    with pytest.raises(FileFormatError, match="50,000 TIFF directories"):
        load_tiff(path)


def test_huge_declared_picture(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, samples.line_integrals()[0], metadata=None)
    raw = bytearray(path.read_bytes())
    for tag in (b"\x00\x01", b"\x01\x01"):
        at = raw.find(tag, 8)
        raw[at + 2 : at + 4] = b"\x04\x00"
        raw[at + 8 : at + 12] = (2_000_000_000).to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(FileFormatError):
        read(path, angles="0:180")
