"""The page over HTTP: its tabs are the model's tasks, it is served to this machine alone, and errors are messages."""

import json
import os
import sys
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest

from kyvo import cli
from kyvo.demo import command
from kyvo.demo.desk import Desk
from kyvo.demo.seclusion import HEADERS, SWITCHES
from kyvo.demo.upload import MOST_BYTES

gr = pytest.importorskip("gradio")
demo_page = pytest.importorskip("tests.demo_page")


@pytest.fixture(scope="module")
def served():
    with demo_page.served() as url:
        yield url


def config_of(url):
    with urllib.request.urlopen(url + "config") as answer:
        return json.load(answer)


@pytest.mark.parametrize(
    ("tasks", "tabs"),
    [
        (["3-I", "I-3", "I+3+Q-A", "3+T-3"], ["Scene", "Objects", "Instruct", "Ask"]),
        (["I-3"], ["Scene"]),
        (["3-I"], ["Scene", "Objects"]),
        (["I+3+T-I+3"], ["Scene", "Instruct"]),
    ],
)
def test_tabs_are_the_models_tasks(tasks, tabs):
    blocks = demo_page.page_of(*tasks).blocks.blocks.values()
    assert [one.label for one in blocks if isinstance(one, gr.Tab)] == tabs
    assert any(isinstance(one, gr.UploadButton) for one in blocks) == (tasks != ["3-I"])


def test_nothing_is_reported_shared_or_offered_as_an_api(served):
    config = config_of(served)
    assert served.startswith("http://127.0.0.1:")
    assert (config["analytics_enabled"], config["max_file_size"]) == (False, MOST_BYTES)
    assert not config["footer_links"]
    assert all(one["api_visibility"] == "private" for one in config["dependencies"])
    assert not config.get("is_space")


def test_every_answer_forbids_the_browser_to_look_elsewhere(served):
    for path in ("", "config", "nothing"):
        try:
            headers = urllib.request.urlopen(served + path).headers
        except urllib.error.HTTPError as error:
            headers = error.headers
        for name, value in HEADERS.items():
            assert headers[name.decode()] == value.decode()


def test_one_step_of_the_model_at_a_time(served):
    limits = {fn.concurrency_id: fn.concurrency_limit for fn in demo_page.page_of("3-I", "I-3").blocks.fns.values()}
    assert limits["model"] == 1


def test_uploads_have_a_largest_size(served):
    boundary = "x"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'.encode()
    body = head + b"0" * (MOST_BYTES + 1) + f"\r\n--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    with pytest.raises(urllib.error.HTTPError, match="413"):
        urllib.request.urlopen(urllib.request.Request(served + "gradio_api/upload", body, headers))


def test_what_is_wrong_becomes_a_message():
    def refuse(desk):
        raise ValueError("scene of sample 'input 0': object 0 <b>")

    page = sys.modules["kyvo.demo.page"]
    with pytest.raises(gr.Error) as caught:
        page._after(refuse, [], Desk())
    assert caught.value.message == "Object 0 &lt;b&gt;"
    error = ValueError("input 0 takes 900 tokens, the model reads less than 512")
    assert page.plain_message(error) == "900 tokens, the model reads less than 512"


def test_without_gradio_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as caught:
        cli.main(["demo"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == "kyvo: error: the page needs Gradio: pip install 'kyvo[demo]'\n"


def test_the_command_refuses_folders_that_are_no_model(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["demo", "--model", str(tmp_path)])
    assert caught.value.code == 2
    assert "no model that `kyvo export` wrote" in capsys.readouterr().err


def test_a_port_that_is_taken_is_refused(served, monkeypatch, capsys):
    port = served.rpartition(":")[2].strip("/")
    page = demo_page.page_of("3-I")
    monkeypatch.setattr("kyvo.demo.workbench.open_workbench", lambda model, examples: page.bench)
    with pytest.raises(SystemExit):
        cli.main(["demo", "--port", port])
    assert f"cannot listen on 127.0.0.1:{port}; --port names another" in capsys.readouterr().err


def test_the_command_is_silent_serves_and_ends(monkeypatch, capsys):
    done = []

    class Stub:
        def __init__(self, bench, name):
            done.append((bench, name, [os.environ[key] for key in SWITCHES]))
            self.blocks = SimpleNamespace(close=lambda verbose: done.append("closed"))

        def launch(self, host, port, headers):
            done.append((host, port, [one.cls.__name__ for one in headers]))
            return "http://here/"

    def interrupt(event):
        raise KeyboardInterrupt

    for key in SWITCHES:
        monkeypatch.setenv(key, "unset")
    monkeypatch.setitem(sys.modules, "kyvo.demo.page", SimpleNamespace(Page=Stub))
    monkeypatch.setattr("kyvo.demo.workbench.open_workbench", lambda model, examples: (model, examples))
    monkeypatch.setattr("threading.Event.wait", interrupt)
    cli.main(["demo", "--model", "models/mini", "--port", "8000"])
    made = (("models/mini", None), "mini", list(SWITCHES.values()))
    assert done == [made, ("127.0.0.1", 8000, ["Secluded"]), "closed"]
    assert capsys.readouterr().out == "Kyvo is at http://here/ (Ctrl-C ends it)\n"
