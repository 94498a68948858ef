"""The X-ray projector: exact transpose, known line integrals, patches, autograd, filtered back-projection."""

import itertools

import numpy as np
import pytest
import torch

from napari_unroll.errors import ScanError
from napari_unroll.interrupt import stepwise
from napari_unroll.physics import joseph, laws, pool
from napari_unroll.physics.fdk import angular_weights, ramp_filter
from napari_unroll.physics.xray import XRay
from napari_unroll.scan.geometry import ConeBeam, ParallelBeam, VolumeGrid
from napari_unroll.scratch import InScratch, Scratch


def tilted(geometry):
    """The same views with every vector turned and shifted a little: no symmetry left to hide behind."""
    rng = np.random.default_rng(3)
    jitter = rng.normal(scale=0.05, size=geometry.vectors.shape)
    return type(geometry)(
        vectors=geometry.vectors * (1 + 0.1 * jitter) + jitter, detector_shape=geometry.detector_shape
    )


def cone(n_views=5, detector_shape=(9, 12), pixel=2.0):
    angles = 0.1 + 2 * np.pi * np.arange(n_views) / n_views
    return ConeBeam.circular(
        angles_rad=angles,
        source_origin_mm=40,
        source_detector_mm=60,
        detector_shape=detector_shape,
        pixel_mm=(pixel, pixel),
    )


def parallel(n_views=5, detector_shape=(9, 12), pixel=1.3, offset=0.0):
    return ParallelBeam.circular(
        angles_rad=np.pi * np.arange(n_views) / n_views,
        detector_shape=detector_shape,
        pixel_mm=(pixel, pixel),
        detector_offset_mm=(0.0, offset),
    )


GRIDS = [
    VolumeGrid(shape=(8, 8, 8)),
    VolumeGrid(shape=(5, 9, 7), spacing_mm=(2.0, 1.1, 0.7), center_mm=(1.0, -2.0, 0.5)),
    VolumeGrid(shape=(1, 12, 10)),
    VolumeGrid(shape=(11, 1, 3), spacing_mm=(0.5, 3.0, 1.0)),
]
GEOMETRIES = [cone(), tilted(cone()), parallel(), tilted(parallel())]


@pytest.mark.parametrize(("geometry", "grid"), list(itertools.product(GEOMETRIES, GRIDS)))
def test_pair_is_matched_and_linear(geometry, grid):
    physics = XRay(geometry, grid, n_threads=2)
    assert laws.adjoint_error(physics) < 2e-8
    assert laws.linearity_error(physics) < 1e-6


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_any_number_of_threads_gives_the_same_values(geometry):
    """A and filtered back-projection to the bit; Aᴴ, whose threads have grids of their own, up to rounding."""
    alone, *others = (XRay(geometry, GRIDS[1], n_threads=n) for n in (1, 2, 3, 8))
    x, y = (laws.random_like(shape, torch.float32, "cpu", 0) for shape in (alone.x_shape, alone.y_shape))
    for physics in others:
        assert torch.equal(physics.A(x), alone.A(x))
        assert torch.equal(physics.A_dagger(y), alone.A_dagger(y))
        for found, wanted in (
            (physics.A_adjoint(y), alone.A_adjoint(y)),
            (physics.normal(x), alone.normal(x)),
        ):
            assert (found - wanted).abs().max() < 1e-6 * wanted.abs().max()


def dense(physics):
    n = int(np.prod(physics.grid.shape))
    columns = [physics.A(e.reshape(physics.x_shape)).flatten() for e in torch.eye(n)]
    return torch.stack(columns, 1)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_adjoint_is_the_transposed_matrix(geometry):
    physics = XRay(geometry, VolumeGrid(shape=(3, 4, 5), spacing_mm=(1.5, 1.0, 1.2)))
    matrix = dense(physics)
    y = laws.random_like(physics.y_shape, torch.float32, "cpu", 0)
    torch.testing.assert_close(physics.A_adjoint(y).flatten(), matrix.T @ y.flatten(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_patch_is_a_smaller_grid(geometry):
    grid = VolumeGrid(shape=(7, 8, 9), spacing_mm=(1.0, 1.2, 0.9))
    box = (slice(1, 4), slice(2, 8), slice(3, 7))
    whole, patch = XRay(geometry, grid), XRay(geometry, grid).restrict(box)
    u = laws.random_like(patch.x_shape, torch.float32, "cpu", 1)
    x = torch.zeros(whole.x_shape)
    x[(..., *box)] = u
    torch.testing.assert_close(patch.A(u), whole.A(x), rtol=1e-4, atol=1e-4)


def test_threads_do_not_change_a_bit_of_the_projection():
    grid = GRIDS[1]
    x = laws.random_like((1, 1, *grid.shape), torch.float32, "cpu", 0)
    assert torch.equal(XRay(cone(), grid, 1).A(x), XRay(cone(), grid, 3).A(x))
    y = XRay(cone(), grid).A(x)
    assert torch.equal(XRay(cone(), grid, 2).A_adjoint(y), XRay(cone(), grid, 2).A_adjoint(y))


@pytest.mark.parametrize("geometry", [cone(3, (41, 41), 0.9), parallel(3, (41, 41), 0.6)])
def test_line_integrals_of_a_ball(geometry):
    n, radius = 48, 9.0
    grid = VolumeGrid(shape=(n, n, n), spacing_mm=(0.5, 0.5, 0.5))
    z, y, x = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * 0.5] * 3, indexing="ij")
    coverage = np.clip((radius - np.sqrt(x**2 + y**2 + z**2)) / 0.5 + 0.5, 0, 1)  # of a voxel by the ball
    ball = torch.from_numpy(coverage.astype(np.float32))[None, None]
    measured = XRay(geometry, grid).A(ball)[0, 0].numpy()
    expected = chords(geometry, radius)
    through = expected > 1.4 * radius  # rays that graze the surface see the voxels' corners
    np.testing.assert_allclose(measured[through], expected[through], rtol=0.02)
    assert measured[expected == 0].mean() < 0.01 * radius


