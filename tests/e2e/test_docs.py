"""The documentation is held to the code: commands run, examples work, generated pages are current, links resolve."""

from __future__ import annotations

import importlib
import json
import os
import re
import runpy
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import yaml

from conftest import ROOT, end_without
from rankine.cli import LazyGroup, _rankine
from rankine.compression.recipe import Recipe
from rankine.compression.search import SearchSpace
from rankine.config import Frozen, parse
from rankine.models.call import Call
from rankine.models.schema import Schema
from rankine.models.zoo.dcn_v2 import DcnV2Config
from rankine.models.zoo.din import DinConfig
from rankine.observation.result import CertificateSummary, DemoResult, Measured, Ratios, SplitGain

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
FENCE = re.compile(r"^```(?P<kind>\w*)(?: title=(?P<title>\S+))?\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!\!)\[[^\]]*\]\(([^)\s]+)\)|\!\[[^\]]*\]\(([^)\s]+)\)")
NAME = re.compile(r"`(rankine(?:\.\w+)+)`")


class CallSection(Frozen):
    """The part of a schema that says how a model is called."""

    call: Call


FILES: dict[str, type[Frozen]] = {
    "schema.yaml": Schema,
    "recipe.yaml": Recipe,
    "model.yaml": DcnV2Config,
    "din.yaml": DinConfig,
    "call.yaml": CallSection,
    "space.yaml": SearchSpace,
}
TUTORIALS = sorted(ROOT.glob("docs/tutorials/*.md"))
RESULT = ROOT / "benchmarks" / "results" / "demo-movielens.json"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    kind: str
    title: str
    text: str


def blocks(*pages: Path) -> list[Block]:
    return [
        Block(page, found["kind"], found["title"] or "", found["text"])
        for page in pages
        for found in FENCE.finditer(page.read_text(encoding="utf-8"))
    ]


def commands(text: str) -> list[str]:
    """What follows ``$`` in a console block, with lines that go on (a backslash, or an open quote) joined."""
    found: list[str] = []
    is_open = False
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append(line[2:])
        elif is_open:
            found[-1] += f"\n{line}"
        else:
            continue
        is_open = found[-1].endswith("\\") or found[-1].count("'") % 2 == 1
    return found


def anchors(page: Path) -> set[str]:
    """Names of a page's headings, as GitHub makes them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_internal_links_resolve_when_followed(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    broken = []
    for target in (first or second for first, second in LINK.findall(text)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_dotted_names_exist_when_a_page_mentions_them(page: Path) -> None:
    assert [name for name in NAME.findall(page.read_text(encoding="utf-8")) if not exists(name)] == []


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    parts = name.split(".")
    for split in range(len(parts), 0, -1):
        try:
            thing: object = importlib.import_module(".".join(parts[:split]))
        except ModuleNotFoundError:
            continue
        for part in parts[split:]:
            if not hasattr(thing, part):
                return False
            thing = getattr(thing, part)
        return True
    return False


@pytest.mark.parametrize("page", ["cli", "schema"])
def test_reference_is_current_when_made_again(page: str) -> None:
    made = runpy.run_path(str(ROOT / "docs" / f"make_{page}_reference.py"))["render"]()
    written = (ROOT / "docs" / "reference" / f"{page}.md").read_text(encoding="utf-8")
    assert written == made, f"run: python docs/make_{page}_reference.py"


def test_every_field_is_described_when_result_json_has_it() -> None:
    text = (ROOT / "docs" / "reference" / "result-json.md").read_text(encoding="utf-8")
    kinds = (DemoResult, Measured, Ratios, CertificateSummary, SplitGain)
    fields = {name for kind in kinds for name in kind.model_fields}
    assert [name for name in sorted(fields) if f"`{name}`" not in text] == []


@pytest.mark.parametrize(
    "block",
    [block for block in blocks(*PAGES) if block.title.endswith(".yaml")],
    ids=lambda block: f"{relative(block.page)}:{block.title}",
)
def test_configuration_is_accepted_when_a_page_shows_it(block: Block) -> None:
    parse(FILES[block.title], yaml.safe_load(block.text), source=relative(block.page))


def shown_commands() -> Iterator[tuple[Path, str]]:
    """Every ``$ rankine ...`` of every page."""
    for block in blocks(*PAGES):
        for command in commands(block.text):
            if command.startswith("rankine "):
                yield block.page, command


def test_verbs_and_options_exist_when_a_page_shows_them() -> None:
    wrong = [f"{relative(page)}: {command}" for page, command in shown_commands() if not is_known(command)]
    assert wrong == []


def is_known(command: str) -> bool:
    words = shlex.split(command.replace("\\\n", " ").rstrip("& "))[1:]
    found: click.Command | None = _rankine
    while isinstance(found, LazyGroup) and words and not words[0].startswith("-"):
        found = found.get_command(click.Context(found), words.pop(0))
    if found is None:
        return False
    options = {option for parameter in found.params for option in parameter.opts}
    return {word.partition("=")[0] for word in words if word.startswith("--")} <= options


def test_readme_results_are_current_when_results_are_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    rendered, blocks = (importlib.import_module(name) for name in ("render_readme", "readme_block"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    if not RESULT.exists():
        assert "No results are committed yet" in readme
        return
    block = rendered.render(DemoResult.model_validate_json(RESULT.read_bytes()))
    assert readme == blocks.replace_block(readme, "results", block), "run: python benchmarks/render_readme.py"


def environment() -> dict[str, str]:
    """This environment, with the installed ``rankine`` first on the path.

    PyTorch's threads wait without spinning: other tests and the server may want the cores.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_WAIT_POLICY": "PASSIVE"}


