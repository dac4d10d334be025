"""What the command leaves in a run's folder: config.yaml, run.json, and of metrics.csv the part that still holds."""

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback

from kyvo.report.run_record import RunFile, RunRecord
from kyvo.training.metrics_log import MetricsLog


class RunFolder(SaveConfigCallback):
    """Saves the config as Lightning's callback does, and a record of this process in run.json beside it.

    Args:
        parser: What parsed the config.
        config: The config.
        words: The command line.
        options: See Lightning's `SaveConfigCallback`.
    """

    def __init__(
        self, parser: LightningArgumentParser, config: Namespace, words: Sequence[str] = (), **options: Any
    ) -> None:
        super().__init__(parser, config, **options)
        self.words = words
        self._folder = Path()
        self._file: RunFile | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save config and record, once."""
        # On every process: Lightning asks the first for it.
        self._folder = Path(trainer.log_dir or trainer.default_root_dir)
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin the record: of the first process alone, once."""
        # Now: later, parameters that are sharded over ranks have other sizes.
        sizes = [(one.numel(), one.requires_grad) for one in pl_module.parameters()]
        record = RunRecord(
            command=shlex.join(["kyvo", *self.words]),
            seed=int(os.environ["PL_GLOBAL_SEED"]) if "PL_GLOBAL_SEED" in os.environ else None,
            processes=trainer.world_size,
            nodes=trainer.num_nodes,
            precision=str(trainer.precision),
            config=json.loads(self.parser.dump(self.config, format="json", skip_none=False)),
            parameters=sum(size for size, _ in sizes),
            trained_parameters=sum(size for size, trains in sizes if trains) if stage == "fit" else None,
        )
        self._file = RunFile(self._folder / "run.json", record)
        self._file.write()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note where training goes on, and keep what was logged up to there."""
        _keep_log(trainer)
        if self._file is not None:
            self._file.record.first_step = trainer.global_step
            self._note_checkpoint(trainer)
            self._file.write()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Note the end; the evaluation that follows training notes a later one."""
        if stage == "fit":
            # A run that was finished before does not start training.
            _keep_log(trainer)
        if self._file is not None and self._file.record.status in ("running", "finished"):
            self._note_checkpoint(trainer)
            self._file.record.end("finished", trainer.global_step)
            self._file.write()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Note what went wrong."""
        if self._file is not None:
            stopped = isinstance(exception, KeyboardInterrupt | SystemExit)
            text = None if stopped else f"{type(exception).__name__}: {exception}"
            self._file.record.end("interrupted" if stopped else "failed", trainer.global_step, text)
            self._file.write()

    def _note_checkpoint(self, trainer: Trainer) -> None:
        if self._file is not None and trainer.ckpt_path is not None:
            self._file.record.checkpoint = str(trainer.ckpt_path)


def _keep_log(trainer: Trainer) -> None:
    """Keep what earlier processes logged of the steps that the run has taken."""
    for logger in trainer.loggers:
        if isinstance(logger, MetricsLog):
            logger.begin(trainer.global_step)
