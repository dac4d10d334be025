"""Shows how far a run is: bars in a terminal, lines of a log elsewhere."""

import math
from collections.abc import Mapping
from time import perf_counter
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console

from kyvo.report.progress_display import ProgressDisplay
from kyvo.report.progress_lines import ProgressLines
from kyvo.report.progress_text import Standing
from kyvo.training.log_steps import LogSteps


class Progress(ProgressBar):
    """Steps, time left, tokens a second, the share of time that data is waited for, losses of tasks and of tokens.

    Speed is what `callbacks.throughput.Throughput` logs. Numbers are those of the last log; between logs a step costs
    no more than moving the bar. Only the first process shows anything.

    Args:
        refreshes: How often the bars are drawn, a second.
        seconds: Least time between two lines about one evaluation, where the output is no terminal.
    """

    def __init__(self, refreshes: float = 2, seconds: float = 30) -> None:
        super().__init__()
        self.refreshes = refreshes
        self.seconds = seconds
        self._enabled = True
        self._display: ProgressDisplay | ProgressLines | None = None
        self._steps = LogSteps()
        self._unsaid = False
        self._begun, self._start = 0, 0.0
        self._name, self._done = "", 0
        self._total: int | None = None

    def enable(self) -> None:
        """Show progress."""
        self._enabled = True

    def disable(self) -> None:
        """Show nothing."""
        self._enabled = False
        self._stop()

    # ---- training -------------------------------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._steps.start(trainer)
        self._begun, self._start = trainer.global_step, perf_counter()
        self._train(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Show what the step before logged."""
        self._say(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar; metrics are shown once every callback and the module have logged theirs."""
        self._unsaid |= self._steps.due(trainer)
        self._train(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the last log and leave the bar."""
        self._say(trainer)
        self._stop()

    def _train(self, trainer: Trainer) -> None:
        if self._enabled:
            self._shown().train(self._standing(trainer))

    def _say(self, trainer: Trainer) -> None:
        if self._unsaid and self._enabled:
            self._shown().logged(self._standing(trainer, _metrics(trainer.logged_metrics, "train")))
        self._unsaid = False

    def _standing(self, trainer: Trainer, metrics: Mapping[str, float] | None = None) -> Standing:
        total = trainer.max_steps if trainer.max_steps > 0 else None
        return Standing(trainer.global_step, total, self._begun, perf_counter() - self._start, metrics or {})

    # ---- evaluation -----------------------------------------------------------------------------------------------

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a bar; during training, after what it logged."""
        self._say(trainer)
        checking = trainer.sanity_checking
        self._begin(*("check", trainer.num_sanity_val_batches) if checking else ("validation", trainer.num_val_batches))

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a bar."""
        self._begin("test", trainer.num_test_batches)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a bar."""
        self._begin("prediction", trainer.num_predict_batches)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Move the bar."""
        self._evaluate()

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Move the bar."""
        self._evaluate()

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Move the bar."""
        self._evaluate()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the bar; other callbacks print what was found."""
        if trainer.state.fn != "fit":
            self._end()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """During training, show what was found."""
        if trainer.sanity_checking:
            self._evaluated("check of the first batches", {})
        elif trainer.state.fn == "fit":
            metrics = _metrics(trainer.callback_metrics, "val")
            self._evaluated(f"validation after step {trainer.global_step:,}", metrics)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the bar."""
        self._end()

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the bar."""
        self._end()

    def _begin(self, name: str, batches: Any) -> None:
        self._name, self._done, self._total = name, 0, _total(batches)
        if self._enabled:
            self._shown().start_evaluation(name, self._total)

    def _evaluate(self) -> None:
        self._done += 1
        if self._enabled:
            self._shown().evaluate(self._name, self._done, self._total)

    def _evaluated(self, name: str, metrics: Mapping[str, float]) -> None:
        if self._enabled:
            self._shown().evaluated(name, metrics)

    def _end(self) -> None:
        self._evaluated(self._name, {})
        self._stop()

    # ---- display --------------------------------------------------------------------------------------------------

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave what is shown."""
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave what is shown, so that the error stands below it."""
        self._stop()

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bars."""
        Console().print(*args, **kwargs)

    def _shown(self) -> ProgressDisplay | ProgressLines:
        if self._display is None:
            console = Console()
            terminal = console.is_interactive
            self._display = (
                ProgressDisplay(console, self.refreshes) if terminal else ProgressLines(console, self.seconds)
            )
        return self._display

    def _stop(self) -> None:
        if self._display is not None:
            self._display.stop()
            self._display = None


def _metrics(logged: Mapping[str, Any], stage: str) -> dict[str, float]:
    """The metrics of a stage, by name without it."""
    return {
        name.removeprefix(f"{stage}/"): float(value) for name, value in logged.items() if name.startswith(f"{stage}/")
    }


def _total(batches: Any) -> int | None:
    """The number of batches of all loaders; None if one has no end."""
    total = sum(batches) if isinstance(batches, list) else batches
    return None if math.isinf(total) else int(total)
