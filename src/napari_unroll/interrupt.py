"""Stopping in the middle of a step: whoever drives work lends it a token, and every loop that may last looks at it.

A projection, a transform or a pass of a network takes seconds, so looking between the events of a generator is not
enough. ``check`` looks at the tokens of the present thread and raises; loops over views, parts, coils or files call it,
and every call of torch does where torch was imported. Nobody has to hand the token through. A generator that is given a
token of its own turns that one's wish into an outcome; what outer ones ask passes through it. Knows neither Qt nor what
is computed, and imports no torch.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, nullcontext
from contextvars import ContextVar, Token, copy_context
from functools import cache
from queue import SimpleQueue
from types import TracebackType
from typing import Any, TypeVar

from napari_unroll.errors import Cancelled, FinishNow
from napari_unroll.events import Event, Progress, Stop

T = TypeVar("T")

_stops: ContextVar[tuple[Stop, ...]] = ContextVar("stops", default=())
_tell: ContextVar[Callable[[Progress], None] | None] = ContextVar("tell", default=None)
Surroundings = Callable[[], AbstractContextManager[Any]]
_around: ContextVar[tuple[Surroundings, ...]] = ContextVar("around", default=())


def check() -> None:
    """Raise Cancelled or FinishNow where one of those who drive this thread asked for it; costs less than 1 µs."""
    for stop in _stops.get():
        if stop.cancelled:
            raise Cancelled("Cancelled; nothing was kept.")
        if stop.finish_now:
            raise FinishNow("Asked to finish with what there is.")


class stage:  # noqa: N801 (context managers are named as what they are in a sentence)
    """``with stage(n, text) as done: … done(k)``: a loop in a plain function tells how far it is, and looks.

    The listener of :func:`stepwise` hears it, unless a loop around this one tells already: the outermost is heard.
    """

    def __init__(self, n_steps: int, text: str = "") -> None:
        self._n_steps, self._text = n_steps, text

    def __enter__(self) -> stage:
        self._outer = _tell.get()
        self._token = _tell.set(None)
        return self

    def __call__(self, step: int) -> None:
        """So many steps are done; raises where somebody asked to stop."""
        check()
        if self._outer is not None:
            self._outer(Progress(step, self._n_steps, self._text))

    def __exit__(self, *_: object) -> None:
        _tell.reset(self._token)


class listening:  # noqa: N801
    """``with listening(stop):`` what runs inside ends soon after ``stop`` is asked to; outer tokens go on counting."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._token: Token[tuple[Stop, ...]] | None = None
        self._watch: AbstractContextManager[Any] = nullcontext()

    def __enter__(self) -> None:
        known = _stops.get()
        if self._stop not in known:
            self._watch = nullcontext() if known else _every_call_of_torch()
            self._watch.__enter__()
            self._token = _stops.set((*known, self._stop))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._token is not None:
            _stops.reset(self._token)
            self._watch.__exit__(kind, error, at)


@cache
def _watch() -> type[AbstractContextManager[Any]]:
    from torch import Tensor
    from torch.overrides import TorchFunctionMode

    class Watch(TorchFunctionMode):
        """Looks at the tokens before every call of torch on tensors from this thread.

        Calls without tensors pass: an interrupted ``no_grad`` must be able to switch gradients on again.
        """

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if args and isinstance(args[0], Tensor | list | tuple):
                check()
            return func(*args, **(kwargs or {}))

    return Watch


def _every_call_of_torch() -> AbstractContextManager[Any]:
    """A look before every call of torch, where something has imported it already."""
    torch = sys.modules.get("torch")
    if torch is None or getattr(torch.__spec__, "_initializing", False):
        return nullcontext()
    return _watch()()


class shielded:  # noqa: N801
    """``with shielded():`` short work that must not be left half done: nothing inside is interrupted."""

    def __enter__(self) -> None:
        self._token = _stops.set(())

    def __exit__(self, *_: object) -> None:
        _stops.reset(self._token)


def interruptible(work: Iterator[Event], stop: Stop) -> Generator[Event, None, Any]:
    """The same generator of events, whose steps listen to ``stop``; returns what it returns.

    The token counts while the work computes, never while its listener handles an event.
    """
    try:
        while True:
            with listening(stop):
                event = next(work)
            yield event
    except StopIteration as end:
        return end.value
    finally:
        getattr(work, "close", lambda: None)()


def within(work: Generator[Event, None, T], around: Surroundings) -> Generator[Event, None, T]:
    """The same generator of events, whose steps run inside of ``around()``, in the threads of :func:`stepwise` too."""
    try:
        while True:
            token = _around.set((*_around.get(), around))
            try:
                with around():
                    event = next(work)
            finally:
                _around.reset(token)
            yield event
    except StopIteration as end:
        found: T = end.value
        return found
    finally:
        work.close()


def stepwise(work: Callable[[], T], what: str = "") -> Generator[Event, None, T]:
    """Run a plain function in a thread of its own: what it reports are the events, what it returns is returned.

    ``what`` names the stage where the reports do not. The thread listens to the same tokens and has ended when the
    generator has, also when that is closed early.
    """
    abandoned, told, outcome = Stop(), SimpleQueue[Progress | None](), Future[T]()
    context = copy_context()

    def run() -> None:
        _tell.set(told.put)
        try:
            with _every_call_of_torch(), listening(abandoned), ExitStack() as stack:
                for around in _around.get():
                    stack.enter_context(around())
                outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)
        finally:
            told.put(None)

    thread = threading.Thread(target=context.run, args=(run,), name=f"unroll: {what}")
    thread.start()
    text = what
    try:
        yield Progress(0, 1, what)
        while (event := told.get()) is not None:
            check()
            text = event.text or what
            yield Progress(event.step, event.n_steps, text)
    finally:
        abandoned.cancel()
        thread.join()
    result = outcome.result()
    yield Progress(1, 1, text)
    return result
