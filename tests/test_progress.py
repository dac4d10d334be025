"""How progress is shown: lines where the output is a file, bars in a terminal."""

import io
import logging
import re
import sys

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from torch.utils.data import DataLoader

from callbacks.progress import Progress
from callbacks.throughput import Throughput
from kyvo.report.progress_display import ProgressDisplay
from kyvo.report.progress_lines import ProgressLines
from kyvo.report.progress_text import Standing, time_text
from tests.worlds import batch_of, random_sample, tiny_module


def _fit(tmp_path, callback=None, **options):
    torch.manual_seed(0)
    module = tiny_module()
    batches = [
        batch_of(module.tokenizer, task, [random_sample(seed)], keep=True)
        for seed, task in enumerate(["I-3", "I+3+Q-A", "I-3", "I+3+Q-A"])
    ]
    trainer = Trainer(
        max_steps=4, accelerator="cpu", logger=False, callbacks=[Throughput(), callback or Progress()],
        enable_checkpointing=False, enable_model_summary=False, log_every_n_steps=2, val_check_interval=4,
        limit_val_batches=2, num_sanity_val_steps=1, default_root_dir=tmp_path, **options,
    )  # fmt: skip
    trainer.fit(module, DataLoader(batches, batch_size=None), DataLoader(batches, batch_size=None))
    return trainer, module, batches


def test_a_file_gets_a_line_for_each_log_and_each_evaluation(tmp_path, capsys):
    trainer, module, batches = _fit(tmp_path)
    trainer.validate(module, DataLoader(batches, batch_size=None), verbose=False)
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"check of the first batches in 0:00:\d\d", lines[0])
    rate, loss = r"[\d,]+ tokens/s, [\d,]+ supervised", r"\d+\.\d{3}"
    for line, step in zip(lines[1:3], (2, 4), strict=True):
        assert re.fullmatch(
            rf"step {step}/4 \| 0:00:\d\d(, 0:00:\d\d left)? \| {rate} \| "
            rf"loss: recognition {loss}, question answering {loss} \| of tokens: .*markers {loss}",
            line,
        )
    assert re.fullmatch(r"validation after step 4 in 0:00:\d\d", lines[3])
    assert re.fullmatch(r"validation in 0:00:\d\d", lines[4])
    assert len(lines) == 5


def test_a_terminal_shows_bars_and_messages_stand_above_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "90")
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stdout", terminal)

    class Talking(Progress):
        """Writes to a handler that was made before the bars, while they are shown."""

        def on_train_batch_end(self, *words):
            super().on_train_batch_end(*words)
            logger.warning("said in between")

    logger = logging.getLogger("tests.talking")
    handler = logging.StreamHandler()
    logger.addHandler(handler)
    before = handler.stream
    _fit(tmp_path, Talking())
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    logger.removeHandler(handler)
    final = shown[shown.rindex("training") :]
    assert "4/4" in final
    for part in ("tokens/s", "recognition", "question answering", "markers"):
        assert part in final
    # It goes through the terminal's own console, which knows where the bars are.
    assert shown.count("said in between") == 4
    assert handler.stream is before


def test_only_the_first_process_shows_anything(tmp_path, capsys):
    bar = Progress()
    bar.disable()
    _fit(tmp_path, bar)
    assert capsys.readouterr().out == ""


def test_long_evaluations_say_now_and_then_how_far_they_are(monkeypatch):
    out, now = io.StringIO(), [0.0]
    monkeypatch.setattr("kyvo.report.progress_lines.perf_counter", lambda: now[0])
    lines = ProgressLines(Console(file=out), seconds=30)
    lines.start_evaluation("test", 4)
    for done in range(1, 5):
        now[0] += 20
        lines.evaluate("test", done, 4)
    lines.evaluated("test", {"recognition/jaccard": 0.25})
    assert out.getvalue().splitlines() == [
        "test | 2/4 batches | 0:00:40",
        "test | 4/4 batches | 0:01:20",
        "test in 0:01:20 | recognition 0.250 (Jaccard)",
    ]


def test_bars_of_a_run_without_an_end_have_no_total(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = io.StringIO()
    display = ProgressDisplay(Console(file=out, width=80))
    display.train(Standing(7, None, 0, 1.0))
    display.stop()
    assert re.search(r"training .* 7 +.*0:00:01", out.getvalue())


def test_bars_leave_room_for_what_a_terminal_echoes(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = io.StringIO()
    display = ProgressDisplay(Console(file=out, width=80))
    metrics = {f"{name}/loss": 1.0 for name in ("recognition", "rendering", "instruction", "numbers", "markers")}
    display.train(Standing(7, 10, 0, 1.0))
    display.logged(Standing(7, 10, 0, 1.0, metrics))
    display.stop()
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue()).replace("\r", "\n").splitlines()
    assert "of tokens" in lines[-1]
    assert max(map(len, lines)) == 78


def test_time_left_counts_from_where_this_process_began():
    assert time_text(Standing(step=1100, total=1200, begun=1000, seconds=50)) == "0:00:50, 0:00:50 left"
    assert time_text(Standing(step=1000, total=1200, begun=1000, seconds=5)) == "0:00:05"
    assert time_text(Standing(step=1200, total=1200, begun=1000, seconds=5)) == "0:00:05"


def test_a_logger_without_its_package_is_named_in_one_line(monkeypatch, tmp_path):
    from kyvo import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("kyvo.training.command.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"WandbLogger needs `pip install 'kyvo\[wandb\]'`"):
        cli.run_trainer(["fit", "-c", "quickstart", "-c", "loggers/wandb", "--trainer.logger.init_args.id", "a"])


@pytest.mark.parametrize("wanted", [True, False])
def test_a_run_without_a_progress_bar_has_none_of_ours(wanted, monkeypatch, tmp_path):
    from kyvo import cli
    from kyvo.training.command import KyvoCLI

    monkeypatch.chdir(tmp_path)
    kept = []
    monkeypatch.setattr(KyvoCLI, "instantiate_classes", lambda self: kept.append(self.config))
    monkeypatch.setattr(KyvoCLI, "_run_subcommand", lambda self, subcommand: None)
    words = [] if wanted else ["--trainer.enable_progress_bar", "false"]
    cli.run_trainer(["fit", "-c", "quickstart", *words])
    paths = [one.class_path for one in kept[0].fit.trainer.callbacks]
    assert ("callbacks.progress.Progress" in paths) == wanted
    assert "callbacks.jaccard.Jaccard" in paths
    assert issubclass(Progress, ProgressBar)
