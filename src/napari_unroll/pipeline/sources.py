"""Where a scan comes from: a file, or ``sample:NAME`` for a generated one. One spelling for shell, records and docks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from inspect import signature
from typing import Any

from napari_unroll.errors import ParameterError
from napari_unroll.io import registry
from napari_unroll.scan.scan import Scan

PREFIX = "sample:"
SAMPLES = ("cone-beam", "multi-coil", "deblur", "super-resolution")


def _generator(name: str) -> Callable[..., Scan]:
    """The function that makes a sample; imported here, so that reading a file loads no physics."""
    if name not in SAMPLES:
        raise ParameterError(
            f"Expected one of the samples {', '.join(PREFIX + n for n in SAMPLES)}; got {PREFIX + name!r}."
        )
    from napari_unroll.physics import samples

    generators: dict[str, Callable[..., Scan]] = {
        "cone-beam": samples.sample_cone_beam,
        "multi-coil": samples.sample_multicoil,
        "deblur": samples.sample_deblur,
        "super-resolution": samples.sample_super_resolution,
    }
    return generators[name]


def open_scan(source: str, options: Mapping[str, Any] | None = None) -> Scan:
    """The scan that ``source`` names; ``options`` are the reader's or the generator's.

    Raises FileFormatError for a bad file, ParameterError for a wrong option or an unknown sample.
    """
    options = dict(options or {})
    return (
        sample(source.removeprefix(PREFIX), options) if source.startswith(PREFIX) else registry.read(source, **options)
    )


def describe(source: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The facts of a source, for people; see ``io.registry.describe``."""
    if not source.startswith(PREFIX):
        return registry.describe(source, **dict(options or {}))
    name = source.removeprefix(PREFIX)
    facts = registry.summary(sample(name, options))
    known = {k: f"default {p.default}" for k, p in signature(_generator(name)).parameters.items()}
    return {"source": source, **facts, "options": known}


def sample(name: str, options: Mapping[str, Any] | None = None) -> Scan:
    """A generated scan whose provenance says how to generate it again."""
    generate = _generator(name)
    options = dict(options or {})
    known = list(signature(generate).parameters)
    for option in options:
        if option not in known:
            raise ParameterError(f"The sample {name} has no option {option!r}; it has {', '.join(known)}.")
    scan = generate(**options)
    made = replace(scan.provenance, source=PREFIX + name, options=tuple(sorted(options.items())))
    return replace(scan, provenance=made)
