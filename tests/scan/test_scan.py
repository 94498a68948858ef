"""What a scan asks of its arrays, and how often."""

from dataclasses import replace

import numpy as np
import pytest

from napari_unroll.errors import ScanError
from napari_unroll.scan import scan as scans
from napari_unroll.scan.scan import once_per_array
from tests.methods import tiny


def test_copies_of_a_scan_do_not_look_at_its_values_again(monkeypatch):
    """They may be tens of GB in a file, and every edit makes a copy."""
    looked, known = [], tiny.cone()
    in_a_file = known.measurements.copy()
    in_a_file.setflags(write=False)
    monkeypatch.setattr(scans, "_is_within_limits", once_per_array(lambda m: looked.append(m.shape) is None))
    scan = replace(known, measurements=in_a_file)
    replace(scan.with_grid(replace(scan.grid, spacing_mm=(2.0, 2.0, 2.0))), name="again")
    assert len(looked) == 1
    replace(scan, measurements=scan.measurements.copy())
    assert len(looked) == 2


def test_arrays_that_do_not_pass_are_asked_again():
    is_finite = once_per_array(lambda array: bool(np.isfinite(array).all()))
    damaged = np.array([np.nan])
    assert not is_finite(damaged)
    assert not is_finite(damaged)
    assert is_finite(np.zeros(1))


def test_arrays_that_were_changed_are_looked_at_again():
    """As those of layers are that are painted in."""
    scan = tiny.cone()
    painted = scan.measurements.copy()
    assert replace(scan, measurements=painted).measurements is painted
    painted[0, 0, 0] = np.nan
    with pytest.raises(ScanError, match="NaN"):
        replace(scan, measurements=painted)
