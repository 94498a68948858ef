"""The vispy visual of a streamed image: partial texture uploads, and a decimated preview on software OpenGL.

The only module that touches private parts of napari and vispy; importing it fails where those have moved, and layers
then refresh as a whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from napari._vispy.layers.image import VispyImageLayer
from napari._vispy.utils.visual import layer_to_visual
from napari.layers import Image
from napari.utils.events import Event
from vispy.visuals._scalable_textures import GPUScaledTextured3D

from napari_unroll.events import Box
from napari_unroll.gui.opengl import is_software

PREVIEW_SIZE = 48
PREVIEW_STEP = 2.0


def _decimated(box: Box, stride: int) -> Box:
    """The samples of ``data[::stride]`` that lie in ``box``."""
    return tuple(slice(-(-b.start // stride), -(-b.stop // stride)) for b in box)  # type: ignore[return-value]


class VispyStreamImage(VispyImageLayer):
    """The image visual plus partial texture uploads and a decimated preview."""

    def __init__(self, layer: Image, *args: Any, **kwargs: Any) -> None:
        self._stride = 1
        super().__init__(layer, *args, **kwargs)
        layer.events.patches.connect(self._on_patches)
        layer.events.streaming.connect(self._on_streaming)

    def _plain(self) -> bool:
        """Whether the texture holds the layer's array, decimated by the stride and nothing else."""
        texture = getattr(self.node, "_texture", None)
        shape = tuple(len(range(0, n, self._stride)) for n in self.layer.data.shape)
        return (
            isinstance(texture, GPUScaledTextured3D)
            and self.layer._slice_input.ndisplay == 3
            and tuple(self.layer._slice_input.order) == (0, 1, 2)
            and tuple(texture.shape[:3]) == shape
        )

    def _on_patches(self, event: Event) -> None:
        if not self._plain():
            return
        data = self.layer.data[:: self._stride, :: self._stride, :: self._stride]
        for box in event.boxes:
            small = _decimated(box, self._stride)
            if all(b.stop > b.start for b in small):
                values = np.ascontiguousarray(data[small])
                self.node._texture.set_data(values, offset=tuple(b.start for b in small))
        self.node.update()
        event.shown.append(True)

    def _on_streaming(self, event: Event | None = None) -> None:
        preview = self.layer.streaming and is_software()
        stride = max(1, -(-max(self.layer.data.shape) // PREVIEW_SIZE)) if preview else 1
        if stride != self._stride:
            self._stride = stride
            if self.layer._slice_input.ndisplay == 3:
                self._on_data_change()
        self._set_quality()

    def _on_data_change(self) -> None:
        super()._on_data_change()
        self._set_quality()

    def _on_interpolation_change(self) -> None:
        super()._on_interpolation_change()
        self._set_quality()

    def _on_rendering_change(self) -> None:
        super()._on_rendering_change()
        self._set_quality()

    def _set_quality(self) -> None:
        if not hasattr(self.node, "relative_step_size"):
            return
        preview = self._stride > 1
        method = "mip" if preview else str(self.layer.rendering)
        if self.node.method != method:
            self.node.method = method
        self.node.relative_step_size = PREVIEW_STEP if preview else 0.8
        self.node.interpolation = "nearest" if preview else self.layer.interpolation3d

    def downsample_texture(self, data: np.ndarray, MAX_TEXTURE_SIZE: int) -> np.ndarray:
        if self._stride == 1:
            self.layer._transforms["tile2data"].scale = np.ones(self.layer.ndim)
            return super().downsample_texture(data, MAX_TEXTURE_SIZE)
        scale = np.ones(self.layer.ndim)
        scale[list(self.layer._slice_input.displayed)] = self._stride
        self.layer._transforms["tile2data"].scale = scale
        self._on_matrix_change()
        return data[:: self._stride, :: self._stride, :: self._stride]


def register(layer_type: type) -> None:
    """Show layers of ``layer_type`` with this visual from now on."""
    layer_to_visual[layer_type] = VispyStreamImage
