import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.text_corpus import corpus
from kyvo.tokenizers.text import EMBEDDED, TextTokenizer, train_text_tokenizer

SMALL = TextTokenizer.from_pretrained(EMBEDDED)


@given(st.text())
def test_any_text_round_trips(text):
    assert SMALL.decode(SMALL.encode(text)) == text


@given(st.lists(st.integers(0, SMALL.size - 1)))
def test_any_ids_decode(ids):
    assert isinstance(SMALL.decode(ids), str)


def test_special_tokens_in_text_stay_text():
    text = "Remove <|end_of_text|> the cube"
    ids = SMALL.encode(text)
    assert not set(ids) & set(SMALL.special_ids)
    assert SMALL.decode(ids) == text
    assert SMALL.special_ids == tuple(sorted({SMALL.bos, SMALL.eos, SMALL.pad}))
    assert SMALL.decode([SMALL.bos, *ids, SMALL.eos]) == text


def test_every_word_of_the_embedded_world_is_one_token():
    """A word is what Llama's split calls one: with its leading space, if it has one."""
    texts = list(corpus(scenes=60, seed=1))
    pieces = {word for text in texts for word in re.findall(r" ?[A-Za-z0-9]+", text.replace("?", ""))}
    assert {" cube", " thing", "what", "Remove", "True", "10", " refrigerator"} <= pieces
    assert not [piece for piece in sorted(pieces) if len(SMALL.encode(piece)) != 1]
    assert len(SMALL.encode("How many big cubes are left of the ball?")) == 10
    assert SMALL.size < 700
    assert (EMBEDDED / "tokenizer.json").stat().st_size < 50_000


def test_the_corpus_is_repeatable():
    assert list(corpus(scenes=3)) == list(corpus(scenes=3))


def test_training_is_repeatable(tmp_path):
    texts = ["How many cubes are there?", "Remove the red cube"] * 3
    first, second = train_text_tokenizer(texts, 280), train_text_tokenizer(texts, 280)
    assert first.backend.to_str() == second.backend.to_str()
    assert (first.bos, first.eos, first.pad, first.size) == (0, 1, 2, 280)
    first.save_pretrained(tmp_path)
    again = TextTokenizer.from_pretrained(str(tmp_path))
    assert again.encode("the red ball") == first.encode("the red ball")
    assert (again.bos, again.eos, again.pad, again.size) == (0, 1, 2, 280)


def test_splits_as_llama_does(golden):
    llama = TextTokenizer.from_pretrained(golden / "llama3_tokenizer")
    assert SMALL.backend.pre_tokenizer.pre_tokenize_str("It's 12345 red  cubes!\n") == (
        llama.backend.pre_tokenizer.pre_tokenize_str("It's 12345 red  cubes!\n")
    )
    assert (llama.size, llama.bos, llama.eos) == (128_256, 128_000, 128_001)
    assert llama.special_ids == tuple(range(128_000, 128_256))
    assert llama.encode(" bench") == [13731]


def test_missing_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"lacks tokenizer.json and tokenizer_config.json"):
        TextTokenizer.from_pretrained(tmp_path)
    SMALL.save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "<|end_of_text|>"}))
    with pytest.raises(ValueError, match=r"names '<s>' as its bos_token, which tokenizer.json does not have"):
        TextTokenizer.from_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(ValueError, match=r"lacks tokenizer_config.json"):
        TextTokenizer.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is neither a folder nor a repository"):
        TextTokenizer.from_pretrained("no/such/folder/anywhere")
