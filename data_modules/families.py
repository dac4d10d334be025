"""Families of shards: which shards of a split a task draws from, and what they must hold."""

from data_modules.index import Index, Shard
from data_modules.records import CODES
from kyvo.task import Task

PIXELS = {codes: stem for stem, codes in CODES.items()}
"""Stem of the pictures that can take the place of codes."""


def family_of(index: Index, task: Task, split: str) -> str:
    """The shards a task draws from.

    A split's edits if it follows instructions; if it answers questions, the scenes kept apart for these, where there
    are such (`train-questions`, as in the released data); else the split's scenes.
    """
    if task.name == "instruction":
        return f"{split}-edits"
    apart = f"{split}-questions"
    return apart if task.name == "question_answering" and apart in index.families else split


def members_of(task: Task, shapes: bool = False) -> set[str]:
    """The members that every sample must hold for a task; with `shapes`, scenes need codes of their shapes."""
    edit, members = task.name == "instruction", set[str]()
    if "text" in task.inputs or "text" in task.outputs:
        members.add("instruction.json" if edit else "question.json")
    for modalities, prefix in ((task.inputs, ""), (task.outputs, "target." if edit else "")):
        members |= {f"{prefix}image.codes.npy"} if "image" in modalities else set()
        members |= {f"{prefix}scene.json"} if "scene" in modalities else set()
        members |= {f"{prefix}shapes.codes.npy"} if shapes and "scene" in modalities else set()
    return members


def task_shards(
    index: Index, task: Task, split: str, limit: int | None = None, pixels: bool = False
) -> tuple[Shard, ...]:
    """The shards that hold the first `limit` samples (default: all) a task can draw from a split.

    Args:
        index: The index of the folder.
        task: What is read and written.
        split: The split.
        limit: Number of samples.
        pixels: Whether pictures will do in place of codes.

    Raises:
        ValueError: If the split isn't there or lacks a member the task needs, saying how to get it.
    """
    family = family_of(index, task, split)
    shards = index.shards(family, limit)
    shapes = index.scene_schema.shape is not None
    for shard in index.shards(family):
        for member in sorted(members_of(task, shapes)):
            found = _count(shard, member, pixels)
            if found < shard.samples:
                raise ValueError(
                    f"task {task.spec} needs {member} in each of the {shard.samples} samples of {shard.name}, "
                    f"which has it in {found}. Codes come from `kyvo data code`, images of edits and questions from "
                    "making the world with edit_images and with questions"
                )
    return shards


def needs_coding(task: Task, shards: tuple[Shard, ...]) -> bool:
    """Whether a task's images have to be encoded as they are read, for want of codes in its shards."""
    wanted = members_of(task) & PIXELS.keys()
    return any(shard.members.get(member, 0) < shard.samples for shard in shards for member in wanted)


def _count(shard: Shard, member: str, pixels: bool) -> int:
    """How many samples of a shard hold a member, or a picture that can take its place."""
    found = shard.members.get(member, 0)
    if pixels and member in PIXELS and found < shard.samples:
        found = sum(shard.members.get(f"{PIXELS[member]}.{suffix}", 0) for suffix in ("png", "jpg"))
    return found
