import io
import zipfile

import numpy as np
import pytest

from napari_unroll.errors import FileFormatError
from napari_unroll.io import guards
from napari_unroll.io.npy_header import Archive, load_npy
from napari_unroll.io.registry import read
from tests.io import samples


class Trap:
    """Unpickling this would raise something unmistakable."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('pickle was run')",))


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_pickles_are_never_opened(tmp_path, suffix):
    path, trap = tmp_path / f"a{suffix}", np.array([Trap()], dtype=object)
    if suffix == ".npy":
        np.save(path, trap, allow_pickle=True)
    else:
        np.savez(path, projections=trap)
    with pytest.raises(FileFormatError, match=r"pickle.* never loaded"):
        read(path)


def test_huge_declared_array(tmp_path):
    np.lib.format.write_array_header_2_0(
        head := io.BytesIO(), {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6, 10**6)}
    )
    (tmp_path / "a.npy").write_bytes(head.getvalue())
    with pytest.raises(FileFormatError, match="declares an array of shape"):
        read(tmp_path / "a.npy", angles="0:180")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("projections.npy", head.getvalue())
    with pytest.raises(FileFormatError, match="size does not fit"):
        read(tmp_path / "a.npz", angles="0:180")


def test_honest_but_larger_than_memory(tmp_path, monkeypatch):
    samples.write_npz(tmp_path / "a.npz")
    monkeypatch.setattr(guards.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    with pytest.raises(FileFormatError, match=r"needs .* of memory.*view_step"):
        read(tmp_path / "a.npz")


def test_strings_beside_the_numbers_do_no_harm(tmp_path):
    scan = read(samples.write_npz(tmp_path / "a.npz", sample_name="walnut"))
    assert scan.geometry.n_views == samples.N_VIEWS


@pytest.mark.parametrize("values", [np.array(["a", "b"]), np.zeros((0, 3, 3)), np.zeros(4, "datetime64[s]")])
def test_arrays_that_are_no_measurements(tmp_path, values):
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(FileFormatError):
        read(tmp_path / "a.npy", angles="0:180")


def test_fortran_order_and_laziness(tmp_path):
    values = np.asfortranarray(samples.line_integrals())
    np.save(tmp_path / "a.npy", values)
    lazy = load_npy(tmp_path / "a.npy", lazy=True)
    assert isinstance(lazy, np.memmap)
    np.testing.assert_array_equal(lazy, values)


def test_archive_lists_and_loads(tmp_path):
    archive = Archive(samples.write_npz(tmp_path / "a.npz", cor_px=3.5))
    assert archive.first("nothing", "angles_deg") == "angles_deg"
    assert archive.number("cor_px") == 3.5
    assert archive.optional("flats") is None
    assert "transmission (13, 6, 32) float32" in str(archive)
    with pytest.raises(FileFormatError, match="should be one number"):
        archive.number("angles_deg")


def test_unknown_archive_says_what_it_holds(tmp_path):
    np.savez(tmp_path / "a.npz", volume=np.zeros((3, 3, 3)))
    with pytest.raises(FileFormatError, match=r"it holds volume \(3, 3, 3\) float64"):
        read(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(FileFormatError, match="without numpy arrays"):
        read(tmp_path / "b.npz")
