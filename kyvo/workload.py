"""Workloads: one task on one data set, the unit that a mixture draws and that scores are kept for."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kyvo.task import Task


@dataclass(frozen=True)
class Workload:
    """A task on a data set.

    Args:
        task: What is read and written.
        schema: Name of the schema of the data set's scenes.
        dataset: Name of the data set in a mixture; "" where there is one alone.
        label: What metrics are called by: the task's name, after the data set's if there are several; the task's spec
            is added where two tasks of a data set share a name.
    """

    task: Task
    schema: str
    dataset: str = ""
    label: str = ""

    @property
    def file_stem(self) -> str:
        """What files of its samples are called by: the task's spec, after the data set's name if there are several."""
        return f"{self.dataset}-{self.task.spec}" if self.dataset else self.task.spec


def labelled(workloads: Sequence[Workload]) -> tuple[Workload, ...]:
    """The workloads with a label each, no two alike."""
    plain = [f"{one.dataset}/{one.task.name}" if one.dataset else one.task.name for one in workloads]
    shared = Counter(plain)
    labels = [
        label if shared[label] == 1 else f"{label}[{one.task.spec}]"
        for label, one in zip(plain, workloads, strict=True)
    ]
    return tuple(replace(one, label=label) for one, label in zip(workloads, labels, strict=True))