def run(command: list[str], folder: Path) -> str:
    """Run to the end, and return what was printed; the test fails with all of it."""
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def follow(tutorial: Path, folder: Path) -> str:
    """Write a tutorial's files, run its commands one after the other, and return what they printed.

    With fewer epochs and a shorter load than a reader has, on a free port.
    """
    if shutil.which("curl") is None:
        end_without("the tutorials' commands need curl")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    page = blocks(tutorial)
    for block in page:
        if block.title:
            (folder / block.title).write_text(re.sub(r"max_epochs: \d+", "max_epochs: 6", block.text))
    lines = [line for block in page if block.kind == "console" for line in commands(block.text)]
    script = "\n".join(lines).replace("8080", port)
    script = re.sub(r"--max-epochs \d+", "--max-epochs 6", script).replace("--duration 5", "--duration 2")
    script = script.replace("curl -s", "curl -sS --fail-with-body")
    (folder / "tutorial.sh").write_text(
        f"set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}\n"
    )
    return run(["bash", "tutorial.sh"], folder)


def answers(printed: str) -> list[tuple[list[int], list[float]]]:
    """Ids and scores of every answer among what was printed."""
    found = [json.loads(text) for text in re.findall(r'\{"ids":\[[^]]*\],"scores":.*?\}', printed)]
    return [(answer["ids"], answer["scores"]) for answer in found]


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_works_when_followed(tutorial: Path, tmp_path: Path) -> None:
    printed = follow(tutorial, tmp_path)
    assert (tmp_path / "small" / "files" / "plan.json").exists()
    found = answers(printed)
    assert found
    assert all(len(ids) == len(scores) == 3 and scores == sorted(scores, reverse=True) for ids, scores in found)
    if tutorial.stem == "behavior-sequence":
        some, empty, long, last = found
        assert some != empty
        assert long == last


@pytest.mark.e2e
@pytest.mark.slow
def test_readme_python_example_works_when_run(tmp_path: Path) -> None:
    run([sys.executable, str(ROOT / "examples" / "clicks" / "make_clicks.py"), "clicks.parquet"], tmp_path)
    page = blocks(ROOT / "README.md")
    (schema,) = (block.text for block in page if block.title == "schema.yaml")
    (tmp_path / "schema.yaml").write_text(schema)
    (program,) = (block.text for block in page if block.kind == "python")
    program = re.sub(r"max_epochs=\d+", "max_epochs=1", program)
    program = program.replace('{"architecture": "dcn_v2"}', '{"architecture": "dcn_v2", "hidden": (64, 32)}')
    # The server itself is the tutorial's part; with one epoch there may be nothing that it would serve.
    program, calls = re.subn(r"^serve\((ServeConfig\(.*?\))\).*$", r"\1", program, flags=re.MULTILINE)
    assert calls == 1
    (tmp_path / "example.py").write_text(program)
    run([sys.executable, "example.py"], tmp_path)
    assert (tmp_path / "runs" / "clicks-small" / "manifest.json").exists()
    assert (tmp_path / "runs" / "clicks-small.catalog" / "manifest.json").exists()


def test_example_files_are_the_pages_own_when_both_exist() -> None:
    shown = {block.title: block.text for block in blocks(ROOT / "docs" / "how-to" / "bring-your-data.md")}
    assert shown["schema.yaml"] == (ROOT / "examples" / "clicks" / "schema.yaml").read_text(encoding="utf-8")
    assert parse(Recipe, yaml.safe_load((ROOT / "examples" / "clicks" / "recipe.yaml").read_text())).name == "small"
