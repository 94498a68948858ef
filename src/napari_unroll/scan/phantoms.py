"""Generated volumes for sample scans, tests and training: the public door.

Seeds below ``HELD_OUT_SEED`` are for training, seeds from it on for samples and evaluation: never train on those.
"""

from napari_unroll.scan.phantoms_ct import FAMILIES, ellipsoids, fibres, foam, random_volume, walnut

HELD_OUT_SEED = 10_000

__all__ = ["FAMILIES", "HELD_OUT_SEED", "ellipsoids", "fibres", "foam", "random_volume", "walnut"]
