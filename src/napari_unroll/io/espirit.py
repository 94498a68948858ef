"""Coil maps by ESPIRiT, as BART computes them: the library bartorch, of the extra ``espirit``.

M. Uecker et al., Magn. Reson. Med. 71 (2014) 990, doi:10.1002/mrm.24751. Outside the object the maps are zero.
"""

from __future__ import annotations

import numpy as np

from napari_unroll.errors import ScanError
from napari_unroll.io.guards import rare
from napari_unroll.scan.preprocess_mri import calibration_radius

WIDTH = 24
"""Samples across the middle of k-space that the maps are made from, along every axis that is as long."""


def espirit_maps(kspace: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Coil maps (coil, z, y, x), complex64, from centred ``kspace`` (coil, z, y, x) sampled where ``mask`` (z, y, x) is.

    Raises FileFormatError without the library, ScanError where the fully sampled centre of k-space is too small.
    """
    tools = rare("bartorch.tools", "ESPIRiT", "espirit")
    import torch

    radius = calibration_radius(mask)
    if radius < 3:
        raise ScanError(
            f"ESPIRiT needs a fully sampled centre of k-space of radius 3 or more; here it is {radius:.1f}. Set option "
            "'coil_maps' to smooth, or bring coil maps."
        )
    width = int(min(WIDTH, 2 * radius))
    axes = [a for a in range(3) if kspace.shape[1 + a] > 1]
    plain = kspace.reshape(len(kspace), *(kspace.shape[1 + a] for a in axes))
    sizes = tuple(min(width, kspace.shape[1 + a]) for a in axes)
    maps = tools.ecalib(torch.from_numpy(np.ascontiguousarray(plain, np.complex64)), calib_size=sizes, maps=1)
    return np.ascontiguousarray(np.asarray(maps).reshape(kspace.shape), np.complex64)
