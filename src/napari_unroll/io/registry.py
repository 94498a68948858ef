"""Every format that is read, and the one way in: ``read(path, **options)``.

The format is found by content, never by the suffix alone. The formats know nothing of this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from napari_unroll.errors import FileFormatError, LargeScan, MissingInformation, ParameterError
from napari_unroll.io import (
    bart,
    blurred_picture,
    calgary,
    cil,
    dxchange,
    emd,
    fastmri,
    fits_stack,
    hspy,
    kspace,
    mat_kspace,
    matlab,
    mrc,
    mrd,
    nikon,
    numpy_ct,
    nxtomo,
    radial,
    radial_npy,
    raw,
    scan_file,
    siemens,
    skyscan,
    tiff_stack,
    walnut,
    zeiss,
)
from napari_unroll.io.corrections import preview
from napari_unroll.io.ct_options import CORRECTIONS, REPAIRS, CorrectionOptions
from napari_unroll.io.guards import (
    LARGE_BYTES,
    container,
    file_hash,
    files_of,
    following_links,
    loading_at_most,
    readable,
    translated,
)
from napari_unroll.io.reader import Reader, allows_links, parse_options
from napari_unroll.io.unknown import unsupported
from napari_unroll.scan.blurring import BlurredSampling
from napari_unroll.scan.contradictions import contradictions
from napari_unroll.scan.geometry import CartesianSampling, ConeBeam
from napari_unroll.scan.grids import axis_column
from napari_unroll.scan.noise import measured_noise
from napari_unroll.scan.scan import Origin, Provenance, Scan
from napari_unroll.scan.trajectories import NonCartesianSampling

READERS: tuple[Reader, ...] = (
    scan_file.READER,
    dxchange.READER,
    cil.READER,
    nxtomo.READER,
    radial.HDF5_READER,
    mrd.READER,
    fastmri.READER,
    calgary.READER,
    mat_kspace.HDF5_READER,
    mat_kspace.MAT_READER,
    matlab.HDF5_READER,
    hspy.READER,
    emd.READER,
    mrc.READER,
    siemens.READER,
    bart.CFL_READER,
    bart.RA_READER,
    walnut.READER,
    walnut.SET_READER,
    nikon.FOLDER_READER,
    skyscan.FOLDER_READER,
    tiff_stack.FOLDER_READER,
    tiff_stack.FILE_READER,
    fits_stack.FOLDER_READER,
    fits_stack.FILE_READER,
    blurred_picture.TIFF_READER,
    radial.NPZ_READER,
    kspace.NPZ_READER,
    numpy_ct.NPZ_READER,
    radial_npy.READER,
    kspace.NPY_READER,
    numpy_ct.NPY_READER,
    blurred_picture.PNG_READER,
    matlab.READER,
    zeiss.READER,
    nikon.READER,
    skyscan.READER,
    raw.READER,
    raw.RAW_READER,
)
"""In the order in which they are asked."""
FORMATS: dict[str, Reader] = {reader.name: reader for reader in READERS}
CONTAINERS = {
    "folder": "a folder",
    "hdf5": "an HDF5 file",
    "npy": "a .npy file",
    "npz": "a .npz archive",
    "tiff": "a TIFF file",
    "png": "a PNG file",
    "mrc": "an MRC file",
    "mat": "a MATLAB file",
    "ole": "an OLE container",
    "bart": "a BART array",
    "rawarray": "a raw array",
    "siemens": "Siemens raw data",
    "fits": "a FITS file",
    "text": "a text file",
    "": "a file of raw numbers",
}


def find_reader(path: Path | str) -> Reader:
    """The format of a file or folder, by its content.

    Raises FileFormatError when nothing is there, when it is damaged, or when no format fits.
    """
    path = Path(path).expanduser()
    kind = container(path)
    candidates = [reader for reader in READERS if reader.container == kind]
    for reader in candidates:
        with translated(path, CONTAINERS[kind]):
            if reader.sniff(path):
                return reader
    raise FileFormatError(unsupported(path, kind, CONTAINERS.get(kind, ""), READERS))


def read(path: Path | str, *, format: str | None = None, **options: Any) -> Scan:
    """Read measurements of any known format.

    ``options`` are fields of the format's option record (see ``find_reader(path).options``), as values or as their
    text; ``format`` is a name in FORMATS where the content should not decide.

    Raises FileFormatError for whatever is wrong with the file (MissingInformation where an option must supply what it
    lacks) and ParameterError for a wrong option.
    """
    with following_links(allows_links(options)):
        return _read(Path(path).expanduser(), format, options)


LESS = ("view_step", "bin", "rows", "slice", "first")
"""Options by which less is loaded."""


def look(path: Path | str, **options: Any) -> Scan:
    """As :func:`read`, but a scan of more than LARGE_BYTES of memory is left where it is, with only its header read.

    Raises LargeScan then, which says how much it would take, and by which options less of it is loaded.
    """
    try:
        with loading_at_most(LARGE_BYTES):
            return read(path, **options)
    except LargeScan as large:
        with following_links(allows_links(options)):
            known = [name for name in LESS if name in find_reader(path).options.model_fields]
        less = f"Choose less by option {', '.join(map(repr, known))}, or read it as it is." if known else ""
        raise LargeScan(f"{large} {less}".strip(), *known) from None


def _read(path: Path, format: str | None, options: Mapping[str, Any]) -> Scan:
    reader = _reader_named(path, format) if format else find_reader(path)
    record = parse_options(reader, options)
    with translated(path, reader.title):
        scan = reader.read(path, record)
        saved = scan.provenance
        changed = (*record.changed(), *([("format", format)] if format else []))
        digest = file_hash(path, *reader.beside(path))
        made = Provenance(source=str(path), format=reader.name, sha256=digest, seed=saved.seed, options=changed)
        notes = (*scan.notes, f"Saved from {saved.source}, with any changes of it.") if saved.source else scan.notes
        return replace(scan, provenance=made, notes=notes)


def _reader_named(path: Path, name: str) -> Reader:
    if name not in FORMATS:
        raise ParameterError(f"There is no format {name!r}; choose one of: {', '.join(FORMATS)}.")
    kind = container(path)
    if FORMATS[name].container != kind:
        what = CONTAINERS.get(kind, "of a kind that is not known")
        raise FileFormatError(
            f"{path.name} is {what}; {FORMATS[name].title} needs {CONTAINERS[FORMATS[name].container]}."
        )
    return FORMATS[name]


def preview_corrections(
    path: Path | str, *, row: int | None = None, view: int | None = None, **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """A sinogram (view, column) or a view (row, column) of a CT file before and after the corrections in ``options``.

    Raises what :func:`look` raises; ParameterError where the file is no CT scan.
    """
    with following_links(allows_links(options)):
        reader = find_reader(path)
    record = parse_options(reader, options)
    if not isinstance(record, CorrectionOptions):
        raise ParameterError(f"{reader.title} has no corrections; they are for X-ray projections.")
    plain = {name: value for name, value in options.items() if name not in CORRECTIONS}
    repairs = {name: value for name, value in options.items() if name in REPAIRS}
    scan = look(path, **plain)
    repaired = read(path, **plain, **repairs) if repairs else scan
    return preview(scan, repaired, record, row=row, view=view)


def describe(path: Path | str, **options: Any) -> dict[str, Any]:
    """What a file holds, for people: format, size, options, and the scan's facts or what is missing to make one.

    Raises FileFormatError for files that no option can mend.
    """
    path = Path(path).expanduser()
    with following_links(allows_links(options)):
        reader = find_reader(path)
    size = sum(p.stat().st_size for p in {*files_of(path), *reader.beside(path)})
    facts: dict[str, Any] = {"path": str(path), "format": reader.title, "size": readable(size)}
    try:
        facts |= summary(look(path, **options))
    except LargeScan as large:
        facts["not loaded"] = str(large)
    except MissingInformation as missing:
        facts["missing"] = str(missing)
    return facts | {"options": option_help(reader)}


def option_help(reader: Reader) -> Mapping[str, str]:
    """Name → description of a reader's options."""
    return {name: field.description or "" for name, field in reader.options.model_fields.items()}


