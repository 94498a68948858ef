"""A drawing of the scan: source, detector, rays and volume from above and from the side; the k-space samples, or the blur.

Paints values; computes nothing but screen positions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QImage, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QWidget

from napari_unroll.gui.curve import SERIES
from napari_unroll.gui.theme import Theme
from napari_unroll.scan.geometry import ConeBeam
from napari_unroll.scan.scan import Scan

_MARGIN = 10.0


class GeometryView(QWidget):
    """Two small drawings of a CT geometry (x–y from above, the plane of the rays with z from the side), the mask, or the blur."""

    def __init__(self, colours: Theme) -> None:
        super().__init__()
        self._colours = colours
        self.scan: Scan | None = None
        self.view = 0
        self.setFixedHeight(170)

    def sizeHint(self) -> QSize:
        return QSize(300, 170)

    def show_scan(self, scan: Scan | None) -> None:
        """Draw another scan."""
        self.scan, self.view = scan, 0
        self.update()

    def show_view(self, view: int) -> None:
        """Draw another view of the scan."""
        self.view = view
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.fillRect(self.rect(), self._colours["background"].darker(115))
        half = self.width() / 2
        panels = [QRectF(0, 0, half, self.height()), QRectF(half, 0, half, self.height())]
        if self.scan is None:
            self._caption(painter, QRectF(self.rect()), "no scan", Qt.AlignmentFlag.AlignCenter)
        elif self.scan.modality == "mri":
            self._paint_mask(painter, panels)
        elif self.scan.modality == "image":
            self._paint_kernel(painter, panels)
        else:
            self._paint_ct(painter, panels)
        painter.end()

    def _paint_ct(self, painter: QPainter, panels: list[QRectF]) -> None:
        for panel, title, axes in zip(
            panels, ("from above", "from the side"), (self._above(), self._side()), strict=True
        ):
            drawing = _Drawing(painter, panel.adjusted(_MARGIN, 18, -_MARGIN, -_MARGIN), axes["points"])
            if "path" in axes:
                drawing.dots(axes["path"], self._colours["text"].darker(160))
            drawing.polygon(axes["volume"], QColor(SERIES[2]))
            drawing.polygon(axes["fan"], QColor(255, 200, 80, 150), fill=QColor(255, 200, 80, 35))
            drawing.line(axes["detector"], QColor(SERIES[0]), 3)
            if "source" in axes:
                drawing.dots(axes["source"], QColor(SERIES[1]), 4)
            drawing.cross(self._colours["text"])
            self._caption(painter, panel.adjusted(6, 2, -4, 0), title)

    def _above(self) -> dict[str, Any]:
        """The x–y plane, x to the right, y up."""
        return self._project(np.eye(3)[:2], np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]]))

    def _side(self) -> dict[str, Any]:
        """The plane spanned by the present central ray (to the right) and z (up)."""
        v = self.scan.geometry.vectors[self.view]  # type: ignore[union-attr]
        ray = v[3:6] - v[:3] if isinstance(self.scan.geometry, ConeBeam) else v[:3].copy()  # type: ignore[union-attr]
        ray[2] = 0
        along = ray / max(float(np.linalg.norm(ray)), 1e-12)
        return self._project(np.stack([along, [0, 0, 1]]), np.array([[0, 0, 1], [0, 0, -1]]))

    def _project(self, plane: np.ndarray, edges: np.ndarray) -> dict[str, Any]:
        scan = self.scan
        assert scan is not None
        geometry, v = scan.geometry, scan.geometry.vectors[self.view]  # type: ignore[union-attr]
        rows, columns = geometry.detector_shape  # type: ignore[union-attr]
        half_u, half_v = 0.5 * columns * v[6:9], 0.5 * rows * v[9:12]
        corners = np.array([v[3:6] + a * half_u + b * half_v for a in (-1, 1) for b in (-1, 1)]) @ plane.T
        detector = corners[np.argsort(corners @ _widest(corners))][[0, -1]]
        volume = _hull_box(scan, plane)
        if isinstance(geometry, ConeBeam):
            source = v[None, :3] @ plane.T
            path = geometry.vectors[:, :3] @ plane.T
            fan = np.vstack([source, detector])
            return {"source": source, "path": path, "detector": detector, "fan": fan, "volume": volume,
                    "points": np.vstack([path, detector, volume])}  # fmt: skip
        return self._parallel(v, plane, detector, volume)

    def _parallel(self, v: np.ndarray, plane: np.ndarray, detector: np.ndarray, volume: np.ndarray) -> dict[str, Any]:
        """Parallel rays, drawn as a band as long as the volume is wide; the detector behind the volume."""
        ray = (v[:3] / np.linalg.norm(v[:3])) @ plane.T
        reach = 0.75 * float(np.ptp(volume, axis=0).max())
        middle = (detector.mean(0) @ ray) * ray
        front, behind = detector - middle - reach * ray, detector - middle + reach * ray
        return {"detector": behind, "fan": np.vstack([front, behind[::-1]]), "volume": volume,
                "points": np.vstack([front, behind, volume])}  # fmt: skip

    def _paint_mask(self, painter: QPainter, panels: list[QRectF]) -> None:
        geometry: Any = self.scan.geometry  # type: ignore[union-attr]
        trajectory = getattr(geometry, "trajectory", None)
        mask = geometry.mask if trajectory is None else geometry.on_grid(np.ones(trajectory.shape[:2])) > 0
        middle = [n // 2 for n in mask.shape]
        pictures = ((mask[middle[0]], "samples, ky–kx"), (mask[:, middle[1]], "samples, kz–kx"))
        self._paint_pictures(painter, panels, [(np.where(p, 230, 30), title) for p, title in pictures])

    def _paint_kernel(self, painter: QPainter, panels: list[QRectF]) -> None:
        """What a point becomes: dark where the kernel is zero."""
        kernel = np.abs(self.scan.geometry.kernel)  # type: ignore[union-attr]
        grey = 30 + 200 * kernel / kernel.max()
        middle = [n // 2 for n in kernel.shape]
        pictures = [(grey[middle[0]], "blur of a point, y–x"), (grey[:, middle[1]], "blur of a point, z–x")]
        self._paint_pictures(painter, panels, pictures if len(kernel) > 1 else pictures[:1])

    def _paint_pictures(self, painter: QPainter, panels: list[QRectF], pictures: list[tuple[np.ndarray, str]]) -> None:
        """Grey values (row, column) of 0 to 255, as large as they fit, with their titles."""
        for panel, (picture, title) in zip(panels, pictures, strict=False):
            target = panel.adjusted(_MARGIN, 20, -_MARGIN, -_MARGIN)
            data = np.ascontiguousarray(picture.astype(np.uint8))
            image = QImage(data.data, data.shape[1], data.shape[0], data.shape[1], QImage.Format.Format_Grayscale8)
            size = min(target.width() / data.shape[1], target.height() / data.shape[0])
            area = QRectF(0, 0, size * data.shape[1], size * data.shape[0])
            area.moveCenter(target.center())
            painter.drawImage(area, image)
            self._caption(painter, panel.adjusted(6, 2, -4, 0), title)

    def _caption(
        self, painter: QPainter, where: QRectF, text: str, align: Qt.AlignmentFlag = Qt.AlignmentFlag.AlignTop
    ) -> None:
        painter.setPen(self._colours["text"])
        font = painter.font()
        font.setPointSizeF(8.5)
        painter.setFont(font)
        painter.drawText(where, int(align), text)


def _widest(points: np.ndarray) -> np.ndarray:
    """The direction in which points in a plane spread most."""
    return np.linalg.svd(points - points.mean(0))[2][0]


def _hull_box(scan: Scan, plane: np.ndarray) -> np.ndarray:
    """The outline of the volume in a plane, as a closed polygon."""
    from scipy.spatial import ConvexHull

    half = 0.5 * np.array(scan.grid.size_mm[::-1])
    centre = np.array(scan.grid.center_mm[::-1])
    signs = np.array(np.meshgrid(*[(-1, 1)] * 3)).reshape(3, -1).T
    points = (centre + signs * half) @ plane.T
    return points[ConvexHull(points).vertices]


class _Drawing:
    """Millimetres to pixels in one panel, with the same scale on both axes."""

    def __init__(self, painter: QPainter, area: QRectF, points: np.ndarray) -> None:
        self._painter = painter
        low, high = np.minimum(points.min(0), 0), np.maximum(points.max(0), 0)
        extent = np.maximum(high - low, 1e-9)
        self._scale = min(area.width() / extent[0], area.height() / extent[1])
        self._centre, self._middle = area.center(), 0.5 * (low + high)

    def _at(self, point: np.ndarray) -> QPointF:
        dx, dy = (point - self._middle) * self._scale
        return QPointF(self._centre.x() + dx, self._centre.y() - dy)

    def line(self, points: np.ndarray, colour: QColor, width: float) -> None:
        self._painter.setPen(QPen(colour, width))
        self._painter.drawLine(self._at(points[0]), self._at(points[1]))

    def polygon(self, points: np.ndarray, colour: QColor, fill: QColor | None = None) -> None:
        self._painter.setPen(QPen(colour, 1.2))
        self._painter.setBrush(fill or Qt.BrushStyle.NoBrush)
        self._painter.drawPolygon(QPolygonF([self._at(p) for p in points]))
        self._painter.setBrush(Qt.BrushStyle.NoBrush)

    def dots(self, points: np.ndarray, colour: QColor, radius: float = 1.0) -> None:
        self._painter.setPen(Qt.PenStyle.NoPen)
        self._painter.setBrush(colour)
        for point in points[:: max(1, len(points) // 400)]:
            self._painter.drawEllipse(self._at(point), radius, radius)
        self._painter.setBrush(Qt.BrushStyle.NoBrush)

    def cross(self, colour: QColor) -> None:
        """The rotation axis or isocentre."""
        at = self._at(np.zeros(2))
        self._painter.setPen(QPen(colour, 1))
        self._painter.drawLine(at - QPointF(4, 0), at + QPointF(4, 0))
        self._painter.drawLine(at - QPointF(0, 4), at + QPointF(0, 4))
