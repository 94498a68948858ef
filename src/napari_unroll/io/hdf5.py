"""What the HDF5 readers share: opening, finding datasets, checking that their values are really there.

It knows HDF5, not the formats written in it.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from napari_unroll.errors import FileFormatError
from napari_unroll.interrupt import check, stage
from napari_unroll.io.guards import are_links_allowed, check_memory, check_packed, readable
from napari_unroll.io.views import Views
from napari_unroll.record import shown

SLAB_BYTES = 32_000_000
"""Of a large dataset that is read at once: some hundredths of a second."""
MM = {
    "mm": 1.0, "m": 1e3, "um": 1e-3, "µm": 1e-3, "μm": 1e-3, "micron": 1e-3, "nm": 1e-6, "cm": 10.0, "å": 1e-7,
    "a": 1e-7, "angstrom": 1e-7, "pm": 1e-9,
}  # fmt: skip
"""A unit of length, in lower case, in mm."""


LOOKED_THROUGH = 64 * 2**20
"""Bytes of a file whose heaps are checked when it is opened; larger ones open at once, and are checked where texts are many."""
MOST_LINKS, DEEPEST = 16, 100
"""Links that lead to links, and groups within groups."""
ELSEWHERE = "keeps its values in another file; write one self-contained file, or allow it (allow_links)"
HEAP = b"GCOL\x01"
"""How a global heap collection begins."""


class _Own:
    """What groups of an HDF5 file share that give nothing of other files, and that never open one to see what it is."""

    def __getitem__(self, name: Any) -> Any:
        """The object of this name. Raises FileFormatError where it lies in another file."""
        if isinstance(name, str | bytes):
            _refuse_foreign(self, name.decode("utf-8", "replace") if isinstance(name, bytes) else name)
        found = super().__getitem__(name)  # type: ignore[misc]
        return OneGroup(found.id) if type(found) is h5py.Group else found

    def get(self, name: Any, default: Any = None, **asked: Any) -> Any:
        """The object of this name, or ``default``; h5py's own follows links into other files."""
        if any(asked.values()):
            return super().get(name, default, **asked)  # type: ignore[misc]
        try:
            return self[name]
        except KeyError:
            return default

    def __contains__(self, name: Any) -> bool:
        """Whether there is an object of this name."""
        try:
            return self[name] is not None
        except KeyError:
            return False


class OneGroup(_Own, h5py.Group):
    """A group of such a file."""


class OneFile(_Own, h5py.File):
    """An HDF5 file that gives nothing which its links take from other files: those the user did not choose."""


def _refuse_foreign(group: Any, name: str, links: int = 0) -> None:
    """Raise where a link on the way to ``name`` leads into another file, or where too many links follow each other."""
    at = group.file if name.startswith("/") else group
    parts = [part for part in name.split("/") if part not in ("", ".")]
    for k, part in enumerate(parts):
        if not (isinstance(at, h5py.Group) and at.id.links.exists(part.encode())):
            return
        kind = at.id.links.get_info(part.encode()).type
        if kind == h5py.h5l.TYPE_EXTERNAL and are_links_allowed() and links <= MOST_LINKS:
            _check_target(group, at.id.links.get_val(part.encode())[0])
            return
        if kind == h5py.h5l.TYPE_EXTERNAL or links > MOST_LINKS:
            raise FileFormatError(
                f"{Path(group.file.filename).name} takes {shown(name)} from another file by a link; open that file itself, write "
                f"one self-contained file, or allow it (allow_links)."
            )
        if kind == h5py.h5l.TYPE_SOFT:
            target = at.id.links.get_val(part.encode()).decode("utf-8", "replace")
            _refuse_foreign(at, "/".join([target, *parts[k + 1 :]]), links + 1)
            return
        if k + 1 < len(parts):
            at = h5py.Group.__getitem__(at, part)


def _check_target(group: Any, name: bytes) -> None:
    """Raise where a link leads to no file: opening a pipe would wait for ever."""
    here, target = Path(group.file.filename), name.decode("utf-8", "replace")
    if not (here.parent / target).is_file():
        raise FileFormatError(f"{here.name} takes values from {shown(target)}, which is not beside it; copy both.")


