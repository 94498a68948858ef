"""The sole writer of layers: scans, results, maps and references, placed in millimetres.

Every volume lies where its grid says (scale = spacing, translate = position of voxel 0), so layers of different
resolution overlap. Complex volumes become a magnitude and a phase layer. Knows napari; nothing of docks or runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pint
from napari.layers import Image, Layer, Points, Shapes, Surface, Vectors

from napari_unroll.events import Box, Event, FixedPoint, IterationDone, PatchDone, QuickLook
from napari_unroll.gui.opengl import guard_removal
from napari_unroll.gui.setup import Setup
from napari_unroll.gui.streaming import Streamer, StreamImage
from napari_unroll.io.volume import CHANNELS
from napari_unroll.scan.blurring import BlurredSampling
from napari_unroll.scan.geometry import CartesianSampling, VolumeGrid
from napari_unroll.scan.grids import magnification
from napari_unroll.scan.scan import Scan
from napari_unroll.scan.trajectories import NonCartesianSampling

if TYPE_CHECKING:
    from napari_unroll.io.ome_zarr import StoredVolume

ROLE = "napari-unroll"
DIFFERENCE = "difference"
"""Role of the layers that show differences."""
TRIAL, SETUP, REGION = "trial", "setup", "region"
"""Roles of a slice that is tried, of the layers that show source, detector and volume, and of what the user draws."""
SCAN = "napari-unroll.scan"
STORED = "napari-unroll.stored"
"""Keys of a layer's metadata: its role, the scan that it shows, the file of the result that it shows."""
RECORD = "provenance"
"""Where a layer of a result keeps the record of how it came about."""
RECTANGLE = "preview rectangle"
"""Name of the layer of shapes that says which part of a slice is previewed."""
AXIS_LABELS = ("z", "y", "x")
COARSE_BLOCK = 4
SHARES_A_VIEW = 1000.0
"""How many times larger another layer may be and still be shown beside one."""
LARGE, COARSEST = 512**3, 256
"""Volumes of more voxels are shown by their levels: each a view of every second voxel, the last of at most so long edges."""
NAME_POINTS, PX_PER_POINT = (5.0, 10.0), 0.97
"""Sizes of names in tiles, and the width of a letter in pixels per point of its size."""
DIVERGING = "coolwarm"
ATTENUATION = 0.3
"""Of the 3-D rendering: shows the surface where a plain maximum shows a white shape."""


def placement(grid: VolumeGrid) -> dict[str, Any]:
    """The layer arguments that put an array where ``grid`` lies."""
    return {"scale": grid.spacing_mm, "translate": grid.origin_mm, "units": "mm", "axis_labels": AXIS_LABELS}


def _coarse_placement(grid: VolumeGrid) -> dict[str, Any]:
    """The layer arguments for an array with one value per block of voxels of ``grid``."""
    scale = tuple(s * COARSE_BLOCK for s in grid.spacing_mm)
    shift = tuple(o + 0.5 * (COARSE_BLOCK - 1) * s for o, s in zip(grid.origin_mm, grid.spacing_mm, strict=True))
    return {"scale": scale, "translate": shift, "units": "mm"}


def grid_of(layer: Layer) -> VolumeGrid:
    """The grid on which a volume layer lies."""
    step, shape = [float(s) for s in layer.scale], values_of(layer).shape
    return VolumeGrid(shape=shape, spacing_mm=tuple(step), center_mm=_center(shape, step, layer.translate))  # type: ignore[arg-type]


def _center(shape: Sequence[int], step: Sequence[float], origin: Sequence[float]) -> tuple[float, ...]:
    """The middle of voxels of which the first lies at ``origin``."""
    return tuple(float(o + 0.5 * (n - 1) * s) for o, n, s in zip(origin, shape, step, strict=True))


