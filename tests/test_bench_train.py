"""`kyvo bench train`: three ways of one step with one loss, the work that counts, and the report."""

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from kyvo import cli
from kyvo.bench import train
from kyvo.bench.train import bench, resident_peak, supervised_work
from kyvo.bench.train_batch import TrainingSamples
from kyvo.bench.train_step import WAYS, Setting
from kyvo.training.backbone import Backbone

SMALL = Backbone(hidden_size=8, layers=1, heads=2, intermediate_size=16)


@pytest.fixture
def small_vocabulary(monkeypatch):
    """As many text ids as the small text tokenizer has: the paper's head would take seconds."""
    monkeypatch.setattr("kyvo.bench.train_batch.LLAMA_TEXT_IDS", 1000)


def test_samples_have_the_papers_vocabulary_and_lengths():
    samples = TrainingSamples.random(6)
    assert samples.vocabulary.size == 137_607
    image = samples.vocabulary.image_range
    for number, sequence in enumerate(samples.sequences):
        assert sum(int(index) in image for index in sequence.ids) == 256
        assert (sequence.ids[0], sequence.ids[-1]) == (samples.vocabulary.bos, samples.vocabulary.eos)
        assert sequence.ids[sequence.prompt_length - 1] == samples.vocabulary.marker("[OUTPUT-START]")
        objects = (sequence.ids == samples.vocabulary.marker("[OBJECT-START]")).sum()
        written = 2 + 14 * objects + 1 if number % 2 == 0 else None
        supervised = (sequence.weights > 0).sum()
        assert supervised == written if written else 3 < supervised < 12


@pytest.mark.parametrize("pack", [0, 900])
def test_all_ways_have_one_loss_and_one_gradient(small_vocabulary, pack):
    setting = Setting(SMALL, batch_size=4, pack=pack)
    found = []
    for way in WAYS:
        model = setting.model()
        loss = setting.step(way, model)()
        found.append([loss, *(p.grad for p in model.parameters() if p.grad is not None)])
        assert model.embedding.parts["text"].weight.grad is None
    for other in found[1:]:
        for ours, theirs in zip(found[0], other, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


def test_a_step_leaves_the_weights_as_they_are(small_vocabulary):
    setting = Setting(SMALL, batch_size=2)
    for way in WAYS:
        model = setting.model()
        setting.step(way, model)()
        for ours, fresh in zip(model.parameters(), setting.model().parameters(), strict=True):
            assert torch.equal(ours, fresh)


@torch.no_grad()
def test_work_is_three_times_what_torch_counts_of_a_forward_pass_without_waste(small_vocabulary):
    setting = Setting(Backbone(hidden_size=64, layers=2, heads=4, key_value_heads=2, intermediate_size=96), 2)
    model = setting.model()
    # Torch counts no flash attention on CPUs; products over the whole square, of which causality wastes half.
    model.set_attn_implementation("eager")
    forward = 0
    for sequence in setting.samples().sequences:
        length, written = len(sequence), int((sequence.weights > 0).sum())
        with FlopCounterMode(display=False) as counter:
            model.model(inputs_embeds=torch.zeros(1, length, 64), use_cache=False)
            model.lm_head(torch.zeros(written, 64))
        forward += counter.get_total_flops() - 2 * (2 * length**2 * 64) // 2 * 2
    assert supervised_work(setting) == pytest.approx(3 * forward, rel=1e-3)


def test_the_command_line(small_vocabulary, capsys, monkeypatch):
    monkeypatch.setattr(train, "_peak_in_a_process_of_its_own", train._peak)
    words = ["--hidden-size", "8", "--layers", "1", "--heads", "2", "--batch-size", "2", "--steps", "1"]
    cli.main(["bench", "train", *words, "--device", "cpu", "--peak-tflops", "0.1"])
    report = json.loads(capsys.readouterr().out)
    for way in WAYS:
        assert set(report[way]) == {"tokens_per_second", "step_seconds", "peak_memory_bytes", "loss"}
        tokens = report[way]["tokens_per_second"] * report[way]["step_seconds"]
        assert tokens == pytest.approx(report["setting"]["tokens"], rel=0.05)
        assert report["mfu"][way] > 0
    seconds = {way: report[way]["step_seconds"] for way in WAYS}
    assert report["speedup_vs_official"] == pytest.approx(seconds["official"] / seconds["ours"], rel=0.05)
    assert report["memory_vs_official"] == pytest.approx(
        report["ours"]["peak_memory_bytes"] / report["official"]["peak_memory_bytes"], abs=1e-3
    )


def test_peak_memory_sees_what_was_let_go():
    before = resident_peak()
    torch.ones(before // 4 + (64 << 20)).sum()
    assert resident_peak() > before + (32 << 20)


def test_ways_whose_losses_differ_and_empty_runs_are_refused():
    with pytest.raises(ValueError, match="the same loss within 1e-5"):
        train._check_losses({"ours": 2.0, "hf": 2.0001}, "float32")
    train._check_losses({"ours": 2.0, "hf": 2.0001}, "bfloat16")
    with pytest.raises(ValueError, match="steps >= 1"):
        bench(steps=0)


@pytest.mark.slow
def test_a_step_takes_a_fifth_of_the_official_ways_memory_at_most():
    report = bench(steps=1, device="cpu")
    assert report["memory_vs_official"] <= 0.2
    assert report["setting"]["vocabulary"] == 137_607
