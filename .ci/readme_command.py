"""Prints one of the newcomer's commands: the n-th `bash` block under README's Quickstart heading."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def quickstart_commands(readme: str) -> list[str]:
    """The `bash` blocks between `## Quickstart` and the next heading of that level."""
    section = re.split(r"^## ", readme.split("\n## Quickstart\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    return [block.strip() for block in re.findall(r"```bash\n(.*?)```", section, flags=re.DOTALL)]


if __name__ == "__main__":
    sys.stdout.write(quickstart_commands((ROOT / "README.md").read_text())[int(sys.argv[1]) - 1] + "\n")
