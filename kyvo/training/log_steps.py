"""The optimiser steps after which a run is logged."""

from lightning import Trainer


class LogSteps:
    """Tells, once each, the steps after which Lightning's loggers write: every `log_every_n_steps` of the trainer.

    With accumulation several batches share a step; only the one that ends it counts.
    """

    def __init__(self) -> None:
        self._step = 0

    def start(self, trainer: Trainer) -> None:
        """Begin where the run stands, which is not 0 where it is resumed."""
        self._step = trainer.global_step

    def due(self, trainer: Trainer) -> bool:
        """Whether the batch that has just been trained on ended a step that is logged; asked after every batch."""
        stepped = trainer.global_step != self._step
        self._step = trainer.global_step
        # As Lightning's own callbacks ask: its count differs by one from `global_step` where a finished run goes on.
        return stepped and trainer._logger_connector.should_update_logs
