"""The text that Prometheus scrapes, of all processes of a host: whichever of them it happens to reach.

Source: Prometheus text exposition format 0.0.4. Lines of one metric must stand together, after its HELP and TYPE.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rankine.policy.autoscale import ScaleReason, Signals, desired_replicas, together
from rankine.serving.board import Board, State
from rankine.serving.http import Request

if TYPE_CHECKING:
    from rankine.serving.app import App

__all__ = ["autoscale_text", "merged", "processes_text", "scrape"]


async def scrape(app: App, request: Request) -> bytes:
    """What is counted, by all processes of the host, or only by this one where another one asks."""
    target = app.config.target_utilization
    text = await app.watch(lambda: app.metrics.render(app.pool.queued_rows))
    if app.neighbors is None or app.process is None:
        return text + autoscale_text(app.signals, target)
    if request.final:
        return text
    texts = {app.process.number: text, **await app.neighbors.metrics()}
    host = autoscale_text(together(app.neighbors.signals()), target)
    return merged(texts) + processes_text(app.process.board) + host


def merged(texts: Mapping[int, bytes]) -> bytes:
    """One text of those of several processes, with a label ``process`` for the number of each."""
    comments: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for number in sorted(texts):
        family = ""
        for line in texts[number].decode().splitlines():
            if line.startswith("# "):
                family = line.split(" ", 3)[2]
                known = comments.setdefault(family, [])
                if line not in known:
                    known.append(line)
            elif line:
                samples.setdefault(family, []).append(_labeled(line, number))
    lines = [line for family, known in comments.items() for line in (*known, *samples.get(family, ()))]
    return "".join(f"{line}\n" for line in lines).encode()


def _labeled(line: str, number: int) -> str:
    label = f'process="{number}"'
    name_end = min((at for at in (line.find("{"), line.find(" ")) if at >= 0), default=len(line))
    if line[name_end : name_end + 1] != "{":
        return f"{line[:name_end]}{{{label}}}{line[name_end:]}"
    return f"{line[:name_end]}{{{label},{line[name_end + 1 :]}"


def processes_text(board: Board) -> bytes:
    """Which processes there are; counted by the supervisor, so that it outlives them."""
    numbers = range(len(board))
    states = {number: board[number].state for number in numbers}
    lines = [
        *_typed("rankine_process_up", "1 for a process that serves, by what it told last", "gauge"),
        *(f'rankine_process_up{{process="{at}"}} {int(states[at] in (State.READY, State.DRAINING))}' for at in numbers),
        *_typed("rankine_process_starts_total", "Starts of each process, the first one among them", "counter"),
        *(f'rankine_process_starts_total{{process="{at}"}} {board.starts_of(at)}' for at in numbers),
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def autoscale_text(signals: Signals, target: float) -> bytes:
    """What an autoscaler asks for, of the whole host; see :mod:`rankine.policy.autoscale`."""
    desired = desired_replicas(signals, target)
    reasons = {reason.value: float(reason is desired.reason) for reason in ScaleReason}
    lines = [
        *_gauge(
            "rankine_utilization",
            "Of workers (by the work offered), front end or cores, whichever is busiest; last minute",
        ),
        f"rankine_utilization {signals.utilization:.6g}",
        *_gauge("rankine_shed_share", "Share of the requests refused for want of capacity, last minute"),
        f"rankine_shed_share {signals.shed:.6g}",
        *_gauge("rankine_desired_replicas", "Hosts of this size that the traffic of this one needs, not rounded"),
        f"rankine_desired_replicas {desired.replicas:.6g}",
        *_gauge("rankine_desired_replicas_reason", "1 for the signal that asks for so many"),
        *(f'rankine_desired_replicas_reason{{reason="{name}"}} {value:g}' for name, value in reasons.items()),
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def _gauge(name: str, text: str) -> tuple[str, str]:
    return _typed(name, text, "gauge")


def _typed(name: str, text: str, kind: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"
