"""Jobs and their runner: what is skipped, goes on, failed or changed, with a stand-in for the `kyvo` command."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kyvo.cookbook import command, job
from kyvo.cookbook.command import run, table
from kyvo.cookbook.grid import Grid
from kyvo.cookbook.job import Job, digest, read_state
from kyvo.cookbook.plan import Plan
from kyvo.cookbook.results import read_results
from kyvo.cookbook.runner import run_jobs, run_steps, unfinished

STUB = """#!/bin/sh
# Called as: stub -m kyvo WORD FOLDER; leaves a line for each call.
echo "called with $OMP_NUM_THREADS threads"
echo "$3" >> "$4/calls"
case "$3" in
  fail) echo "Traceback"; echo "kyvo: error: no such data"; exit 2;;
  die) kill -KILL $$;;
  wait) touch "$4/waiting"; while [ ! -e "$4/go" ]; do sleep 0.02; done;;
esac
"""


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Makes a job whose process is a stand-in that fails, dies, waits or just ends."""
    stub = tmp_path / "stub"
    stub.write_text(STUB)
    stub.chmod(0o755)
    monkeypatch.setattr(job.sys, "executable", str(stub))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def make_job(word, name="one", config=None, settings="a: 1\n"):
        folder = tmp_path / "out" / name
        return Job(name, folder, (word, str(folder)), {"steps": 5, "lr": None} if config is None else config, settings)

    return make_job


def calls(one):
    path = one.folder / "calls"
    return path.read_text().split() if path.is_file() else []


def test_a_job_that_ends_is_finished_and_not_run_again(make):
    one = make("end")
    assert (one.state().status, unfinished([one])) == ("planned", [one])
    ended = one.run(threads=1)
    assert (ended.status, ended.error) == ("finished", "")
    assert ended.started <= ended.ended
    assert one.state() == ended
    assert unfinished([one]) == []
    assert (one.folder / "run.yaml").read_text() == "a: 1\n"
    assert (one.folder / "output.log").read_text() == "called with 1 threads\n"
    assert digest(one.config) in (one.folder / "cookbook.json").read_text()


def test_a_job_that_fails_says_why_and_is_run_again(make):
    failed = make("fail")
    assert failed.run().error == "no such data"
    assert unfinished([failed]) == [failed]
    failed.run()
    assert calls(failed) == ["fail", "fail"]


def test_a_job_that_is_killed_says_by_what(make):
    assert make("die").run().error == "killed by SIGKILL, as where memory runs out"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\ntorch.OutOfMemoryError: too much\nb\n", "torch.OutOfMemoryError: too much"),
        ("ValueError: first\nkyvo: error: last\n", "last"),
        ("only this\n\n", "only this"),
        ("", "exit status 3"),
    ],
)
def test_the_reason_is_the_last_error_or_the_last_line(text, said, tmp_path):
    (tmp_path / "log").write_text(text)
    assert job.reason(tmp_path / "log", 3) == said


def test_a_job_whose_process_is_gone_is_broken_and_goes_on(make):
    one = make("end")
    one.run()
    path = one.folder / "cookbook.json"
    path.write_text(path.read_text().replace('"finished"', '"running"'))
    assert one.state().status == "broken"
    assert unfinished([one]) == [one]


def test_a_job_that_runs_elsewhere_is_left_alone(make):
    one = make("end")
    one.run()
    path = one.folder / "cookbook.json"
    path.write_text(path.read_text().replace('"finished"', '"running"'))
    with (one.folder / ".running").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert one.run().status == one.state().status == "running"
    assert calls(one) == ["end"]


def test_a_job_outlives_the_process_that_began_it_and_stays_locked(make):
    one = make("wait")
    # Another process begins the job, and is killed.
    code = (
        "import sys; from pathlib import Path; from kyvo.cookbook.job import Job; "
        f"executable, sys.executable = sys.executable, {job.sys.executable!r}; "
        f"Job('one', Path({str(one.folder)!r}), ('wait', {str(one.folder)!r}), {dict(one.config)!r}).run()"
    )
    real = os.readlink("/proc/self/exe")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    began = subprocess.Popen([real, "-c", code], env=environment)
    while not (one.folder / "waiting").exists():
        assert began.poll() is None
        time.sleep(0.02)
    began.send_signal(signal.SIGKILL)
    began.wait()
    assert one.state().status == "running"
    (one.folder / "go").touch()
    while one.state().status == "running":
        time.sleep(0.02)
    assert one.state().status == "broken"


