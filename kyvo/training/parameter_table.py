"""The parameter table at the start of a run: which part of the model has how many weights, and which of them train."""

from collections.abc import Iterable
from dataclasses import dataclass

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import RichModelSummary
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from rich.console import Console
from rich.table import Table
from torch import nn

from kyvo.models.parts import PARTS, part_of
from kyvo.training.language import LanguageModule


@dataclass(frozen=True)
class PartCount:
    """The weights of a part.

    Args:
        part: Its name.
        trained: Weights that train.
        frozen: Weights that do not.
    """

    part: str
    trained: int
    frozen: int


def count_parts(model: nn.Module) -> list[PartCount]:
    """The parts of a language model that have parameters, from the input to the output."""
    sizes = [
        (part_of(name), parameter.requires_grad, parameter.numel()) for name, parameter in model.named_parameters()
    ]
    counts = [
        PartCount(
            part,
            sum(size for name, trains, size in sizes if name == part and trains),
            sum(size for name, trains, size in sizes if name == part and not trains),
        )
        for part in PARTS
    ]
    return [one for one in counts if one.trained + one.frozen]


def parameter_table(counts: Iterable[PartCount]) -> Table:
    """The counts with their sums, as a table for the terminal."""
    rows = list(counts)
    total = PartCount("all", sum(one.trained for one in rows), sum(one.frozen for one in rows))
    table = Table("part", "weights", "trained", "frozen", show_footer=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for one in (*rows, total):
        numbers = (one.trained + one.frozen, one.trained, one.frozen)
        table.add_row(one.part, *(f"{number:,}" if number else "-" for number in numbers), end_section=one is rows[-1])
    return table


class ParameterTable(RichModelSummary):
    """Prints the table of a language model before it trains; of other models, Lightning's own summary."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Print it now: later, parameters that are sharded over ranks have other sizes."""
        if stage == "fit" and isinstance(pl_module, LanguageModule):
            _show(pl_module.model)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lightning's summary."""
        if not isinstance(pl_module, LanguageModule):
            super().on_fit_start(trainer, pl_module)


@rank_zero_only
def _show(model: nn.Module) -> None:
    Console().print(parameter_table(count_parts(model)))
