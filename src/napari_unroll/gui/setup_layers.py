"""The set-up of an X-ray scan as 3-D layers: source path, detector, rays and the volume's edges.

Makes and moves layers; knows nothing of viewers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.layers import Layer, Points, Surface, Vectors
from napari.utils import Colormap

from napari_unroll.gui.placement import AXIS_LABELS
from napari_unroll.gui.setup import Setup

FACES = np.array([[0, 1, 2], [0, 2, 3]])
"""Of a rectangle by its corners."""
DETECTOR = Colormap(["black", "#4aa3ff"], name="detector")
TURN = 1e-5
"""Radians."""


def setup_layers(setup: Setup) -> list[Layer]:
    """The layers of a set-up, in mm."""
    width = 0.002 * float(np.ptp(setup.rays.reshape(-1, 3), axis=0).max())
    shared: dict[str, Any] = {"units": "mm", "axis_labels": AXIS_LABELS}
    lines = {"edge_width": width, "vector_style": "line", **shared}
    made: list[Layer] = [
        Vectors(_vectors(setup.volume), name="volume's edges", edge_color="#5fd38d", **lines),
        Vectors(_vectors(setup.rays), name="rays", edge_color="#ffc850", **lines),
        Surface(
            (setup.detector, FACES, np.ones(4)),
            name="detector",
            colormap=DETECTOR,
            contrast_limits=(0, 1),
            shading="none",
            opacity=0.6,
            **shared,
        ),
    ]
    if len(setup.path):
        dots = {"border_width": 0, **shared}
        made += [
            Points(setup.path, name="source path", size=4 * width, face_color="#909090", **dots),
            Points(setup.source, name="source", size=12 * width, face_color="#ff9f43", **dots),
        ]
    return made


def move_setup(layers: Sequence[Layer], setup: Setup) -> None:
    """Move the layers of a set-up to another view."""
    there = {layer.name: layer for layer in layers}
    if "source" in there:
        there["source"].data = setup.source
    there["detector"].data = (setup.detector, FACES, np.ones(4))
    there["rays"].data = _vectors(setup.rays)


def _vectors(lines: np.ndarray) -> np.ndarray:
    """Lines (n, 2, 3) by their ends as napari has them: start and direction.

    napari (0.9.2) draws a line as two ribbons, across its cross products with z and with x. Along these axes one of them
    vanishes and the other is not seen from its edge, so that such lines are turned by an angle that nobody sees.
    """
    direction = lines[:, 1] - lines[:, 0]
    direction[:, 1] += TURN * np.linalg.norm(direction, axis=1)
    return np.stack([lines[:, 0], direction], axis=1)
