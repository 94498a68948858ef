"""The compiled kernels fed with senseless numbers: nothing outside their arrays is touched, nothing is undefined.

Geometries as values refuse such numbers; here they are bypassed.
"""

import numba
import numpy as np
import pytest

from napari_unroll.physics import fdk, joseph
from napari_unroll.scan import sampling_masks

SHAPE, DETECTOR, N_VIEWS = (5, 4, 6), (3, 4), 3
GUARD = 4096
WILD = np.array([0.0, -0.0, 1e-300, 1e-18, 1e-12, 1.0, 9.3e18, 1e19, 1e20, 1e38, 1e300, np.inf, np.nan])
KINDS = (
    "centre inf", "centre nan", "centre 1e20", "voxels 1e-18", "voxels 1e300", "voxels 0", "axis column 1e19",
    "source inside", "no direction", "everything",
)  # fmt: skip


def wild(rng, like, share):
    """``like`` with a share of its numbers replaced by wild ones of either sign."""
    chosen = rng.choice(WILD, like.shape) * rng.choice([-1.0, 1.0], like.shape)
    return np.where(rng.random(like.shape) < share, chosen, like)


def scanner(kind, cone, seed):
    """Vectors (view, 12), origin and spacing (z, y, x): a sound scanner, and one thing wrong with it."""
    rng = np.random.default_rng(seed)
    angles = rng.uniform(0, 2 * np.pi, N_VIEWS)
    s, c, zero = np.sin(angles), np.cos(angles), np.zeros(N_VIEWS)
    ray = np.stack([s, -c, zero], 1)
    vectors = np.concatenate([20 * ray if cone else ray, -10 * ray, np.stack([c, s, zero, zero, zero, zero + 1], 1)], 1)
    origin, spacing = -0.5 * (np.array(SHAPE) - 1.0), np.ones(3)
    if kind.startswith("centre"):
        origin[rng.integers(3)] = float(kind.split()[1])
    elif kind.startswith("voxels"):
        spacing[rng.permutation(3)[: rng.integers(1, 4)]] = float(kind.split()[1])
    elif kind == "axis column 1e19":
        vectors[:, 3:6] += 1e19 * vectors[:, 6:9]
    elif kind == "source inside":
        vectors[:, :3] = rng.uniform(-2, 2, (N_VIEWS, 3))
    elif kind == "no direction":
        vectors[:, :3] = vectors[:, 3:6] if cone else 0
    else:
        share = rng.choice([0.02, 0.1, 0.5])
        vectors, origin, spacing = (wild(rng, a, share) for a in (vectors, origin, spacing))
    return vectors, origin, spacing


def guarded(shape):
    """Zeros of this shape in the middle of a larger buffer, and the function that says if its borders are intact."""
    n = int(np.prod(shape))
    buffer = np.full(n + 2 * GUARD, 7.5, np.float32)
    inside = buffer[GUARD : GUARD + n]
    inside[:] = 0
    return inside.reshape(shape), lambda: (buffer[:GUARD] == 7.5).all() and (buffer[GUARD + n :] == 7.5).all()


def bounded(kernel):
    """The same kernel with every index checked: IndexError where it leaves its array."""
    return numba.njit(error_model="numpy", boundscheck=True)(kernel.py_func)


@pytest.fixture(scope="module")
def checked():
    return bounded(joseph._forward), bounded(joseph._adjoint), bounded(fdk._backproject)


CASES = [
    pytest.param(kind, cone, id=f"{kind}, {'cone' if cone else 'parallel'}") for kind in KINDS for cone in (True, False)
]


