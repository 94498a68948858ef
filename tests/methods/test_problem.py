from dataclasses import replace

import pytest

from napari_unroll.events import result_of
from napari_unroll.methods.problem import NORM_STEPS
from napari_unroll.physics.laws import normal_norm
from tests.methods import tiny


def test_the_norm_of_a_scan_is_found_once_for_all_runs_and_methods():
    scan = replace(tiny.odd_parallel())
    first, second, other = (tiny.problem(s) for s in (scan, scan, replace(scan)))
    assert len(list(first.find_norm())) > 1
    assert list(second.find_norm()) == []
    assert len(list(other.find_norm())) > 1
    assert result_of(second.find_norm()) == pytest.approx(normal_norm(first.physics, NORM_STEPS), rel=0.02)
