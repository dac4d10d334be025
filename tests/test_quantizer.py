"""The quantiser against a naive one, over processes, and at the edges: initialisation, dead codes, eval mode."""

import copy
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kyvo.models import quantizer as module
from kyvo.models.quantizer import EMAVectorQuantizer, k_means, nearest, spread, sums


def ready(codes: int = 5, dim: int = 3, **kwargs: float) -> EMAVectorQuantizer:
    """A quantiser whose codebook is set: code k at (k, k, ...), each with one vector so far."""
    quantizer = EMAVectorQuantizer(codes, dim, pool=4 * codes, **kwargs)
    with torch.no_grad():
        quantizer.embedding.weight.copy_(torch.arange(float(codes))[:, None].expand(codes, dim))
        quantizer.totals.copy_(quantizer.embedding.weight)
    quantizer.initialised.fill_(True)
    return quantizer


class NaiveQuantizer:
    """The update of van den Oord et al. (2017), appendix A.1, with one-hot matrices and a loop."""

    def __init__(self, codebook: Tensor, decay: float) -> None:
        self.codebook = codebook.double()
        self.counts = torch.ones(len(codebook), dtype=torch.float64)
        self.totals = self.codebook.clone()
        self.decay = decay

    def codes(self, vectors: Tensor) -> Tensor:
        return torch.tensor([int(((v.double() - self.codebook) ** 2).sum(1).argmin()) for v in vectors])

    def update(self, vectors: Tensor) -> None:
        hot = nn.functional.one_hot(self.codes(vectors), len(self.codebook)).double()
        self.counts = self.decay * self.counts + (1 - self.decay) * hot.sum(0)
        self.totals = self.decay * self.totals + (1 - self.decay) * hot.T @ vectors.double()
        self.codebook = self.totals / self.counts[:, None]


def test_learns_as_the_naive_quantizer_does():
    torch.manual_seed(0)
    quantizer = ready(decay=0.9, revive_every=10**9)
    naive = NaiveQuantizer(quantizer.embedding.weight, 0.9)
    for _ in range(20):
        z = torch.randn(2, 3, 4, 5) * 2 + 2
        vectors = z.permute(0, 2, 3, 1).reshape(-1, 3)
        expected = naive.codes(vectors)
        looked_up = naive.codebook[expected].reshape(2, 4, 5, 3).permute(0, 3, 1, 2).float()
        quantized, loss, (perplexity, _, codes) = quantizer(z)
        assert torch.equal(codes, expected)
        torch.testing.assert_close(quantized, looked_up)
        torch.testing.assert_close(loss, 0.25 * ((z - looked_up) ** 2).mean())
        share = torch.bincount(expected, minlength=5) / 40
        torch.testing.assert_close(perplexity, torch.exp(-(share * (share + 1e-12).log()).sum()))
        naive.update(vectors)
        torch.testing.assert_close(quantizer.embedding.weight, naive.codebook.float())


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 5), st.integers(0, 10**6))
def test_nearest_and_sums_against_loops(vectors: int, codes: int, dim: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(vectors, dim, generator=generator)
    book = torch.randn(codes, dim, generator=generator)
    found = nearest(x, book)
    distances = (x[:, None] - book).square().sum(2)
    torch.testing.assert_close(distances[torch.arange(vectors), found], distances.min(1).values, atol=1e-5, rtol=1e-5)
    counts, totals = sums(x, found, codes)
    assert counts.tolist() == [int((found == k).sum()) for k in range(codes)]
    torch.testing.assert_close(totals, torch.stack([x[found == k].sum(0) for k in range(codes)]))


def test_nearest_in_pieces(monkeypatch: pytest.MonkeyPatch):
    x, book = torch.randn(50, 4), torch.randn(6, 4)
    whole = nearest(x, book)
    monkeypatch.setattr(module, "_ROWS", 7)
    assert torch.equal(nearest(x, book), whole)


def test_nearest_takes_the_lower_of_two_equal_codes():
    assert nearest(torch.zeros(1, 2), torch.tensor([[3.0, 0], [1, 0], [1, 0]])).tolist() == [1]


def test_gradient_is_straight_through_plus_commitment():
    quantizer = ready(commitment=0.5).eval()
    z = torch.randn(1, 3, 2, 2, requires_grad=True)
    quantized, loss, _ = quantizer(z)
    weight = torch.randn_like(z)
    ((quantized * weight).sum() + loss).backward()
    assert z.grad is not None
    torch.testing.assert_close(z.grad, weight + 0.5 * 2 * (z - quantized).detach() / z.numel())
    assert quantizer.embedding.weight.grad is None


def test_float32_under_autocast():
    quantizer = ready(codes=200, dim=3).eval()
    # 128.5 has no bfloat16 neighbour that tells it from 128 and 129.
    z = torch.full((1, 3, 1, 1), 128.6)
    with torch.autocast("cpu", torch.bfloat16):
        quantized, _, (_, _, codes) = quantizer(z)
    assert codes.tolist() == [129]
    assert quantized.dtype == torch.float32


def test_eval_changes_nothing():
    quantizer = ready().eval()
    before = copy.deepcopy(quantizer.state_dict())
    quantizer(torch.randn(2, 3, 4, 4))
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())


