"""Where shards lie: a local folder or an http(s) URL, read as streams of bytes."""

import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO, cast

Root = str | Path
"""A local folder, or the http(s) URL of one."""

_ATTEMPTS = 3
_TIMEOUT = 60.0
_GONE = (403, 404, 410)


def is_remote(root: Root) -> bool:
    """Whether it is a URL, which can be read but not written."""
    return str(root).startswith(("http://", "https://"))


def locate(root: Root, name: str) -> str:
    """Path or URL of a file beside the index."""
    return f"{str(root).rstrip('/')}/{name}" if is_remote(root) else str(Path(root) / name)


def open_stream(location: str) -> BinaryIO:
    """Open a file for reading from its start to its end.

    Args:
        location: What `locate` gives. It's opened as a file or fetched as a URL, so no name can start a shell.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If a server does not answer after three attempts.
    """
    if not is_remote(location):
        return open(location, "rb")
    failures: list[urllib.error.URLError] = []
    while len(failures) < _ATTEMPTS:
        try:
            return cast(BinaryIO, urllib.request.urlopen(location, timeout=_TIMEOUT))
        except urllib.error.HTTPError as error:
            if error.code in _GONE:
                raise FileNotFoundError(f"{location}: the server says {error.code} {error.reason}") from error
            failures.append(error)
        except urllib.error.URLError as error:
            failures.append(error)
    raise OSError(f"{location}: no answer after {_ATTEMPTS} attempts: {failures[-1]}")
