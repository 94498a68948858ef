"""Every correction takes back what was put in, and leaves a clean scan alone."""

import numpy as np
import pytest

from napari_unroll.errors import FileFormatError, MissingInformation, ParameterError
from napari_unroll.io import corrections
from napari_unroll.io.corrections import Optics, correct, harden, optics_of, preview
from napari_unroll.io.ct_options import CircularOptions
from napari_unroll.io.registry import preview_corrections, read
from napari_unroll.scan import preprocess_ct as ct
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam

VIEWS, ROWS, COLUMNS = 180, 6, 256


@pytest.fixture(scope="module")
def clean():
    """Line integrals of six Gaussian blobs with noise of 0.5 %."""
    rng = np.random.default_rng(0)
    angles, columns = np.linspace(0, np.pi, VIEWS, endpoint=False), np.arange(COLUMNS)
    stack = np.zeros((VIEWS, ROWS, COLUMNS))
    for x, y, z in rng.uniform(-1, 1, (6, 3)):
        centre = (COLUMNS - 1) / 2 + 64 * (x * np.cos(angles) + y * np.sin(angles))
        across = np.exp(-0.5 * ((columns - centre[:, None]) / 12) ** 2)
        along = np.exp(-0.5 * ((np.arange(ROWS) - ROWS / 2 - 2 * z) / 4) ** 2)
        stack += 0.4 * across[:, None] * along[:, None]
    return (stack + rng.normal(0, 0.005, stack.shape)).astype(np.float32)


def corrected(stack, optics=Optics(), **options):  # noqa: B008 (a frozen record)
    notes, result = [], np.array(stack, np.float32)
    correct(result, CircularOptions(**options), optics, notes)
    return result, notes


def error(stack, truth):
    return float(np.linalg.norm(stack - truth))


def test_nothing_is_done_unless_asked(clean):
    result, notes = corrected(clean)
    np.testing.assert_array_equal(result, clean)
    assert notes == []


def ring(stack, truth):
    """What is wrong in all views alike."""
    return error(stack.mean(axis=0), truth.mean(axis=0))


@pytest.mark.parametrize(("kind", "factor"), [("offset", 4), ("sorting", 4)])
def test_rings_fall(clean, kind, factor):
    ringed = clean.copy()
    ringed[:, :, [40, 141, 142]] += 0.1
    result, notes = corrected(ringed, stripes=kind)
    assert ring(result, clean) < ring(ringed, clean) / factor
    assert f"stripes of sinograms: {kind}" in notes[0]


@pytest.mark.parametrize(("kind", "tolerance"), [("offset", 5e-4), ("sorting", 0.02)])
def test_a_scan_without_rings_changes_little(clean, kind, tolerance):
    result, _ = corrected(clean, stripes=kind)
    assert error(result, clean) < tolerance * np.linalg.norm(clean)


def test_a_flickering_column_needs_all(clean):
    ringed = clean.copy()
    ringed[:, :, 180] += np.random.default_rng(2).normal(0, 0.5, ringed.shape[:2])
    left = {kind: error(corrected(ringed, stripes=kind, stripe_size=5)[0], clean) for kind in ("offset", "all")}
    assert left["all"] < error(ringed, clean) / 4
    assert left["all"] < left["offset"] / 4


def as_read(folder, stack, **options):
    """Line integrals of a stack after it went through a file."""
    np.save(folder / "p.npy", stack)
    scan = read(folder / "p.npy", angles=f"0:{180 * (1 - 1 / VIEWS)}", axis_px=COLUMNS / 2, **options)
    return scan.measurements, scan.notes


