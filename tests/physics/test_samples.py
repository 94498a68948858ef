import numpy as np
import pytest
import torch

from napari_unroll.errors import ParameterError, ScanError
from napari_unroll.physics.samples import (
    cone_beam_setup,
    sample_cone_beam,
    sample_deblur,
    sample_multicoil,
    sample_super_resolution,
)
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


def test_the_blurred_image_is_that_of_the_paper() -> None:
    scan = sample_deblur((1, 48, 40))
    assert scan.modality == "image"
    assert scan.geometry.kernel.shape == (1, 9, 9)  # type: ignore[union-attr]
    assert scan.measurements.shape == scan.grid.shape == (1, 48, 40)
    clean = sample_deblur((1, 48, 40), noise=0).measurements
    assert (scan.measurements - clean).std() == pytest.approx(0.01 * scan.truth.max(), rel=0.1)  # type: ignore[union-attr]
    assert clean.std() < scan.truth.std()  # type: ignore[union-attr]


def test_super_resolution_has_a_ninth_of_the_pixels() -> None:
    scan = sample_super_resolution((1, 48, 36))
    assert scan.measurements.shape == (1, 16, 12)
    assert scan.truth.shape == (1, 48, 36)  # type: ignore[union-attr]
    assert sample_super_resolution((12, 12, 15), along_z=True).measurements.shape == (4, 4, 5)


def test_sizes_that_do_not_fit_are_said() -> None:
    with pytest.raises(ScanError, match="whole multiples"):
        sample_super_resolution((1, 40, 40))
    with pytest.raises(ScanError, match="larger than the image"):
        sample_deblur((1, 8, 40))
    with pytest.raises(ParameterError, match="variance"):
        sample_deblur(variance=0)
