import json

import pytest

from kyvo.tokenizers.vocabulary import Vocabulary

SMALL = Vocabulary(10, ("0.00", "0.05"), ("[A]", "[B]", "[C]"), image_codes=4, shape_codes=5, reserved=1)


def test_ranges_tile_the_ids():
    ranges = (
        SMALL.text_range,
        SMALL.number_range,
        SMALL.marker_range,
        SMALL.reserved_range,
        SMALL.image_range,
        SMALL.shape_range,
    )
    assert [index for part in ranges for index in part] == list(range(SMALL.size))
    assert SMALL.image_range == range(16, 20)
    assert SMALL.size == 25


def test_markers():
    assert [SMALL.marker(name) for name in ("[A]", "[B]", "[C]")] == [12, 13, 14]
    with pytest.raises(ValueError, match=r"no marker '\[D\]', only \[A\] \[B\] \[C\]"):
        SMALL.marker("[D]")


def test_survives_json():
    assert Vocabulary.from_dict(json.loads(json.dumps(SMALL.to_dict()))) == SMALL


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"markers": ("[A]", "[A]")}, "markers of a vocabulary must differ"),
        ({"numbers": ("0.05", "0.05")}, "numbers of a vocabulary must differ"),
        ({"eos": 10}, r"eos id 10 lies outside the text ids 0\.\.9"),
    ],
)
def test_bad_vocabularies(change, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(**{"text": 10, "numbers": (), "markers": (), "image_codes": 1} | change)
