"""The unified embedding: each id goes to its part, numbers and codes are what the paper says."""

import math

import pytest
import torch

from kyvo.models.embedding import CodeEmbedding, NumberEmbedding, UnifiedEmbedding, sinusoid_table

RANGES = {"text": (0, 5), "numbers": (5, 9), "markers": (9, 12), "image": (12, 20), "shape": (20, 20)}


def _embedding(**options) -> UnifiedEmbedding:
    torch.manual_seed(0)
    return UnifiedEmbedding(RANGES, 8, [0.0, 1.0, 2.0, 3.0], **options)


def test_every_id_is_embedded_by_the_part_that_owns_it():
    module = _embedding(image_code_dim=3)
    module.parts["image"].set_codebook(torch.randn(8, 3))
    vectors = module(torch.arange(20)[None])[0]
    rows = [module.parts["text"].weight, module.parts["numbers"](torch.arange(4)), module.parts["markers"].weight]
    rows.append(module.parts["image"](torch.arange(8)))
    torch.testing.assert_close(vectors, torch.cat(rows))


def test_sinusoids_follow_the_papers_formula():
    table = sinusoid_table(torch.tensor([0.0, 3.0]), 6)
    expected = [
        math.sin(3 / 10_000 ** (2 * (i // 2) / 6)) if i % 2 == 0 else math.cos(3 / 10_000 ** (2 * (i // 2) / 6))
        for i in range(6)
    ]
    torch.testing.assert_close(table[1], torch.tensor(expected))
    assert table[0].tolist() == [0, 1, 0, 1, 0, 1]
    with pytest.raises(ValueError, match="even"):
        sinusoid_table(torch.zeros(1), 5)


@pytest.mark.parametrize(("encoding", "trained"), [("hybrid", 1), ("learned", 1), ("sinusoid", 0)])
def test_number_encodings_train_what_they_should(encoding, trained):
    module = NumberEmbedding(torch.arange(4.0), 8, encoding, scale=0.02)
    assert len(list(module.parameters())) == trained
    index = torch.tensor([2, 3])
    learned = module.learned(index) if trained else 0
    static = 0 if encoding == "learned" else 0.02 * sinusoid_table(torch.tensor([2.0, 3.0]), 8)
    torch.testing.assert_close(module(index), learned + static)


def test_codebooks_are_normalised_frozen_and_checked():
    module = CodeEmbedding(6, 3, 8)
    module.set_codebook(torch.randn(6, 3) * 7 + 5)
    assert abs(float(module.codebook.mean())) < 1e-6
    assert {name for name, _ in module.named_parameters()} == {"projector.weight"}
    with pytest.raises(ValueError, match=r"\(6, 3\).*\(5, 3\)"):
        module.set_codebook(torch.randn(5, 3))


def test_places_within_an_image_restart_and_continue_from_what_was_seen():
    module = _embedding(image_tokens=4)
    ids = torch.tensor([[12, 13, 0, 14, 15, 16, 17]])
    plain = _embedding()(ids)
    places = (module(ids) - plain)[0]
    expected = module.image_positions.weight
    torch.testing.assert_close(places[[0, 1, 3, 4, 5, 6]], expected[[0, 1, 2, 3, 0, 1]])
    assert places[2].abs().max() == 0
    later = module(ids[:, 5:], images_seen=torch.tensor([4]))
    torch.testing.assert_close(later, module(ids)[:, 5:])