def summary(scan: Scan) -> dict[str, Any]:
    """The facts of a scan, for people: what was measured, the geometry in mm and degrees, the volume, the notes.

    ``origins`` say of each fact where it comes from; ``contradictions`` name what does not fit together.
    """
    geometry, values = scan.geometry, scan.measurements
    facts: dict[str, Any] = {"name": scan.name, "modality": scan.modality, "measurements": tuple(values.shape)}
    if isinstance(geometry, CartesianSampling):
        facts |= {"coils": geometry.n_coils, "acceleration": round(geometry.acceleration, 3)}
        facts |= {"coil maps": "given" if scan.csm is not None else "estimated"}
    elif isinstance(geometry, NonCartesianSampling):
        shots, readout = geometry.trajectory.shape[:2]
        facts |= {"coils": geometry.n_coils, "trajectory": f"{shots} shots of {readout} samples"}
        facts |= {"coil maps": "given" if scan.csm is not None else "estimated"}
    else:
        facts |= _blur(geometry) if isinstance(geometry, BlurredSampling) else _beam(geometry)
        facts |= {"value range": (float(values.min()), float(values.max()))}
    noise = measured_noise(scan)
    facts |= {} if noise is None else {"noise": noise.text}
    facts |= {"volume": scan.grid.shape, "voxel mm": scan.grid.spacing_mm, "truth": scan.truth is not None}
    return facts | {"origins": _origins(scan, facts), "contradictions": contradictions(scan), "notes": list(scan.notes)}


