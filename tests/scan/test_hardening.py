"""Hardening is found from the views of a polychromatic beam alone, and not where they do not tell it."""

import numpy as np
import pytest

from napari_unroll.errors import FileFormatError, ParameterError, ScanError
from napari_unroll.io.registry import preview_corrections, read
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam
from napari_unroll.scan.hardening import estimated_hardening

SPECTRUM = {0.03: 0.3, 0.06: 0.4, 0.12: 0.3}
"""Attenuation per mm of the material, and the part of the photons, by energy."""
OBJECT = ((22.0, 9.0, 3.0, -2.0, 0.4), (6.0, 4.0, -16.0, 13.0, 1.2))
"""Ellipses: semi-axes in mm, centre x and y in mm, turn in radians."""
ROUND = ((18.0, 18.0, 0.0, 0.0, 0.0),)


def chords(origin, direction, ellipses):
    """Lengths in mm of rays (..., 2) within the ellipses, which do not overlap."""
    total = np.zeros(direction.shape[:-1])
    for a, b, x, y, turn in ellipses:
        unit = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) / np.array([[a], [b]])
        o, d = (origin - [x, y]) @ unit.T, direction @ unit.T
        dd, od, oo = (d * d).sum(-1), (o * d).sum(-1), (o * o).sum(-1)
        total += 2 * np.sqrt(np.maximum(od**2 - dd * (oo - 1), 0)) / dd
    return total


def measured(geometry, ellipses=OBJECT):
    """Lengths and what a polychromatic beam makes of them, (view, row, column)."""
    v, (rows, columns) = geometry.vectors, geometry.detector_shape
    across = np.arange(columns) - 0.5 * (columns - 1)
    pixels = v[:, None, 3:5] + across[:, None] * v[:, None, 6:8]
    if isinstance(geometry, ConeBeam):
        origin = np.broadcast_to(v[:, None, :2], pixels.shape)
        direction = pixels - origin
        direction = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    else:
        origin, direction = pixels, np.broadcast_to(v[:, None, :2], pixels.shape)
    length = np.repeat(chords(origin, direction, ellipses)[:, None], rows, axis=1)
    seen = -np.log(sum(part * np.exp(-mu * length) for mu, part in SPECTRUM.items()))
    return length, seen.astype(np.float32)


def parallel(n_views=90, columns=72):
    return ParallelBeam.circular(angles_rad=np.pi * np.arange(n_views) / n_views, detector_shape=(2, columns))


def cone(turn=2 * np.pi, n_views=120):
    return ConeBeam.circular(
        angles_rad=turn * np.arange(n_views) / n_views, source_origin_mm=150, source_detector_mm=200, detector_shape=(1, 96),
        pixel_mm=(1, 1), detector_offset_mm=(0, 2.5),
    )  # fmt: skip


def bent(length, p):
    """How far values are from being proportional to the length, as a part of them."""
    return float(np.linalg.norm(p - length * (p * length).sum() / (length**2).sum()) / np.linalg.norm(p))


@pytest.mark.parametrize("geometry", [parallel(), cone()], ids=["parallel", "cone"])
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_a_polychromatic_scan_becomes_straight(geometry, noise):
    length, seen = measured(geometry)
    noisy = seen + np.random.default_rng(0).normal(0, noise, seen.shape).astype(np.float32)
    a = estimated_hardening(noisy, geometry)
    grid = np.linspace(0, 1, 501)
    best = grid[np.argmin([bent(length, seen + k * seen**2) for k in grid])]
    assert a == pytest.approx(best, rel=0.25)
    assert bent(length, seen + a * seen**2) < 0.25 * bent(length, seen)


def test_what_does_not_tell_is_refused():
    noise = np.random.default_rng(0).normal(0, 0.01, (90, 2, 72)).astype(np.float32)
    with pytest.raises(ScanError, match="too round"):
        estimated_hardening(measured(parallel(), ROUND)[1] + noise, parallel())
    with pytest.raises(ScanError, match="beyond the detector"):
        estimated_hardening(measured(parallel(columns=24))[1], parallel(columns=24))
    with pytest.raises(ScanError, match="full turn"):
        estimated_hardening(measured(cone(1.2 * np.pi))[1], cone(1.2 * np.pi))


def test_a_beam_of_one_energy_needs_none():
    length, _ = measured(parallel())
    with pytest.raises(ScanError, match="do not tell"):
        estimated_hardening((0.05 * length).astype(np.float32), parallel())


def test_a_reader_finds_it_where_asked(tmp_path):
    length, seen = measured(parallel())
    np.savez(tmp_path / "a.npz", line_integrals=seen, angles_deg=np.rad2deg(parallel().angles_rad))
    plain, found = read(tmp_path / "a.npz"), read(tmp_path / "a.npz", find_beam_hardening=True)
    np.testing.assert_array_equal(plain.measurements, seen)
    assert bent(length, found.measurements) < 0.25 * bent(length, seen)
    assert any("hardening estimated" in note for note in found.notes)
    assert ("find_beam_hardening", True) in found.provenance.options
    before, after = preview_corrections(tmp_path / "a.npz", find_beam_hardening=True)
    np.testing.assert_array_equal(before, seen[:, 1])
    np.testing.assert_allclose(after, found.measurements[:, 1], atol=1e-5)
    with pytest.raises(ParameterError, match="either given or found"):
        read(tmp_path / "a.npz", find_beam_hardening=True, beam_hardening=0.1)
    with pytest.raises(FileFormatError, match="give beam_hardening"):
        read(tmp_path / "a.npz", find_beam_hardening=True, source_origin_mm=100, source_detector_mm=150)
