"""ASTRA: refused in words where there is no GPU; against the CPU projector where there is one.

Volumes in the computer's memory: all but the two calls that need a card is ASTRA's own here too, so that its geometries, its
order of views and what is linked are what the CPU projector is asked for in their place.
"""

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from napari_unroll.errors import DeviceError
from napari_unroll.physics import build, joseph, laws, pool, xray_astra
from napari_unroll.physics.build import build_physics
from napari_unroll.physics.xray import XRay
from napari_unroll.physics.xray_astra import AstraXRay, Cards, XRayThroughCards, is_usable
from tests.methods import tiny
from tests.physics.test_xray import GRIDS, cone, parallel, tilted

ONE = Cards((0,), 2**30)
GEOMETRIES = [cone(), tilted(cone()), parallel(), tilted(parallel())]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_refused_before_any_call():
    assert not is_usable()
    with pytest.raises(DeviceError, match="CUDA device"):
        AstraXRay(cone(), GRIDS[0])
    with pytest.raises(DeviceError, match="CUDA device"):
        XRayThroughCards(cone(), GRIDS[0], ONE)
    with pytest.raises(DeviceError, match="ASTRA finds no usable CUDA device"):
        build_physics(tiny.cone(), "cpu", "astra", ONE)
    assert "ASTRA finds no usable" in build_physics(tiny.cone(), "cpu", cards=ONE).reason


class Stand:
    """In place of a card: the CPU projector between ASTRA's own objects; its back-projection is ``scale`` times too small."""

    scale = 0.25

    def __init__(self, astra):
        self.astra, self.said = astra, []

    def cards(self, numbers, memory=0):
        self.said.append((tuple(numbers), memory))

    def between(self, projector, volume, rows):
        """The vectors and grid that ASTRA has, the arrays that are linked, and the arguments of the CPU's projector."""
        rays, grid = self.astra.data3d.get_geometry(rows), self.astra.data3d.get_geometry(volume)
        assert self.astra.projector3d.projection_geometry(projector)["type"] == rays["type"]
        o = grid["options"]
        shape = tuple(grid[f"Grid{axis}Count"] for axis in ("Slice", "Row", "Col"))
        first, last = (np.array([o[f"Window{end}{axis}"] for axis in "ZYX"]) for end in ("Min", "Max"))
        spacing = (last - first) / shape
        place = (rays["Vectors"], rays["type"] == "cone_vec", first + spacing / 2, spacing)
        return place, self.astra.data3d.get_shared(volume), self.astra.data3d.get_shared(rows)

    def accumulate_FP(self, projector, volume, rows):
        place, x, y = self.between(projector, volume, rows)
        y += joseph.forward(x, *place, (y.shape[0], y.shape[2]), 1).transpose(1, 0, 2)
        self.said.append(y.shape[1])

    def accumulate_BP(self, projector, volume, rows):
        place, x, y = self.between(projector, volume, rows)
        views = np.ascontiguousarray(y.transpose(1, 0, 2))
        x += self.scale * joseph.adjoint(views, *place, x.shape, 1)
        self.said.append(y.shape[1])


@pytest.fixture
def stand(monkeypatch):
    """ASTRA as if there were cards."""
    astra = pytest.importorskip("astra")
    pytest.importorskip("astra.experimental")
    stand = Stand(astra)
    for module in (build, xray_astra):
        monkeypatch.setattr(module, "is_usable", lambda: True)
    monkeypatch.setattr(torch.cuda, "device", lambda number: nullcontext())
    monkeypatch.setattr(astra, "set_gpu_index", stand.cards)
    for name in ("accumulate_FP", "accumulate_BP"):
        monkeypatch.setattr(astra.experimental, name, getattr(stand, name))
    return stand


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_volumes_in_memory_have_the_values_of_the_cpu_projector(geometry, grid, stand):
    """Its geometries, orders and scale are right, whatever the shape."""
    ours, wanted = XRayThroughCards(geometry, grid, ONE), XRay(geometry, grid, 1)
    x, y = (laws.random_like(shape, torch.float32, "cpu", 0) for shape in (wanted.x_shape, wanted.y_shape))
    for found, like in (
        (ours.A(x), wanted.A(x)),
        (ours.A_adjoint(y), wanted.A_adjoint(y)),
        (ours.normal(x), wanted.normal(x)),
    ):
        assert (found - like).abs().max() < 1e-5 * like.abs().max()
    assert laws.adjoint_error(ours) < 1e-6