def objects(file: h5py.File) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """Every object of a file with its path, each once, as HDF5's own walk gives them.

    That one calls itself for every group within a group; raises FileFormatError where they are nested beyond all sense.
    """
    seen, waiting = {h5py.h5o.get_info(file.id).addr}, [("", file, 0)]
    while waiting:
        check()
        path, group, depth = waiting.pop()
        if depth > DEEPEST:
            raise FileFormatError(f"{Path(file.filename).name} nests more than {DEEPEST} groups; it is damaged.")
        inner = []
        for name in group:
            if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
                continue
            item = h5py.Group.__getitem__(group, name)
            address = h5py.h5o.get_info(item.id).addr
            if address not in seen:
                seen.add(address)
                yield path + name, item
                if isinstance(item, h5py.Group):
                    inner.append((f"{path}{name}/", item, depth + 1))
        waiting += reversed(inner)


def open_hdf5(path: Path, texts: bool = False) -> h5py.File:
    """The file, opened for reading; the heaps of large ones are checked where many ``texts`` will be read.

    Raises FileFormatError when it is truncated or damaged.
    """
    try:
        file = OneFile(path, "r")
    except OSError as error:
        raise FileFormatError(
            f"{path.name} begins like an HDF5 file but cannot be opened ({error}); it is truncated or damaged. "
            "Copy it again."
        ) from error
    try:
        if texts or path.stat().st_size <= LOOKED_THROUGH:
            check_heaps(path, file.userblock_size)
    except BaseException:
        file.close()
        raise
    return file