def test_a_changed_config_is_named(make):
    make("end").run()
    with pytest.raises(ValueError, match=r"one was finished with another config \(steps: 5 then, 6 now\): .*one"):
        make("end", config={"steps": 6, "lr": None}).state()
    with pytest.raises(ValueError, match=r"lr: null then, 0.1 now"):
        unfinished([make("end", config={"steps": 5, "lr": 0.1})])
    # An option that the code did not have then.
    assert make("end", config={"steps": 5, "lr": None, "new": 3}).state().status == "finished"


def test_a_state_that_is_none_is_named(make):
    one = make("end")
    one.run()
    (one.folder / "cookbook.json").write_text("{}")
    with pytest.raises(ValueError, match=r"cookbook.json: not the state of a cookbook's run"):
        read_state(one.folder)


def test_a_job_that_fails_does_not_stop_the_others(make):
    said: list[str] = []
    jobs = [make("fail", "first"), make("end", "second"), make("end", "third")]
    ended = run_jobs(jobs, 2, said.append)
    assert {name: state.status for name, state in ended.items()} == {
        "first": "failed", "second": "finished", "third": "finished"
    }  # fmt: skip
    assert len(said) == 3
    assert any("first: failed: no such data" in line for line in said)


def test_several_at_a_time_share_the_cores(make, monkeypatch):
    monkeypatch.setattr("kyvo.cookbook.runner._cores", lambda: 8)
    jobs = [make("end", "first"), make("end", "second")]
    run_jobs(jobs, 2, lambda line: None)
    assert [(one.folder / "output.log").read_text() for one in jobs] == ["called with 4 threads\n"] * 2


def test_a_step_that_fails_ends_it(make):
    steps = [make("end", "first"), make("fail", "second"), make("end", "third")]
    said: list[str] = []
    with pytest.raises(ValueError, match=r"second is failed: no such data"):
        run_steps(steps, said.append)
    assert calls(steps[2]) == []
    run_steps(steps[:1], said.append)
    assert said[-1] == "first: finished before"
    assert calls(steps[0]) == ["end"]


# ---- commands -------------------------------------------------------------------------------------------------------

GRID = """
configs: [quickstart]
prepare: {world: "end {folder}"}
axes: {a: {x: {}, y: {}}}
columns: {a/jaccard: null}
"""


@pytest.fixture
def grid(make, tmp_path, monkeypatch):
    """A grid whose second run fails until a file is there."""
    (tmp_path / "mine.yaml").write_text(GRID)

    def runs(plan):
        word = {"x": "end", "y": "end" if (tmp_path / "mended").exists() else "fail"}
        folders = {one.row: plan.folder_of(one) for one in plan.grid.runs()}
        return [Job(folder.name, folder, (word[row], str(folder)), {}) for row, folder in folders.items()]

    monkeypatch.setattr(Plan, "runs", runs)
    return tmp_path


def test_the_same_command_runs_what_failed_and_skips_what_is_finished(grid, capsys):
    name, out = str(grid / "mine.yaml"), grid / "runs"
    with pytest.raises(ValueError, match="1 of 2 runs of mine failed: y-seed0; the same command runs them again"):
        run(name, out=out)
    run(name, out=out, status=True)
    printed = capsys.readouterr().out
    assert "mine/x-seed0: finished" in printed
    assert "mine/y-seed0: failed: no such data" in printed
    (grid / "mended").touch()
    run(name, out=out)
    printed = capsys.readouterr().out
    assert "2 runs in" in printed
    assert "1 of them finished before" in printed
    assert (out / "mine/x-seed0/calls").read_text() == (out / "prepare/world/calls").read_text() == "end\n"
    assert (out / "mine/y-seed0/calls").read_text() == "fail\nend\n"
    run(name, out=out)
    assert "2 of them finished before" in capsys.readouterr().out


