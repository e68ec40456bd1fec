"""The operator's policy: its file, its reload, and what it makes of requests."""

from __future__ import annotations

from pathlib import Path

import pytest

from rankine.errors import ConfigError
from rankine.policy.priorities import Priorities, Priority
from rankine.serving import ServeConfig
from rankine.serving.rulebook import RuleBook
from rankine.serving.tenants import TenantPolicy, read_rules

_FILE = """
truncate_to = 50
standing_queue_ms = 100
[tenants.shop]
requests_per_s = 20
burst = 2
share = 3
priority = "high"
[tenants.default]
priority = "low"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(_FILE)
    return path


def test_rules_are_as_the_file_says_when_it_is_read(path: Path) -> None:
    policy = read_rules(path)
    rules = policy.rules(ServeConfig(artifact=path))
    quota = rules.quotas["shop"]
    assert [quota.has(1.0, 0.0), quota.take(1.0, 0.0), quota.take(1.0, 0.0), quota.has(1.0, 0.0)] == [
        True, None, None, False,
    ]  # fmt: skip
    assert quota.wait_s(1.0, 0.0) == pytest.approx(0.05)
    assert list(rules.quotas) == ["shop"]
    assert rules.shares is not None
    assert rules.codel is not None
    assert rules.concurrency is None
    assert (policy.known("shop"), policy.known("stranger")) == ("shop", "default")


def test_quota_is_divided_when_there_are_several_processes(path: Path) -> None:
    quota = read_rules(path).rules(ServeConfig(artifact=path, processes=2)).quotas["shop"]
    quota.take(1.0, 0.0)
    assert quota.wait_s(1.0, 0.0) == pytest.approx(0.1)


def test_priority_is_bounded_by_the_tenant_s_when_a_request_asks_for_more(path: Path) -> None:
    policy = read_rules(path)
    assert policy.priority("shop", None) is Priority.HIGH
    assert policy.priority("shop", Priority.LOW) is Priority.LOW
    assert policy.priority("stranger", Priority.HIGH) is Priority.LOW
    assert TenantPolicy().priority("stranger", None) is Priority.NORMAL
    assert TenantPolicy().priority("stranger", Priority.HIGH) is Priority.HIGH


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[tenants.shop]\nrequest_per_s = 3", "tenants.shop.request_per_s"),
        ("[tenants.shop]\nrequests_per_s = -1", "tenants.shop.requests_per_s"),
        ("[tenants.shop]\nburst = 5", "give requests_per_s too"),
        ('[tenants.shop]\npriority = "urgent"', "tenants.shop.priority"),
        ("tenants = 3", "tenants"),
        ("[tenants", "no TOML"),
        ("", "the policy is empty"),
    ],
)
def test_file_is_refused_with_the_place_when_it_is_wrong(tmp_path: Path, text: str, found: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=found.replace(".", r"\.")):
        read_rules(path)


def test_file_is_refused_when_it_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_rules(tmp_path / "none.toml")


def test_policy_changes_when_the_file_does_and_stays_when_the_file_is_wrong(path: Path) -> None:
    told: list[TenantPolicy] = []
    book = RuleBook(path, told.append, 0.0)
    path.write_text("dry_run = true\n")
    assert not book.policy_at(0.5).dry_run  # it has just looked
    assert book.policy_at(1.5).dry_run
    path.write_text("dry_run = 7\nand more")
    assert book.policy_at(3.0).dry_run
    path.unlink()
    assert book.policy_at(5.0).dry_run
    assert [policy.dry_run for policy in told] == [False, True]


def test_nobody_leaves_room_when_no_higher_priority_was_seen_lately() -> None:
    priorities = Priorities(remembered_s=10.0)
    assert priorities.below_top(Priority.LOW, 0.0) == 0
    assert priorities.below_top(Priority.HIGH, 1.0) == 0
    assert priorities.below_top(Priority.NORMAL, 2.0) == 1
    assert priorities.below_top(Priority.LOW, 3.0) == 2
    assert priorities.below_top(Priority.LOW, 11.5) == 1
    assert priorities.below_top(Priority.LOW, 20.0) == 0
