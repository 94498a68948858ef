"""FITS projections written by astropy: cubes, folders with fields, compressed parts."""

import numpy as np
import pytest

from napari_unroll.errors import FileFormatError
from napari_unroll.io.fits_stack import load_fits
from napari_unroll.io.registry import find_reader, read
from napari_unroll.io.writers import is_result, read_volume, write
from napari_unroll.scan.geometry import VolumeGrid
from tests.io import samples

fits = pytest.importorskip("astropy.io.fits")


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32", "float64"])
def test_a_cube_is_the_projections(tmp_path, dtype):
    raw, flat, dark = samples.counts()
    samples.write_fits(tmp_path / "cube.fits", (raw // 2).astype(dtype))
    np.save(tmp_path / "flat.npy", flat // 2)
    np.save(tmp_path / "dark.npy", dark // 2)
    scan = read(tmp_path / "cube.fits", angles="0:180", flats="flat.npy", darks="dark.npy")
    assert find_reader(tmp_path / "cube.fits").name == "fits"
    np.testing.assert_allclose(scan.measurements, samples.line_integrals(), atol=3e-3)


def test_a_folder_has_views_fields_and_angles(tmp_path):
    raw, flat, dark = samples.counts()
    for k, view in enumerate(raw):
        samples.write_fits(tmp_path / f"view_{k}.fits", view)
    samples.write_fits(tmp_path / "flat_0.fits", flat)
    samples.write_fits(tmp_path / "dark_0.fits", dark)
    samples.write_angles(tmp_path / "angles.txt")
    scan = read(tmp_path)
    assert scan.provenance.format == "fits-folder"
    np.testing.assert_allclose(scan.measurements, samples.line_integrals(), atol=3e-3)


def test_a_compressed_part_after_an_empty_one(tmp_path):
    views = samples.line_integrals()
    parts = [fits.PrimaryHDU(), fits.CompImageHDU((1000 * views).astype(np.int32), compression_type="RICE_1")]
    fits.HDUList(parts).writeto(tmp_path / "packed.fits")
    np.testing.assert_array_equal(load_fits(tmp_path / "packed.fits"), (1000 * views).astype(np.int32))


def test_a_file_without_a_picture(tmp_path):
    fits.PrimaryHDU().writeto(tmp_path / "none.fits")
    with pytest.raises(FileFormatError, match="holds no picture"):
        read(tmp_path / "none.fits", angles="0:180")


def test_an_absurd_header_allocates_nothing(tmp_path):
    path = samples.write_fits(tmp_path / "cube.fits", samples.line_integrals())
    content = path.read_bytes().replace(b"NAXIS3  =                   13", b"NAXIS3  =           1000000000")
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="declares pictures"):
        read(path, angles="0:180")


def test_a_volume_is_read_by_others_in_place_with_its_record(tmp_path):
    grid = VolumeGrid(shape=(3, 4, 5), spacing_mm=(0.3, 0.2, 0.1), center_mm=(1.0, 0.0, -2.0))
    values = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    record = {"method": "fdk", "note": "µm \x7f" + 300 * " " + "a long one", "lines": ["a\nb", "|", "|" * 200]}
    path = write(tmp_path / "volume.fits", values, grid, record)
    with fits.open(path) as file:
        file.verify("exception")
        np.testing.assert_array_equal(file[0].data, values)
        header = file[0].header
        assert [header[f"CUNIT{k}"] for k in (1, 2, 3)] == ["mm"] * 3
        assert [header[f"CDELT{k}"] for k in (1, 2, 3)] == [0.1, 0.2, 0.3]
        assert [header[f"CRVAL{k}"] for k in (1, 2, 3)] == pytest.approx(grid.origin_mm[::-1])
    assert read_volume(path).record == record
    assert is_result(path)


def test_projections_of_others_are_no_result(tmp_path):
    path = samples.write_fits(tmp_path / "cube.fits", samples.line_integrals())
    assert not is_result(path)
    with pytest.raises(FileFormatError, match="no record"):
        read_volume(path)


def test_a_volume_cut_short_is_one_sentence(tmp_path):
    path = write(tmp_path / "v.fits", np.zeros((20, 20, 20), np.float32), VolumeGrid(shape=(20, 20, 20)))
    path.write_bytes(path.read_bytes()[:5760])
    with pytest.raises(FileFormatError, match="declares pictures"):
        read_volume(path)


def test_without_astropy_the_command_is_named(tmp_path, monkeypatch):
    samples.write_fits(tmp_path / "cube.fits", samples.line_integrals())
    monkeypatch.setitem(__import__("sys").modules, "astropy.io.fits", None)
    with pytest.raises(FileFormatError, match="astropy, which is not installed"):
        read(tmp_path / "cube.fits", angles="0:180")
