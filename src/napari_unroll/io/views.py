"""From stored pictures to line integrals, view by view, so that only what is kept needs memory.

Flat and dark field, repairs and binning of each view; what the numbers are; −log. It knows nothing of geometry or files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from napari_unroll.errors import FileFormatError, ParameterError
from napari_unroll.interrupt import check, stage
from napari_unroll.io.ct_options import LARGEST_AIR, RepairOptions, ValueOptions, ViewOptions
from napari_unroll.io.guards import check_memory, readable
from napari_unroll.io.repairs import Repairs
from napari_unroll.record import shown
from napari_unroll.scan import preprocess_ct as ct

RANGE = re.compile(r"^\s*(\d{1,9})\s*:\s*(\d{1,9})\s*$")
Field = np.ndarray | float
"""A flat or dark field (row, column), or one number for all of it."""


@dataclass(frozen=True, kw_only=True)
class Views:
    """Views of a file, loaded one at a time: ``load(i)`` gives view i as (row, column) in whatever type is stored.

    ``flat`` and ``dark`` are fields for all views, or give that of view i. ``load_rows(i, rows)`` reads only some rows of a
    view, where that is less work than all of them.
    """

    shape: tuple[int, int, int]
    load: Callable[[int], np.ndarray]
    load_rows: Callable[[int, slice], np.ndarray] | None = None
    flat: Field | Callable[[int], Field] | None = None
    dark: Field | Callable[[int], Field] = 0.0
    integer: bool = False

    def transposed(self) -> Views:
        """Rows and columns exchanged."""
        n, rows, cols = self.shape
        flat = None if self.flat is None else lambda i: np.transpose(_of(self.flat, i))
        return replace(
            self,
            shape=(n, cols, rows),
            load=lambda i: self.load(i).T,
            load_rows=None,
            flat=flat,
            dark=lambda i: np.transpose(_of(self.dark, i)),
        )

    def cropped(self, rows: range) -> Views:
        """Only some rows of every view; nothing else is read where the file allows it."""
        if len(rows) == self.shape[1]:
            return self
        part = slice(rows.start, rows.stop)
        load_rows = self.load_rows or (lambda i, rows: self.load(i)[rows])
        return replace(
            self,
            shape=(self.shape[0], len(rows), self.shape[2]),
            load=lambda i: load_rows(i, part),
            load_rows=None,
            flat=None if self.flat is None else lambda i: _rows_of(_of(self.flat, i), part),
            dark=lambda i: _rows_of(_of(self.dark, i), part),
        )

    def corrected(self, i: int) -> np.ndarray:
        """View i after flat and dark field, float32; not finite where the flat field says nothing."""
        raw = np.asarray(self.load(i))
        if raw.shape != self.shape[1:]:
            raise FileFormatError(f"View {i} has shape {raw.shape}, the others {self.shape[1:]}; remove the odd one.")
        view = raw.astype(np.float32)
        if self.flat is not None:
            view = ct.flat_dark(view, _of(self.flat, i), _of(self.dark, i))
        return view


def _of(field: Any, i: int) -> Any:
    """The field of view i."""
    return field(i) if callable(field) else field


def _rows_of(field: Field, rows: slice) -> Field:
    return field[rows] if isinstance(field, np.ndarray) else field


def chosen_views(n: int, options: ViewOptions) -> slice:
    """The views to load of ``n``. Raises ParameterError where none is left."""
    found = part_of(n, options.views, "views")
    return slice(found.start, found.stop, options.view_step)


def part_of(n: int, text: str | None, name: str) -> range:
    """The range ``first:last`` of an option among ``n`` views or rows, both ends in it; all where it is empty.

    Raises ParameterError for what is no such range.
    """
    if text is None:
        return range(n)
    found = RANGE.match(text)
    first, last = (int(k) for k in found.groups()) if found else (0, -1)
    if not 0 <= first <= last < n:
        raise ParameterError(
            f"Option {name!r} is a range first:last within 0:{n - 1}, such as 0:{n // 2}; got {shown(text)}."
        )
    return range(first, last + 1)


def later(load: Callable[[], Field | Callable[[int], Field]]) -> Callable[[int], Field]:
    """A field that is loaded when the first view asks for it: opening a file reads none."""
    kept = cache(load)
    return lambda i: _of(kept(), i)


def between(before: np.ndarray, after: np.ndarray, when: np.ndarray) -> Callable[[int], np.ndarray]:
    """The flat field of view i between one taken before and one after the views, at times ``when`` (view,) of 0 to 1."""
    drift = after - before
    return lambda i: before + np.float32(when[i]) * drift


def line_integrals(views: Views, options: ValueOptions, notes: list[str]) -> np.ndarray:
    """The chosen views as line integrals (view, row, column), float32."""
    chosen = range(views.shape[0])[chosen_views(views.shape[0], options)]
    kind: str = "counts" if views.flat is not None else options.values
    if kind == "auto" and options.zingers:
        kind = _infer_kind(load_stack(views, _sample(chosen), RepairOptions(bin=options.bin), []), notes)
    stack = load_stack(views, chosen, options, notes, integrals=kind == "line-integrals")
    if kind == "auto":
        kind = _infer_kind(stack, notes)
    if kind == "line-integrals":
        return _without_background(stack, views.integer, options, notes)
    if views.flat is None or options.air is not None:
        _divide_by_air(stack, options, notes)
    return take_log(stack, notes)


def load_stack(
    views: Views, chosen: range, options: RepairOptions, notes: list[str], *, integrals: bool = False
) -> np.ndarray:
    """The chosen views after flat and dark field, repairs and binning, (view, row, column), float32."""
    rows, cols = (n // options.bin for n in views.shape[1:])
    if min(rows, cols) < 1:
        raise ParameterError(f"Binning by {options.bin} leaves nothing of {views.shape[1]} × {views.shape[2]} pixels.")
    needed = 5 * len(chosen) * rows * cols + 24 * views.shape[1] * views.shape[2]
    check_memory(needed, f"{len(chosen)} of {views.shape[0]} views of {rows} × {cols} pixels")
    stack = np.empty((len(chosen), rows, cols), np.float32)
    repair = Repairs(options, integrals)
    if options.bad_pixels:
        repair.find_bad(views.corrected, chosen)
    with stage(len(chosen), f"reading views into {readable(stack.nbytes)} of memory") as done:
        for k, i in enumerate(chosen):
            done(k)
            stack[k] = ct.bin_view(repair(views.corrected(i)), options.bin)
    repair.note(len(chosen) * math.prod(views.shape[1:]), notes)
    if len(chosen) < views.shape[0]:
        within = f" from {chosen[0]} on" if options.views is not None else ""
        notes.append(f"Loaded {len(chosen)} of {views.shape[0]} views, one in {options.view_step}{within}.")
    if options.bin > 1:
        notes.append(f"Binned {options.bin} × {options.bin} pixels, before −log.")
    return stack


def take_log(stack: np.ndarray, notes: list[str]) -> np.ndarray:
    """−log view by view, in place."""
    clipped = 0
    for view in stack:
        check()
        clipped += int((view < ct.FLOOR).sum())
        view[...] = ct.minus_log(view)
    if clipped:
        notes.append(f"{clipped} pixels below a transmission of {ct.FLOOR:g} were clipped before −log.")
    return stack


def _sample(views: Any) -> Any:
    """Some of a stack, or of the numbers of its views."""
    return views[:: max(1, len(views) // 16)]


def _infer_kind(stack: np.ndarray, notes: list[str]) -> str:
    sample = _sample(stack)
    left, right, middle = ct.border_levels(sample)
    low, high = (float(q) for q in np.percentile(sample, (1, 99)))
    bright = max(left, right) > middle and low >= 0 and high > 0
    kind = "transmission" if bright else "line-integrals"
    why = "its borders are brighter than its middle" if bright else "its borders are not brighter than its middle"
    notes.append(f"Values taken as {kind} because {why}; set option 'values' if this is wrong.")
    return kind


def _divide_by_air(stack: np.ndarray, options: ValueOptions, notes: list[str]) -> None:
    air = options.air if options.air is not None else ct.air_level(_sample(stack))
    if not 1 / LARGEST_AIR <= air <= LARGEST_AIR:
        raise ParameterError(
            f"The value of air must be from {1 / LARGEST_AIR:g} to {LARGEST_AIR:g} for counts and transmission; got {air:g}. "
            "Set option 'air'."
        )
    source = "given" if options.air is not None else "no flat field; measured at the detector's borders"
    if options.air is not None or abs(air - 1) > 0.02:
        stack /= np.float32(air)
        notes.append(f"Divided by the value of air, {air:.5g} ({source}).")


def _without_background(stack: np.ndarray, integer: bool, options: ValueOptions, notes: list[str]) -> np.ndarray:
    level = options.air
    if level is None and integer:
        level = float(np.percentile(_sample(stack), 5))
    if level is not None:
        stack -= np.float32(level)
        notes.append(
            f"Subtracted the background {level:.5g} ({'given' if options.air is not None else '5th percentile'})."
        )
    return stack