def grid_of_arguments(shape: Sequence[int], arguments: Mapping[str, Any]) -> VolumeGrid:
    """The grid (z, y, x) in mm of a layer of two or three axes, by what napari hands to writers; without units in mm."""
    spacing = [float(s) for s in arguments.get("scale", np.ones(len(shape)))]
    origin = [float(t) for t in arguments.get("translate", np.zeros(len(shape)))]
    units = arguments.get("units") or "mm"
    in_mm = [_in_mm(unit) for unit in ([units] * len(shape) if isinstance(units, str) else units)]
    step = [s * f for s, f in zip(spacing, in_mm, strict=True)]
    start = [o * f for o, f in zip(origin, in_mm, strict=True)]
    if len(shape) == 2:
        shape, step, start = [1, *shape], [min(step), *step], [0.0, *start]
    return VolumeGrid(shape=tuple(shape), spacing_mm=tuple(step), center_mm=_center(shape, step, start))  # type: ignore[arg-type]


def _in_mm(unit: Any) -> float:
    """How many mm a unit of length is; 1 for what is no length."""
    quantity = pint.get_application_registry().Quantity(1, unit)
    return float(quantity.to("mm").magnitude) if quantity.check("[length]") else 1.0


def contrast(values: np.ndarray, low: float = 0.5, high: float = 99.8) -> tuple[float, float]:
    """Robust limits from about 100,000 samples; never empty."""
    sample = np.asarray(values).ravel()
    sample = sample[:: max(1, sample.size // 100_000)]
    sample = sample[np.isfinite(sample)]
    if sample.size == 0:
        return 0.0, 1.0
    lo, hi = (float(v) for v in np.percentile(sample, [low, high]))
    return (lo, hi) if hi > lo else (lo, lo + max(1e-6, abs(lo)))


def projections_placement(scan: Scan) -> dict[str, Any]:
    """Views stacked along z in the volume's steps about its middle, detector pixels as large as they are at the rotation axis."""
    geometry, grid = scan.geometry, scan.grid
    shrink = 1 / magnification(geometry)  # type: ignore[arg-type]
    pv, pu = (p * shrink for p in geometry.pixel_mm)  # type: ignore[union-attr]
    rows, columns = geometry.detector_shape  # type: ignore[union-attr]
    first = grid.center_mm[0] - 0.5 * (geometry.n_views - 1) * grid.spacing_mm[0]  # type: ignore[union-attr]
    translate = (first, -0.5 * (rows - 1) * pv, -0.5 * (columns - 1) * pu)
    scale = (grid.spacing_mm[0], pv, pu)
    return {"scale": scale, "translate": translate, "units": "mm", "axis_labels": AXIS_LABELS}


class ResultView:
    """One streaming result: its layer, the coarse layer of patches that have arrived, and the layers that it will cover.

    They stay in sight until there is something to see. ``sink`` is called in the worker's thread; the rest in the window's.
    """

    def __init__(self, layer: StreamImage, arrived: StreamImage | None = None, covered: Sequence[Layer] = ()) -> None:
        self.layer, self.arrived, self.covered = layer, arrived, covered
        self.streams = [layer] if arrived is None else [layer, arrived]
        self.n_patches = 0
        self._limits: tuple[float, float] | None = None
        self._far = 0.0

    def sink(self, event: Event) -> None:
        """Write what an event carries."""
        if isinstance(event, PatchDone):
            self.layer.post(event.box, _real(event.values))
            self.n_patches += 1
            self._mark(event)
        elif isinstance(event, QuickLook):
            self.layer.post(event.box, _real(event.values))
        elif isinstance(event, IterationDone) and event.values is not None:
            self.layer.post_volume(_real(event.values))

    def follow(self, event: Event) -> None:
        """Come into sight with the first values, and let the contrast follow them until the user touches it."""
        if isinstance(event, PatchDone):
            self._follow_consistency(event)
        values = getattr(event, "values", None)
        if values is None:
            return
        self._follow_contrast(values, is_part=isinstance(event, PatchDone | QuickLook))
        self.show()

    def show(self) -> None:
        """Take the place of the layers that it covers."""
        if self.layer.visible:
            return
        for layer in self.covered:
            layer.visible = False
        self.layer.visible = True

    def _follow_contrast(self, values: np.ndarray, is_part: bool) -> None:
        """A whole volume sets the limits, a part of one only widens them."""
        if self._limits is not None and not self._untouched():
            return
        low, high = contrast(_real(values))
        if is_part and self._limits is not None:
            low, high = min(low, self._limits[0]), max(high, self._limits[1])
        self._set(low, high)

    def keep_contrast(self, limits: tuple[float, float]) -> None:
        """Use these limits (the reference's) and do not follow the values."""
        self._limits = (np.nan, np.nan)
        self.layer.contrast_limits_range = _wider(limits)
        self.layer.contrast_limits = limits

    def _set(self, low: float, high: float) -> None:
        if high <= low:
            return
        self.layer.contrast_limits_range = _wider((low, high))
        self.layer.contrast_limits = (low, high)
        self._limits = tuple(self.layer.contrast_limits)

    def _untouched(self) -> bool:
        return self._limits is not None and np.allclose(self.layer.contrast_limits, self._limits)

    def _follow_consistency(self, event: PatchDone) -> None:
        """Let the colours of the arrived patches reach from 0 to the largest distance from the data."""
        if self.arrived is not None and event.consistency is not None and event.consistency > self._far:
            self._far = event.consistency
            self.arrived.contrast_limits_range = self.arrived.contrast_limits = (0.0, self._far)

    def _mark(self, event: PatchDone) -> None:
        if self.arrived is None:
            return
        box = tuple(slice(b.start // COARSE_BLOCK, -(-b.stop // COARSE_BLOCK)) for b in event.box)
        shape = tuple(b.stop - b.start for b in box)
        value = 1.0 if event.consistency is None else event.consistency
        self.arrived.post(box, np.full(shape, value, np.float32))  # type: ignore[arg-type]


def _real(values: np.ndarray) -> np.ndarray:
    return np.abs(values) if np.iscomplexobj(values) else values


def _wider(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = limits
    return min(low, 0.0) - 0.5 * (high - low), high + 1.0 * (high - low)


class LayerWriter:
    """Everything that this plugin puts into a viewer goes through here."""

    def __init__(self, viewer: Any) -> None:
        self.viewer = viewer
        self.streamer = Streamer()
        self._linked: list[Layer] = []
        guard_removal(viewer)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.canvas.events.size.connect(self._fit_names)

    def _on_removed(self, event: Any) -> None:
        self.streamer.forget(event.value)

    def ours(self, role: str | None = None) -> list[Layer]:
        """Our layers, of one role where given, in the viewer's order."""
        return [
            layer for layer in self.viewer.layers
            if ROLE in layer.metadata and (role is None or layer.metadata[ROLE] == role)
        ]  # fmt: skip

    def remove(self, role: str) -> None:
        """Remove our layers of one role."""
        self._take_away(self.ours(role))

    def show_scan(self, scan: Scan) -> None:
        """Put a scan's measurements and its truth into the viewer and look at them; those of an earlier scan go."""
        for role in ("measurements", "truth", DIFFERENCE):
            self.remove(role)
        if scan.truth is not None:
            self.show_truth(scan)
        for layer in scan_layers(scan):
            self._add(layer, "measurements")
        self.turn_to(self.ours("measurements"))

    def turn_to(self, layers: list[Layer]) -> None:
        """Look at the middle of these layers; our others are hidden.

        Those so much larger or smaller that no slider can serve both are taken away; results stay in the session.
        """
        sizes = [_size(layer) for layer in layers]
        others = [layer for layer in self.ours() if layer not in layers]
        apart = [o for o in others if not all(1 / SHARES_A_VIEW < _size(o) / size < SHARES_A_VIEW for size in sizes)]
        self._take_away(apart)
        self._leave_grid()
        self.show_only(
            [*layers, *(layer for layer in self.viewer.layers if layer not in self.ours() and layer.visible)]
        )
        self.viewer.fit_to_view(layers=layers)
        self.go_to_centre(layers[-1])

    def _leave_grid(self) -> None:
        """One picture again where several stood side by side."""
        if self.viewer.canvas.grid.enabled:
            self.side_by_side([], on=False)

    def show_truth(self, scan: Scan) -> None:
        """The known volume, hidden until it is wanted."""
        assert scan.truth is not None
        self.show_volume(f"{scan.name} · truth", scan.truth, scan.grid, role="truth", visible=False)

    def show_volume(
        self, name: str, values: np.ndarray, grid: VolumeGrid, role: str = "volume", **kwargs: Any
    ) -> list[Layer]:
        """A volume (z, y, x) as a layer, a complex one as magnitude and phase; an equally named one is replaced."""
        images = volume_images(name, values, grid, **kwargs)
        for image in images:
            self._remove_named(image.name)
        return [self._add(image, role) for image in images]

    def begin_result(
        self, name: str, grid: VolumeGrid, limits: tuple[float, float] | None = None, patchwise: bool = True
    ) -> ResultView:
        """Empty layers into which a run streams; they take the place of other layers of ours with the first values.

        ``patchwise`` adds the coarse layer of arrived patches; ``limits`` are a reference's contrast.
        """
        self._take_away([*self.ours("arrived"), *self.ours("patches")])
        self._leave_grid()
        covered = [layer for layer in self.ours() if layer.visible]
        result = StreamImage(
            np.zeros(grid.shape, np.float32), name=name, contrast_limits=(0, 1), rendering="attenuated_mip",
            attenuation=ATTENUATION, visible=False, **placement(grid),
        )  # fmt: skip
        layer = self._add(result, "result")
        view = ResultView(layer, self._add_arrived(grid) if patchwise else None, covered)
        if limits is not None:
            view.keep_contrast(limits)
        for layer in view.streams:
            self.streamer.add(layer)
        self.viewer.layers.selection.active = view.layer
        return view

    def finish_result(self, view: ResultView, values: np.ndarray | None) -> None:
        """End the streaming with the final values; where there are none, show again what was shown before the run."""
        if values is not None and view.layer in self.viewer.layers:
            view.layer.data[:] = _real(values)
            if view._untouched() or view._limits is None:
                view._set(*contrast(view.layer.data))
            view.show()
        for layer in view.streams:
            self.streamer.finish(layer)
        if values is None:
            self._take_away(view.streams)
            for layer in view.covered:
                layer.visible = True
        if values is not None and np.iscomplexobj(values):
            self._add_phase(view.layer, values)

    def show_patches(self, found: FixedPoint, grid: VolumeGrid) -> None:
        """What a search for a fixed point tells of every patch: hidden layers over the volume, until the next run."""
        active = self.viewer.layers.selection.active
        for name in found.maps:
            values = found.spread(name, COARSE_BLOCK)
            high = float(np.nanmax(values, initial=0.0)) or 1.0
            layer = Image(
                values, name=f"{name} of patches", contrast_limits=(0, high), opacity=0.35, colormap="viridis",
                visible=False, blending="translucent_no_depth", interpolation2d="nearest", **_coarse_placement(grid),
            )  # fmt: skip
            self._add(layer, "patches")
        self.viewer.layers.selection.active = active

    def show_differences(self, differences: dict[str, np.ndarray], grid: VolumeGrid) -> None:
        """Differences by the names of what was compared, side by side with one contrast; earlier ones go."""
        self.remove(DIFFERENCE)
        high = max(contrast(np.abs(d))[1] for d in differences.values())
        layers = [
            self.show_volume(
                f"{name} − reference", values, grid, DIFFERENCE, colormap=DIVERGING, contrast_limits=(-high, high)
            )[0]
            for name, values in differences.items()
        ]
        self.link_contrast(layers)
        self.side_by_side(layers)

    def show_trial(self, values: np.ndarray, grid: VolumeGrid) -> None:
        """One plane (1, y, x) of a trial, over what is shown there; the next one takes its place."""
        is_new = not self.ours(TRIAL)
        layer = self.update_volume("tried slice", values, grid, TRIAL)
        if is_new:
            self.turn_to([layer])

    def update_volume(self, name: str, values: np.ndarray, grid: VolumeGrid, role: str, **kwargs: Any) -> Layer:
        """A real volume (z, y, x) as a layer that keeps its place and its contrast when it is shown again."""
        there = [layer for layer in self.ours(role) if layer.name == name and layer.data.shape == values.shape]
        if not there:
            return self.show_volume(name, values, grid, role, **kwargs)[0]
        there[0].data = values
        there[0].visible = True
        return there[0]

    def draw_region(self, grid: VolumeGrid) -> Shapes:
        """A rectangle in the middle of the plane that is shown, for the user to move; there is one at a time.

        Its corners are voxels (z, y, x) of the grid, so that it lies in the plane that the volumes show.
        """
        self.remove(REGION)
        nz, ny, nx = grid.shape
        z = round(self.height_shown(grid) * (nz - 1))
        corners = [((0.5 + a) * (ny - 1), (0.5 + b) * (nx - 1)) for a in (-0.125, 0.125) for b in (-0.125, 0.125)]
        turn = [corners[k] for k in (0, 1, 3, 2)]
        layer = Shapes(
            [np.array([(z, y, x) for y, x in turn])], shape_type="rectangle", name="region", edge_color="#ff9f43",
            face_color="transparent", edge_width=0.02 * max(ny, nx), opacity=1.0, **placement(grid),
        )  # fmt: skip
        self._add(layer, REGION)
        self.go_to_index(layer, (z, ny // 2, nx // 2))
        layer.mode = "select"
        layer.selected_data = {0}
        return layer

    def region_on_top(self) -> None:
        """What the user draws lies over everything, and is what the mouse moves."""
        for layer in self.ours(REGION):
            if self.viewer.layers[-1] is not layer:
                mode = layer.mode
                self.viewer.layers.move(self.viewer.layers.index(layer), len(self.viewer.layers))
                self.viewer.layers.selection.active = layer
                layer.mode = mode
            layer.visible = True
            self.viewer.layers.selection.active = layer

    def region_box(self, grid: VolumeGrid) -> Box | None:
        """The voxels under the last shape of the region's layer, at least one along every axis; None without a shape."""
        layers = self.ours(REGION)
        if not layers or not len(layers[0].data):
            return None
        corners = np.asarray(layers[0].data[-1])
        low = np.clip(np.ceil(corners.min(0) - 0.5), 0, np.array(grid.shape) - 1).astype(int)
        high = np.clip(np.floor(corners.max(0) + 0.5) + 1, low + 1, grid.shape).astype(int)
        z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        return (z, y, x)

    def height_shown(self, grid: VolumeGrid) -> float:
        """At which part of a volume's height the viewer's slice is, 0 to 1; its middle where the viewer shows another place."""
        point = self.viewer.dims.point
        position = point[-3] if len(point) >= 3 else np.inf
        part = (position - grid.origin_mm[0]) / max(grid.size_mm[0] - grid.spacing_mm[0], grid.spacing_mm[0])
        return float(part) if 0 <= part <= 1 else 0.5

    def show_setup(self, setup: Setup) -> None:
        """Source path, detector, rays and the volume's edges in 3-D; another view moves what is there."""
        there = {layer.name: layer for layer in self.ours(SETUP)}
        if there:
            if "source" in there:
                there["source"].data = setup.source
            there["detector"].data = (setup.detector, FACES, np.ones(4))
            there["rays"].data = _vectors(setup.rays)
            return
        width = 0.002 * float(np.ptp(setup.rays.reshape(-1, 3), axis=0).max())
        shared: dict[str, Any] = {"units": "mm", "axis_labels": AXIS_LABELS}
        lines = {"edge_width": width, "vector_style": "line", **shared}
        made: list[Layer] = [
            Vectors(_vectors(setup.volume), name="volume's edges", edge_color="#5fd38d", **lines),
            Vectors(_vectors(setup.rays), name="rays", edge_color="#ffc850", **lines),
            Surface((setup.detector, FACES, np.ones(4)), name="detector", colormap="blue", opacity=0.6, **shared),
        ]
        if len(setup.path):
            dots = {"border_width": 0, **shared}
            made += [
                Points(setup.path, name="source path", size=4 * width, face_color="#909090", **dots),
                Points(setup.source, name="source", size=12 * width, face_color="#ff9f43", **dots),
            ]
        for layer in made:
            self._add(layer, SETUP)
        self.viewer.dims.ndisplay = 3
        self.viewer.fit_to_view(layers=made)

    def link_contrast(self, layers: Sequence[Layer]) -> None:
        """Let these layers share their contrast from now on, and no others."""
        if len(self._linked) > 1:
            self.viewer.layers.unlink_layers(self._linked, ("contrast_limits",))
        self._linked = list(layers)
        if len(layers) > 1:
            self.viewer.layers.link_layers(layers, ("contrast_limits",))

    def hide(self) -> None:
        """Hide our layers."""
        for layer in self.ours():
            layer.visible = False

    def show_only(self, layers: list[Layer]) -> None:
        """Show these layers and hide every other one of the viewer."""
        for layer in self.viewer.layers:
            layer.visible = layer in layers

    def side_by_side(self, layers: list[Layer], on: bool = True) -> None:
        """Show layers in a grid, one each, or end the grid."""
        if on:
            self.show_only(layers)
        for layer in self.ours():
            layer.name_overlay.visible = on and layer in layers
        self.viewer.canvas.grid.shape = (1, -1) if len(layers) <= 3 else (-1, -1)
        self.viewer.canvas.grid.stride = -1
        self.viewer.canvas.grid.enabled = on
        self._fit_names()
        self.viewer.reset_view()

    def _fit_names(self, *_: Any) -> None:
        """Write the names in tiles so small that the longest is not cut."""
        named = [layer for layer in self.ours() if layer.name_overlay.visible]
        if named:
            width = float(self.viewer.canvas.viewbox_size(self.viewer.layers)[1])
            longest = max(len(layer.name) for layer in named)
            points = float(np.clip(width / (PX_PER_POINT * longest), *NAME_POINTS))
            for layer in named:
                layer.name_overlay.font_size = points

    def _add_arrived(self, grid: VolumeGrid) -> StreamImage:
        shape = tuple(-(-n // COARSE_BLOCK) for n in grid.shape)
        layer = StreamImage(
            np.full(shape, np.nan, np.float32), name="arrived patches", colormap="viridis", contrast_limits=(0, 1),
            opacity=0.35, visible=False, blending="translucent_no_depth", **_coarse_placement(grid),
        )  # fmt: skip
        return self._add(layer, "arrived")

    def _add_phase(self, layer: Image, values: np.ndarray) -> None:
        phase = Image(
            np.angle(values).astype(np.float32), name=f"{layer.name} · phase", colormap="hsv", visible=False,
            scale=layer.scale, translate=layer.translate, units="mm", contrast_limits=(-np.pi, np.pi),
        )  # fmt: skip
        active = self.viewer.layers.selection.active
        self._add(phase, "result")
        self.viewer.layers.selection.active = active

    def _remove_named(self, name: str) -> None:
        self._take_away([layer for layer in self.ours() if layer.name == name])

    def _take_away(self, layers: Sequence[Layer]) -> None:
        """All at once: each time napari collects garbage, which takes 0.6 s once deep-learning libraries are loaded."""
        there = [layer for layer in layers if layer in self.viewer.layers]
        if not there:
            return
        with self.viewer.layers.batched_update():
            for layer in there:
                self.viewer.layers.remove(layer)

    def _add(self, layer: Any, role: str) -> Any:
        layer.metadata[ROLE] = role
        first = not self.ours()
        added = self.viewer.add_layer(layer)
        if first:
            self.viewer.reset_view()
            self.go_to_centre(added)
        return added

    def show_rectangle(self, grid: VolumeGrid, y: slice, x: slice, changed: Callable[..., Any]) -> None:
        """A rectangle around voxels (y, x) that the user moves and stretches; ``changed`` is called when he did."""
        self.remove_rectangle()
        (_, oy, ox), (_, sy, sx) = grid.origin_mm, grid.spacing_mm
        low, high = ((oy + (a - 0.5) * sy, ox + (b - 0.5) * sx) for a, b in ((y.start, x.start), (y.stop, x.stop)))
        layer = Shapes(
            [np.array([low, high])], shape_type="rectangle", name=RECTANGLE, edge_color="#e3b341", face_color="transparent",
            edge_width=0.5 * min(sy, sx), units="mm", axis_labels=AXIS_LABELS[1:],
        )  # fmt: skip
        self.viewer.add_layer(layer)
        layer.mode, layer.selected_data = "select", {0}
        layer.events.data.connect(changed)

    def remove_rectangle(self) -> None:
        """Take the rectangle away."""
        for layer in [layer for layer in self.viewer.layers if layer.name == RECTANGLE]:
            self.viewer.layers.remove(layer)

    def rectangle(self, grid: VolumeGrid) -> tuple[slice, slice]:
        """The voxels (y, x) of a grid within the first shape of the rectangle's layer; all where there is none."""
        found = [layer for layer in self.viewer.layers if layer.name == RECTANGLE and len(layer.data)]
        if not found:
            return slice(0, grid.shape[1]), slice(0, grid.shape[2])
        corners = np.asarray(found[0].data[0])[:, -2:]
        edges = np.round((corners - grid.origin_mm[1:]) / grid.spacing_mm[1:] + 0.5).astype(int)
        y, x = (
            slice(int(a := np.clip(low, 0, n - 1)), int(np.clip(high, a + 1, n)))
            for low, high, n in zip(edges.min(0), edges.max(0), grid.shape[1:], strict=True)
        )
        return y, x

    def go_to_plane(self, grid: VolumeGrid, z: int) -> None:
        """Show the slice through plane ``z`` of a grid."""
        self.viewer.dims.set_point(self.viewer.dims.ndim - 3, grid.origin_mm[0] + z * grid.spacing_mm[0])

    def go_to_index(self, layer: Layer, index: tuple[int, int, int]) -> None:
        """Show the slice through a voxel of a layer."""
        for axis, value in enumerate(layer.data_to_world(index)):
            self.viewer.dims.set_point(axis, float(value))

    def index_at_cursor(self, grid: VolumeGrid) -> tuple[int, int, int]:
        """The voxel of a grid under the mouse, its middle where the mouse is outside."""
        shape = np.array(grid.shape)
        world = np.asarray(self.viewer.cursor.position, dtype=float)[-3:]
        index = np.round((world - grid.origin_mm) / grid.spacing_mm) if len(world) == 3 else -np.ones(3)
        inside = bool(((index >= 0) & (index < shape)).all())
        z, y, x = (int(i) for i in (index if inside else shape // 2))
        return z, y, x

    def go_to_centre(self, layer: Layer) -> None:
        """Show the slice through the middle of a layer."""
        centre = np.asarray(layer.extent.world).mean(axis=0)
        for axis, value in enumerate(centre):
            self.viewer.dims.set_point(axis, float(value))


FACES = np.array([[0, 1, 2], [0, 2, 3]])
"""Of a rectangle by its corners."""


def _vectors(lines: np.ndarray) -> np.ndarray:
    """Lines (n, 2, 3) by their ends as napari has them: start and direction."""
    return np.stack([lines[:, 0], lines[:, 1] - lines[:, 0]], axis=1)


def _size(layer: Layer) -> float:
    """The largest extent of a layer, in its world's units."""
    low, high = np.asarray(layer.extent.world)
    return float(np.max(high - low)) or 1.0


def log_map(values: np.ndarray, floor: float) -> np.ndarray:
    """log10 of |values| relative to the largest, not below ``floor``; for viewing only."""
    magnitude = np.abs(values)
    return np.log10(np.maximum(magnitude / max(float(magnitude.max()), 1e-30), floor)).astype(np.float32)


def volume_images(name: str, values: np.ndarray, grid: VolumeGrid, **kwargs: Any) -> list[Image]:
    """A volume (z, y, x) as an image, a complex one as its phase, hidden, and its magnitude."""
    if not np.iscomplexobj(values):
        return [_image(values, name, grid, **kwargs)]
    phase = _image(np.angle(values), f"{name} · phase", grid, colormap="hsv", contrast_limits=(-np.pi, np.pi))
    phase.visible = False
    return [phase, _image(np.abs(values), name, grid, **kwargs)]


def stored_images(name: str, stored: StoredVolume) -> list[Image]:
    """The same of a volume on disk, which is read where it is looked at; ``refresh`` shows what came since."""
    images = []
    for channel, levels in reversed(stored.levels.items()):
        is_phase = channel == CHANNELS[1]
        limits = (-np.pi, np.pi) if is_phase else contrast(np.asarray(levels[-1]))
        image = Image(
            levels if len(levels) > 1 else levels[0],
            multiscale=len(levels) > 1,
            name=f"{name} · phase" if is_phase else name,
            colormap="hsv" if is_phase else "gray",
            contrast_limits=limits,
            visible=not is_phase,
            **placement(stored.grid),
        )
        images.append(image)
    return images


def _image(values: np.ndarray, name: str, grid: VolumeGrid, **kwargs: Any) -> Image:
    kwargs.setdefault("contrast_limits", contrast(values))
    data = np.asarray(values, dtype=np.float32)
    if data.size > LARGE:
        return Image(levels(data), multiscale=True, name=name, **placement(grid), **kwargs)
    return Image(data, name=name, **placement(grid), **kwargs)


def levels(values: np.ndarray) -> list[np.ndarray]:
    """A volume (z, y, x) and views of every second, fourth, … voxel of it, which take no memory."""
    found = [values]
    while max(found[-1].shape) > COARSEST:
        z, y, x = (2 if n > 1 else 1 for n in found[-1].shape)
        found.append(found[-1][::z, ::y, ::x])
    return found


def values_of(layer: Layer) -> np.ndarray:
    """The array of a layer, the finest level of one that has several."""
    data: np.ndarray = layer.data[0] if getattr(layer, "multiscale", False) else layer.data
    return data


def scan_layers(scan: Scan) -> list[Image]:
    """The measurements as layers: projections, the logarithm of k-space over all coils, or the measured image."""
    if isinstance(scan.geometry, (CartesianSampling, NonCartesianSampling)):
        total = np.sqrt((np.abs(scan.measurements) ** 2).sum(0))
        total = scan.geometry.on_grid(total) if isinstance(scan.geometry, NonCartesianSampling) else total
        floor = float(total.max()) * 1e-5 or 1.0
        values = np.log10(np.maximum(total, floor)).astype(np.float32)
        return [Image(values, name=f"{scan.name} · k-space (log10)", **placement(scan.grid))]
    data = np.asarray(scan.measurements, dtype=np.float32)
    if isinstance(scan.geometry, BlurredSampling):
        return [_image(data, f"{scan.name} · measured", scan.grid.resample(data.shape))]
    limits = contrast(data)
    return [Image(data, name=f"{scan.name} · projections", contrast_limits=limits, **projections_placement(scan))]
