"""What a kept run tells whoever watches its store, and what those wish of it.

``result.ome.zarr/unfinished/events.jsonl`` has a line of JSON for every event. Values are not in it: what was shown lies in
the visible volume. ``wish.json`` beside it asks the process to finish now or to give up. Plain files do for another process,
another machine with the same disk, and a window that was closed meanwhile.
"""

from __future__ import annotations

import json
import math
import os
import socket
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, Literal

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from napari_unroll.events import (
    Box,
    Event,
    Finished,
    FixedPoint,
    Forecast,
    IterationDone,
    Measured,
    PatchDone,
    Progress,
    Started,
    Stop,
    Warned,
)
from napari_unroll.io.atomic import write_text
from napari_unroll.io.volume import plain_record
from napari_unroll.pipeline.unfinished import INSIDE, UnfinishedRun
from napari_unroll.record import Record

EVENTS, WISH = "events.jsonl", "wish.json"
FINISH: Final = "finish"
CANCEL: Final = "cancel"
LOOK_S = 0.2
"""Seconds between two looks at the wishes, and at least between two lines that only tell how far it is."""
LONGEST_LINE = 2**24
"""Bytes."""
Figure = Annotated[float, Field(ge=-1e30, le=1e30)]
Count = Annotated[int, Field(ge=0, le=10**9)]
PLAIN = {kind.__name__: TypeAdapter(kind) for kind in (Started, Progress, Forecast, Measured, Warned)}
"""Events that are told as they are."""


class Begun(Record):
    """The first line: which process tells, and since when."""

    begun: str = Field(max_length=40, description="Time in UTC, ISO 8601.")
    token: str = Field(max_length=40, description="Of this process alone.")
    host: str = Field(max_length=255, description="Its machine.")
    pid: int = Field(ge=0, le=2**32, description="Its number there.")


class Patch(Record):
    """A patch is done; ``shown`` where its values lie in the visible volume."""

    box: tuple[Count, Count, Count, Count, Count, Count]
    consistency: float | None = Field(default=None, ge=0, le=1e30)
    shown: bool = False

    def inside(self, shape: tuple[int, int, int]) -> Box | None:
        """Its box, None where that is none of a volume of this ``shape``."""
        edges = list(zip(self.box[::2], self.box[1::2], strict=True))
        if not all(0 <= a < b <= n for (a, b), n in zip(edges, shape, strict=True)):
            return None
        z, y, x = (slice(a, b) for a, b in edges)
        return z, y, x


class Iteration(Record):
    """An iteration is done; ``shown`` where the visible volume is what it made."""

    iteration: Count
    n_iterations: Count
    residual: float | None = Field(default=None, ge=0, le=1e30)
    metrics: dict[str, Figure | None] = {}
    shown: bool = False


class Point(Record):
    """How far the search for a fixed point has come."""

    text: str
    converged: bool
    figures: dict[str, Figure | None] = {}
    maps: dict[str, list[list[list[Figure | None]]]] = {}
    edges: tuple[tuple[Count, ...], ...] = ()


class End(Record):
    """The run ended; its volume, where there is one, takes the place of the store afterwards."""

    outcome: Literal["completed", "finished early", "cancelled", "failed"]
    advice: str = ""
    seconds: float = Field(default=0.0, ge=0, le=1e12)


class Wish(Record):
    """What a watcher wishes of the process with this ``token``."""

    token: str
    wish: Literal["finish", "cancel"]


TOLD: dict[str, type[Record]] = {kind.__name__: kind for kind in (Patch, Iteration, Point, End)}
Told = Event | Patch | Iteration | Point | End


def told(events: Iterator[Event], run: UnfinishedRun | None, stop: Stop) -> Iterator[Event]:
    """The same events; each is told in the store of ``run``, and ``stop`` is asked for what is wished there."""
    return events if run is None else _telling(events, run, stop)


def _telling(events: Iterator[Event], run: UnfinishedRun, stop: Stop) -> Iterator[Event]:
    folder = run.path / INSIDE
    begun = Begun(
        begun=datetime.now(UTC).isoformat(timespec="seconds"), token=uuid.uuid4().hex, host=socket.gethostname(),
        pid=os.getpid(),
    )  # fmt: skip
    over = threading.Event()
    listener = threading.Thread(target=_listen, args=(folder, begun.token, stop, over), name="wishes", daemon=True)
    with suppress(OSError):
        write_text(folder / EVENTS, begun.model_dump_json() + "\n")
    listener.start()
    told_at = -math.inf
    try:
        for event in events:
            now = datetime.now(UTC).timestamp()
            if not isinstance(event, Progress | Forecast) or now - told_at > LOOK_S:
                told_at = now if isinstance(event, Forecast) else told_at
                _tell(folder, event, run.is_shown)
            yield event
    finally:
        getattr(events, "close", lambda: None)()
        over.set()
        listener.join()


