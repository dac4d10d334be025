"""Kyvo: one language model over text, images and structured 3D scenes."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kyvo.generation.pipeline import Kyvo as Kyvo

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Imported when it is asked for: it takes seconds, and most that import this package want none of it.
    if name == "Kyvo":
        from kyvo.generation.pipeline import Kyvo

        return Kyvo
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
