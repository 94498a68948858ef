"""Arrays as large as a volume in memory up to a limit, and in files beyond it, for runs that may not take what they need.

Inside of ``InScratch(scratch)`` every tensor that torch makes, and every array of :func:`empty`, of as many voxels as were said
takes a room of its own there; methods are written as ever. Rooms in memory are counted to the byte, and where they are all
taken the next one is a file. It has no name once it is mapped, so that nothing of it stays, however the run ends; its pages are
the system's, which writes them to the disk where memory is short. Torch writes results right into rooms; what works along axes
(transforms, shifts, mirror images) goes slab by slab. Rooms that nothing refers to any more are used again: making one costs
more than most formulas. Knows shapes, not what they mean.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar, Token
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from napari_unroll.errors import MemoryExceeded, ParameterError

SLAB_BYTES = 2**25
"""Of a slab, in memory."""
PIECE = bytes(2**20)
MOST_IDLE = 8
"""Of the smallest arrays that lie in files: what files may take that wait to be used again."""
aten: Any = torch.ops.aten


class Pool:
    """Rooms that ``make(n_bytes)`` gives, of at most ``most`` bytes together, of which ``most_idle`` may be idle.

    Any thread may ask, and amid that rooms may come back: those wait apart until the next is asked for.
    """

    def __init__(self, make: Callable[[int], memoryview], most: float, most_idle: float) -> None:
        self.make, self.most, self.most_idle = make, most, most_idle
        self.idle: list[memoryview] = []
        self.n_bytes = 0
        """Of all rooms, lent and idle."""
        self._back: deque[memoryview] = deque()
        self._lock = threading.Lock()

    def lend(self, n_bytes: int) -> np.ndarray | None:
        """So many bytes, whatever they hold, which come back once nothing refers to them; None where there is no room."""
        with self._lock:
            room = self._room(n_bytes)
        if room is None:
            return None
        lent = np.frombuffer(room, np.uint8)
        weakref.finalize(lent, self._back.append, room).atexit = False
        return lent

    def _room(self, n_bytes: int) -> memoryview | None:
        while self._back:
            self.idle.append(self._back.popleft())
        for k, room in enumerate(self.idle):
            if len(room) == n_bytes:
                return self.idle.pop(k)
        while self.idle and (self.n_bytes + n_bytes > self.most or sum(map(len, self.idle)) > self.most_idle):
            self.n_bytes -= len(self.idle.pop(0))
        if self.n_bytes + n_bytes > self.most:
            return None
        room = self.make(n_bytes)
        self.n_bytes += n_bytes
        return room


class Scratch:
    """Room for arrays whose last three axes have at least ``n_voxels`` voxels together.

    In memory ``in_memory`` bytes at most, idle ones too; the rest in the folder ``place``.
    """

    def __init__(self, place: Path, n_voxels: int, in_memory: int = 0) -> None:
        self.place, self.n_voxels = place, n_voxels
        self.memory = Pool(lambda n_bytes: np.empty(n_bytes, np.uint8).data, in_memory, in_memory)
        self.files = Pool(self.mapped, math.inf, 4 * MOST_IDLE * n_voxels)

    def holds(self, shape: Sequence[int]) -> bool:
        """Whether such an array takes a room here."""
        return math.prod(shape[-3:]) >= self.n_voxels

    def room(self, n_bytes: int) -> np.ndarray:
        """So many bytes, whatever they hold. Raises MemoryExceeded where neither memory nor the disk has room."""
        found = self.memory.lend(n_bytes)
        if found is None:
            found = self.files.lend(n_bytes)
        assert found is not None
        return found

    def mapped(self, n_bytes: int) -> memoryview:
        """So many bytes of zeros in a new file without a name. Raises MemoryExceeded where the disk is full."""
        try:
            self.place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.place) as file:
                _reserve(file, n_bytes)
                return memoryview(mmap.mmap(file.fileno(), n_bytes))
        except OSError as error:
            raise MemoryExceeded(
                f"The volumes do not fit into {self.place} ({error.strerror}; {n_bytes / 2**20:.0f} MiB more were needed): make "
                "room there, or name a folder on another disk in NAPARI_UNROLL_SCRATCH."
            ) from error


def _reserve(file: Any, n_bytes: int) -> None:
    """Take the room on the disk now: a mapped page for which there is none would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, n_bytes)
        return
    for start in range(0, n_bytes, len(PIECE)):
        file.write(PIECE[: n_bytes - start])
    file.flush()


_scratch: ContextVar[Scratch | None] = ContextVar("scratch", default=None)


