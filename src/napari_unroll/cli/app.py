"""napari-unroll on the command line: info, fit, choose, reconstruct, methods, evaluate, demo.

The same pipeline as the docks, consumed in a loop with a progress bar. What goes wrong is one sentence on stderr.
Exit codes: 0 done, 1 the run failed, 2 a bad file or parameter, 130 cancelled.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from napari_unroll.cli.choose import choose
from napari_unroll.cli.evaluate import evaluate
from napari_unroll.errors import ParameterError, UnrollError, shortened
from napari_unroll.shutdown import end_quickly


class _Sentences(TyperGroup):
    """Every expected error is one sentence on stderr and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UnrollError as error:
            typer.echo(f"napari-unroll: {error}", err=True)
            raise typer.Exit(2) from None
        except BrokenPipeError:
            raise
        except OSError as error:
            text = shortened(f"{error.filename or 'A file'} cannot be read or written: {error.strerror or error}.")
            typer.echo(f"napari-unroll: {text} Check the name, the permissions and the room on the disk.", err=True)
            raise typer.Exit(2) from None


app = typer.Typer(
    name="napari-unroll",
    cls=_Sentences,
    help="3-D reconstruction with deep unrolled networks. FILE is a scan, or a sample such as sample:cone-beam.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

File = Annotated[
    str,
    typer.Argument(metavar="FILE", help="A scan, or sample:cone-beam, …:multi-coil, …:deblur, …:super-resolution."),
]
Options = Annotated[
    list[str],
    typer.Option("--option", "-o", metavar="NAME=VALUE", help="An option of the file's reader; see info FILE."),
]
Sets = Annotated[list[str], typer.Option("--set", "-s", metavar="NAME=VALUE", help="A parameter; see methods.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]
AllowLinks = Annotated[bool, typer.Option("--allow-links", help="Follow links of FILE into other files.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")]


@app.command()
def info(
    file: File,
    option: Options = [],  # noqa: B006 (typer reads the default)
    allow_links: AllowLinks = False,
    check_geometry: Annotated[
        bool, typer.Option("--check-geometry", help="Project a quick reconstruction over the views (X-rays).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What a file holds: format; what was read, given, inferred, assumed or is missing; contradictions; options."""
    from napari_unroll.cli.facts import print_facts
    from napari_unroll.io.registry import grouped
    from napari_unroll.pipeline.sources import describe

    facts = describe(file, _options(option, allow_links))
    if check_geometry:
        facts["geometry check"] = _checked_geometry(_open(file, option, allow_links))
    if as_json:
        typer.echo(json.dumps(facts, indent=2, default=str))
    else:
        print_facts(grouped(facts))


@app.command()
def methods(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Every method with its parameters, their limits and defaults."""
    from napari_unroll.cli.view import method_facts, print_method
    from napari_unroll.methods.registry import METHODS

    if as_json:
        typer.echo(json.dumps([method_facts(m) for m in METHODS.values()], indent=2))
        return
    for method in METHODS.values():
        print_method(method)


@app.command()
def fit(
    file: File,
    option: Options = [],  # noqa: B006
    allow_links: AllowLinks = False,
    set_: Sets = [],  # noqa: B006
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="Also save the factors as .safetensors.")] = None,
) -> None:
    """Fit the approximation of AᴴA and report its error; --set takes form, n_probes, kernel, n_terms, seed."""
    from napari_unroll.cli.facts import print_facts
    from napari_unroll.cli.progress import run_with_progress
    from napari_unroll.cli.team import joined
    from napari_unroll.io.atomic import check_target
    from napari_unroll.normal.cache import cached_fit
    from napari_unroll.normal.fit import FitOptions
    from napari_unroll.normal.report import facts
    from napari_unroll.normal.storage import save
    from napari_unroll.physics.build import build_physics
    from napari_unroll.pipeline.params import build

    options = build(FitOptions, _assignments(set_), "The fit")
    if out is not None:
        check_target(out, overwrite=True)
    scan = _open(file, option, allow_links)
    physics = build_physics(scan, device)
    with joined(physics.device.type) as is_first:
        finished = run_with_progress(lambda stop: cached_fit(scan, physics, options, stop), "fit")
    if not is_first:
        return
    print_facts({"operator": physics.reason, "form": finished.result.form, **facts(finished.result.info)})
    if out is not None:
        save(finished.result, out)
        typer.echo(f"Wrote {out}.")


@app.command()
def reconstruct(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A scan or a sample; left out with --from.")] = "",
    option: Options = [],  # noqa: B006
    allow_links: AllowLinks = False,
    edit: Annotated[
        list[str],
        typer.Option(
            "--edit",
            metavar="NAME=VALUE",
            help="A change of the scan: shape, spacing_mm, center_mm, axis_shift_px, row_shift_px, turn_deg, tilt_deg.",
        ),
    ] = [],  # noqa: B006
    from_: Annotated[
        Path | None, typer.Option("--from", help="A stored result, which is made again; takes no other choices.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="The .ome.zarr of an interrupted run, which goes on; takes no other choices.")
    ] = None,
    method: Annotated[str, typer.Option("--method", "-m", help="A name from methods, or auto.")] = "auto",
    set_: Sets = [],  # noqa: B006
    out: Annotated[Path, typer.Option(help="Result: .ome.zarr, .tif, .ome.tif, .npy or .h5.")] = Path(
        "result.ome.zarr"
    ),
    device: Device = "auto",
    patch_size: Annotated[str, typer.Option(help="Edge of a patch in voxels, or auto.")] = "auto",
    overlap: Annotated[str, typer.Option(help="Voxels that patches share, or auto.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    max_memory: Annotated[
        str,
        typer.Option("--max-memory", "--max-memory-gb", help="What a run may take, such as 8GB; auto: what is free."),
    ] = "auto",
    normal: Annotated[str, typer.Option(help="Form of the approximated normal operator, or auto.")] = "auto",
    fit: Annotated[
        list[str], typer.Option("--fit", metavar="NAME=VALUE", help="An option of the normal operator's fit; see fit.")
    ] = [],  # noqa: B006
    weights: Annotated[str, typer.Option(help="Shipped weights by name, a .safetensors file, or auto.")] = "auto",
    roi: Annotated[str, typer.Option(help="Only a region: z0,z1 or z0,z1,y0,y1,x0,x1 in voxels.")] = "",
    config: Annotated[Path | None, typer.Option(help="YAML with any of these choices; options given here win.")] = None,
    overwrite: Overwrite = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    on: Annotated[str, typer.Option(help="here, process (goes on without this terminal) or slurm.")] = "here",
    queue: Annotated[
        list[str],
        typer.Option(
            "--queue", metavar="NAME=VALUE", help="Asked of Slurm: partition, account, hours, gpus, cpus, memory_gb."
        ),
    ] = [],  # noqa: B006
) -> None:
    """Reconstruct a volume. Ctrl-C finishes with what there is; a second Ctrl-C cancels."""
    from napari_unroll.cli.facts import print_facts
    from napari_unroll.cli.keep import check_place, go_on, keep, place_of, send
    from napari_unroll.io.writers import suffix_of
    from napari_unroll.pipeline.edits import Edits, edited
    from napari_unroll.pipeline.params import build
    from napari_unroll.pipeline.plan import resolve
    from napari_unroll.pipeline.repeat import open_result, plan_of

    asked = {
        "method": method, "params": _assignments(set_), "patch_size": _edge(patch_size), "overlap": _edge(overlap),
        "device": device, "precision": precision, "normal": normal, "fit": _assignments(fit), "weights": weights,
        "max_memory_gb": _gigabytes(max_memory),
    }  # fmt: skip
    place = place_of(on, _assignments(queue), out if resume is None else resume)
    if resume is not None:
        _refuse_choices("--resume", {**asked, "file": file, "option": option, "links": allow_links, "edit": edit,
                                     "from": from_, "roi": roi, "config": config})  # fmt: skip
        go_on(resume) if place is None else send(place, resume)
        return
    suffix_of(out)
    check_place(out, overwrite)
    if from_ is None:
        scan = edited(_open(file, option, allow_links), build(Edits, _assignments(edit), "The change"))
        plan = resolve(_choices(asked, roi, config, scan), scan)
    else:
        _refuse_choices("--from", {**asked, "file": file, "option": option, "links": allow_links, "edit": edit,
                                   "roi": roi, "config": config})  # fmt: skip
        stored = open_result(from_)
        scan, plan = stored.scan, plan_of(stored)
    if dry_run:
        print_facts(plan.facts)
    elif place is None:
        keep(plan, scan, out, overwrite)
    else:
        send(place, out, plan, overwrite)


@app.command()
def train(
    config: Annotated[Path | None, typer.Option(help="YAML with a training plan; options given here win.")] = None,
    modality: Annotated[str | None, typer.Option(help="ct, mri or image.")] = None,
    method: Annotated[str | None, typer.Option("--method", "-m", help="Method whose network is trained.")] = None,
    levels: Annotated[
        str,
        typer.Option(
            "--views", "--accelerations", "--factors", help="Views (CT), accelerations (MRI) or factors (image)."
        ),
    ] = "",
    size: Annotated[int | None, typer.Option(help="Voxels along an edge of generated scanners.")] = None,
    scanner: Annotated[
        str | None, typer.Option(help="Scan file whose geometry, or mask and coils, to train for.")
    ] = None,
    volumes: Annotated[str | None, typer.Option(help="Folder of volumes to train on; else generated objects.")] = None,
    scans: Annotated[str | None, typer.Option(help="Folder of scan files with their truth, used as they are.")] = None,
    initial: Annotated[str | None, typer.Option(help="Shipped weights or a .safetensors file to start from.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Time for the training itself (60 unless told).")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the weights.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for samples, state and weights.")] = Path("unroll-training"),
    device: Device = "auto",
    set_: Annotated[
        list[str],
        typer.Option("--set", "-s", metavar="NAME=VALUE", help="Any part of the plan, such as options.batch_size=4."),
    ] = [],  # noqa: B006
) -> None:
    """Train a network. Ctrl-C finishes with the best so far; after a kill the same command goes on."""
    from napari_unroll.cli.train import parse_levels, run_training

    asked = {
        "modality": modality, "method": method, "levels": parse_levels(levels), "size": size, "scanner": scanner,
        "volumes": volumes, "scans": scans, "initial": initial, "name": name,
        "options.max_seconds": None if minutes is None else 60 * minutes,
    }  # fmt: skip
    run_training(asked, set_, config, out, device)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the metrics, the volume and the screenshot.")] = Path(
        "unroll-demo"
    ),
    headless: Annotated[bool, typer.Option("--headless", help="Under a virtual screen, then exit.")] = False,
    size: Annotated[int, typer.Option(min=16, max=512, help="Voxels along an edge of the sample.")] = 96,
    views: Annotated[int, typer.Option(min=4, max=2000, help="Projections of the sample.")] = 50,
    window: Annotated[bool, typer.Option(help="Open napari (without: numbers and volume only).")] = True,
) -> None:
    """The main job on a generated cone-beam scan: fit, FDK, total variation, unrolled network; volume, numbers, picture."""
    from napari_unroll.cli.demo import run_demo

    run_demo(out, headless=headless, size=size, views=views, window=window)


app.command()(choose)
app.command()(evaluate)


def _assignments(texts: list[str]) -> dict[str, Any]:
    from napari_unroll.pipeline.params import parse_assignments

    return parse_assignments(texts)


def _refuse_choices(option: str, asked: dict[str, Any]) -> None:
    """What a stored result or an unfinished run holds is not asked for again."""
    given = [name for name, value in asked.items() if value and value != "auto"]
    if given:
        raise ParameterError(f"{option} repeats a run as it was begun; leave out {', '.join(given)}.")


def _options(texts: list[str], allow_links: bool) -> dict[str, Any]:
    """Of a reader."""
    return _assignments(texts) | ({"allow_links": True} if allow_links else {})


def _open(file: str, option: list[str], allow_links: bool) -> Any:
    from napari_unroll.pipeline.sources import open_scan

    if not file:
        raise ParameterError("Expected a scan file or a sample such as sample:cone-beam; got nothing.")
    return open_scan(file, _options(option, allow_links))


def _checked_geometry(scan: Any) -> dict[str, Any]:
    """What the geometry check says, and what would mend the axis."""
    from napari_unroll.cli.progress import run_with_progress
    from napari_unroll.pipeline.geometry_check import check_geometry

    found = run_with_progress(lambda stop: check_geometry(scan, stop), "geometry check").result
    facts = {"verdict": found.verdict, "correlation": found.correlation, "residual": found.residual}
    mend = {"mended by": f"reconstruct --edit axis_shift_px={found.shift_px:.2f}"}
    return facts | (mend if found.axis_is_off else {})


def _edge(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text


def _gigabytes(text: str) -> str:
    """8, 8GB and 8000 MB as "8"; anything else is left to the record, which says what is wrong."""
    plain = text.replace(" ", "").upper().removesuffix("B")
    if plain.endswith("M"):
        with suppress(ValueError):
            return str(float(plain[:-1]) / 1000)
    return plain.removesuffix("G") if text != "auto" else text


def _choices(asked: dict[str, Any], roi: str, config: Path | None, scan: Any) -> Any:
    """What was asked for here, over the file's choices, over the defaults."""
    from napari_unroll.pipeline.params import build, read_yaml
    from napari_unroll.pipeline.plan import Choices, parse_roi

    given = {k: v for k, v in asked.items() if v not in ("auto", {})}
    if roi:
        given["roi"] = parse_roi(roi, scan.grid.shape)
    base = {} if config is None else read_yaml(config)
    merged = {**base, **given, "params": {**base.get("params", {}), **given.get("params", {})}}
    return build(Choices, merged, "The run")


def main() -> None:
    """Entry point of the ``napari-unroll`` command."""
    end_quickly()
    app()
