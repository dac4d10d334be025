"""What a run leaves in its folder: run.json with a record of each process, and a metrics.csv that goes on."""

import json
import subprocess

import pytest
import torch

from kyvo.report.metrics_file import MetricsFile
from kyvo.report.run_record import RunFile, RunRecord, commit_of, installed_versions, read_records, this_machine
from kyvo.training.metrics_log import MetricsLog


def _record(**options):
    given = {"command": "kyvo fit", "seed": 0, "processes": 1, "nodes": 1, "precision": "32-true", "config": {"a": 1}}
    return RunRecord(**(given | options))


def test_every_start_of_a_run_is_recorded(tmp_path):
    path = tmp_path / "run" / "run.json"
    killed = RunFile(path, _record())
    killed.write()
    finished = RunFile(path, _record(seed=1, checkpoint="last.ckpt", first_step=500))
    finished.write()
    finished.record.end("finished", 4400)
    finished.write()
    first, second = read_records(path)
    assert (first["status"], first["ended"], first["seed"]) == ("running", None, 0)
    assert (second["status"], second["first_step"], second["last_step"]) == ("finished", 500, 4400)
    assert second["started"] <= second["ended"]
    # Of a process that has loaded torch.
    assert first["peak_memory_gb"] is None
    assert 0.05 < second["peak_memory_gb"] < 100
    assert second["config"] == {"a": 1}
    assert [one.name for one in path.parent.iterdir()] == ["run.json"]


@pytest.mark.parametrize(("text", "said"), [("{", "not JSON"), ("[]", "expected"), ('{"starts": 3}', "expected")])
def test_another_file_of_that_name_is_refused(text, said, tmp_path):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=rf"run.json: {said}"):
        RunFile(tmp_path / "run.json", _record())


def test_the_commit_is_that_of_a_tracked_folder(tmp_path):
    def git(*words):
        subprocess.run(
            ["git", "-c", "user.name=n", "-c", "user.email=e@e", "-C", tmp_path, *words],
            check=True,
            capture_output=True,
        )

    package = tmp_path / "package"
    package.mkdir()
    (package / "code.py").write_text("a = 1\n")
    assert commit_of(package) is None
    git("init")
    assert commit_of(package) is None
    git("add", "package")
    git("commit", "-m", "code")
    head = subprocess.run(["git", "-C", tmp_path, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    assert commit_of(package) == head
    (tmp_path / "untracked").mkdir()
    assert commit_of(package) == head
    assert commit_of(tmp_path / "untracked") is None
    (package / "code.py").write_text("a = 2\n")
    assert commit_of(package) == f"{head}-dirty"


def test_versions_and_machine_are_those_of_this_process():
    assert installed_versions()["torch"] == torch.__version__
    found = this_machine()
    assert found["cores"] >= 1
    assert found["processor"]
    assert json.loads(json.dumps(found)) == found


# ---- metrics.csv ----------------------------------------------------------------------------------------------------


def _log(folder, rows, begin=None):
    """What a process logs: rows of (step, metrics)."""
    logger = MetricsLog(folder, name="run", version="")
    if begin is not None:
        logger.begin(begin)
    for step, metrics in rows:
        logger.log_metrics(metrics, step)
        logger.save()
    logger.finalize("success")
    return MetricsFile.read(folder / "run" / "metrics.csv")


def test_a_resumed_run_goes_on_with_its_metrics(tmp_path):
    _log(tmp_path, [(4, {"train/a": 1.0}), (9, {"train/a": 2.0}), (9, {"val/b": 0.5}), (14, {"train/a": 3.0})])
    log = _log(tmp_path, [(14, {"train/a": 3.5, "train/c": 7.0}), (19, {"train/c": 8.0})], begin=10)
    assert log.series("train/a") == [(4, 1.0), (9, 2.0), (14, 3.5)]
    assert log.series("val/b") == [(9, 0.5)]
    assert log.series("train/c") == [(14, 7.0), (19, 8.0)]


@pytest.mark.parametrize("begin", [None, 0])
def test_a_run_that_starts_over_starts_its_metrics_over(begin, tmp_path):
    _log(tmp_path, [(4, {"train/a": 1.0})])
    assert _log(tmp_path, [(9, {"train/a": 2.0})], begin).series("train/a") == [(9, 2.0)]


def test_half_a_line_of_a_killed_process_is_dropped(tmp_path):
    _log(tmp_path, [(4, {"train/a": 1.0}), (9, {"train/a": 2.0})])
    path = tmp_path / "run" / "metrics.csv"
    path.write_text(path.read_text() + "1")
    assert _log(tmp_path, [(19, {"train/a": 4.0})], begin=15).series("train/a") == [(4, 1.0), (9, 2.0), (19, 4.0)]


def test_only_the_first_word_on_what_to_keep_counts(tmp_path):
    _log(tmp_path, [(4, {"train/a": 1.0})])
    logger = MetricsLog(tmp_path, name="run", version="")
    logger.begin(10)
    logger.begin(0)
    assert (tmp_path / "run" / "metrics.csv").read_text().count("\n") == 2
