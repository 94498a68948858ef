"""Volumes that other programs wrote, with the place and the unit that they say; and every format there and back."""

import mrcfile
import numpy as np
import pytest
import tifffile
import zarr

from napari_unroll.errors import FileFormatError
from napari_unroll.io import ome_zarr
from napari_unroll.io.any_volume import read_any_volume
from napari_unroll.io.writers import is_large, is_volume, read_volume

VALUES = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)


def write_zarr(path, version, axes="zyx", unit="micrometer", scale=(20.0, 10.0, 5.0), values=VALUES, translation=None):
    """An OME-Zarr image as its standard says, of version 0.4 (Zarr 2) or 0.5 (Zarr 3)."""
    kinds = {"t": {"type": "time", "unit": "second"}, "c": {"type": "channel"}}
    named = [{"name": a, **kinds.get(a, {"type": "space", "unit": unit})} for a in axes]
    before = [1.0] * (len(axes) - len(scale))
    transforms = [{"type": "scale", "scale": [*before, *scale]}]
    if translation is not None:
        transforms.append({"type": "translation", "translation": [*(0.0 for _ in before), *translation]})
    multiscale = {"name": "other", "axes": named, "datasets": [{"path": "s0", "coordinateTransformations": transforms}]}
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    group.create_array("s0", shape=values.shape, dtype=values.dtype, chunks=values.shape)[...] = values
    about = {"multiscales": [multiscale | ({"version": version} if version == "0.4" else {})]}
    group.attrs.update(about if version == "0.4" else {"ome": {"version": version, **about}})
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("axes", ["zyx", "tczyx"])
def test_zarr_of_both_versions(tmp_path, version, axes):
    values = VALUES.reshape((1,) * (len(axes) - 3) + VALUES.shape)
    path = write_zarr(tmp_path / "a.zarr", version, axes, values=values, translation=(100.0, 0.0, -50.0))
    assert is_volume(path)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.values, VALUES)
    assert volume.grid.spacing_mm == pytest.approx((0.02, 0.01, 0.005))
    assert volume.grid.origin_mm == pytest.approx((0.1, 0.0, -0.05))
    assert volume.record == {}
    np.testing.assert_array_equal(read_any_volume(path), VALUES)
    assert is_large(path)
    stored = ome_zarr.open_lazily(path)
    np.testing.assert_array_equal(np.asarray(stored.levels[""][0]), VALUES)
    assert stored.grid == volume.grid


def test_zarr_without_a_place_lies_about_the_axis(tmp_path):
    volume = read_volume(write_zarr(tmp_path / "a.ome.zarr", "0.4", unit="nanometer"))
    assert volume.grid.spacing_mm == pytest.approx((2e-5, 1e-5, 5e-6))
    assert volume.grid.center_mm == pytest.approx((0, 0, 0), abs=1e-12)
    flat = read_volume(write_zarr(tmp_path / "b.zarr", "0.5", "yx", scale=(3.0, 2.0), values=VALUES[0]))
    assert flat.values.shape == (1, 5, 6)


@pytest.mark.parametrize(
    ("axes", "shape", "unit", "words"),
    [
        ("czyx", (3, 2, 2, 2), "micrometer", "several volumes .3 along c."),
        ("tzyx", (2, 2, 2, 2), "micrometer", "several volumes .2 along t."),
        ("zyx", (2, 2, 2), "parsec", "from 1e-09 to"),
    ],
)
def test_zarr_that_is_no_one_volume(tmp_path, axes, shape, unit, words):
    path = write_zarr(tmp_path / "a.zarr", "0.4", axes, unit, values=np.zeros(shape, np.float32))
    with pytest.raises(FileFormatError, match=words):
        read_volume(path)


def test_zarr_of_the_plates_of_others_is_one_sentence(tmp_path):
    zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2).attrs.update({"plate": {}})
    with pytest.raises(FileFormatError, match=r"version 0\.4 or 0\.5"):
        read_volume(tmp_path / "a.zarr")


def test_ome_tiff_and_imagej(tmp_path):
    sizes = {"PhysicalSizeX": 5.0, "PhysicalSizeY": 10.0, "PhysicalSizeZ": 0.02, "PhysicalSizeZUnit": "mm"}
    tifffile.imwrite(tmp_path / "a.ome.tif", VALUES, metadata={"axes": "ZYX", **sizes})
    tifffile.imwrite(
        tmp_path / "b.tif",
        VALUES,
        imagej=True,
        resolution=(200, 100),
        metadata={"spacing": 0.02, "unit": "mm", "axes": "ZYX"},
    )
    for name in ("a.ome.tif", "b.tif"):
        volume = read_volume(tmp_path / name)
        np.testing.assert_array_equal(volume.values, VALUES)
        assert volume.grid.spacing_mm == pytest.approx((0.02, 0.01, 0.005))
        assert not is_volume(tmp_path / name)
    tifffile.imwrite(tmp_path / "c.ome.tif", np.stack([VALUES, VALUES]), metadata={"axes": "CZYX"})
    with pytest.raises(FileFormatError, match="several channels"):
        read_volume(tmp_path / "c.ome.tif")


def test_mrc(tmp_path):
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(VALUES)
        file.voxel_size = (5, 10, 20)
    volume = read_volume(tmp_path / "a.mrc")
    np.testing.assert_array_equal(volume.values, VALUES)
    assert volume.grid.spacing_mm == pytest.approx((2e-6, 1e-6, 5e-7))
    with mrcfile.new(tmp_path / "b.mrc") as file:
        file.set_data(VALUES)
    with pytest.raises(FileFormatError, match="voxel size"):
        read_volume(tmp_path / "b.mrc")


def test_nifti_in_micrometres(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(VALUES.T, np.diag([5.0, 10.0, 20.0, 1.0]))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    assert volume.grid.spacing_mm == pytest.approx((0.02, 0.01, 0.005))
    assert volume.grid.origin_mm == pytest.approx((0, 0, 0), abs=1e-9)
