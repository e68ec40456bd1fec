"""Quotas, priorities and dry runs, at a real server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e.serve_process import ServerProcess, start_server
from e2e.small_served import rank_body
from rankine.serving import ServeConfig

RANK = "/v1/rank"
_POLICY = """
[tenants.shop]
requests_per_s = 0.01
burst = 2
[tenants.app]
priority = "low"
"""


@contextmanager
def _serving(config: ServeConfig) -> Iterator[ServerProcess]:
    server = start_server(config)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("policy") / "policy.toml"
    path.write_text(_POLICY)
    return path


@pytest.fixture(scope="module")
def ruled(config: ServeConfig, policy: Path) -> Iterator[ServerProcess]:
    with _serving(config.model_copy(update={"policy": policy})) as server:
        yield server


def test_tenant_is_refused_with_429_when_its_quota_is_used_up_and_dry_runs_only_count(
    ruled: ServerProcess, policy: Path
) -> None:
    shop = {"x-rankine-tenant": "shop"}
    assert [ruled.ask("POST", RANK, rank_body(3), shop).status for _ in range(3)] == [200, 200, 429]
    refused = ruled.ask("POST", RANK, rank_body(3), shop)
    assert (refused.status, refused.json["error"]["code"]) == (429, "quota")
    assert int(refused.headers["retry-after"]) > 10
    assert ruled.ask("POST", RANK, rank_body(3), {"x-rankine-tenant": "other"}).status == 200
    assert ruled.metric("rankine_decisions_total", reason="quota") == 2
    policy.write_text("dry_run = true\n" + _POLICY.replace("burst = 2", "burst = 1"))
    time.sleep(1.1)
    assert [ruled.ask("POST", RANK, rank_body(3), shop).status for _ in range(3)] == [200, 200, 200]
    assert ruled.metric("rankine_dry_run_total", reason="quota") == 2


def test_unknown_priority_is_told_when_a_request_asks_for_it(ruled: ServerProcess) -> None:
    answer = ruled.ask("POST", RANK, rank_body(3), {"x-rankine-priority": "urgent"})
    assert (answer.status, answer.json["error"]["allowed"]) == (400, "high, normal, low")
    assert ruled.ask("POST", RANK, rank_body(3), {"x-rankine-priority": "low"}).status == 200
