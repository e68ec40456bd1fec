"""Does a server's memory grow with the requests it answers?

    python benchmarks/rss_growth.py runs/small [--candidates 500] [--allow-uncertified]

Starts ``rankine serve`` on a free port, sends requests of different users over one connection, and compares resident
memory after request 1,000 with that after request 11,000. Exit status 0 where it grew by less than 2 %, else 1.

A minute or two.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import threading
from http.client import HTTPConnection

import psutil
from script import existing_artifact, run_script

WARM, TOTAL, LIMIT = 1_000, 11_000, 0.02
READY = re.compile(r'"message":"ready","url":"http://[^:"]+:(\d+)"')


def main() -> int:
    """Run the check; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=existing_artifact, help="a compiled artifact; its catalog lies beside it")
    parser.add_argument("--candidates", type=int, default=500, help="of a request [default: 500]")
    parser.add_argument("--allow-uncertified", action="store_true", help="serve it without a certificate")
    options = parser.parse_args()
    command = [sys.executable, "-m", "rankine", "serve", str(options.artifact), "--port", "0"]
    command += ["--allow-uncertified"] if options.allow_uncertified else []
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        port = _port(server)
        first, last = _measure(port, server.pid, options.candidates)
    finally:
        server.terminate()
        server.wait(60)
    growth = last / first - 1
    print(f"RSS after {WARM:,} requests {first / 2**20:.1f} MiB, after {TOTAL:,} {last / 2**20:.1f} MiB: {growth:+.2%}")
    return 0 if growth < LIMIT else 1


def _port(server: subprocess.Popen[str]) -> int:
    lines = []
    for line in server.stderr or ():
        lines.append(line)
        if found := READY.search(line):
            threading.Thread(target=list, args=(server.stderr,), daemon=True).start()  # keep the pipe empty
            return int(found[1])
    raise SystemExit("the server did not start:\n" + "".join(lines))


def _measure(port: int, pid: int, candidates: int) -> tuple[int, int]:
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/v1/models")
    [model] = json.loads(connection.getresponse().read())["models"]
    connection.request("GET", f"/v1/models/{model['name']}/examples?count=256&candidates={candidates}")
    bodies = [
        json.dumps(example | {"top_k": 50}) for example in json.loads(connection.getresponse().read())["examples"]
    ]
    process = psutil.Process(pid)
    first = 0
    for number in range(1, TOTAL + 1):
        connection.request("POST", "/v1/rank", bodies[number % len(bodies)], {"content-type": "application/json"})
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            raise SystemExit(f"request {number} was answered with {response.status}")
        if number == WARM:
            first = process.memory_info().rss
    return first, process.memory_info().rss


if __name__ == "__main__":
    run_script(main)