def check_heaps(path: Path, before: int) -> None:
    """Raise where a heap, which holds texts and rows of any length, is larger than its file, or has objects that never end.

    HDF5 allocates what a heap declares before it looks whether the file holds as much, and walks on from an object of no bytes
    to itself: one wrong byte would fill the memory, or take for ever. ``before`` is where HDF5's own addresses begin.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.find(HEAP)
        while at >= 0:
            check()
            is_used = data.find((at - before).to_bytes(8, "little")) >= 0
            if is_used and not _is_sound(data, at):
                size = int.from_bytes(data[at + 8 : at + 16], "little")
                raise FileFormatError(
                    f"{path.name} declares a heap of {readable(size)} that does not fit the file or its own objects: it is "
                    "truncated or damaged. Copy it again."
                )
            at = data.find(HEAP, at + 1)


def _is_sound(data: mmap.mmap, at: int) -> bool:
    """Whether the heap lies within the file, and its objects (index 2, references 2, 4 unused, size 8 bytes) within the heap."""
    end = at + int.from_bytes(data[at + 8 : at + 16], "little")
    if end > len(data):
        return False
    at += 16
    while at + 16 <= end:
        size = int.from_bytes(data[at + 8 : at + 16], "little")
        is_room = data[at : at + 2] == b"\0\0"  # whose size counts its own head
        step = size if is_room else 16 + -(-size // 8) * 8
        if step < 1 or at + step > end:
            return False
        at += step
    return True


def stored_rows(table: h5py.Dataset) -> np.ndarray:
    """The rows of a table as they lie in the file, bytes (row, byte of a row), without HDF5's conversion of their parts.

    Columns of any length are 16 bytes there: how many elements (4), where (8), and which of the heap there (4). Raises
    FileFormatError where the rows are compressed or not all in the file.
    """
    name, size = Path(table.file.filename), table.id.get_type().get_size()
    if table.ndim > 1 or table.external or table.is_virtual or table.id.get_create_plist().get_nfilters():
        raise FileFormatError(
            f"The table {table.name} of {name.name} is compressed or kept elsewhere; write it again, plainly."
        )
    pieces: list[tuple[int, int, int]] = []
    if table.chunks is None:
        pieces.append((0, table.id.get_offset() or 0, table.nbytes))
    else:
        table.id.chunk_iter(lambda piece: pieces.append((piece.chunk_offset[0], piece.byte_offset, piece.size)))
    check_memory(2 * table.size * size, name.name)
    rows, base, last = np.zeros((table.size, size), np.uint8), table.file.userblock_size, name.stat().st_size
    with name.open("rb") as stream:
        for first, at, length in pieces:
            check()
            if first >= len(rows) or base + at + length > last:
                raise FileFormatError(f"The table {table.name} of {name.name} reaches beyond the file; copy it again.")
            stream.seek(base + at)
            part = np.frombuffer(stream.read(length), np.uint8)
            part = part[: len(part) // size * size].reshape(-1, size)[: len(rows) - first]
            rows[first : first + len(part)] = part
    return rows


def lengths_of_column(table: h5py.Dataset, rows: np.ndarray, column: str) -> np.ndarray:
    """How many elements every row of :func:`stored_rows` declares in a column of any length, (row,)."""
    kind = table.id.get_type()
    at = kind.get_member_offset(kind.get_member_index(column.encode()))
    return np.ascontiguousarray(rows[:, at : at + 4]).view("<u4")[:, 0].astype(np.int64)


def text_of(data: h5py.Dataset, largest: int) -> bytes:
    """The one text of a dataset, at most ``largest`` bytes, after a look at the length that it declares."""
    name = Path(data.file.filename)
    if data.size != 1 or data.dtype.kind not in "SO":
        raise FileFormatError(f"{data.name} in {name.name} should be one text; it is of type {data.dtype}: damaged.")
    n_bytes = data.nbytes if data.dtype.kind == "S" else int(stored_rows(data)[0, :4].view("<u4")[0])
    if n_bytes > min(largest, name.stat().st_size):
        raise FileFormatError(f"{data.name} in {name.name} declares a text of {readable(n_bytes)}; it is damaged.")
    text = np.ravel(data[()])[0]
    return text.encode() if isinstance(text, str) else bytes(text)


def is_plain(kind: h5py.h5t.TypeID) -> bool:
    """Whether all numbers in a type are such as processors have, within what holds them: HDF5 dies where it must convert others."""
    if isinstance(kind, h5py.h5t.TypeCompoundID):
        members = range(kind.get_nmembers())
        ends = [kind.get_member_offset(i) + kind.get_member_type(i).get_size() for i in members]
        return max(ends) <= kind.get_size() and all(is_plain(kind.get_member_type(i)) for i in members)
    if isinstance(kind, h5py.h5t.TypeArrayID | h5py.h5t.TypeVlenID):
        return is_plain(kind.get_super())
    return not isinstance(kind, h5py.h5t.TypeAtomicID) or bool(kind == h5py.h5t.py_create(kind.dtype))


def check_pairs(data: h5py.Dataset) -> None:
    """Raise where the parts of compound numbers are none: see :func:`is_plain`."""
    kind = data.id.get_type()
    if isinstance(kind, h5py.h5t.TypeCompoundID) and not is_plain(kind):
        raise FileFormatError(
            f"{data.name} in {Path(data.file.filename).name} holds numbers of no known type; the file is damaged."
        )


def dataset(file: h5py.File, name: str) -> h5py.Dataset | None:
    """The dataset of this name, or None when there is nothing or a group."""
    found = file.get(name)
    return found if isinstance(found, h5py.Dataset) else None


def datasets_named(file: h5py.File, name: str) -> list[h5py.Dataset]:
    """All datasets whose last name is ``name``, the largest first."""
    found = [d for path, d in objects(file) if isinstance(d, h5py.Dataset) and path.rsplit("/", 1)[-1] == name]
    return sorted(found, key=lambda d: -d.size)


def checked(data: h5py.Dataset, ndim: int | None = None) -> h5py.Dataset:
    """The dataset, after checking that it holds numbers of ``ndim`` axes and that they were written to this file."""
    name = f"{data.name} in {Path(data.file.filename).name}"
    if data.dtype.kind not in "biufc":
        raise FileFormatError(f"{name} should hold numbers; it holds type {data.dtype}.")
    if ndim is not None and data.ndim != ndim:
        raise FileFormatError(f"{name} should have {ndim} axes; its shape is {data.shape}.")
    check_pairs(data)
    if data.size == 0:
        raise FileFormatError(f"{name} is empty: its shape is {data.shape}.")
    if data.external and not are_links_allowed():
        raise FileFormatError(f"{name} {ELSEWHERE}.")
    if data.is_virtual:
        _check_sources(data, name)
    stored = data.id.get_storage_size()
    packed = data.id.get_create_plist().get_nfilters() > 0 or data.is_virtual
    if not data.is_virtual and (stored == 0 or (not packed and stored < data.nbytes)):
        raise FileFormatError(
            f"{name} declares {data.shape}, {readable(data.nbytes)}, but only {readable(stored)} were written; "
            "the recording or the copy was interrupted."
        )
    if not data.is_virtual:
        check_packed(name, data.nbytes, stored)
    return data


def _check_sources(data: h5py.Dataset, name: str) -> None:
    """Raise where values of a virtual dataset are not in its file: HDF5 fills them with zeros, and says nothing."""
    filled = 0
    for source in data.virtual_sources():
        if source.file_name != "." and not are_links_allowed():
            raise FileFormatError(f"{name} {ELSEWHERE}.")
        with _file_of(data, source.file_name) as file:
            found = None if file is None else dataset(file, source.dset_name)
            if found is None or found.is_virtual:
                raise FileFormatError(f"{name} is put together from a dataset that is not there; copy the file again.")
            checked(found)
        filled += source.vspace.get_select_npoints()
    if filled < data.size:
        raise FileFormatError(f"{name} is put together from parts that leave some of it empty; write it again.")


@contextmanager
def _file_of(data: h5py.Dataset, name: str) -> Iterator[h5py.File | None]:
    """The file of a part of a virtual dataset: its own, or one beside it."""
    beside = Path(data.file.filename).parent / name
    if name == ".":
        yield OneFile(data.file.id)
    elif not beside.is_file():
        yield None
    else:
        with open_hdf5(beside) as file:
            yield file


def load(data: h5py.Dataset, ndim: int | None = None) -> np.ndarray:
    """A whole dataset, checked first; read in slabs of its first axis."""
    check_memory(checked(data, ndim).nbytes, str(data.name))
    if data.ndim == 0:
        return np.asarray(data[()])
    values, step = np.empty(data.shape, data.dtype), _slab(data)
    with stage(len(data), f"reading {str(data.name).strip('/')}") as done:
        for first in range(0, len(data), step):
            done(first)
            slab = np.s_[first : min(first + step, len(data))]
            data.read_direct(values, slab, slab)
    return values


def _slab(data: h5py.Dataset) -> int:
    """Indices of the first axis that are read at once: whole chunks of about SLAB_BYTES."""
    chunk = data.chunks[0] if data.chunks else 1
    return max(1, SLAB_BYTES * len(data) // data.nbytes // chunk) * chunk


def mean_field(data: h5py.Dataset | None) -> np.ndarray | None:
    """Mean of a stack of flat or dark fields, float32, or the field itself; None when there is none."""
    return None if data is None or data.size == 0 else mean_of(data)


def mean_of(data: h5py.Dataset) -> np.ndarray:
    """Mean of a stack of flat or dark fields, float32, or the field itself."""
    values = load(data)
    return np.asarray(values.mean(axis=0) if values.ndim == 3 else values, np.float32)


def unit(data: h5py.Dataset | None) -> str:
    """The unit written beside a dataset, in lower case, or ""."""
    value = "" if data is None else data.attrs.get("units", data.attrs.get("unit", ""))
    return (value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)).strip().lower()


def views_of(data: h5py.Dataset, frames: np.ndarray | None, **fields: object) -> Views:
    """Lazy views over a dataset (frame, row, column), of all frames or of those chosen."""
    rows = np.arange(data.shape[0]) if frames is None else frames
    load_view: Callable[[int], np.ndarray] = lambda i: data[int(rows[i])]  # noqa: E731
    shape = (len(rows), data.shape[1], data.shape[2])
    load_rows: Callable[[int, slice], np.ndarray] = lambda i, part: data[int(rows[i]), part]  # noqa: E731
    return Views(shape=shape, load=load_view, load_rows=load_rows, integer=data.dtype.kind in "iu", **fields)  # type: ignore[arg-type]