def _listen(folder: Path, token: str, stop: Stop, over: threading.Event) -> None:
    while not over.wait(LOOK_S):
        with suppress(OSError, ValidationError, UnicodeDecodeError):
            found = Wish.model_validate_json((folder / WISH).read_text(encoding="utf-8"))
            if found.token == token:
                stop.cancel() if found.wish == CANCEL else stop.finish()


def wish(store: Path, token: str, what: Literal["finish", "cancel"]) -> None:
    """Ask the process with this ``token`` to finish now or to give up; raises OSError where that cannot be written."""
    write_text(store / INSIDE / WISH, Wish(token=token, wish=what).model_dump_json())


def _tell(folder: Path, event: Event, is_shown: bool) -> None:
    """A line for an event; what cannot be told is not."""
    plain = _plain(event, is_shown)
    if plain is None:
        return
    with suppress(OSError, ValueError), (folder / EVENTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(_finite(plain_record(plain)), allow_nan=False) + "\n")


def _plain(event: Event, is_shown: bool) -> dict[str, Any] | None:
    name = type(event).__name__
    if name in PLAIN:
        return {"event": name, **vars(event)}
    if isinstance(event, Warned):
        return {"event": "Warned", "text": event.text}
    if isinstance(event, PatchDone):
        box = [n for b in event.box for n in (b.start, b.stop)]
        return {"event": "Patch", "box": box, "consistency": event.consistency, "shown": is_shown}
    if isinstance(event, IterationDone):
        said = {n: getattr(event, n) for n in ("iteration", "n_iterations", "residual", "metrics")}
        return {"event": "Iteration", **said, "shown": is_shown and event.values is not None}
    if isinstance(event, FixedPoint):
        maps = {name: _short(np.asarray(values, float)) for name, values in event.maps.items()}
        return {
            "event": "Point",
            **{n: getattr(event, n) for n in ("text", "converged", "figures", "edges")},
            "maps": maps,
        }
    if isinstance(event, Finished):
        return {"event": "End", "outcome": event.outcome, "advice": event.advice, "seconds": event.seconds}
    return None


_short = np.vectorize(lambda value: float(f"{value:.5g}"), otypes=[float])
"""Numbers in five digits, for a line that is not too long."""


def _finite(plain: Any) -> Any:
    """None for numbers that are none."""
    if isinstance(plain, dict):
        return {k: _finite(v) for k, v in plain.items()}
    if isinstance(plain, list):
        return [_finite(v) for v in plain]
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


def read(line: bytes) -> Told | None:
    """What a line tells, None where it is none of ours."""
    try:
        content = json.loads(line)
        name = content.pop("event")
        if name in PLAIN:
            found: Any = PLAIN[name].validate_python(content)
        else:
            found = TOLD[name].model_validate_json(json.dumps(content))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return found


def begun_at(store: Path) -> Begun | None:
    """The first line of what is told in ``store``, None where nothing is."""
    try:
        with (store / INSIDE / EVENTS).open("rb") as file:
            return Begun.model_validate_json(file.readline(2000))
    except (OSError, ValueError):
        return None


class Lines:
    """What is told in ``store`` from the first line on, as it grows.

    The file stays open where the system allows it to be removed meanwhile: what was told last is then read also after the
    volume has taken the place of the store.
    """

    def __init__(self, store: Path) -> None:
        self._path, self._offset = store / INSIDE / EVENTS, 0
        self._file: BinaryIO | None = None

    def new(self) -> list[bytes]:
        """Whole lines since the last call; none where there is no file."""
        try:
            self._file = self._file or self._path.open("rb")
            self._file.seek(self._offset)
            content = self._file.read(LONGEST_LINE)
        except OSError:
            return []
        finally:
            if sys.platform == "win32":
                self.close()
        end = content.rfind(b"\n") + 1
        if end == 0 and len(content) == LONGEST_LINE:
            end = LONGEST_LINE  # no line of ours is so long
        self._offset += end
        return content[:end].splitlines()

    def close(self) -> None:
        """Let the file go."""
        if self._file is not None:
            self._file.close()
            self._file = None