def test_it_goes_through_views_in_chunks_and_takes_the_cards_that_it_is_given(stand, monkeypatch):
    monkeypatch.setattr(pool, "LEAST_VIEWS", 2)
    monkeypatch.setattr(pool, "CHUNK_BYTES", 1)
    physics = XRayThroughCards(cone(5), GRIDS[0], Cards((0, 2), 12345))
    physics.A(torch.ones(physics.x_shape))
    assert stand.said == [((0, 2), 12345), 1, ((0, 2), 12345), 2, ((0, 2), 12345), 2]
    for other in (physics.restrict((slice(1, 3),) * 3), physics.coarsen(2), physics.thin(2), physics.of_views([1, 3])):
        assert isinstance(other, XRayThroughCards)
        assert other.cards == physics.cards


def test_what_is_given_is_left_as_it_is(stand):
    """Also where the two orders of views are one."""
    physics = XRayThroughCards(cone(1), GRIDS[0], ONE)
    y = torch.ones(physics.y_shape)
    physics.A_adjoint(y)
    assert torch.equal(y, torch.ones(physics.y_shape))


def test_where_the_middle_is_not_seen_it_takes_astras_own_scale(stand):
    assert XRayThroughCards(parallel(3, (2, 3), 0.1, offset=500.0), GRIDS[0], ONE)._scale == 1.0


def test_volumes_in_memory_go_through_the_cards_that_are_given(stand):
    physics = build_physics(tiny.cone(), "cpu", cards=ONE)
    assert isinstance(physics, XRayThroughCards)
    assert physics.device.type == "cpu"
    assert "volumes in the computer's memory" in physics.reason
    assert type(build_physics(tiny.cone(), "cpu")) is XRay
    assert type(build_physics(tiny.cone(), "cpu", "cpu", ONE)) is XRay


CARD = pytest.mark.cuda


@CARD
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("grid", GRIDS[:2])
def test_agrees_with_the_cpu_projector(geometry, grid):
    gpu, cpu = AstraXRay(geometry, grid), XRay(geometry, grid)
    x = laws.random_like(gpu.x_shape, torch.float32, "cpu", 0).abs()
    a, b = gpu.A(x.cuda()).cpu(), cpu.A(x)
    assert torch.linalg.vector_norm(a - b) < 0.05 * torch.linalg.vector_norm(b)
    assert laws.adjoint_error(gpu) < 0.05


@CARD
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("n_bytes", [2**30, 2**15])
def test_volumes_in_memory_agree_with_those_on_the_card(geometry, n_bytes):
    """In parts too: 32 KiB hold a part of neither the volume nor the views."""
    grid = GRIDS[0].resample((24, 24, 24))
    beside, on_card = XRayThroughCards(geometry, grid, Cards((0,), n_bytes)), AstraXRay(geometry, grid)
    x, y = (laws.random_like(shape, torch.float32, "cpu", 0) for shape in (beside.x_shape, beside.y_shape))
    assert laws.adjoint_error(beside) < 0.05
    for found, wanted in ((beside.A(x), on_card.A(x.cuda())), (beside.A_adjoint(y), on_card.A_adjoint(y.cuda()))):
        assert (found - wanted.cpu()).abs().max() < 1e-2 * wanted.abs().max()


@CARD
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are no two GPUs")
def test_two_cards_have_the_values_of_one():
    grid = GRIDS[0].resample((24, 24, 24))
    one, two = (XRayThroughCards(cone(), grid, Cards(numbers, 2**30)) for numbers in ((0,), (0, 1)))
    x = laws.random_like(one.x_shape, torch.float32, "cpu", 0)
    assert (one.normal(x) - two.normal(x)).abs().max() < 1e-4 * one.normal(x).abs().max()
