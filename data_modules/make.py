"""Making worlds: scenes, pictures, questions and edits drawn from a seed and written as shards."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import batched
from pathlib import Path
from typing import Any

from rich.progress import track

from data_modules.index import FILE_NAME, Index
from data_modules.parallel import parallel_map
from data_modules.shards import ShardWriter, encode_json, encode_png
from data_modules.worlds.clevr import ClevrWorld