def chords(geometry, radius):
    v = geometry.vectors[:, None, None]
    rows, cols = (np.arange(m) - (m - 1) / 2 for m in geometry.detector_shape)
    pixel = v[..., 3:6] + rows[None, :, None, None] * v[..., 9:12] + cols[None, None, :, None] * v[..., 6:9]
    direction = pixel - v[..., :3] if isinstance(geometry, ConeBeam) else np.broadcast_to(v[..., :3], pixel.shape)
    direction = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    distance = np.linalg.norm(np.cross(pixel, direction), axis=-1)
    return 2 * np.sqrt(np.clip(radius**2 - distance**2, 0, None))


def test_moving_the_volume_is_moving_the_scanner_back():
    shift = np.array([0.7, -1.1, 0.4])
    moved = cone().vectors.copy()
    moved[:, :3] -= shift
    moved[:, 3:6] -= shift
    x = laws.random_like((1, 1, 6, 7, 8), torch.float32, "cpu", 0)
    a = XRay(cone(), VolumeGrid(shape=(6, 7, 8), center_mm=tuple(shift[::-1]))).A(x)
    b = XRay(ConeBeam(vectors=moved, detector_shape=(9, 12)), VolumeGrid(shape=(6, 7, 8))).A(x)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_backward_is_the_adjoint():
    physics = XRay(cone(), GRIDS[1])
    x = laws.random_like(physics.x_shape, torch.float32, "cpu", 0).requires_grad_()
    y = laws.random_like(physics.y_shape, torch.float32, "cpu", 1)
    (physics.A(x) * y).sum().backward()
    torch.testing.assert_close(x.grad, physics.A_adjoint(y))


def test_wrong_shapes_are_refused_in_words():
    physics = XRay(cone(), GRIDS[0])
    with pytest.raises(ScanError, match=r"Expected a real volume .* got"):
        physics.A(torch.zeros(1, 1, 8, 8, 9))
    with pytest.raises(ScanError, match="cone or parallel"):
        XRay("circle", GRIDS[0])


@pytest.mark.parametrize(
    "geometry", [cone(120, (64, 64), 1.0), parallel(120, (48, 64), 0.6), parallel(120, (48, 64), 0.6, offset=1.8)]
)
def test_filtered_back_projection_recovers_a_ball(geometry):
    n = 32
    grid = VolumeGrid(shape=(n, n, n), spacing_mm=(0.8, 0.8, 0.8))
    z, y, x = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * 0.8] * 3, indexing="ij")
    radius = np.sqrt(x**2 + (y - 2) ** 2 + z**2)
    ball = torch.from_numpy((radius < 6).astype(np.float32))[None, None]
    physics = XRay(geometry, grid)
    result = physics.A_dagger(physics.A(ball))[0, 0].numpy()
    inside, outside = result[radius < 4.5].mean(), result[(radius > 8) & (np.abs(z) < 4)].mean()
    assert abs(inside - 1) < 0.03
    assert abs(outside) < 0.03


def test_angular_weights_cover_the_circle_and_skip_a_missing_wedge():
    even = angular_weights(np.arange(10) * np.pi / 10, np.pi)
    np.testing.assert_allclose(even, np.pi / 10)
    assert angular_weights(np.array([0.0, 0.1, 2.0, 5.0]), 2 * np.pi).sum() <= 2 * np.pi + 1e-9
    wedge = angular_weights(np.deg2rad(np.arange(-60, 61, 2)), np.pi)
    np.testing.assert_allclose(wedge, np.deg2rad(2), rtol=1e-6)


def test_ramp_filter_kills_the_mean_of_a_wide_row():
    flat = ramp_filter(np.ones((1, 1, 512), np.float32), np.array([1.0]))
    assert abs(flat[0, 0, 256]) < 1e-3


def test_power_iteration_finds_the_norm():
    physics = XRay(cone(), VolumeGrid(shape=(3, 4, 5)))
    exact = float(torch.linalg.matrix_norm(dense(physics), 2)) ** 2
    assert laws.normal_norm(physics, 50) == pytest.approx(exact, rel=1e-3)