def _origins(scan: Scan, facts: Mapping[str, Any]) -> dict[str, Origin]:
    """Where each of the facts comes from."""
    origins: dict[str, Origin] = dict.fromkeys(facts, "read")
    origins |= dict.fromkeys(("noise", "value range", "acceleration", "volume"), "inferred")
    if scan.modality == "ct":
        origins["voxel mm"] = "inferred"
    if scan.csm is None:
        origins["coil maps"] = "inferred"
    return {name: origin for name, origin in (origins | dict(scan.origins)).items() if name in facts}


def grouped(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of :func:`summary` or :func:`describe` as a tree: what was read, given, inferred, assumed.

    Empty groups are left out; what has no origin (path, notes, what is missing) stays beside them.
    """
    origins = facts.get("origins", {})
    tree = {name: value for name, value in facts.items() if name not in origins and name != "origins"}
    late = {
        name: tree.pop(name) for name in ("missing", "not loaded", "contradictions", "notes", "options") if name in tree
    }
    groups = {origin: {n: facts[n] for n, o in origins.items() if o == origin} for origin in get_args(Origin)}
    return tree | {origin: group for origin, group in groups.items() if group} | {k: v for k, v in late.items() if v}


def _blur(geometry: BlurredSampling) -> dict[str, Any]:
    return {"blur kernel": geometry.kernel.shape, "downsampling": geometry.factor}


def _beam(geometry: Any) -> dict[str, Any]:
    angles = np.rad2deg(np.unwrap(geometry.angles_rad))
    facts: dict[str, Any] = {
        "geometry": "cone beam" if isinstance(geometry, ConeBeam) else "parallel beam",
        "angles deg": (float(angles[0].round(3)), float(angles[-1].round(3))),
        "pixel mm": geometry.pixel_mm,
        "rotation axis column": round(axis_column(geometry), 3),
    }
    if isinstance(geometry, ConeBeam):
        facts |= {
            "source to axis mm": geometry.source_origin_mm,
            "source to detector mm": geometry.source_detector_mm,
        }
    return facts
