"""FID over a network from a file: against an independent computation, and what is said of bad files."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import sqrtm
from torch import Tensor, nn

from kyvo.metrics.frechet import FrechetMetrics, ScriptedFeatures, frechet_distance
from kyvo.score.images import score


class Colours(nn.Module):
    """Means and deviations of the colours, as classes unless features are asked for."""

    def forward(self, pictures: Tensor, return_features: bool = False) -> Tensor:
        rows = pictures.flatten(2) / 100
        features = torch.cat([rows.mean(2), rows.std(2)], 1)
        return features if return_features else features.softmax(1)


class Plain(nn.Module):
    """Means of the colours, without the option."""

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures.mean(dim=(2, 3), keepdim=True)


@pytest.fixture
def network(tmp_path):
    torch.jit.script(Colours()).save(str(tmp_path / "network.pt"))
    return tmp_path / "network.pt"


def pictures(count, seed, shift=0):
    dice = np.random.default_rng(seed)
    tints = dice.integers(20, 180, (count, 1, 1, 3))
    return (tints + dice.integers(0, 40, (count, 8, 8, 3)) + shift).astype(np.uint8)


def reference(first, second):
    """FID of pictures uint8 [N, H, W, 3] by scipy's square root of a matrix."""
    rows = [one.reshape(len(one), -1, 3) / 100 for one in (first, second)]
    features = [np.concatenate([one.mean(1), one.std(1, ddof=1)], 1) for one in rows]
    means, spreads = [one.mean(0) for one in features], [np.cov(one, rowvar=False) for one in features]
    root = sqrtm(spreads[0] @ spreads[1]).real
    return ((means[0] - means[1]) ** 2).sum() + np.trace(spreads[0] + spreads[1] - 2 * root)


def test_it_is_what_scipy_says(network):
    first, second = pictures(40, 0), pictures(30, 1, shift=15)
    batches = [[torch.from_numpy(one).movedim(-1, 1).float() / 255 for one in np.array_split(all_, 7)]
               for all_ in (first, second)]  # fmt: skip
    features = ScriptedFeatures(network)
    assert features.num_features == 6
    found = frechet_distance(features, *batches)
    assert found == pytest.approx(reference(first, second), rel=1e-4)
    assert found > 0.01
    assert frechet_distance(features, batches[0], batches[0]) == pytest.approx(0, abs=1e-4)


def test_generated_and_reconstructed_pictures_are_measured_together(network):
    made, true, coded = pictures(20, 0), pictures(20, 1, shift=15), pictures(20, 2, shift=10)
    tensors = [torch.from_numpy(one).movedim(-1, 1).float() / 255 for one in (made, true, coded)]
    metric = FrechetMetrics(ScriptedFeatures(network))
    for rows in (slice(0, 1), slice(1, 20)):
        metric.update(*(one[rows] for one in tensors))
        if rows.stop == 1:
            assert all(value.isnan() for value in metric.compute().values())
    found = metric.compute()
    assert found["fid"].item() == pytest.approx(reference(made, true), rel=1e-4)
    assert found["fid_ceiling"].item() == pytest.approx(reference(coded, true), rel=1e-4)
    metric.reset()
    assert metric.counts.tolist() == [0, 0, 0]


def test_a_network_without_the_option(tmp_path):
    torch.jit.script(Plain()).save(str(tmp_path / "plain.pt"))
    features = ScriptedFeatures(tmp_path / "plain.pt")
    assert features(torch.full((2, 3, 4, 4), 7, dtype=torch.uint8)).tolist() == [[7.0] * 3] * 2


def test_the_command_measures_it_on_request(network, tmp_path, capsys):
    made = {"truth": pictures(12, 0), "ours": pictures(12, 1), "theirs": pictures(12, 2, shift=30)}
    for name, some in made.items():
        (tmp_path / name).mkdir()
        for number, one in enumerate(some):
            Image.fromarray(one.repeat(2, 0).repeat(2, 1)).save(tmp_path / name / f"{number}.png")
    out = tmp_path / "out.json"
    words = [f"{name}={tmp_path / name}" for name in ("ours", "theirs")]
    score(*words, ground_truth=tmp_path / "truth", inception=network, output=out)
    found = json.loads(out.read_text())["fid"]
    large = {name: some.repeat(2, 1).repeat(2, 2) for name, some in made.items()}
    for name in ("ours", "theirs"):
        assert found[name] == pytest.approx(reference(large[name], large["truth"]), rel=1e-4)
    assert "FID" in capsys.readouterr().out
    score(ground_truth=tmp_path / "truth", predictions=tmp_path / "ours", inception=network, output=out)
    assert json.loads(out.read_text())["fid"] == {"ours": found["ours"]}


def test_bad_files_are_named(network, tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.pt: no such file; FID needs a network in TorchScript"):
        ScriptedFeatures(tmp_path / "nowhere.pt")
    (tmp_path / "bad.pt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"bad\.pt: not a TorchScript file"):
        ScriptedFeatures(tmp_path / "bad.pt")
    torch.jit.script(nn.Linear(5, 2)).save(str(tmp_path / "linear.pt"))
    with pytest.raises(ValueError, match=r"linear\.pt: expected a network for pictures"):
        ScriptedFeatures(tmp_path / "linear.pt")
    with pytest.raises(ValueError, match="two or more pictures with two or more, got 1 and 2"):
        frechet_distance(ScriptedFeatures(network), [torch.zeros(1, 3, 4, 4)], [torch.zeros(2, 3, 4, 4)])
