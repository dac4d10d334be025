"""The metrics.csv of a run, which a resumed run goes on with."""

import csv
import io

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter


class MetricsLog(CSVLogger):
    """Lightning's CSVLogger, but for what it deletes: all that an earlier process logged in the same folder."""

    @property
    @rank_zero_experiment
    def experiment(self) -> "MetricsWriter":
        """What writes the file."""
        if not isinstance(self._experiment, MetricsWriter):
            self._experiment = MetricsWriter(self.log_dir)
        return self._experiment

    def begin(self, step: int) -> None:
        """Keep of an earlier process what it logged before a step, else nothing; only the first call counts.

        Args:
            step: Optimiser steps that the run has taken; what was logged after them will be logged again.
        """
        self.experiment.begin(step)


class MetricsWriter(ExperimentWriter):
    """Writes a metrics.csv, after the rows of an earlier one that are kept.

    Args:
        log_dir: Folder of the file.
    """

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        self._begun = False

    def begin(self, step: int) -> None:
        """Keep the rows of before a step; see `MetricsLog.begin`."""
        if self._begun:
            return
        self._begun = True
        if not self._fs.isfile(self.metrics_file_path):
            return
        with self._fs.open(self.metrics_file_path, "r", newline="") as file:
            # A process that was killed may have left half a line.
            text = file.read().rpartition("\n")[0]
        rows = csv.DictReader(io.StringIO(text))
        kept = [row for row in rows if int(row["step"]) < step]
        if not kept:
            self._fs.rm_file(self.metrics_file_path)
            return
        self.metrics_keys = list(rows.fieldnames or ())
        with self._fs.open(self.metrics_file_path, "w", newline="") as file:
            writer = csv.DictWriter(file, self.metrics_keys)
            writer.writeheader()
            writer.writerows(kept)

    def save(self) -> None:
        """Write what was logged since the last time."""
        if self.metrics:
            self.begin(0)
        super().save()

    def _check_log_dir_exists(self) -> None:
        """Where Lightning deletes the file."""
