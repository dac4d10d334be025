"""`kyvo demo`: a page in the browser over one model."""

import sys
import threading
from importlib.util import find_spec
from pathlib import Path

from kyvo.demo.seclusion import Secluded, silence


def demo(model: str = "mini", host: str = "127.0.0.1", port: int = 7860, examples: Path | None = None) -> None:
    """Show a model in the browser: recognise pictures, edit objects, give instructions, ask questions.

    Nothing leaves the machine; Ctrl-C ends it.

    Args:
        model: Folder that kyvo export wrote, the name of a model that ships (mini), or the id of one on the Hub.
        host: Address to listen on; the default is this machine alone. Others have neither password nor encryption.
        port: Port; 0 takes the first that is free from 7860.
        examples: Folder of PNG pictures to begin with, each with its scene beside it (NAME.json) where it is known; by
            default those that ship, for models of CLEVR scenes.

    Raises:
        ValueError: If Gradio is missing, the model or an example cannot be read, or the port is taken.
    """
    if find_spec("gradio") is None:
        raise ValueError("the page needs Gradio: pip install 'kyvo[demo]'")
    silence()
    from starlette.middleware import Middleware

    from kyvo.demo.page import Page
    from kyvo.demo.workbench import open_workbench

    page = Page(open_workbench(model, examples), Path(model).name)
    try:
        url = page.launch(host, port, [Middleware(Secluded)])
    except OSError as error:
        raise ValueError(f"cannot listen on {host}:{port}; --port names another, 0 takes a free one") from error
    sys.stdout.write(f"Kyvo is at {url} (Ctrl-C ends it)\n")
    sys.stdout.flush()
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        page.blocks.close(verbose=False)
