"""Render the committed result of ``foreign_models.py`` as a page of the reference.

$ python benchmarks/render_foreign_models.py benchmarks/results/foreign-models.json
"""

from __future__ import annotations

import argparse
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import Field
from script import existing_file

from rankine.config import Frozen

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "foreign-models.md"
_LIBRARIES = ("rankine", "python", "torch", "onnxruntime", "openvino")


class EngineResult(Frozen):
    """A model on one engine, held against the library's own ``predict``.

    ``logit_difference`` and ``score_difference`` are the largest over ``rows`` held-out rows; a logit of the model
    itself is computed from its float32 score. ``served_*`` is of ``served_scores`` scores that came over HTTP.
    """

    engine: str
    rows: int
    logit_difference: float
    score_difference: float
    served_scores: int
    served_score_difference: float
    served_in_own_order: bool

    @property
    def equal(self) -> bool:
        """Whether all scores are the model's own."""
        return max(self.score_difference, self.served_score_difference) <= TOLERANCE and self.served_in_own_order


class Refusal(Frozen):
    """What a stage said: ``error`` is the whole message of the command line."""

    stage: Literal["load", "compile", "certify", "serve"]
    error: str


class ForeignModel(Frozen):
    """One model of the library: what it is, and how far it came.

    ``auc`` is that of its own predictions on rows that it was not trained on, by task; ``links`` what the intake found
    at the end of the model.
    """

    name: str
    inputs: str
    auc: dict[str, float]
    train_s: float
    refused: Refusal | None = None
    links: dict[str, str] = Field(default_factory=dict)
    macs_per_row: int | None = None
    tables: int | None = None
    certified: bool = False
    engines: tuple[EngineResult, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether every engine gave the model's own scores, here and over HTTP."""
        return bool(self.engines) and all(found.equal for found in self.engines)


class ForeignResult(Frozen):
    """All of them, from one run."""

    schema_version: Literal[1] = 1
    created: datetime
    library: str
    dataset: str
    train_rows: int
    held_out_rows: int
    seed: int
    models: tuple[ForeignModel, ...]
    environment: dict[str, str | int | float]


TOLERANCE = 1e-6
"""Of scores, which are probabilities: both sides are float32."""


def render(result: ForeignResult) -> str:
    """The page."""
    equal = [model for model in result.models if model.equal]
    refused = [(model.name, model.refused) for model in result.models if model.refused]
    lines = [*_introduction(result, len(equal)), "", *_table(result.models)]
    if refused:
        lines += ["", "## Refused, and why", ""]
        lines += [f"* **{name}**, by `{refusal.stage}`: {refusal.error}" for name, refusal in refused]
    lines += ["", f"Made on {_environment(result)}, by `python benchmarks/foreign_models.py`."]
    return "\n".join(lines) + "\n"


def _introduction(result: ForeignResult, equal: int) -> list[str]:
    models = len(result.models)
    return [
        "# Models from elsewhere",
        "",
        "<!-- rendered by benchmarks/render_foreign_models.py from benchmarks/results/foreign-models.json -->",
        "",
        f"{models} models of `{result.library}`, as that library makes, trains and keeps them; nothing of their code",
        f"was changed. Each was trained for one pass over {result.train_rows:,} rows of {result.dataset}, brought in",
        "by `rankine load module:function` with a schema whose `call` says `packed`, compiled, certified, served by",
        "`rankine serve`, and asked to rank 200 candidates for each of 3 users.",
        "",
        f"**{equal} of {models} give the library's own scores** on every engine and over HTTP: held against its",
        f"`predict`, no score differs by more than {TOLERANCE:g}, and candidates come in the model's own order. AUC is",
        f"that of the model's own predictions on {result.held_out_rows:,} rows that it was not trained on: it says",
        "that the model learned, not how good it can be. The last three columns are the largest differences.",
    ]


def _table(models: tuple[ForeignModel, ...]) -> list[str]:
    head = ["model", "reads", "AUC", "ends in", "result", "certificate", "logits", "scores", "served"]
    return [_line(head), _line(["---"] * len(head)), *(_line(_row(model)) for model in models)]


def _row(model: ForeignModel) -> list[str]:
    def worst(values: list[float]) -> str:
        return f"{max(values):.0e}" if values else ""

    outcome = f"refused by `{model.refused.stage}`" if model.refused else "equal" if model.equal else "**differs**"
    links = list(model.links.values())
    return [
        model.name,
        model.inputs,
        ", ".join(f"{value:.3f}" for value in model.auc.values()),
        ", ".join(links if len(set(links)) > 1 else links[:1]),
        outcome,
        "" if model.refused else "passed" if model.certified else "**none**",
        worst([found.logit_difference for found in model.engines]),
        worst([found.score_difference for found in model.engines]),
        worst([found.served_score_difference for found in model.engines]),
    ]


def _environment(result: ForeignResult) -> str:
    known = result.environment
    libraries = ", ".join(f"{name} {known[name]}" for name in _LIBRARIES if name in known)
    return f"{known.get('cpu', 'an unnamed processor')}, {result.created:%Y-%m-%d}; {libraries}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=existing_file, help="that foreign_models.py made")
    options = parser.parse_args()
    result = ForeignResult.model_validate_json(options.result.read_bytes())
    PAGE.write_text(render(result), encoding="utf-8")


if __name__ == "__main__":
    main()
