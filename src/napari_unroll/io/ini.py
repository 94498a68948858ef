"""Settings of scanners in text files of sections and lines ``key=value``; it knows no scanner."""

from __future__ import annotations

import configparser
import math
from dataclasses import dataclass
from pathlib import Path

from napari_unroll.errors import FileFormatError
from napari_unroll.io.guards import read_head
from napari_unroll.scan.limits import MOST

MOST_BYTES = 5_000_000


def first_line(path: Path) -> str:
    """The first line that is not empty, in lower case."""
    lines = read_head(path, 1000).decode("utf-8-sig", "replace").split("\n")
    return next((line.strip().lower() for line in lines if line.strip()), "")


@dataclass(frozen=True)
class Settings:
    """The settings of a file by section and key, both in lower case."""

    name: str
    values: dict[str, dict[str, str]]

    @classmethod
    def load(cls, path: Path) -> Settings:
        """All settings of a file. Raises FileFormatError where it is no such file."""
        if path.stat().st_size > MOST_BYTES:
            raise FileFormatError(f"{path.name} is too large for a file of settings; give the right file.")
        parser = configparser.RawConfigParser(strict=False, allow_no_value=True, delimiters=("=",))
        try:
            parser.read_string(read_head(path, MOST_BYTES).decode("utf-8-sig", "replace").replace("\0", " "))
        except configparser.Error as error:
            reason = str(error).split("\n")[0]
            raise FileFormatError(
                f"{path.name} is no file of settings, section by section ({reason}); is it damaged?"
            ) from error
        found = {s.strip().lower(): {k: (v or "").strip() for k, v in parser.items(s)} for s in parser.sections()}
        return cls(path.name, found)

    def text(self, section: str, *keys: str) -> str:
        """The first of these settings that is there, or ""."""
        known = self.values.get(section, {})
        return next((known[key] for key in keys if known.get(key)), "")

    def number(self, section: str, *keys: str, default: float | None = None) -> float:
        """The first of these settings as a number. Raises FileFormatError unless it is one, or there is a default."""
        text = self.text(section, *keys)
        if not text and default is not None:
            return default
        try:
            found = float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)
        except ValueError:
            found = math.nan
        if not math.isfinite(found):
            raise FileFormatError(
                f"{self.name} says {keys[0]} = {text[:40]!r}; expected a number. Correct it, or copy the file again."
            )
        return found

    def count(self, section: str, *keys: str, default: int | None = None) -> int:
        """The same as a whole number from 1 to MOST."""
        found = self.number(section, *keys, default=default)
        if not 1 <= found <= MOST or found != int(found):
            raise FileFormatError(
                f"{self.name} says {keys[0]} = {found:g}; expected a whole number from 1 to {MOST:,}. Correct it."
            )
        return int(found)
