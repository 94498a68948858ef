"""``napari-unroll choose``: which method best foretells measurements of this scan that no method saw."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer


def choose(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A scan, or a sample such as sample:multi-coil.")],
    option: Annotated[
        list[str],
        typer.Option("--option", "-o", metavar="NAME=VALUE", help="An option of the file's reader; see info FILE."),
    ] = [],  # noqa: B006 (typer reads the default)
    method: Annotated[list[str], typer.Option("--method", "-m", help="A method; may be repeated. None: all.")] = [],  # noqa: B006
    fraction: Annotated[float, typer.Option(help="Part of the measurements that no method sees.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Of the draw of what is left out.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare methods on measurements that are left out; no truth is needed. Ctrl-C ends with what was tried."""
    from napari_unroll.cli.progress import run_with_progress
    from napari_unroll.pipeline.choose import ChoosePlan
    from napari_unroll.pipeline.choose import choose as work
    from napari_unroll.pipeline.params import build, parse_assignments
    from napari_unroll.pipeline.sources import open_scan

    asked = {"methods": tuple(method), "fraction": fraction, "seed": seed, "device": device}
    plan = build(ChoosePlan, asked, "The comparison")
    scan = open_scan(file, parse_assignments(option))
    verdict = run_with_progress(lambda stop: work(scan, plan, stop), "comparison").result
    typer.echo(json.dumps(verdict.as_values(), indent=2) if as_json else "\n".join(table(verdict.rows)))


def table(rows: Sequence[Any]) -> list[str]:
    """A line per run, best first."""
    lines = [f"{'method':<16}{'settings':<10}{'left-out error':<20}{'seconds':>9}{'memory':>12}"]
    for row in rows:
        error = f"{row.error:.2%} ± {row.spread:.2%}"
        lines.append(f"{row.method:<16}{row.settings:<10}{error:<20}{row.seconds:>9.1f}{row.memory_mib:>8.0f} MiB")
    return lines
