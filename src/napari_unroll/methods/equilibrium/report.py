"""How a search for a fixed point went, and who hears of it: reports reach listeners, however deep in a network they are made."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

_heard: ContextVar[list[SolveReport] | None] = ContextVar("heard", default=None)


@dataclass(frozen=True)
class SolveReport:
    """The relative residual ‖f(z) − z‖ / ‖f(z)‖ of every evaluation, the worst of a batch; whether the last is small enough.

    ``residual`` is the smallest that was reached; ``rate`` the largest measured ‖f(z) − f(z')‖ / ‖z − z'‖, None where there was
    none to measure (see ``Search``). ``is_backward`` tells the solves of a gradient, q = Jᵀq + g, from those of a volume.
    """

    residuals: tuple[float, ...]
    converged: bool
    is_backward: bool = False
    residual: float = float("inf")
    rate: float | None = None

    @property
    def evaluations(self) -> int:
        """How often f was evaluated."""
        return len(self.residuals)

    @property
    def advice(self) -> str:
        """What happened, and what to do where it did not converge."""
        worst = f"{self.evaluations} evaluations, relative residual {self.residual:.1e}"
        if self.converged:
            return f"The fixed point was found: {worst}."
        return f"The fixed point was not found (not converged): {worst}. Allow more evaluations or a larger tolerance."


@contextmanager
def hearing() -> Generator[list[SolveReport]]:
    """``with hearing() as reports:`` holds the reports of all solves inside, those of backward passes included."""
    reports: list[SolveReport] = []
    token = _heard.set(reports)
    try:
        yield reports
    finally:
        _heard.reset(token)


def tell(report: SolveReport) -> None:
    """Report to who listens; nothing is kept where nobody does."""
    reports = _heard.get()
    if reports is not None:
        reports.append(report)


def metrics(reports: Sequence[SolveReport]) -> dict[str, float]:
    """Mean ``evaluations``, the worst ``solve_residual`` and ``backward_evaluations``, as far as there are any."""
    forward = [r for r in reports if not r.is_backward]
    backward = [r for r in reports if r.is_backward]
    found: dict[str, float] = {}
    if forward:
        found["evaluations"] = sum(r.evaluations for r in forward) / len(forward)
        found["solve_residual"] = max(r.residual for r in forward)
    if backward:
        found["backward_evaluations"] = sum(r.evaluations for r in backward) / len(backward)
    return found
