import numpy as np
import pytest
import torch

from napari_unroll.errors import ParameterError
from napari_unroll.physics.samples import cone_beam_setup, sample_cone_beam, sample_multicoil
from napari_unroll.physics.xray import XRay
from napari_unroll.scan.phantoms import HELD_OUT_SEED


def test_cone_beam_sample_is_complete() -> None:
    scan = sample_cone_beam(n=16, n_views=12)
    assert scan.modality == "ct"
    assert scan.geometry.n_views == 12  # type: ignore[union-attr]
    assert scan.truth is not None
    assert scan.provenance.seed == HELD_OUT_SEED
    assert scan.measurements.max() == pytest.approx(2.5, rel=0.1)


@pytest.mark.parametrize("n", [16, 33])
def test_the_detector_sees_the_whole_inscribed_cylinder(n: int) -> None:
    geometry, grid = cone_beam_setup(n, 7)
    c = (2 * np.arange(n) + 1) / n - 1
    cylinder = np.broadcast_to(np.hypot(c[:, None], c[None, :]) < 0.97, grid.shape)
    shadow = XRay(geometry, grid).A(torch.from_numpy(cylinder.astype(np.float32))[None, None])[0, 0]
    assert not shadow[:, [0, -1]].any()
    assert not shadow[:, :, [0, -1]].any()


def test_filtered_back_projection_shows_the_truth() -> None:
    scan = sample_cone_beam(n=24, n_views=60)
    physics = XRay(scan.geometry, scan.grid)  # type: ignore[arg-type]
    volume = physics.A_dagger(torch.from_numpy(scan.measurements)[None, None])[0, 0].numpy()
    assert np.corrcoef(volume.ravel(), scan.truth.ravel())[0, 1] > 0.9  # type: ignore[union-attr]


def test_multicoil_sample_is_complete_and_sampled_like_a_brain_protocol() -> None:
    scan = sample_multicoil((4, 48, 40), n_coils=4, acceleration=5)
    assert scan.modality == "mri"
    assert scan.csm is not None
    mask = scan.geometry.mask  # type: ignore[union-attr]
    assert (mask == mask[:1]).all()
    assert scan.geometry.acceleration == pytest.approx(5, rel=0.05)  # type: ignore[union-attr]
    assert not scan.measurements[:, ~mask].any()


def test_another_seed_is_another_scan_with_the_same_geometry() -> None:
    one, two = sample_cone_beam(n=8, n_views=3), sample_cone_beam(n=8, n_views=3, seed=HELD_OUT_SEED + 1)
    assert one.geometry == two.geometry
    assert one.fingerprint() == two.fingerprint()
    assert (one.measurements != two.measurements).any()


def test_an_unknown_family_is_said() -> None:
    with pytest.raises(ParameterError, match="walnut"):
        sample_cone_beam(n=8, n_views=3, family="potato")