def binned(stack, n):
    """Mean transmission of n × n pixels as line integrals."""
    views, rows, columns = stack.shape
    return -np.log(np.exp(-stack).reshape(views, rows // n, n, columns // n, n).mean((2, 4)))


def with_bad_pixels(clean):
    """A dead, a stuck and a flickering pixel."""
    bad = clean.copy()
    bad[:, 3, 130], bad[:, 1, 112] = 9, 0.2
    bad[:, 4, 50] += np.random.default_rng(1).normal(0, 0.5, VIEWS)
    return bad


def test_a_dead_a_stuck_and_a_flickering_pixel_are_repaired(clean, tmp_path):
    bad = with_bad_pixels(clean)
    result, notes = as_read(tmp_path, bad, values="line-integrals", bad_pixels=20)
    assert error(result, clean) < error(bad, clean) / 50
    untouched = np.ones((ROWS, COLUMNS), bool)
    untouched[[3, 1, 4], [130, 112, 50]] = False
    np.testing.assert_array_equal(result[:, untouched], clean[:, untouched])
    assert any("Repaired 3 pixels" in note for note in notes)
    np.testing.assert_array_equal(as_read(tmp_path, clean, values="line-integrals", bad_pixels=20)[0], clean)


def test_a_fine_grain_on_the_axis_is_taken_for_a_bad_pixel(clean, tmp_path):
    """What the pages warn of."""
    grain = clean.copy()
    grain[:, 3, COLUMNS // 2] += 0.5
    result, _ = as_read(tmp_path, grain, values="line-integrals", bad_pixels=10)
    assert error(result, clean) < error(grain, clean) / 4


def with_zingers(clean):
    """Three struck pixels."""
    struck = clean.copy()
    struck[10, 5, 30] -= 1.5
    struck[40, 2, 20:22] -= 0.8
    return struck


def test_zingers_fall_and_nothing_else_is_touched(clean, tmp_path):
    struck = with_zingers(clean)
    result, notes = as_read(tmp_path, struck, values="line-integrals", zingers=0.3)
    assert error(result, clean) < error(struck, clean) / 10
    assert (result != struck).sum() == 3
    assert any("Repaired 3 zingers" in note for note in notes)
    np.testing.assert_array_equal(as_read(tmp_path, clean, values="line-integrals", zingers=0.3)[0], clean)


def test_zingers_of_values_that_are_inferred(clean, tmp_path):
    """Bright spots are large in transmission and small in line integrals."""
    struck = with_zingers(clean)
    for stack in (struck, np.exp(-struck)):
        assert error(as_read(tmp_path, stack, zingers=0.3, air=None)[0], clean) < error(struck, clean) / 5


@pytest.mark.parametrize(
    ("disturb", "options"), [(with_bad_pixels, {"bad_pixels": 20}), (with_zingers, {"zingers": 0.3})]
)
def test_pixels_are_repaired_before_binning_spreads_them(clean, tmp_path, disturb, options):
    truth, transmission = binned(clean, 2), np.exp(-disturb(clean))
    left = {
        name: error(as_read(tmp_path, transmission, values="transmission", air=1.0, bin=2, **more)[0], truth)
        for name, more in {"nothing": {}, "repair": options}.items()
    }
    assert left["repair"] < left["nothing"] / 10


def test_scatter_is_subtracted(clean):
    scattered = ct.minus_log(np.exp(-clean) * 0.9 + 0.1)
    assert error(corrected(scattered, scatter=0.1)[0], clean) < 1e-3 * error(scattered, clean)


def test_a_hardened_cylinder_is_flat_again():
    """Chords of a cylinder through 1 − p/10 of hardening: attenuation per length is the same at every column."""
    length = 2 * np.sqrt(1 - np.linspace(-0.95, 0.95, COLUMNS) ** 2).astype(np.float32)
    chords = np.broadcast_to(length, (VIEWS, 1, COLUMNS))
    hardened = chords - 0.1 * chords**2
    result = hardened.copy()
    geometry = ParallelBeam.circular(angles_rad=np.linspace(0, np.pi, VIEWS), detector_shape=(1, COLUMNS))
    harden(result, geometry, CircularOptions(beam_hardening=0.08, beam_hardening_3=0.047), [])
    per_length = [float((stack[0, 0] / length).std()) for stack in (hardened, result)]
    assert per_length[1] < per_length[0] / 20


def test_phase_retrieval_gives_the_thickness_of_a_propagated_wave():
    """A wave behind a smooth grain is propagated by the angular spectrum; Paganin gives back 4π β t / λ."""
    n, pixel, distance, energy, beta, ratio = 128, 1e-3, 50.0, 20.0, 4e-10, 500
    wavelength = 1.239841984e-6 / energy
    y, x = np.mgrid[:n, :n] - (n - 1) / 2
    thickness = 0.1 / (1 + np.exp((np.hypot(y, x) - 30) / 2))  # mm
    wave = np.exp(-2j * np.pi / wavelength * (ratio - 1j) * beta * thickness)
    f = np.fft.fftfreq(n, pixel)
    kernel = np.exp(-1j * np.pi * wavelength * distance * np.add.outer(f**2, f**2))
    intensity = np.abs(np.fft.ifft2(np.fft.fft2(wave) * kernel)) ** 2
    measured = -np.log(intensity)[None].astype(np.float32)
    truth = (4 * np.pi * beta / wavelength * thickness)[None]
    result, notes = corrected(
        measured, Optics(pixel_mm=pixel), delta_beta=ratio, energy_kev=energy, propagation_mm=distance
    )
    assert error(result, truth) < error(measured, truth) / 5
    assert "δ/β 500" in notes[0]


def test_phase_retrieval_of_an_even_view_changes_nothing():
    even = np.full((2, 8, 9), 0.7, np.float32)
    result, _ = corrected(even, Optics(pixel_mm=0.01), delta_beta=100, energy_kev=20, propagation_mm=100)
    np.testing.assert_allclose(result, even, atol=1e-5)


def test_a_cone_beam_brings_its_distances():
    cone = ConeBeam.circular(
        angles_rad=np.array([0.0, 1.0]), detector_shape=(4, 8), pixel_mm=(0.2, 0.2),
        source_origin_mm=50, source_detector_mm=200,
    )  # fmt: skip
    optics = optics_of(cone).binned(2)
    assert optics.propagation_mm == pytest.approx(150)
    assert (optics.pixel_mm, optics.magnification) == pytest.approx((0.4, 4))


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({}, "energy_kev"),
        ({"energy_kev": 20}, "propagation_mm"),
        ({"energy_kev": 20, "propagation_mm": 5}, "pixel_mm"),
    ],
)
def test_phase_retrieval_asks_for_what_is_missing(clean, options, missing):
    with pytest.raises(MissingInformation, match=f"'{missing}'"):
        corrected(clean, delta_beta=100, **options)


def test_too_few_views_for_stripes():
    with pytest.raises(ParameterError, match="at least 8 views"):
        corrected(np.zeros((4, 2, 32)), stripes="all")


def test_without_algotom_the_command_is_named(clean, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "algotom.prep.removal", None)
    with pytest.raises(FileFormatError, match="algotom, which is not installed: pip install"):
        corrected(clean, stripes="all")


def test_a_reader_corrects_records_and_previews(clean, tmp_path):
    ringed = clean.copy()
    ringed[:, :, 20] += 0.15
    np.save(tmp_path / "p.npy", ringed)
    common = {"angles": f"0:{180 * (1 - 1 / VIEWS)}", "values": "line-integrals"}
    plain = read(tmp_path / "p.npy", **common)
    scan = read(tmp_path / "p.npy", **common, stripes="sorting")
    assert ("stripes", "sorting") in scan.provenance.options
    assert any("stripes" in note for note in scan.notes)
    options = CircularOptions(stripes="sorting")
    before, after = preview(plain, plain, options, row=5)
    np.testing.assert_array_equal(before, ringed[:, 5])
    np.testing.assert_array_equal(after, scan.measurements[:, 5])
    before, after = preview(plain, plain, options, view=3)
    np.testing.assert_array_equal(before, ringed[3])
    np.testing.assert_array_equal(after, scan.measurements[3])


def test_a_preview_shows_repairs_too(clean, tmp_path):
    struck = with_zingers(clean)
    expected, _ = as_read(tmp_path, struck, values="line-integrals", zingers=0.3)
    before, after = preview_corrections(
        tmp_path / "p.npy", view=10, angles="0:180", values="line-integrals", zingers=0.3
    )
    np.testing.assert_array_equal(before, struck[10])
    np.testing.assert_array_equal(after, expected[10])


def test_corrections_can_be_stopped(clean, monkeypatch):
    seen = []

    class Stage:
        def __init__(self, n, text):
            seen.append((n, text))

        def __enter__(self):
            return lambda k: None

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(corrections, "stage", Stage)
    corrected(clean[:10], stripes="offset", scatter=0.01)
    assert seen == [(10, "correcting views: scatter"), (ROWS, "removing stripes")]
