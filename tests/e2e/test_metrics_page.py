"""What ``/metrics`` tells and what the pages say of it are the same."""

from __future__ import annotations

import re

import pytest

from conftest import ROOT
from e2e.serve_process import start_server
from rankine.serving import ServeConfig

pytestmark = pytest.mark.e2e

PAGES = {"docs/reference/http-api.md": "## Metrics", "docs/how-to/serve-in-production.md": "## Watch it"}
NAME = re.compile(r"`(rankine_\w+)")


@pytest.fixture(scope="module")
def exported(config: ServeConfig) -> set[str]:
    """Names that servers tell which run all that has metrics: several processes, workers in processes, another server.

    Without ``_created``: such a series goes with each counter and histogram.
    """
    several = {"processes": 2, "isolate": True, "spare_workers": 0}
    nobody = {"remote": ("http://127.0.0.1:1",)}
    names: set[str] = set()
    for more in (several, nobody):
        server = start_server(config.model_copy(update=more))
        try:
            text = server.ask("GET", "/metrics").body.decode()
        finally:
            assert server.stop() == 0
        names |= set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
    return {name for name in names if not name.endswith("_created")}


@pytest.mark.parametrize("page", PAGES)
def test_page_names_what_is_exported_and_nothing_else_when_it_lists_metrics(page: str, exported: set[str]) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    (section,) = re.findall(rf"^{PAGES[page]}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert set(NAME.findall(section)) == exported


def test_metrics_exist_when_any_page_names_them(exported: set[str]) -> None:
    pages = [*ROOT.glob("docs/how-to/*.md"), *ROOT.glob("docs/explanation/*.md")]
    named = {(page.name, name) for page in pages for name in NAME.findall(page.read_text(encoding="utf-8"))}
    assert [(page, name) for page, name in sorted(named) if name not in exported] == []
