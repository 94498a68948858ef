"""The XML header of ISMRMRD (MRD) files, which fastMRI's files hold too: matrix sizes, fields of view, limits.

Names of https://ismrmrd.readthedocs.io; no entities are expanded. It knows nothing of samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

from napari_unroll.errors import FileFormatError
from napari_unroll.scan.limits import counts

LARGEST_HEADER = 50_000_000
Node = ElementTree.Element


@dataclass(frozen=True)
class Space:
    """A grid of samples or voxels: ``matrix`` counts (z, y, x) and the field of view in mm, zero where unknown."""

    matrix: tuple[int, int, int]
    fov_mm: tuple[float, float, float]

    @property
    def voxel_mm(self) -> tuple[float, float, float]:
        """(z, y, x)."""
        return tuple(f / n for f, n in zip(self.fov_mm, self.matrix, strict=True))  # type: ignore[return-value]


@dataclass(frozen=True)
class Encoding:
    """One way in which k-space was encoded.

    ``centre``: the steps (z, y) of k = 0, None where the header does not say. ``embedded``: calibration lines belong to the
    image. ``on_ramps``: echo-planar readouts begin before the gradient is flat.
    """

    encoded: Space
    recon: Space
    trajectory: str
    centre: tuple[int | None, int | None]
    embedded: bool
    on_ramps: bool = False

    @property
    def columns(self) -> int:
        """Voxels along x of the field of view to reconstruct, as large as they were encoded: fewer, if oversampled."""
        encoded, recon = self.encoded, self.recon
        if not (recon.fov_mm[2] > 0 and encoded.fov_mm[2] > 0):
            return recon.matrix[2]
        return round(encoded.matrix[2] * min(1.0, recon.fov_mm[2] / encoded.fov_mm[2]))


def parse_header(text: bytes, name: str) -> list[Encoding]:
    """The encodings of a header. Raises FileFormatError for whatever is no such header."""
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise FileFormatError(f"The header of {name} is no plain ISMRMRD XML; write the file again.")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise FileFormatError(f"The XML header of {name} is damaged ({error}); copy the file again.") from error
    found = [_encoding(node, name) for node in root if _tag(node) == "encoding"]
    if not found:
        raise FileFormatError(f"The header of {name} describes no encoding; expected an ISMRMRD header.")
    return found


def _tag(node: Node) -> str:
    return str(node.tag).rsplit("}", 1)[-1]


def _at(node: Node | None, *names: str) -> Node | None:
    for wanted in names:
        node = None if node is None else next((child for child in node if _tag(child) == wanted), None)
    return node


def _text(node: Node | None, *names: str) -> str:
    found = _at(node, *names)
    return "" if found is None else (found.text or "").strip()


def _encoding(node: Node, name: str) -> Encoding:
    limits = _at(node, "encodingLimits")
    centre = tuple(_step(_text(limits, f"kspace_encoding_step_{k}", "center")) for k in (2, 1))
    return Encoding(
        encoded=_space(_at(node, "encodedSpace"), name),
        recon=_space(_at(node, "reconSpace"), name),
        trajectory=_text(node, "trajectory").lower(),
        centre=centre,  # type: ignore[arg-type]
        embedded=_text(node, "parallelImaging", "calibrationMode").lower() == "embedded",
        on_ramps=_begins_on_ramps(_at(node, "trajectoryDescription")),
    )


def _begins_on_ramps(node: Node | None) -> bool:
    """Whether a description of the trajectory has its samples begin (acqDelayTime) before the ramp ends (rampUpTime)."""
    if node is None:
        return False
    told = {_text(child, "name"): _text(child, "value") for child in node}
    ramp, delay = (_step(told.get(name, "")) for name in ("rampUpTime", "acqDelayTime"))
    return ramp is not None and delay is not None and delay < ramp


def _space(node: Node | None, name: str) -> Space:
    matrix = [_text(node, "matrixSize", a) or "0" for a in "zyx"]
    fov = [_text(node, "fieldOfView_mm", a) or "0" for a in "zyx"]
    sizes = counts(matrix, 3, f"The matrix (z, y, x) in the header of {name}")
    try:
        return Space(sizes, tuple(float(v) for v in fov))  # type: ignore[arg-type]
    except ValueError as error:
        raise FileFormatError(
            f"The field of view in the header of {name} is no number; copy the file again."
        ) from error


def _step(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 7 else None
