"""Families of shards: which shards of a split a task draws from, and what they must hold."""

from data_modules.index import Index, Shard
from kyvo.task import Task


def family_of(task: Task, split: str) -> str:
    """The shards a task draws from: a split's edits if it follows instructions, else the split's scenes."""
    return f"{split}-edits" if task.name == "instruction" else split


def members_of(task: Task) -> set[str]:
    """The members that every sample must hold for a task."""
    edit, members = task.name == "instruction", set[str]()
    if "text" in task.inputs or "text" in task.outputs:
        members.add("instruction.json" if edit else "question.json")
    for modalities, prefix in ((task.inputs, ""), (task.outputs, "target." if edit else "")):
        members |= {f"{prefix}image.codes.npy"} if "image" in modalities else set()
        members |= {f"{prefix}scene.json"} if "scene" in modalities else set()
    return members


def task_shards(index: Index, task: Task, split: str, limit: int | None = None) -> tuple[Shard, ...]:
    """The shards that hold the first `limit` samples (default: all) a task can draw from a split.

    Raises:
        ValueError: If the split isn't there or lacks a member the task needs, saying how to get it.
    """
    family = family_of(task, split)
    shards = index.shards(family, limit)
    for shard in index.shards(family):
        for member in sorted(members_of(task)):
            found = shard.members.get(member, 0)
            if found < shard.samples:
                raise ValueError(
                    f"task {task.spec} needs {member} in each of the {shard.samples} samples of {shard.name}, "
                    f"which has it in {found}. Codes come from `kyvo data code`, images of edits and questions from "
                    "making the world with edit_images and with questions"
                )
    return shards
