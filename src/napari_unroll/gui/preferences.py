"""What the user set on this plugin's page of napari's preferences, and how it takes effect.

The manifest declares the page. Threads and the cache folder become environment variables, which command line and docks
read alike; those that the user set himself win. Knows napari's settings; nothing of docks.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from pydantic import BaseModel

PLUGIN, PAGE = "napari-unroll", "computing"
VARIABLES = {"threads": "NAPARI_UNROLL_THREADS", "cache_folder": "NAPARI_UNROLL_CACHE"}
"""Preference → the variable that it becomes."""


class Preferences(BaseModel):
    """The page's values; its defaults where napari knows no such page."""

    device: str = "auto"
    precision: str = "auto"
    threads: int = 0
    cache_folder: str = ""


def preferences() -> Preferences:
    """What is set now."""
    page = _page()
    return Preferences() if page is None else Preferences(**page.model_dump())


def follow() -> None:
    """Let the preferences take effect, now and whenever they change."""
    apply()
    page = _page()
    if page is not None:
        page.events.disconnect(apply)
        page.events.connect(apply)


def apply(*_: Any) -> None:
    """Set the variables, except those that were set before this plugin was loaded."""
    chosen = preferences().model_dump()
    for name, variable in VARIABLES.items():
        if variable in _of_the_user():
            continue
        os.environ.pop(variable, None)
        if chosen[name]:
            os.environ[variable] = str(chosen[name])


@lru_cache(maxsize=1)
def _of_the_user() -> frozenset[str]:
    """Variables that were there at the first look."""
    return frozenset(v for v in VARIABLES.values() if os.environ.get(v))


def _page() -> Any:
    """napari's record of the page, or None where this plugin is not registered."""
    from napari.settings import get_plugin_settings

    try:
        return getattr(get_plugin_settings(PLUGIN), PAGE)
    except KeyError:
        return None
