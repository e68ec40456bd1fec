"""Which link each task has: what the model ends in, and what the schema says of it."""

from __future__ import annotations

from collections.abc import Sequence

from rankine.events import Emit, Note
from rankine.models.intake.refusal import ModelError
from rankine.models.schema import Schema

__all__ = ["settle_links"]


def settle_links(schema: Schema, found: Sequence[str], emit: Emit) -> Schema:
    """``schema`` with the links of its tasks.

    A final sigmoid that was found is the link. Where the model ends in none, its output is a score as it is, unless the
    schema says ``link: sigmoid``: then the output is a logit.

    Args:
        found: ``sigmoid`` where a final sigmoid was taken off, else ``identity``; in the order of the tasks.

    Raises:
        ModelError: the schema says ``identity`` where the model ends in a sigmoid, or there are more or fewer outputs
            than tasks.
    """
    if len(found) != len(schema.tasks):
        raise ModelError(
            "the model's outputs are not the schema's tasks",
            got=f"{len(found)} outputs a row",
            allowed=f"one for each of the tasks {', '.join(schema.task_names)}",
            hint="Name every output under 'tasks' in the schema, in their order.",
        )
    tasks = []
    for task, link in zip(schema.tasks, found, strict=True):
        said = task.link if "link" in task.model_fields_set else None
        if said == "identity" and link == "sigmoid":
            raise ModelError(
                "the schema says that the output is the score as it is, and the model ends in a sigmoid",
                where=f"tasks: {task.name}",
                got="link: identity",
                hint="Write 'link: sigmoid', or leave the link out.",
            )
        if said is None and link == "identity":
            emit(Note("links", f"{task.name} ends in no sigmoid: its output is the score. If it is a logit, say so: "
                      "write 'link: sigmoid' for this task in the schema"))  # fmt: skip
        tasks.append(task.model_copy(update={"link": said or link}))
    return schema.model_copy(update={"tasks": tuple(tasks)})
