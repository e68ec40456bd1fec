"""The load generator against a real HTTP server of known service time: one slot, a planned delay (M/D/1)."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rankine.cli import main
from rankine.errors import DataError, UsageError
from rankine.observation.load import LoadConfig, SweepConfig, run_load, sweep

pytestmark = pytest.mark.e2e

SERVICE_MS = 10.0
CATALOG = 1000


async def serve(service_s: float) -> None:
    """One request at a time, each ``service_s`` long; honors the deadline header, obeys ``request.status``."""
    from aiohttp import web

    slot = asyncio.Lock()

    async def rank(request: web.Request) -> web.Response:
        body = await request.json()
        status = body["request"].get("status", 200)
        if status != 200:
            return web.json_response({"error": {"code": "planned"}}, status=status)
        deadline_ms = float(request.headers.get("x-rankine-deadline-ms", "inf"))
        begin = asyncio.get_running_loop().time()
        async with slot:
            queued_s = asyncio.get_running_loop().time() - begin
            if queued_s * 1e3 > deadline_ms:
                return web.json_response({"error": {"code": "deadline"}}, status=504)
            await asyncio.sleep(service_s)
        ids = body["candidates"]["ids"][: body.get("top_k", 10**9)]
        ids = ids[: body["request"].get("short", len(ids))]
        reply = {"ids": ids, "scores": [0.5] * len(ids), "model": "planned"}
        if body.get("timings"):
            reply["timings"] = {
                "run_ms": service_s * 1e3,
                "queue_ms": queued_s * 1e3,
                "batch_rows": 7,
                "batch_requests": 1,
            }
        return web.json_response(reply)

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"models": [{"name": "planned"}]})

    async def examples(request: web.Request) -> web.Response:
        count, candidates = int(request.query["count"]), min(int(request.query["candidates"]), CATALOG)
        body = {"request": {"user": 1}, "candidates": {"ids": list(range(candidates))}, "top_k": 3}
        return web.json_response({"examples": [body] * count})

    app = web.Application()
    app.router.add_post("/v1/rank", rank)
    app.router.add_post("/v1/models/planned/rank", rank)
    app.router.add_get("/v1/models", models)
    app.router.add_get("/v1/models/planned/examples", examples)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sys.stdout.write(f"http://127.0.0.1:{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    command = [sys.executable, __file__, str(SERVICE_MS / 1e3)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


def quick(url: str, **changes: object) -> LoadConfig:
    return LoadConfig.model_validate({"url": url, "duration_s": 1.0, "warmup_s": 0.2, "candidates": "100"} | changes)


def test_closed_loop_reports_service_time_when_one_client_asks(url: str) -> None:
    result = run_load(quick(url, timings=True, slo_ms=1000))
    assert result.mode == "closed"
    assert result.offered_rps is None
    assert result.latency is not None
    assert result.latency.p50_ms >= SERVICE_MS
    assert result.achieved_rps <= 1e3 / SERVICE_MS
    assert result.outcomes == {"200": result.requests}
    assert result.correct == result.requests > 0
    assert result.goodput_rps == pytest.approx(result.achieved_rps)
    assert result.server is not None
    assert result.server.run_p50_ms == SERVICE_MS
    assert result.server.batch_rows_mean == 7


def test_open_loop_latency_contains_queueing_when_arrivals_are_random(url: str) -> None:
    result = run_load(quick(url, rate_rps=60, duration_s=4, timings=True))
    assert result.latency is not None
    assert result.requests == result.correct
    # M/D/1 at 60 %: mean wait is rho / (2 (1 - rho)) = 0.75 services. Only the side that no slow machine can break.
    assert result.latency.mean_ms > 1.2 * SERVICE_MS
    assert 180 < result.requests < 300
    assert result.supports_p99 is False


def test_open_loop_counts_waiting_from_schedule_when_server_is_overloaded(url: str) -> None:
    result = run_load(quick(url, rate_rps=300, duration_s=1, warmup_s=0, slo_ms=50))
    assert result.latency is not None
    # 300 requests of 10 ms offered in 1 s: the last waits 2 s. A generator that waited for answers would see 10 ms.
    assert result.latency.p99_ms > 1000
    assert result.achieved_rps <= 1e3 / SERVICE_MS
    assert result.goodput_rps is not None
    assert result.goodput_rps < 50
    assert result.miss_share > 0.8


def test_open_loop_stops_early_when_misses_can_no_longer_be_few(url: str) -> None:
    result = run_load(quick(url, rate_rps=300, duration_s=20, warmup_s=0, slo_ms=50, stop_over_miss_share=0.01))
    assert result.stopped_early
    assert result.window_s < 10
    assert result.unfinished > 0
    assert result.misses > 0.01 * result.requests
    assert result.supports_p99 is False


def test_deadline_misses_are_counted_when_server_refuses_late_requests(url: str) -> None:
    result = run_load(quick(url, rate_rps=250, duration_s=1, deadline_ms=40))
    assert result.outcomes["504"] > 0
    assert result.misses >= result.outcomes["504"]
    assert result.bound_ms == 40


def test_outcomes_are_told_apart_when_answers_are_refused_or_short(url: str, tmp_path: Path) -> None:
    ids = {"ids": list(range(10))}
    requests = [
        {"request": {}, "candidates": ids},
        {"request": {"status": 503}, "candidates": ids},
        {"request": {"short": 9}, "candidates": ids},
        {"request": {"short": 4}, "candidates": ids, "top_k": 4},
    ]
    path = tmp_path / "requests.jsonl"
    path.write_text("\n".join(json.dumps(request) for request in requests) + "\n\n")
    result = run_load(quick(url, requests_file=path, max_requests=40, duration_s=20, warmup_s=0))
    assert result.requests == 40
    assert result.outcomes == {"200": 30, "503": 10}
    assert result.wrong == 10
    assert result.correct == 20
    assert result.misses == 20
    assert result.candidates == "requests.jsonl"
    assert result.goodput_rps is None


def test_candidate_counts_follow_distribution_when_it_is_mlperf(url: str) -> None:
    result = run_load(quick(url, model="planned", candidates="mlperf", clients=4, duration_s=1, warmup_s=0))
    assert 200 < result.rows_mean < 350
    assert result.rows_per_s == pytest.approx(result.rows_mean * result.achieved_rps, rel=0.01)


def test_generator_is_named_bottleneck_when_something_else_keeps_its_process_busy(url: str) -> None:
    done = threading.Event()

    def hog() -> None:
        while not done.is_set():
            sum(range(5_000_000))  # one call into C, which keeps the interpreter lock to its end

    with ThreadPoolExecutor(1) as threads:
        threads.submit(hog)
        try:
            result = run_load(quick(url, rate_rps=20, duration_s=1, warmup_s=0))
        finally:
            done.set()
    assert result.generator_bound
    assert "bottleneck" in result.generator.reason


def test_sweep_stays_below_capacity_when_server_is_real(url: str) -> None:
    load = quick(url, slo_ms=100, warmup_s=0.1)
    found = sweep(
        SweepConfig(
            load=load,
            min_queries=60,
            least_queries=20,
            min_trial_s=0.5,
            max_trial_s=2,
            precision=0.3,
            estimate_s=0.5,
        )
    )
    assert found.sustainable_rps is not None
    assert found.sustainable_rps < 1.25 * 1e3 / SERVICE_MS
    assert found.failed_rps is not None
    assert any(trial.held for trial in found.trials)
    assert not all(trial.held for trial in found.trials)
    assert found.supports_p99 is False


def test_load_fails_with_hint_when_nobody_listens() -> None:
    with pytest.raises(UsageError, match="Is the server running"):
        run_load(quick("http://127.0.0.1:9"))


def test_load_fails_with_limit_when_server_gives_fewer_candidates(url: str) -> None:
    with pytest.raises(UsageError, match="up to 1000"):
        run_load(quick(url, candidates="1001"))


def test_load_names_line_when_requests_file_is_wrong(url: str, tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text('{"request": {}, "candidates": {"ids": [1]}}\n{"request": {}}\n')
    with pytest.raises(DataError, match=r"requests\.jsonl:2"):
        run_load(quick(url, requests_file=path))


@pytest.fixture
def one_request(tmp_path: Path) -> Path:
    path = tmp_path / "requests.jsonl"
    path.write_text('{"request": {}, "candidates": {"ids": [1]}}\n')
    return path


def test_refused_connections_are_outcomes_when_nobody_listens(one_request: Path) -> None:
    result = run_load(quick("http://127.0.0.1:9", requests_file=one_request, max_requests=3, warmup_s=0))
    assert result.outcomes == {"unreachable": 3}
    assert result.latency is None
    assert result.miss_share == 1
    assert "3 × connection refused" in dict(result.table())["requests"]


def test_cut_requests_are_told_from_refused_connections_when_a_server_closes_on_them(one_request: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as threads:
        port = listener.getsockname()[1]

        def hang_up() -> None:
            for _ in range(3):
                connection, _ = listener.accept()
                connection.recv(65_536)
                connection.close()

        hanging_up = threads.submit(hang_up)
        result = run_load(quick(f"http://127.0.0.1:{port}", requests_file=one_request, max_requests=3, warmup_s=0))
        hanging_up.result(timeout=5)
    assert result.outcomes == {"disconnected": 3}
    assert "3 × cut while waiting" in dict(result.table())["requests"]


def test_bench_load_exits_with_4_when_more_than_the_given_share_misses(
    one_request: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bench", "load", "http://127.0.0.1:9", "--requests", str(one_request), "--duration", "0.2"]
    command += ["--warmup", "0", "--deadline-ms", "50"]
    with pytest.raises(SystemExit) as told:
        main(command)
    assert told.value.code == 0
    assert "100.00% of the requests missed; the exit status is 0" in capsys.readouterr().err
    with pytest.raises(SystemExit) as failed:
        main([*command, "--fail-on-miss", "99"])
    assert failed.value.code == 4
    assert "at most 99 %" in capsys.readouterr().err


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