@pytest.mark.parametrize(("kind", "cone"), CASES)
def test_rays_stay_inside_whatever_the_geometry(kind, cone, checked):
    sizes = np.array(SHAPE, np.int64)
    strides, n_rows = joseph._strides(sizes), N_VIEWS * DETECTOR[0]
    for seed in range(60):
        vectors, origin, spacing = scanner(kind, cone, seed)
        rng = np.random.default_rng(seed)
        for forward, adjoint in ((joseph._forward, joseph._adjoint), checked[:2]):
            volume, volume_intact = guarded(tuple(sizes + 2))
            volume[1:-1, 1:-1, 1:-1] = rng.random(SHAPE)
            projections, projections_intact = guarded((N_VIEWS, *DETECTOR))
            rows = joseph.rows_that_meet(vectors, cone, origin, spacing, SHAPE, DETECTOR[0])
            forward(volume.ravel(), vectors, cone, origin, spacing, sizes, strides, projections, rows, 0, n_rows)
            assert np.isfinite(projections).all()
            volume[:] = 0
            views = np.ones_like(projections)
            adjoint(views, vectors, cone, origin, spacing, sizes, strides, volume.ravel(), rows, 0, n_rows)
            assert np.isfinite(volume).all()
            assert volume_intact()
            assert projections_intact()


@pytest.mark.parametrize(("kind", "cone"), CASES)
def test_rows_that_are_left_out_meet_nothing(kind, cone):
    """Rays through the padding count as meeting it; of senseless numbers all rows are taken."""
    sizes = np.array(SHAPE, np.int64)
    every = np.tile([0, DETECTOR[0]], (N_VIEWS, 1))
    for seed in range(60):
        vectors, origin, spacing = scanner(kind, cone, seed)
        if kind not in ("everything", "axis column 1e19"):
            vectors[:, 9:12] *= 4.0  # some rows pass by
        rows = joseph.rows_that_meet(vectors, cone, origin, spacing, SHAPE, DETECTOR[0])
        assert ((rows >= 0) & (rows <= DETECTOR[0])).all()
        padded, projections = np.ones(sizes + 2, np.float32), np.zeros((N_VIEWS, *DETECTOR), np.float32)
        arguments = (
            vectors,
            cone,
            origin,
            spacing,
            sizes,
            joseph._strides(sizes),
            projections,
            every,
            0,
            every[:, 1].sum(),
        )
        joseph._forward(padded.ravel(), *arguments)
        for view, (first, end) in zip(projections, rows, strict=True):
            assert not view[:first].any()
            assert not view[max(first, end) :].any()


@pytest.mark.parametrize("cone", [True, False])
def test_the_test_sees_rays_that_meet_the_volume(cone):
    volume, hit = np.ones(SHAPE, np.float32), 0.0
    for seed in range(60):
        vectors, *grid = scanner("everything", cone, seed)
        hit += (joseph.forward(volume, vectors, cone, *grid, DETECTOR, 1) > 0).mean() / 60
    assert hit > 0.05


@pytest.mark.parametrize("cone", [True, False])
def test_back_projection_stays_inside_whatever_its_numbers(cone, checked):
    hits = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        share = rng.choice([0.0, 0.02, 0.1, 0.5])
        coefficients = wild(rng, rng.normal(size=(N_VIEWS, 16)), share)
        origin, spacing = wild(rng, -np.ones(3), share), wild(rng, np.ones(3), share)
        filtered = rng.random((N_VIEWS, *DETECTOR), dtype=np.float32)
        for backproject in (fdk._backproject, checked[2]):
            volume, intact = guarded(SHAPE)
            backproject(filtered, coefficients, cone, origin, spacing, volume, 0, SHAPE[0])
            assert np.isfinite(volume).all()
            assert intact()
        hits += bool(volume.any())
    assert hits > 20


def test_discs_of_any_radius_stay_inside_the_mask():
    order, throw = np.random.default_rng(0).permutation(7 * 9), bounded(sampling_masks._throw)
    for radius in (0.0, 1.0, 1e20, np.inf, np.nan, -1e20):
        one, other = np.zeros((7, 9), bool), np.zeros((7, 9), bool)
        sampling_masks._throw(order, radius * np.ones((7, 9)), one)
        throw(order, radius * np.ones((7, 9)), other)
        assert np.array_equal(one, other)
        assert one.any()
