"""The table of readouts of an ISMRMRD file: its heads, and the samples of those rows that are wanted.

Heads are read as they lie in the file, so that no length is believed before it was compared with the file. It knows rows,
not images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from napari_unroll.errors import FileFormatError
from napari_unroll.interrupt import stage
from napari_unroll.io.guards import check_declared
from napari_unroll.io.hdf5 import is_plain, lengths_of_column, stored_rows

NEEDED = ("flags", "number_of_samples", "active_channels", "trajectory_dimensions", "center_sample", "discard_pre",
          "discard_post", "encoding_space_ref", "position", "slice_dir", "idx")  # fmt: skip
BATCH_BYTES = 16_000_000
NOISE, CALIBRATION, REVERSED, PHASE_CORRECTION = 19, 20, 22, 24
"""Flags of a readout, counted from 1."""


@dataclass(frozen=True)
class Rows:
    """The rows of a file: ``heads`` of all of them, and the table that their samples are read from."""

    table: h5py.Dataset
    heads: np.ndarray
    name: str

    def flagged(self, *flags: int) -> np.ndarray:
        """Which rows carry one of these flags, (row,)."""
        bits = sum(1 << (flag - 1) for flag in flags)
        return (self.heads["flags"].astype(np.uint64) & np.uint64(bits)) != 0

    def samples(self, wanted: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """(row, samples (coil, sample), trajectory (sample, dimension)) of the wanted rows, read in batches."""
        n, channels = self.heads["number_of_samples"].astype(int), self.heads["active_channels"].astype(int)
        dimensions = self.heads["trajectory_dimensions"].astype(int)
        step = max(1, BATCH_BYTES // max(1, int((8 * n * channels).max())))
        with stage(len(wanted), "reading k-space") as done:
            for first in range(0, len(wanted), step):
                done(first)
                rows = wanted[first : first + step]
                for row, stored in zip(rows, self.table[rows], strict=True):
                    traj = stored["traj"].reshape(n[row], dimensions[row])
                    yield int(row), stored["data"].view(np.complex64).reshape(channels[row], n[row]), traj


def rows_of(table: h5py.Dataset, path: Path) -> Rows:
    """The table, after checking that its heads are what they should be and that the file is as large as they say."""
    head = table.dtype["head"]
    if table.ndim != 1 or table.size == 0 or not set(NEEDED) <= set(head.names or ()):
        raise FileFormatError(f"The readouts of {path.name} are none of ISMRMRD's, or there are none.")
    if any(h5py.check_vlen_dtype(table.dtype[name]) != np.dtype("<f4") for name in ("data", "traj")):
        raise FileFormatError(f"The samples of {path.name} should be float32.")
    kind = table.id.get_type()
    if not is_plain(kind):
        raise FileFormatError(f"The readouts of {path.name} hold numbers of no known type; the file is damaged.")
    stored = stored_rows(table)
    at = kind.get_member_offset(kind.get_member_index(b"head"))
    heads = np.ascontiguousarray(stored[:, at : at + head.itemsize]).view(head)[:, 0]
    n, channels, dims = (
        heads[part].astype(np.int64) for part in ("number_of_samples", "active_channels", "trajectory_dimensions")
    )
    check_declared(path, int((4 * n * (2 * channels + dims)).sum()), f"{len(heads)} readouts")
    found = lengths_of_column(table, stored, "data"), lengths_of_column(table, stored, "traj")
    wrong = np.flatnonzero((found[0] != 2 * n * channels) | (found[1] != n * dims))
    if len(wrong):
        raise FileFormatError(
            f"Readout {wrong[0]} of {path.name} has not the samples that it declares; the file is damaged."
        )
    return Rows(table, heads, path.name)
