"""The report in a real browser: headless Chromium, which also holds the page to its own no-network policy."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import end_without
from rankine.observation.report import render_report
from sample_result import full_result, minimal_result

pytestmark = pytest.mark.e2e

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
)


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        end_without(f"none of {', '.join(NAMES)} is installed")
    return found


def visit(browser: str, page: Path, profile: Path, *options: str) -> tuple[str, list[str]]:
    """The page's document after rendering (or what ``options`` ask for), and what its console said."""
    command = [browser, *QUIET, f"--user-data-dir={profile}", *options, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_every_plot_is_in_the_document_when_result_is_full(browser: str, tmp_path: Path) -> None:
    page = render_report(full_result(), tmp_path / "report.html")
    document, console = visit(browser, page, tmp_path / "profile", "--dump-dom")
    for name in ("cdf", "rates", "pareto", "certificate", "sizes", "training"):
        assert f'aria-labelledby="{name}-title {name}-desc"' in document
    assert document.count("<svg") == 6
    assert "Not measured." not in document
    assert "<script>" not in document
    assert console == []


def test_missing_parts_are_said_when_result_is_minimal(browser: str, tmp_path: Path) -> None:
    page = render_report(minimal_result(), tmp_path / "report.html")
    document, console = visit(browser, page, tmp_path / "profile", "--dump-dom")
    assert document.count("Not measured.") == 9
    assert "<svg" not in document
    assert console == []


def test_console_complains_when_a_page_loads_something(browser: str, tmp_path: Path) -> None:
    # The check above is only worth something if the page's policy would speak up.
    page = render_report(minimal_result(), tmp_path / "report.html")
    (tmp_path / "dot.png").write_bytes(b"")
    text = page.read_text(encoding="utf-8").replace("<footer>", '<footer><img src="dot.png" alt="">')
    page.write_text(text, encoding="utf-8")
    _, console = visit(browser, page, tmp_path / "profile", "--dump-dom")
    assert any("Content Security Policy" in line for line in console)


@pytest.mark.parametrize("dark", [False, True])
def test_plots_are_visible_when_painted(browser: str, tmp_path: Path, dark: bool) -> None:
    from PIL import Image

    page = render_report(full_result(), tmp_path / "report.html")
    picture = tmp_path / "report.png"
    options = ["--window-size=1100,3000", f"--screenshot={picture}", *(["--force-dark-mode"] if dark else [])]
    visit(browser, page, tmp_path / "profile", *options)
    with Image.open(picture) as image:
        colors = {color for _, color in image.convert("RGB").getcolors(maxcolors=1 << 24) or []}
    # The lines of the three contestants, in the colors of the theme: they resolve only where CSS variables reach SVG.
    expected = [(0x93, 0xA1, 0xB0), (0xE5, 0xA5, 0x4B), (0x3C, 0xCF, 0xBD)]
    if not dark:
        expected = [(0x6B, 0x77, 0x85), (0xB3, 0x70, 0x0B), (0x0B, 0x7A, 0x6F)]
    assert colors.issuperset(expected)
