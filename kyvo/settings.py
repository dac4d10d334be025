"""Options of a run by dotted names, as on a command line, turned into what a config file holds."""

from collections.abc import Mapping
from typing import Any


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names as nested mappings.

    >>> nested({"a.b": 1, "a.c.d": 2, "e": 3})
    {'a': {'b': 1, 'c': {'d': 2}}, 'e': 3}
    """
    found: dict[str, Any] = {}
    for name, value in settings.items():
        *path, leaf = name.split(".")
        place = found
        for key in path:
            place = place.setdefault(key, {})
        place[leaf] = value
    return found
