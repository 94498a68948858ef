"""Cut and altered files of every format: the only error that may come out is a FileFormatError."""

import shutil
from contextlib import suppress

import numpy as np
import pytest
import tifffile
from skimage.io import imsave

from napari_unroll.errors import FileFormatError
from napari_unroll.io.registry import read
from napari_unroll.io.scan_file import write_scan
from tests.io import mri_samples, samples

RANGE = {"angles": "0:180"}


def write_sample(name, folder):
    """A sound file of this name and the options that read it."""
    path = folder / name
    views = samples.line_integrals()
    makers = {
        "dx.h5": lambda: samples.write_dxchange(path),
        "dx-packed.h5": lambda: samples.write_dxchange(path, compression="gzip"),
        "nx.nxs": lambda: samples.write_nxtomo(path),
        "stack.mrc": lambda: samples.write_mrc(path),
        "views.npy": lambda: np.save(path, views),
        "views.npz": lambda: samples.write_npz(path),
        "k.npy": lambda: np.save(path, samples.kspace()),
        "plain.tif": lambda: tifffile.imwrite(path, views),
        "packed.tif": lambda: tifffile.imwrite(path, views, compression="zlib"),
        "imagej.tif": lambda: tifffile.imwrite(path, views, imagej=True),
        "cube.fits": lambda: samples.write_fits(path, views),
        "scan.h5": lambda: write_scan(path, read(samples.write_npz(folder / "source.npz"))),
        "picture.png": lambda: imsave(path, (255 * np.random.default_rng(0).random((14, 17))).astype(np.uint8)),
        "fan.mat": lambda: samples.write_mat(path),
        "fan73.mat": lambda: samples.write_mat_73(path),
        "tilts.hspy": lambda: samples.write_hspy(path),
        "tilts.emd": lambda: samples.write_ncem(path),
        "velox.emd": lambda: samples.write_velox(path),
        "cil.nxs": lambda: samples.write_cil(path),
        "zeiss.txrm": lambda: samples.write_txrm(path),
        "bone~.log": lambda: samples.write_skyscan(folder),
        "views.yaml": lambda: samples.write_raw(path),
        "part.xtekct": lambda: samples.write_xtekct(folder),
    }
    if name in mri_samples.MAKERS:
        return mri_samples.write(name, folder), mri_samples.OPTIONS.get(name, {})
    makers[name]()
    return path, RANGE if path.suffix in (".tif", ".mrc", ".fits") or name == "views.npy" else {}


FILES = (
    "dx.h5",
    "dx-packed.h5",
    "nx.nxs",
    "stack.mrc",
    "views.npy",
    "views.npz",
    "k.npy",
    "plain.tif",
    "packed.tif",
    "imagej.tif",
    "cube.fits",
    "scan.h5",
    "picture.png",
    *mri_samples.MAKERS,
    "cil.nxs",
    "tilts.hspy",
    "tilts.emd",
    "velox.emd",
    "fan.mat",
    "fan73.mat",
    "zeiss.txrm",
)


TEXT = ("part.xtekct", "bone~.log", "views.yaml")
"""Settings beside views: cut at a line they are whole settings of another scan."""


@pytest.mark.parametrize("name", FILES)
def test_cut_files(tmp_path, name):
    path, options = write_sample(name, tmp_path)
    whole, original = path.read_bytes(), read(path, **options)
    cuts = np.random.default_rng(0).integers(1, len(whole), 25)
    for cut in (*cuts, 1, 7, 8, 9, len(whole) - 1):
        path.write_bytes(whole[:cut])
        try:
            scan = read(path, **options)
        except FileFormatError:
            continue
        assert path.suffix in (".tif", ".png", ".txrm", ".hdr", ".dat", ".fits"), (
            f"{name} cut at {cut} of {len(whole)} was read"
        )
        np.testing.assert_array_equal(scan.measurements, original.measurements)


@pytest.mark.parametrize("name", FILES + TEXT)
def test_altered_files(tmp_path, name):
    path, options = write_sample(name, tmp_path)
    whole, rng = path.read_bytes(), np.random.default_rng(1)
    for k in range(40):
        altered = bytearray(whole)
        for at in rng.integers(0, len(whole) if k % 2 else min(len(whole), 1500), 4):
            altered[at] = int(rng.integers(0, 256))
        path.write_bytes(altered)
        with suppress(FileFormatError):
            read(path, **options)


def test_cut_picture_in_a_folder(tmp_path):
    folder = samples.write_tiff_folder(tmp_path / "views")
    victim = folder / "view_4.tif"
    victim.write_bytes(victim.read_bytes()[:-30])
    with pytest.raises(FileFormatError, match=r"view_4\.tif"):
        read(folder)
    shutil.rmtree(folder)
    with pytest.raises(FileFormatError, match="no file"):
        read(folder)


@pytest.mark.parametrize("name", TEXT)
def test_cut_settings(tmp_path, name):
    path, _ = write_sample(name, tmp_path)
    whole = path.read_bytes()
    for cut in np.random.default_rng(0).integers(0, len(whole), 25):
        path.write_bytes(whole[:cut])
        with suppress(FileFormatError):
            read(path)
