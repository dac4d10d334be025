"""The command line: help without heavy imports, configs from any folder, one clear line for bad input."""

import json
import subprocess
import sys

import pytest

from kyvo import cli

LIGHT = """
import sys, kyvo.cli
kyvo.cli.main(["--help"])
sys.exit(any(module in sys.modules for module in ("torch", "lightning", "transformers")))
"""


def _kyvo(*words: str, cwd=None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "kyvo", *words], capture_output=True, text=True, cwd=cwd, check=False)


def test_help_imports_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    for command in ("fit", "validate", "test", "predict", "data make", "quickstart"):
        assert command in done.stdout


def test_every_function_behind_a_command_exists():
    for target, text in cli.FUNCTIONS.values():
        assert callable(cli.load(target))
        assert text


def test_configs_are_found_by_name_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.find_config("quickstart") == str(cli.config_root() / "quickstart.yaml")
    assert cli.find_config("configs/quickstart.yaml") == cli.find_config("quickstart")
    (tmp_path / "mine.yaml").touch()
    assert cli.find_config("mine.yaml") == "mine.yaml"
    with pytest.raises(ValueError, match=r"no config file 'nothing'.*quickstart"):
        cli.find_config("nothing")


def test_an_unknown_command_is_one_line_and_status_2():
    done = _kyvo("fly")
    assert done.returncode == 2
    assert done.stderr == "kyvo: error: there is no command 'fly'; see kyvo --help\n"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["score", "jaccard", "--bad", "1"], "unrecognized arguments: --bad 1"),
        (["score", "boxes", "--predictions", "a"], "the following arguments are required: ground_truth"),
        (["report", "--run", "nowhere"], "nowhere: expected predictions/val/TASK.rank0.jsonl"),
        (["report", "--run", "nowhere", "--rows", "many"], "rows"),
    ],
)
def test_bad_arguments_are_one_line(words, reason, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(words)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kyvo: error: ")
    assert reason in line


def test_an_error_of_several_lines_becomes_one(monkeypatch, capsys):
    def fails() -> None:
        """Fail."""
        raise ValueError(
            "a\n  b: Does not validate against any of the Union subtypes\nSubtypes: [list[int], <class 'NoneType'>]\n"
            "Errors:\n  - Expected c\n  - Expected a <class 'NoneType'>\nGiven value: Namespace(everything)"
        )

    monkeypatch.setattr(cli, "load", lambda target: fails)
    monkeypatch.setitem(cli.FUNCTIONS, "fails", ("nowhere:fails", ""))
    with pytest.raises(SystemExit):
        cli.main(["fails"])
    assert capsys.readouterr().err == "kyvo: error: a b: Expected c\n"
    monkeypatch.setenv("KYVO_TRACEBACK", "1")
    with pytest.raises(ValueError, match="Does not validate"):
        cli.main(["fails"])


def test_help_says_how_to_see_more():
    assert "KYVO_TRACEBACK=1" in cli.usage()


def test_a_key_that_does_not_exist_is_named(tmp_path):
    done = _kyvo("fit", "-c", "quickstart", "--model.init_args.no_such_key", "1", cwd=tmp_path)
    assert done.returncode == 2
    # Warnings may come before.
    assert done.stderr.splitlines()[-1].startswith("kyvo: error:")
    assert "no_such_key" in done.stderr.splitlines()[-1]
    assert "usage" not in done.stderr


def test_an_unknown_task_says_what_one_looks_like(tmp_path):
    done = _kyvo("fit", "-c", "quickstart", '--data.init_args.tasks={"X-3": 1}', cwd=tmp_path)
    assert done.returncode == 2
    assert "task 'X-3' should look like" in done.stderr


def test_options_are_read_as_people_write_them(monkeypatch, capsys):
    def example(
        *names: str, ground_truth: str, taus: list[float] | None = None, raw: bool = False
    ) -> dict[str, object]:
        """Give back what it gets.

        Args:
            names: Any.
            ground_truth: Any.
            taus: Any.
            raw: Any.
        """
        return {"names": names, "ground_truth": ground_truth, "taus": taus, "raw": raw}

    monkeypatch.setattr(cli, "load", lambda target: example)
    monkeypatch.setitem(cli.FUNCTIONS, "example", ("nowhere:example", ""))
    for words in (
        ["a=b-c", "--ground-truth", "my-file", "--taus", "0.05", "0.1", "--raw"],
        ["a=b-c", "--raw", "--ground_truth=my-file", "--taus", "[0.05,0.1]"],
    ):
        cli.main(["example", *words])
        assert json.loads(capsys.readouterr().out) == {
            "names": ["a=b-c"], "ground_truth": "my-file", "taus": [0.05, 0.1], "raw": True,
        }  # fmt: skip
