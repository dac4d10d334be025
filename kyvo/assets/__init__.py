"""Small weights and tokenizers made by the configs of this repository."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent


def resolve(name: str | Path) -> str:
    """The folder of an asset that ships under this name, or the name itself: a path or hub id of the user's.

    A folder of the user's with that name comes first.
    """
    shipped = ROOT / name
    return str(shipped) if shipped.is_dir() and not Path(name).exists() else str(name)
