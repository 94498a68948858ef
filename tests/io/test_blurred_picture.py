import numpy as np
import pytest
import tifffile
from skimage.io import imsave

from napari_unroll.errors import FileFormatError, ParameterError
from napari_unroll.io.registry import find_reader, read, summary
from napari_unroll.scan.blurring import Blur


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 255, (14, 17), dtype=np.uint8)


def test_a_png_is_a_blurred_picture(tmp_path, picture):
    imsave(tmp_path / "a.png", picture, check_contrast=False)
    scan = read(tmp_path / "a.png", variance=2)
    assert find_reader(tmp_path / "a.png").name == "picture"
    assert scan.modality == "image"
    assert scan.geometry == Blur(variance=2).sampling((1, 14, 17))
    np.testing.assert_array_equal(scan.measurements[0], picture)
    assert summary(scan)["blur kernel"] == (1, 9, 9)


def test_a_small_png_is_enlarged_by_the_factor(tmp_path, picture):
    imsave(tmp_path / "a.png", picture, check_contrast=False)
    scan = read(tmp_path / "a.png", factor="3")
    assert scan.grid.shape == (1, 42, 51)
    assert scan.geometry.factor == (1, 3, 3)
    assert scan.provenance.options == (("factor", 3),)


def test_sixteen_bits_are_kept_and_colours_become_grey(tmp_path, picture):
    imsave(tmp_path / "deep.png", picture.astype(np.uint16) * 257, check_contrast=False)
    np.testing.assert_array_equal(read(tmp_path / "deep.png").measurements[0], picture * np.float32(257))
    imsave(tmp_path / "rgb.png", np.stack([picture] * 3, -1), check_contrast=False)
    np.testing.assert_allclose(read(tmp_path / "rgb.png").measurements[0], picture, rtol=1e-5)


def test_a_tiff_is_one_where_that_is_asked_for(tmp_path, picture):
    tifffile.imwrite(tmp_path / "a.tif", picture)
    scan = read(tmp_path / "a.tif", format="picture-tiff")
    np.testing.assert_array_equal(scan.measurements[0], picture)
    assert scan.provenance.options == (("format", "picture-tiff"),)
    with pytest.raises(FileFormatError, match="format=picture-tiff"):
        read(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", np.stack([picture] * 2))
    with pytest.raises(FileFormatError, match="holds 2 pictures"):
        read(tmp_path / "b.tif", format="picture-tiff")


def test_what_cannot_be_is_said(tmp_path, picture):
    imsave(tmp_path / "a.png", picture[:5], check_contrast=False)
    with pytest.raises(FileFormatError, match="larger than the image"):
        read(tmp_path / "a.png")
    with pytest.raises(ParameterError, match="factor"):
        read(tmp_path / "a.png", factor=0)
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[:16] + b"\x7f\xff\xff\xff" * 2 + whole[24:])
    with pytest.raises(FileFormatError, match="packed into"):
        read(tmp_path / "a.png")
