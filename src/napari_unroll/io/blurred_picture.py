"""One blurred or small picture in a .png or .tif file: what deblurring and super-resolution begin with.

How it was blurred is the options' matter; nothing of it is in the file.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from PIL import Image

from napari_unroll.errors import FileFormatError
from napari_unroll.io.guards import check_memory, check_packed, read_head
from napari_unroll.io.pictures import TIFF_SUFFIXES, load_tiff
from napari_unroll.io.reader import Reader, ReaderOptions
from napari_unroll.scan.blurring import Blur, luminance
from napari_unroll.scan.geometry import VolumeGrid
from napari_unroll.scan.scan import Scan


class PictureOptions(Blur, ReaderOptions):
    """How the picture was measured."""


def sniff_png(path: Path) -> bool:
    """Every PNG file is a picture."""
    return True


def sniff_tiff(path: Path) -> bool:
    """Never by itself: what a TIFF file shows cannot be seen, so projections come first. Ask for it by its name."""
    return False


def read_png(path: Path, options: PictureOptions) -> Scan:
    """The picture (1, y, x); of a coloured one the luminance."""
    width, height = struct.unpack(">II", read_head(path, 24)[16:24])
    check_packed(path.name, width * height // 8, path.stat().st_size)
    check_memory(24 * width * height, path.name)
    with Image.open(path, formats=("PNG",)) as image:
        values = np.asarray(image.convert("RGB") if image.mode in ("P", "LA", "RGBA") else image)
    return _scan(path, luminance(values) if values.ndim == 3 else values, options)


def read_tiff(path: Path, options: PictureOptions) -> Scan:
    """The picture (1, y, x). Raises FileFormatError where the file holds several."""
    values = load_tiff(path)
    if values.ndim != 2:
        raise FileFormatError(f"{path.name} holds {len(values)} pictures; expected one. Open it as a layer for more.")
    return _scan(path, values, options)


def _scan(path: Path, values: np.ndarray, options: PictureOptions) -> Scan:
    measured = np.ascontiguousarray(values, np.float32)[None]
    shape = (1, measured.shape[1] * options.factor, measured.shape[2] * options.factor)
    sampling = options.sampling(shape)
    blur = f"downsampled {options.factor} times" if options.factor > 1 else f"blurred by {sampling.kernel.shape[1:]}"
    note = f"A picture of {measured.shape[1]} × {measured.shape[2]} pixels, taken as {blur} with wrapped borders."
    return Scan(measurements=measured, geometry=sampling, grid=VolumeGrid(shape=shape), name=path.stem, notes=(note,))


PNG_READER = Reader(
    name="picture",
    title="blurred picture in .png",
    expects="any PNG file",
    container="png",
    extensions=(".png",),
    sniff=sniff_png,
    read=read_png,
    options=PictureOptions,
    holds="`size` and `variance` of the blur, or `factor`, by options; colours become their luminance",
)
TIFF_READER = Reader(
    name="picture-tiff",
    title="blurred picture in .tif",
    expects="asked for as format=picture-tiff",
    container="tiff",
    extensions=TIFF_SUFFIXES,
    sniff=sniff_tiff,
    read=read_tiff,
    options=PictureOptions,
    holds="the same",
)
