"""Generated volumes for sample scans, tests and training: the public door.

Seeds below ``HELD_OUT_SEED`` are for training, seeds from it on for samples and evaluation: never train on those.
"""

from napari_unroll.scan.phantoms_ct import FAMILIES, ellipsoids, family_of, fibres, foam, random_volume, walnut
from napari_unroll.scan.phantoms_images import leaves
from napari_unroll.scan.phantoms_mri import brain, coil_maps
from napari_unroll.scan.sampling_masks import poisson_disc_mask

HELD_OUT_SEED = 10_000

__all__ = [
    "FAMILIES",
    "HELD_OUT_SEED",
    "brain",
    "coil_maps",
    "ellipsoids",
    "family_of",
    "fibres",
    "foam",
    "leaves",
    "poisson_disc_mask",
    "random_volume",
    "walnut",
]
