"""Networks are no darker or brighter in the mean than the truth: what they say of amounts can be believed."""

import numpy as np
import pytest

from napari_unroll.physics.samples import sample_cone_beam, sample_multicoil
from napari_unroll.pipeline.plan import Choices, resolve
from napari_unroll.pipeline.run import run


@pytest.mark.parametrize(
    "make",
    [lambda: sample_cone_beam(48, 50, photons=1e5), lambda: sample_multicoil((8, 64, 64), n_coils=8)],
    ids=["ct", "mri"],
)
def test_the_mean_is_that_of_the_truth(make):
    scan = make()
    plan = resolve(Choices(device="cpu", method="unrolled-pgd"), scan)
    *_, finished = run(plan, scan, None)
    found, true = (np.abs(x) if np.iscomplexobj(x) else x for x in (finished.result, scan.truth))
    assert found.mean() == pytest.approx(true.mean(), rel=0.005)
