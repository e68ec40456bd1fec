"""Ranks requests that a server makes up, over all servers that are named, and tells which one answered.

python ask.py http://127.0.0.1:8080 http://127.0.0.1:8081
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from urllib.request import urlopen

from rankine.client import Client, ClientSettings
from rankine.errors import RankineError

REQUESTS = 200


def example_requests(server: str) -> list[dict]:
    """Random valid rank bodies of the model that ``server`` serves."""
    with urlopen(f"{server}/v1/models") as reply:
        [model] = json.load(reply)["models"]
    with urlopen(f"{server}/v1/models/{model['name']}/examples?count=16&candidates=100") as reply:
        return json.load(reply)["examples"]


def main(servers: list[str]) -> None:
    examples = example_requests(servers[0])
    answered, failed = Counter(), Counter()
    with Client(servers, ClientSettings(deadline_s=0.25)) as client:
        for number in range(REQUESTS):
            body = examples[number % len(examples)]
            try:
                reply = client.rank(body["request"], body["candidates"], top_k=10, session=f"user-{number % 8}")
            except RankineError as error:
                failed[error.code] += 1
                continue
            answered[reply.server] += 1
    for server in servers:
        print(f"{server} answered {answered[server]}")
    for code, count in failed.items():
        print(f"failed with '{code}': {count}")


if __name__ == "__main__":
    main(sys.argv[1:])