@pytest.fixture(params=[1, 3, 4])
def few_views(request, monkeypatch):
    """Chunks of one, of three and of up to four views, of a detector of which even one view is large."""
    monkeypatch.setattr(pool, "LEAST_VIEWS", request.param)
    monkeypatch.setattr(pool, "CHUNK_BYTES", 1)
    return request.param


@pytest.mark.parametrize("n_views", [1, 7])
@pytest.mark.parametrize("geometry", [cone, parallel])
def test_chunks_of_views_change_nothing(few_views, geometry, n_views):
    physics = XRay(geometry(n_views), GRIDS[1], n_threads=2)
    x, z = (laws.random_like(physics.x_shape, torch.float32, "cpu", seed) for seed in (0, 1))
    at_once = physics.A_adjoint(physics.A(x))
    torch.testing.assert_close(physics.normal(x), at_once, rtol=1e-5, atol=1e-5 * float(at_once.abs().max()))
    gap = abs(laws.inner(physics.normal(x), z) - laws.inner(physics.A(x), physics.A(z)))
    assert gap < 1e-6 * laws.norm(physics.A(x)) * laws.norm(physics.A(z))


@pytest.mark.parametrize("n_views", [1, 7])
@pytest.mark.parametrize("offset", [0.0, 4.0])
def test_chunks_of_views_change_no_bit_of_filtered_back_projection(few_views, offset, n_views, monkeypatch):
    """An offset detector's rows are widened, and its rays weighted."""
    physics = XRay(parallel(n_views, offset=offset), GRIDS[1])
    y = laws.random_like(physics.y_shape, torch.float32, "cpu", 0)
    chunked = physics.A_dagger(y)
    monkeypatch.setattr(pool, "LEAST_VIEWS", 100)
    assert torch.equal(physics.A_dagger(y), chunked)


def test_chunks_of_views_tell_how_far_they_are(few_views):
    seen = []
    events = list(stepwise(lambda: pool.in_chunks(seen.append, slice(0, 7), 10, 0), "views"))
    n_chunks = -(-7 // few_views)
    assert [e.step for e in events[1:-1] if e.n_steps == n_chunks] == list(range(n_chunks))
    assert [i for views in seen for i in range(views.start, views.stop)] == list(range(7))


@pytest.fixture(params=[1, 2, 3])
def planes(request, monkeypatch):
    """Slabs of so many planes."""
    monkeypatch.setattr(
        joseph,
        "slabs",
        lambda shape: [slice(z, min(z + request.param, shape[0])) for z in range(0, shape[0], request.param)],
    )
    return request.param


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_slabs_change_nothing(geometry, grid, planes):
    """Neither A nor Aᴴ, up to the rounding of sums; the pair stays matched."""
    physics = XRay(geometry, grid, n_threads=2)
    x, y = (laws.random_like(shape, torch.float32, "cpu", 0) for shape in (physics.x_shape, physics.y_shape))
    in_slabs = physics.A(x), physics.A_adjoint(y)
    assert laws.adjoint_error(physics) < 2e-8
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joseph, "slabs", lambda shape: [slice(0, shape[0])])
        whole = physics.A(x), physics.A_adjoint(y)
    for found, wanted in zip(in_slabs, whole, strict=True):
        assert (found - wanted).abs().max() < 1e-6 * wanted.abs().max()


def test_slabs_are_no_whole_volumes(planes, tmp_path):
    """Of volumes that may lie on disk: A makes none, Aᴴ its result alone."""
    physics, scratch = XRay(cone(), GRIDS[0], n_threads=1), Scratch(tmp_path, 512)
    x, y = torch.ones(physics.x_shape), torch.ones(physics.y_shape)
    with InScratch(scratch):
        physics.A(x)
        assert scratch.files.n_bytes == 0
        found = physics.A_adjoint(y)
        assert scratch.files.n_bytes == 4 * 512
    assert found.shape == x.shape


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_slab_takes_some_rows_of_a_detector(geometry):
    """Not all, or slabs would cost as many rays each as the volume; from within a slab all rows see it."""
    physics = XRay(geometry, GRIDS[0].restrict((slice(0, 1), slice(0, 8), slice(0, 8))))
    arguments = physics.is_cone, np.array(physics.grid.origin_mm), np.array(physics.grid.spacing_mm), physics.grid.shape
    first, end = joseph.rows_that_meet(geometry.vectors, *arguments, 9).T
    assert (end - first < 8).all()
    inside = np.array(geometry.vectors)
    inside[:, :3] = (0.0, 0.0, -3.5)
    assert not physics.is_cone or (joseph.rows_that_meet(inside, *arguments, 9) == (0, 9)).all()


def test_slabs_are_a_part_of_a_large_volume_and_all_of_a_small_one():
    assert joseph.slabs((200, 200, 200)) == [slice(0, 200)]
    for n, n_slabs in ((256, 3), (400, 7), (512, 16), (2048, 16)):
        found = joseph.slabs((n, n, n))
        assert [z for planes in found for z in range(planes.start, planes.stop)] == list(range(n))
        assert len(found) == n_slabs
    assert len(joseph.slabs((3, 9000, 9000))) == 3