def empty(shape: Sequence[int], dtype: Any = np.float32) -> np.ndarray:
    """An array of anything, inside of :class:`InScratch` in a room of it where it is as large as a volume."""
    scratch = _scratch.get()
    if scratch is None or not scratch.holds(shape):
        return np.empty(tuple(shape), dtype)
    return scratch.room(math.prod(shape) * np.dtype(dtype).itemsize).view(dtype).reshape(tuple(shape))


def zeros(shape: Sequence[int], dtype: Any = np.float32) -> np.ndarray:
    """The same of zeros."""
    scratch = _scratch.get()
    if scratch is None or not scratch.holds(shape):
        return np.zeros(tuple(shape), dtype)
    array = empty(shape, dtype)
    array.fill(0)
    return array


class InScratch(TorchDispatchMode):
    """``with InScratch(scratch):`` in this thread; see the head of this file."""

    def __init__(self, scratch: Scratch) -> None:
        super().__init__()
        self.scratch = scratch
        self._tokens: list[Token[Scratch | None]] = []

    def __enter__(self) -> InScratch:
        self._tokens.append(_scratch.set(self.scratch))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        _scratch.reset(self._tokens.pop())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not _makes_a_tensor(func) or not self._may_be_large(args, kwargs):
            return func(*args, **kwargs)
        like = _foretold(func, args, kwargs)
        if like is not None and not self.scratch.holds(like.shape):
            return func(*args, **kwargs)
        if func in ALONG_AXES:
            x = args[0]
            for axes, call in ALONG_AXES[func](x, *args[1:]):
                x = self._slab_by_slab(x, axes, call)
            return x
        made = None if like is None else self._written(func, args, kwargs, like)
        return self._moved(func(*args, **kwargs)) if made is None else made

    def _may_be_large(self, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
        """Whether the arguments, tensors or sizes, reach over a whole volume on the CPU."""
        if torch.device(kwargs.get("device") or "cpu").type != "cpu":
            return False
        reach = [1, 1, 1]
        for arg in args:
            for one in arg if isinstance(arg, list | tuple) else (arg,):
                if isinstance(one, torch.Tensor):
                    if one.device.type != "cpu":
                        return False
                    reach = [max(r, n) for r, n in zip(reach, (1, 1, 1, *one.shape)[-3:], strict=True)]
        return self.scratch.holds(reach) or any(_are_sizes(arg) and self.scratch.holds(arg) for arg in args)

    def _written(self, func: Any, args: Any, kwargs: Any, like: torch.Tensor) -> torch.Tensor | None:
        """What ``func`` gives, written right into a room; None where it can only be made elsewhere."""
        if func in FILLED:
            value = FILLED[func](*args)
            return self._room(like) if value is None else self._room(like).fill_(value)
        if func in COPIED:
            return self._room(like).copy_(args[0])
        if func is aten.constant_pad_nd.default:
            return _padded(self._room(like), *args) if min(args[1]) >= 0 else None
        into = _into(func)
        if into is None:
            return None
        out = self._room(like)
        into(*args, **{name: value for name, value in kwargs.items() if name in _names(into)}, out=out)
        return out

    def _slab_by_slab(self, x: torch.Tensor, axes: Sequence[int], call: Call) -> torch.Tensor:
        """``call(x)``, which works along ``axes``, in slabs along the longest of the others."""
        like = call(_meta(x))
        out = self._room(like)
        others = set(range(x.ndim)) - {axis % x.ndim for axis in axes}
        if not others:
            return out.copy_(call(x))
        along = max(others, key=lambda a: x.shape[a])
        n = x.shape[along]
        step = max(1, n * SLAB_BYTES // (like.numel() * like.element_size()))
        for first in range(0, n, step):
            size = min(step, n - first)
            out.narrow(along, first, size).copy_(call(x.narrow(along, first, size)))
        return out

    def _moved(self, made: torch.Tensor) -> torch.Tensor:
        """What was made elsewhere, in a room where it is large."""
        return self._room(made).copy_(made) if self.scratch.holds(made.shape) else made

    def _room(self, like: torch.Tensor) -> torch.Tensor:
        """A tensor in a room, of this shape, type and order of axes, whatever it holds."""
        n = 1 + sum((size - 1) * stride for size, stride in zip(like.shape, like.stride(), strict=True))
        room = torch.frombuffer(self.scratch.room(n * like.element_size()), dtype=like.dtype)
        return room.as_strided(like.shape, like.stride())


Call = Callable[[torch.Tensor], torch.Tensor]
Steps = Iterator[tuple[Sequence[int], Call]]
"""Axes, and what is done along them, one after the other."""


def _half_transform(x: torch.Tensor, axes: list[int], scaling: int, one_sided: bool) -> Steps:
    first, last = _in_two(axes)
    yield last, lambda u: aten._fft_r2c(u, last, scaling, one_sided)
    yield from _whole_transform(x, first, scaling, True)


def _whole_transform(x: torch.Tensor, axes: list[int], scaling: int, forward: bool) -> Steps:
    for some in filter(None, _in_two(axes)):
        yield some, partial(lambda a, u: aten._fft_c2c(u, a, scaling, forward), some)


def _real_transform(x: torch.Tensor, axes: list[int], scaling: int, size: int) -> Steps:
    first, last = _in_two(axes)
    yield from _whole_transform(x, first, scaling, False)
    yield last, lambda u: aten._fft_c2r(u, last, scaling, size)


def _in_two(axes: list[int]) -> tuple[list[int], list[int]]:
    """The first axis and the others, so that slabs lie along one of both in turn; a single axis is the last."""
    n = 1 if len(axes) > 1 else 0
    return axes[:n], axes[n:]


def _rolled(x: torch.Tensor, shifts: list[int], axes: Sequence[int] = ()) -> Steps:
    if not axes:
        raise ParameterError("A volume is shifted along axes; name them.")
    for shift, axis in zip(shifts, axes, strict=True):
        yield [axis], partial(lambda s, a, u: aten.roll(u, [s], [a]), shift, axis)


def _mirrored(x: torch.Tensor, axes: list[int]) -> Steps:
    for axis in axes:
        yield [axis], partial(lambda a, u: aten.flip(u, [a]), axis)


ALONG_AXES: dict[Any, Callable[..., Steps]] = {
    aten._fft_r2c.default: _half_transform,
    aten._fft_c2c.default: _whole_transform,
    aten._fft_c2r.default: _real_transform,
    aten.roll.default: _rolled,
    aten.flip.default: _mirrored,
}
FILLED: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys(
        (
            aten.empty.memory_format, aten.empty_like.default, aten.empty_strided.default, aten.new_empty.default,
            aten.new_empty_strided.default,
        ),
        lambda *args: None,
    ),
    **dict.fromkeys((aten.zeros.default, aten.zeros_like.default, aten.new_zeros.default), lambda *args: 0),
    **dict.fromkeys((aten.ones.default, aten.ones_like.default, aten.new_ones.default), lambda *args: 1),
    **dict.fromkeys((aten.full.default, aten.full_like.default), lambda like, value: value),
    aten.new_full.default: lambda like, sizes, value: value,
}  # fmt: skip
COPIED = {aten.clone.default, aten._to_copy.default}
VIEWS = {aten._unsafe_view.default}
"""Beside those whose schema says so."""


def _padded(out: torch.Tensor, x: torch.Tensor, widths: list[int], value: float = 0) -> torch.Tensor:
    inside = out.fill_(value)
    for axis, before in enumerate(widths[::2], 1):
        inside = inside.narrow(-axis, before, x.shape[-axis])
    inside.copy_(x)
    return out


def _are_sizes(arg: Any) -> bool:
    return isinstance(arg, list | tuple) and all(isinstance(n, int) and n > 0 for n in arg)


def _meta(value: Any) -> Any:
    """The same without values: tensors of the device "meta"."""
    if isinstance(value, list | tuple):
        return [_meta(one) for one in value]
    if not isinstance(value, torch.Tensor):
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")


def _foretold(func: Any, args: Any, kwargs: dict[str, Any]) -> torch.Tensor | None:
    """A tensor without values of the shape, type and order that ``func`` will give, None where torch cannot tell."""
    known = {name: None if name == "generator" else value for name, value in kwargs.items()}
    if "device" in _names(func):
        known["device"] = "meta"
    try:
        made: torch.Tensor = func(*_meta(args), **known)
    except (NotImplementedError, RuntimeError):
        return None
    return made


@cache
def _names(func: Any) -> frozenset[str]:
    """Of its arguments."""
    return frozenset(argument.name for argument in func._schema.arguments)


@cache
def _makes_a_tensor(func: Any) -> bool:
    """Whether it gives one tensor with memory of its own."""
    schema = func._schema
    if schema.is_mutable or len(schema.returns) != 1 or func in VIEWS:
        return False
    return str(schema.returns[0].type) == "Tensor" and schema.returns[0].alias_info is None


OF_NEW_TENSORS = {"dtype", "layout", "device", "pin_memory", "memory_format"}
"""What is settled where there is a place to write into."""


@cache
def _into(func: Any) -> Any:
    """The overload of the same arguments that writes into ``out``, None where there is none."""
    wanted = [(a.name, str(a.type)) for a in func._schema.arguments]
    settled = [pair for pair in wanted if pair[0] not in OF_NEW_TENSORS]
    packet = func.overloadpacket
    for other in (getattr(packet, name) for name in packet.overloads()):
        has = [(a.name, str(a.type)) for a in other._schema.arguments]
        if has and has[-1] == ("out", "Tensor") and has[:-1] in (wanted, settled):
            return other
    return None