def test_codebook_is_set_from_enough_vectors():
    torch.manual_seed(0)
    corners = torch.tensor([[0.0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]])
    quantizer = EMAVectorQuantizer(4, 3, warmup_steps=2, pool=64)
    batches = []
    while not quantizer.initialised:
        vectors = corners[torch.randint(4, (10,))] + 0.1 * torch.randn(10, 3)
        batches.append(vectors)
        z = vectors.T.reshape(1, 3, 2, 5)
        quantized, loss, _ = quantizer(z)
        assert torch.equal(quantized, z)
        assert loss == 0
    # Seven batches of ten are the first to hold 64 vectors.
    assert len(batches) == 7
    found = quantizer.embedding.weight[nearest(corners, quantizer.embedding.weight)]
    torch.testing.assert_close(found, corners, atol=0.15, rtol=0)
    quantized, loss, _ = quantizer(z)
    assert not torch.equal(quantized, z)
    assert 0 < loss < 0.25 * 0.02


def test_pool_keeps_the_last_vectors():
    quantizer = EMAVectorQuantizer(2, 1, warmup_steps=50, pool=8)
    for step in range(50):
        quantizer(torch.full((1, 1, 2, 2), float(step)))
    # Eight vectors are two batches: steps 48 and 49.
    assert sorted(quantizer.embedding.weight[:, 0].tolist()) == [48, 49]


def test_k_means_finds_separate_clusters_and_needs_enough_vectors():
    torch.manual_seed(1)
    centres = torch.randn(20, 8) * 10
    vectors = (centres[:, None] + 0.01 * torch.randn(20, 30, 8)).reshape(-1, 8)
    found, counts = k_means(vectors, 20)
    assert counts.tolist() == [30.0] * 20
    torch.testing.assert_close(found[nearest(centres, found)], centres, atol=0.02, rtol=0)
    with pytest.raises(ValueError, match=r"codes \(20\), got 5"):
        k_means(vectors[:5], 20)


def test_spread_copes_with_equal_vectors():
    assert spread(torch.ones(9, 2), 4).tolist() == [[1, 1]] * 4


def test_dead_codes_move_to_badly_coded_vectors():
    torch.manual_seed(0)
    quantizer = ready(codes=4, dim=2, decay=0.5, revive_every=1)
    with torch.no_grad():
        # Codes 2 and 3 are far from all data and have hardly any count left.
        quantizer.counts.copy_(torch.tensor([10.0, 10, 0.01, 0.01]))
        quantizer.totals.copy_(quantizer.counts[:, None] * torch.tensor([[0.0, 0], [1, 1], [90, 90], [-90, 90]]))
        quantizer.embedding.weight.copy_(quantizer.totals / quantizer.counts[:, None])
    outliers = torch.tensor([[7.0, -7], [-7.0, 7]])
    batch = torch.cat([torch.zeros(10, 2), torch.ones(10, 2), outliers]).T.reshape(1, 2, 1, 22)
    quantizer(batch)
    assert sorted(quantizer.embedding.weight[2:].tolist()) == [[-7, 7], [7, -7]]
    codes = quantizer(batch)[2][2]
    assert set(codes.tolist()) == {0, 1, 2, 3}


def test_codes_in_use_are_not_revived():
    quantizer = ready(codes=2, dim=1, decay=0.99, revive_every=1)
    batch = torch.tensor([0.0] * 90 + [1.0] * 10).reshape(1, 1, 10, 10)
    for _ in range(200):
        quantizer(batch)
    torch.testing.assert_close(quantizer.embedding.weight[:, 0], torch.tensor([0.0, 1.0]))


def test_codebook_entries():
    quantizer = ready()
    codes = torch.tensor([[0, 1], [2, 3]])
    assert torch.equal(quantizer.get_codebook_entry(codes.flatten(), None), quantizer.embedding.weight[:4])
    maps = quantizer.get_codebook_entry(codes.flatten(), (1, 2, 2, 3))
    assert torch.equal(maps[0, :, 1, 0], torch.full((3,), 2.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"codes": 0}, "positive"), ({"decay": 1.0}, "decay"), ({"pool": 19}, "at least 4 times the 5 codes, got 19")],
)
def test_bad_arguments(arguments: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        EMAVectorQuantizer(**{"codes": 5, "dim": 3, "pool": 20, **arguments})


def _train(quantizer: EMAVectorQuantizer, batches: Tensor) -> dict[str, Tensor]:
    for batch in batches:
        quantizer(batch)
    return quantizer.state_dict()


def _rank(rank: int, world: int, folder: str, batches: Tensor) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    learned = _train(ready(revive_every=10**9), batches.chunk(world, 1)[rank])
    torch.manual_seed(rank)
    fresh = EMAVectorQuantizer(4, 3, pool=16, revive_every=2, revive_below=0.5, decay=0.5)
    started = _train(fresh, batches.chunk(world, 1)[rank])
    torch.save((learned, started), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_learn_what_one_does(tmp_path: Path):
    batches = torch.randn(6, 4, 3, 2, 2) * 3
    expected = _train(ready(revive_every=10**9), batches)
    mp.spawn(_rank, (2, str(tmp_path), batches), nprocs=2)
    (first, first_fresh), (second, second_fresh) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for name, value in expected.items():
        torch.testing.assert_close(first[name], value, msg=name)
    # Also through k-means and revival, where each process draws its own random numbers.
    assert first_fresh["initialised"]
    for name in expected:
        assert torch.equal(first[name], second[name])
        assert torch.equal(first_fresh[name], second_fresh[name])
