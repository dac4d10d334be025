"""The page over models of random weights, for tests that have Gradio."""

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.middleware import Middleware

from kyvo.demo.examples import SHIPPED, read_examples
from kyvo.demo.page import Page
from kyvo.demo.seclusion import Secluded
from kyvo.demo.workbench import Workbench
from kyvo.scene import SCHEMAS
from tests.worlds import tiny_kyvo

TASKS = ("3-I", "I-3", "I+3+Q-A", "3+T-3")


def page_of(*tasks: str) -> Page:
    """The page over a model of these tasks, with the examples that ship."""
    return Page(Workbench(tiny_kyvo(tasks), read_examples(SHIPPED, SCHEMAS["clevr"], (32, 32))), "tiny")


@contextmanager
def served() -> Iterator[str]:
    """The URL of a page with all tabs."""
    page = page_of(*TASKS)
    try:
        yield page.launch("127.0.0.1", 0, [Middleware(Secluded)])
    finally:
        page.blocks.close(verbose=False)
