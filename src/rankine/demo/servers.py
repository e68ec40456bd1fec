"""A real server in a process of its own, pinned to the cores that it is given."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue

from rankine.errors import EngineError

__all__ = ["running_server"]

_START_S = 120.0
_STOP_S = 30.0


@contextmanager
def running_server(
    artifact: Path,
    *,
    variant: str,
    engine: str,
    catalog: Path,
    cores: Sequence[int],
    certified: bool,
    split: bool = True,
) -> Iterator[str]:
    """Start ``rankine serve`` on a free port; yields its URL, and stops it with SIGTERM.

    Args:
        split: False serves the whole graph of what was built in parts.

    Raises:
        EngineError: the server ended before it was ready; carries its last lines.
    """
    command = [sys.executable, "-m", "rankine", "serve", str(artifact)]
    command += ["--variant", variant, "--engine", engine, "--catalog", str(catalog), "--port", "0"]
    command += ["--cores", ",".join(map(str, cores))]
    if not split:
        command.append("--no-split")
    if not certified:
        command.append("--allow-uncertified")
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    urls: Queue[str | None] = Queue()
    last_lines: deque[str] = deque(maxlen=5)
    reader = threading.Thread(target=_read, args=(process, urls, last_lines), daemon=True)
    reader.start()
    try:
        url = _wait(urls, last_lines)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join()
        if process.stderr is not None:
            process.stderr.close()


def _wait(urls: Queue[str | None], last_lines: deque[str]) -> str:
    try:
        url = urls.get(timeout=_START_S)
    except Empty:
        url = None
    if url is None:
        raise EngineError("the server did not start", got=" ".join(last_lines) or "no output")
    return url


def _read(process: subprocess.Popen[str], urls: Queue[str | None], last_lines: deque[str]) -> None:
    """Read the server's log to its end, so that it never blocks on a full pipe; the line with the URL says ready."""
    for line in process.stderr or ():
        last_lines.append(line.strip())
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and "url" in entry:
            urls.put(str(entry["url"]))
    urls.put(None)
