"""`kyvo data code` on two ranks: the codes and the index of one."""

import subprocess
import sys

import pytest

from data_modules.coding import add_codes, fingerprint
from data_modules.index import Index
from data_modules.make import make
from tests.tiny_world import files_of, tiny_image_tokenizer, tiny_recipe


@pytest.mark.parametrize("num_workers", [0, 2])
def test_two_ranks_code_as_one(tmp_path, num_workers):
    tiny_image_tokenizer().save_pretrained(tmp_path / "tokenizer")
    for name in ("one", "two"):
        make(tmp_path / name, tiny_recipe(scenes={"train": 7, "val": 3}), workers=1)
    add_codes(tmp_path / "one", tiny_image_tokenizer())
    command = [sys.executable, "-m", "kyvo", "data", "code", "--root", str(tmp_path / "two"), "--devices", "2"]
    command += ["--image_tokenizer", str(tmp_path / "tokenizer"), "--accelerator", "cpu", "--batch_size", "3"]
    done = subprocess.run([*command, "--num_workers", str(num_workers)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert Index.read(tmp_path / "two").image_tokenizers() == {fingerprint(tiny_image_tokenizer())}
    assert files_of(tmp_path / "two") == files_of(tmp_path / "one")
