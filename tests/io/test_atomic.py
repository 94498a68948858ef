"""Files appear whole or not at all, and everything that writes goes that way."""

import ast
from pathlib import Path

import pytest

import napari_unroll
from napari_unroll.errors import ParameterError
from napari_unroll.io.atomic import check_target, replacing, write_bytes, write_text

SOURCES = Path(napari_unroll.__file__).parent
FORMATS = {"fits_volume.py", "nifti.py", "npy_volume.py", "ome_zarr.py", "tiff_volume.py"}
"""Files whose functions are handed temporary names by ``io.writers``."""
WRITING = {"write_text", "write_bytes", "imwrite", "open", "rename", "mkstemp", "save_file"}


def test_text_and_bytes_replace_what_is_there(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "ω\n")
    write_text(path, "λ")
    assert path.read_bytes() == "λ".encode()
    write_bytes(path, b"\x00")
    assert path.read_bytes() == b"\x00"
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(OSError, match="full"):
        _write_half(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def _write_half(path):
    with replacing(path, overwrite=True) as temporary:
        temporary.write_text("ne")
        raise OSError("disk full")


def test_a_missing_folder_is_said(tmp_path):
    with pytest.raises(ParameterError, match="no folder"):
        write_text(tmp_path / "none" / "a.txt", "x")


def test_what_cannot_be_written_is_said_before_the_work(tmp_path):
    with pytest.raises(ParameterError, match="too long"):
        check_target(tmp_path / ("a" * 250), overwrite=False)
    with pytest.raises(ParameterError, match="MiB free"):
        check_target(tmp_path / "a", overwrite=False, n_bytes=2**62)
    with pytest.raises(ParameterError, match="cannot be written there"):
        check_target(tmp_path / ("d" * 300) / "a", overwrite=False)
    check_target(tmp_path / "a", overwrite=False, n_bytes=1)


def test_a_folder_that_may_not_be_written_into_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # whoever runs the tests may be allowed everything
    with pytest.raises(ParameterError, match="may not be written into"):
        check_target(tmp_path / "a", overwrite=False)


def test_nothing_of_the_package_writes_to_a_name_that_others_read():
    """Calls that write have a temporary path or a buffer in memory, or append lines to a log."""
    found = []
    for path in SOURCES.rglob("*.py"):
        if path.name not in FORMATS | {"atomic.py", "sealed.py"}:
            found += [f"{path.name}:{call.lineno}" for call in _writing_calls(path.read_text(encoding="utf-8"))]
    assert not found


def _writing_calls(text):
    calls = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    return [call for call in calls if _writes(call) and not {"temporary", "in_memory"} & _names(call)]


def _names(call):
    return {n.id for n in ast.walk(call) if isinstance(n, ast.Name)}


def _writes(call):
    if call.func.attr == "open":
        modes = [a.value for a in [*call.args, *(k.value for k in call.keywords)] if isinstance(a, ast.Constant)]
        return any(isinstance(m, str) and set(m) <= set("wxbt+") and set(m) & set("wx") for m in modes)
    return call.func.attr in WRITING | {"savez", "dump"} or ast.unparse(call.func) in {"np.save", "torch.save"}
