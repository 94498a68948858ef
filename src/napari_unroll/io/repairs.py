"""Pixels that are wrong, repaired in the views as they were taken: binning would spread them over good ones.

In this order: pixels that are bad in every view, or not finite or hot in one; then zingers, which algotom (N. T. Vo), of the
extra ``formats``, removes. Knows options and single views; opens no files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from napari_unroll.interrupt import stage
from napari_unroll.io.ct_options import RepairOptions
from napari_unroll.io.guards import rare
from napari_unroll.scan import corrections_ct
from napari_unroll.scan import preprocess_ct as ct

ZINGER_SIZE = 2
"""Largest zinger in pixels: brightness is compared with the pixels at this distance."""
MOST_VIEWS = 64
"""Views that tell which pixels are bad in all."""


@dataclass
class Repairs:
    """What the options ask for, on views (row, column) after flat and dark field, and how much of it was done.

    ``bad`` are the pixels that are bad in every view; ``integrals`` tells that views are line integrals, in which bright
    spots are small numbers. A view that was repaired is counted in ``n_bad`` and ``n_zingers``.
    """

    options: RepairOptions
    integrals: bool = False
    bad: np.ndarray | None = None
    n_bad: int = 0
    n_zingers: int = 0

    def find_bad(self, load: Callable[[int], np.ndarray], chosen: range) -> None:
        """Find the pixels that are bad in every view, by some of the ``chosen`` ones; ``load(i)`` gives view i."""
        some = chosen[:: -(-len(chosen) // MOST_VIEWS)]
        with stage(len(some), "looking for bad pixels") as done:

            def view(k: int) -> np.ndarray:
                done(k)
                return ct.repair(load(some[k]))

            self.bad = corrections_ct.bad_pixels(map(view, range(len(some))), self.options.bad_pixels)

    def __call__(self, view: np.ndarray) -> np.ndarray:
        """The view without what is wrong."""
        bad = ~np.isfinite(view)
        if self.options.hot_pixels and not bad.all():
            bad |= ct.hot_pixels(view, self.options.hot_pixels)
        self.n_bad += int(bad.sum())
        view = ct.repair(view, bad if self.bad is None else bad | self.bad)
        return self._without_zingers(view) if self.options.zingers else view

    def _without_zingers(self, view: np.ndarray) -> np.ndarray:
        removal = rare("algotom.prep.removal", "Removing zingers")
        bright = np.exp(-view) if self.integrals else np.maximum(view, np.float32(ct.FLOOR))
        cleaned = removal.remove_zinger(bright, self.options.zingers, ZINGER_SIZE)
        changed = cleaned != bright
        self.n_zingers += int(changed.sum())
        return np.where(changed, ct.minus_log(cleaned) if self.integrals else cleaned, view)

    def note(self, n_pixels: int, notes: list[str]) -> None:
        """Say what was repaired of ``n_pixels`` in all views."""
        if self.bad is not None:
            part = f"{self.bad.mean():.2g} of the detector"
            notes.append(f"Repaired {int(self.bad.sum())} pixels that are bad in every view ({part}).")
        if self.n_bad:
            notes.append(f"Repaired {self.n_bad} bad pixels ({self.n_bad / n_pixels:.2g} of all).")
        if self.options.zingers:
            notes.append(f"Repaired {self.n_zingers} zingers' pixels ({self.n_zingers / n_pixels:.2g} of all).")
