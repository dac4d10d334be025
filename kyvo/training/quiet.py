"""What Lightning says that is no news to whoever runs a command: advertising, and word of its own insides."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

LOGGED = {
    "lightning.pytorch.utilities.rank_zero": "Tip:",
    # A default that does not matter here.
    "lightning.pytorch.trainer.connectors.checkpoint_connector": "`weights_only` was not set",
}
"""For each logger, a part of the messages."""

WARNED = (
    # The words are those of the command line, with the names of shipped configs made paths.
    "LightningCLI's args parameter",
    "Precision .* is not supported by the model summary",
    # Evaluations need none of the callbacks that it misses; a run that goes on is compared with its config.
    "Be aware that when using `ckpt_path`",
    # Lightning's own use of torch's pytree.
    ".*isinstance.treespec, LeafSpec",
)
"""Beginnings of warnings, as regular expressions."""


@contextmanager
def quiet() -> Iterator[None]:
    """Within it these are not said; everything else is."""
    with warnings.catch_warnings(), ExitStack() as left_out:
        for message in WARNED:
            warnings.filterwarnings("ignore", message=message)
        for name, text in LOGGED.items():
            left_out.enter_context(_without(name, text))
        yield


@contextmanager
def _without(name: str, text: str) -> Iterator[None]:
    # At the logger, so that it does not matter who listens.
    logger = logging.getLogger(name)

    def is_news(record: logging.LogRecord) -> bool:
        return text not in record.getMessage()

    logger.addFilter(is_news)
    try:
        yield
    finally:
        logger.removeFilter(is_news)