def test_jobs_are_at_least_one(grid):
    with pytest.raises(ValueError, match="--jobs should be at least 1"):
        run(str(grid / "mine.yaml"), jobs=0)
    with pytest.raises(ValueError, match=r"expected a grid's file, or .*recipes_mini"):
        run()


def test_slurm_gets_an_array_that_waits_for_what_prepares_it(grid, monkeypatch):
    pytest.importorskip("submitit")
    tools = grid / "tools"
    tools.mkdir()
    keep = f'cp "$1" "{tools}/$(ls {tools} | wc -l).sh"; echo Submitted batch job 7'
    for name, text in (("sbatch", keep), ("srun", "true")):
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
    monkeypatch.setattr(job.sys, "executable", os.readlink("/proc/self/exe"))
    said: list[str] = []
    monkeypatch.setattr(command, "console_report", lambda: said.append)
    run(str(grid / "mine.yaml"), out=grid / "runs", jobs=1, slurm={"timeout_min": 5, "slurm_partition": "gpu"})
    assert said == ["mine: 2 runs submitted as 7"]
    first, array = (Path(tools, name).read_text() for name in ("2.sh", "3.sh"))
    assert "#SBATCH --partition=gpu" in first
    assert "--array" not in first
    assert "#SBATCH --array=0-1%1" in array
    assert "#SBATCH --dependency=afterok:7" in array


def test_slurm_needs_slurm(grid, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(grid))
    with pytest.raises(ValueError, match=r"--slurm: .*srun"):
        run(str(grid / "mine.yaml"), out=grid / "runs", slurm={"timeout_min": 5})


# ---- for real -------------------------------------------------------------------------------------------------------

TINY = """
configs: [quickstart, cookbook/parts/mini]
settings:
  trainer.max_steps: 4
  trainer.log_every_n_steps: 2
  model.init_args.backbone: {hidden_size: 32, layers: 2, heads: 2}
  data.init_args.root: world
  data.init_args.batch_size: 2
  data.init_args.workers: 1
  data.init_args.make.init_args: {scenes: {train: 8, val: 4}, scenes_per_shard: 4, edits: 1, questions: 2}
axes: {encoding: {learned: {model.init_args.embeddings.numbers: learned}, hybrid: {}}}
columns:
  recognition/jaccard: {published: {hybrid: .9212}, source: table 9}
  recognition/jaccard_ceiling:
  cost/million_trained_weights:
  cost/peak_memory_gb:
  cost/step_seconds:
  cost/checkpoint_mb:
"""


@pytest.mark.slow
def test_a_grid_of_two_runs_is_run_resumed_and_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY)
    # Both at once make the world that they share.
    run("tiny.yaml", jobs=2)
    assert "2 of 2" in capsys.readouterr().out
    plan = Plan(Grid.read(Path("tiny.yaml")), Path("runs/cookbook"))
    results = read_results(plan)
    assert [one.state.status for one in results] == ["finished"] * 2
    for one in results:
        assert {column.metric for column in plan.grid.columns} <= set(one.reached)
        assert one.reached["cost/million_trained_weights"] > 0.03
        assert 0.1 < one.reached["cost/checkpoint_mb"] < 5
    table("tiny.yaml", out=Path("t.md"))
    assert "| 0.9212 |" in Path("t.md").read_text()
    # A changed option is found before anything runs.
    Path("tiny.yaml").write_text(TINY.replace("max_steps: 4", "max_steps: 6"))
    with pytest.raises(ValueError, match=r"learned-seed0 was finished .* \(trainer.max_steps: 4 then, 6 now"):
        run("tiny.yaml")
    # Killed before its end, it goes on from its checkpoint.
    state = results[0].folder / "cookbook.json"
    state.write_text(state.read_text().replace('"finished"', '"running"').replace('max_steps": 4', 'max_steps": 6'))
    Path("tiny.yaml").write_text(TINY.replace("max_steps: 4", "max_steps: 6").replace(", hybrid: {}", ""))
    run("tiny.yaml")
    assert "going on from step 4 of 6" in (results[0].folder / "output.log").read_text()
