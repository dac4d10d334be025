"""The locality loss on encoders whose reach is known."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kyvo.training.locality import locality_loss, random_rectangles, surrounded


def averages(images: Tensor) -> Tensor:
    """An encoder that sees its own cell of 4x4 pixels alone."""
    return F.avg_pool2d(images, 4)


def test_rectangles_are_rectangles_of_all_sizes():
    torch.manual_seed(0)
    cells = random_rectangles(2000, (3, 2), torch.device("cpu"))
    assert cells.shape == (2000, 1, 3, 2)
    rows, columns = cells.any(3, keepdim=True), cells.any(2, keepdim=True)
    assert torch.equal(cells, rows & columns)
    # Empty, whole, and each of the six single cells turn up.
    assert {0, 1, 2, 3, 4, 6} == set(cells.sum((1, 2, 3)).tolist())
    assert cells.float().mean(0).min() > 0.1


def test_surrounded():
    cells = torch.zeros(1, 1, 4, 5, dtype=torch.bool)
    cells[..., :3, :3] = True
    assert surrounded(cells)[0, 0].int().tolist() == [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0] * 5, [0] * 5]
    assert surrounded(~cells)[0, 0].int().tolist() == [[0, 0, 0, 0, 1]] * 3 + [[0, 0, 0, 0, 1]]


@pytest.mark.parametrize("count", [8, 9])
def test_local_encoders_have_no_loss(count: int):
    torch.manual_seed(0)
    images = torch.randn(count, 3, 16, 32)
    blurred = lambda x: averages(F.avg_pool2d(x, 5, stride=1, padding=2))  # noqa: E731
    for encode in (averages, blurred):
        assert locality_loss(encode, images, encode(images)) == pytest.approx(0, abs=1e-10)


def test_an_encoder_of_the_whole_image_has_the_loss_of_its_change():
    torch.manual_seed(0)
    images = torch.randn(64, 3, 16, 32)

    def encode(x: Tensor) -> Tensor:
        return averages(x) + 10 * x.mean((2, 3), keepdim=True)

    features = encode(images).requires_grad_()
    loss = locality_loss(encode, images, features)
    assert loss > 0.05
    loss.backward()
    assert features.grad is not None
    assert features.grad.abs().sum() > 0
    # The loss is relative: features of another scale have the same.
    torch.manual_seed(1)
    first = locality_loss(encode, images, encode(images))
    torch.manual_seed(1)
    assert locality_loss(lambda x: 7 * encode(x), images, 7 * encode(images)).item() == pytest.approx(
        first.item(), rel=1e-4
    )


def test_joined_images_are_rectangles_of_the_first_half_in_the_second(monkeypatch: pytest.MonkeyPatch):
    rectangle = torch.zeros(1, 1, 2, 3, dtype=torch.bool)
    rectangle[..., 1, :2] = True
    monkeypatch.setattr("kyvo.training.locality.random_rectangles", lambda *_: rectangle)
    images = torch.stack([torch.ones(3, 8, 12), torch.zeros(3, 8, 12)])
    seen = []

    def encode(x: Tensor) -> Tensor:
        seen.append(x)
        return averages(x)

    locality_loss(encode, images, averages(images))
    expected = torch.zeros(8, 12)
    expected[4:, :8] = 1
    assert torch.equal(seen[0], expected.expand(1, 3, 8, 12))
