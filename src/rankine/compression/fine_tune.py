"""A network learns again from the baseline, in the form in which it is served: its graph and its tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rankine.compression.context import Context
from rankine.compression.outcome import Outcome
from rankine.compression.recipe import Tuning
from rankine.models.network import Network
from rankine.training.fit import FitResult, fit

if TYPE_CHECKING:
    from rankine.models.torch_graph import GraphModel

__all__ = ["fine_tune", "tuned"]


def tuned(outcome: Outcome, tuning: Tuning | None, context: Context, *, task: str) -> Outcome:
    """What a pass has made, learned again; the same where ``tuning`` is None.

    Raises:
        UsageError: an operator of the graph has no gradient here.
    """
    if tuning is None:
        return outcome
    network, result = fine_tune(outcome.network, tuning, context, task=task)
    details = {**outcome.details, "fit": result.model_dump(mode="json")}
    return Outcome(network, f"{outcome.text}, tuned {result.best_epoch} epochs", details)


def fine_tune(
    network: Network,
    tuning: Tuning,
    context: Context,
    *,
    task: str = "fine-tune",
    prepare: Callable[[GraphModel], None] | None = None,
) -> tuple[Network, FitResult]:
    """Train all weights and tables of ``network`` on the baseline's probabilities, until validation stops improving.

    The weights that it comes with count as epoch 0: where no epoch is better, they are kept.

    Args:
        prepare: changes the module before the training, such as to put fake quantization into its taps.

    Raises:
        UsageError: an operator of the graph has no gradient here.
    """
    from rankine.models.torch_graph import GraphModel

    model = GraphModel(network)
    if prepare is not None:
        prepare(model)
    config = tuning.fit.model_copy(update={"seed": context.seed})
    examples = context.examples(tuning.teacher_weight, tuning.drawn_rows)
    result = fit(model, examples, context.validation, config, task=task, start=True, emit=context.emit)
    return model.to_network(), result
