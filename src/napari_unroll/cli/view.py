"""Methods and quality as text for a terminal. Computes nothing but quality against a known truth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import typer

from napari_unroll.methods.problem import Method
from napari_unroll.pipeline.metrics import psnr, ssim
from napari_unroll.pipeline.params import FieldSpec, fields
from napari_unroll.scan.scan import MODALITIES


def print_method(method: Method) -> None:
    """Name, title, what it is for, and its parameters."""
    where = ", ".join(title for m, title in MODALITIES.items() if m in method.modalities)
    needs = ", with trained weights" if method.needs_weights else ""
    typer.echo(f"{method.name}: {method.title} ({where}{needs})")
    typer.echo(f"    {method.summary}")
    for spec in fields(method.params):
        typer.echo(f"    {spec.name} = {default_text(spec)}{_allowed(spec)}  {spec.help}")
    typer.echo("")


def method_facts(method: Method) -> dict[str, Any]:
    """What a program wants to know of a method; ``params`` is the JSON schema of its record."""
    return {
        "name": method.name,
        "title": method.title,
        "summary": method.summary,
        "source": method.source,
        "modalities": sorted(method.modalities),
        "iterative": method.iterative,
        "patchwise": method.patchwise,
        "needs_weights": method.needs_weights,
        "params": method.params.model_json_schema(),
    }


def default_text(spec: FieldSpec) -> str:
    """The default as it is typed on the command line."""
    return str(spec.default).lower() if isinstance(spec.default, bool) else str(spec.default)


def _allowed(spec: FieldSpec) -> str:
    """Limits or choices in brackets, empty where anything goes."""
    if spec.choices:
        return f" [{'|'.join(spec.choices)}]"
    low = "" if spec.minimum is None else f"{'>' if 'gt' in spec.exclusive else '≥'} {spec.minimum:g}"
    high = "" if spec.maximum is None else f"{'<' if 'lt' in spec.exclusive else '≤'} {spec.maximum:g}"
    inside = ", ".join(t for t in (low, high) if t)
    return f" [{inside}{' ' + spec.unit if spec.unit else ''}]" if inside or spec.unit else ""


def print_quality(volume: np.ndarray, truth: np.ndarray | None) -> None:
    """PSNR and SSIM where the truth is known."""
    if truth is not None:
        similarity = ssim(volume, truth)
        more = "" if math.isnan(similarity) else f", SSIM {similarity:.3f}"
        typer.echo(f"Against the known truth: PSNR {psnr(volume, truth):.2f} dB{more}.")
