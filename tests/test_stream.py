"""The training stream: every sample once an epoch, and resuming that continues to the letter."""

import re
from collections import Counter
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from data_modules.families import task_shards
from data_modules.index import Index
from data_modules.mixing import Mixture
from data_modules.order import SampleOrder
from data_modules.stream import BatchStream, RecordCache, ResumableLoader, SampleStream, Supply
from kyvo.task import Task
from tests.tiny_world import make_coded_world, tiny_tokenizer
from tests.worlds import workload

TASKS = {"3-I": 1.0, "I-3": 2.0, "I+3+Q-A": 1.0, "3+T-3": 1.0}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_coded_world(tmp_path_factory.mktemp("world"), scenes={"train": 10})


def _stream(root, tasks=TASKS, batch_size=2, rank=0, ranks=1, **options):
    index = Index.read(root)
    supplies = [Supply(workload(spec), root, task_shards(index, Task.parse(spec), "train")) for spec in tasks]
    mixture = Mixture(list(tasks.values()), 3)
    return BatchStream(supplies, tiny_tokenizer(), mixture, batch_size, rank, ranks, **options)


def _loader(root, length=5, num_workers=0, **options):
    return ResumableLoader(_stream(root, **options), length, num_workers)


def _same(first, second):
    assert [(b.task, b.keys) for b in first] == [(b.task, b.keys) for b in second]
    assert all(torch.equal(one.ids, two.ids) for one, two in zip(first, second, strict=True))


# ---- order ----------------------------------------------------------------------------------------------------------

orders = st.builds(
    dict,
    counts=st.lists(st.integers(1, 5), min_size=3, max_size=7),
    readers=st.integers(1, 3),
    window=st.integers(1, 4),
    seed=st.tuples(st.integers(0, 99)),
)


def _visits(order, number):
    return list(islice((visit for window in order.windows() for visit in window), number))


@given(options=orders)
def test_the_readers_together_visit_each_sample_once_an_epoch(options):
    counts, visited = options["counts"], []
    for reader in range(options["readers"]):
        order = SampleOrder(reader=reader, **options)
        visited += _visits(order, sum(counts[shard] for shard in order.share(0)))
    everything = [(shard, sample) for shard, count in enumerate(counts) for sample in range(count)]
    assert sorted(visit[:2] for visit in visited) == everything


@given(options=orders, start=st.integers(0, 60))
def test_an_order_can_be_entered_anywhere(options, start):
    order = SampleOrder(**options)
    entered = list(islice((visit for window in order.windows(start) for visit in window), 20))
    assert entered == _visits(order, start + 20)[start:]


def test_epochs_and_seeds_differ():
    order = SampleOrder(counts=[20, 20], seed=(0,))
    visits = _visits(order, 80)
    assert sorted(visits[:40])[0][:2] == (0, 0)
    assert [visit[:2] for visit in visits[:40]] != [visit[:2] for visit in visits[40:]]
    assert visits != _visits(SampleOrder(counts=[20, 20], seed=(1,)), 80)


def test_a_window_mixes_its_shards():
    visits = _visits(SampleOrder(counts=[50, 50], seed=(0,), window=2), 20)
    assert {shard for shard, _, _ in visits} == {0, 1}


def test_too_few_shards_are_refused(root):
    with pytest.raises(ValueError, match="fewer shards than workers x ranks: 2 shards for 3 readers"):
        SampleOrder(counts=[1, 1], seed=(0,), readers=3)
    with pytest.raises(ValueError, match=r"task 3-I has 5 shards in .* for 3 workers x 2 ranks"):
        _loader(root, num_workers=3, ranks=2)


# ---- streams --------------------------------------------------------------------------------------------------------


def test_a_batch_is_of_one_task_the_same_on_all_ranks(root):
    batches = [list(islice(_stream(root, rank=rank, ranks=2), 30)) for rank in range(2)]
    drawn = [list(TASKS)[number] for number in Mixture(list(TASKS.values()), 3).schedule(0, 30)]
    for rank in batches:
        assert [batch.task.spec for batch in rank] == drawn
    assert {len(batch) for rank in batches for batch in rank} == {2}


@pytest.mark.parametrize("ranks", [1, 2])
def test_an_epoch_of_all_ranks_holds_each_sample_once(root, ranks):
    keys = Counter()
    for rank in range(ranks):
        stream = _stream(root, {"I-3": 1.0}, batch_size=1, rank=rank, ranks=ranks)
        order = stream._stream(stream.supplies[0], 0, 1).order
        size = sum(order.counts[shard] for shard in order.share(0))
        keys.update(key for batch in islice(stream, size) for key in batch.keys)
    assert keys == Counter({f"train-{number:06d}": 1 for number in range(10)})


def test_questions_are_drawn_anew_at_each_visit(root):
    asked = {}
    for batch in islice(_stream(root, {"I+3+Q-A": 1.0}, batch_size=10), 12):
        for key in batch.keys:
            scene, question = key.rsplit("-q", 1)
            asked.setdefault(scene, set()).add(question)
    assert len(asked) == 10
    assert sum(len(questions) for questions in asked.values()) >= 25


def test_a_cache_drops_the_longest_unused_shard_but_batches_stay_the_same(root):
    _same(list(islice(_stream(root, cache_samples=1, window=1), 20)), list(islice(_stream(root, window=1), 20)))
    cache, schema = RecordCache(capacity=4), tiny_tokenizer().schema
    supply = Supply(workload("I-3"), root, Index.read(root).shards("train")[:3])
    loaded = [cache.load(supply, shard, schema) for shard in supply.shards]
    assert cache.load(supply, supply.shards[2], schema) is loaded[2]
    assert cache.load(supply, supply.shards[0], schema) is not loaded[0]


def test_a_scene_without_questions_is_named(root):
    index = Index.read(root)
    shards = index.shards("train-edits")
    order = SampleOrder([shard.samples for shard in shards], (0,))
    supply = Supply(workload("I+3+Q-A"), root, shards)
    fault = next(SampleStream(supply, order, tiny_tokenizer().schema, RecordCache(10)).samples())
    assert re.search(r"train-edits-\d+\.tar: key 'train-.*': member 'question.json': holds no question", str(fault))


def test_buckets_hold_the_same_samples_in_batches_of_like_length(root):
    plain, sorted_ = (list(islice(_stream(root, {"I-3": 1.0}, bucket=bucket), 12)) for bucket in (1, 4))
    padding = [sum(int((batch.ids.shape[1] - batch.lengths).sum()) for batch in one) for one in (plain, sorted_)]
    assert padding[1] < padding[0]
    for start in range(0, 12, 4):
        keys = [sorted(key for batch in one[start : start + 4] for key in batch.keys) for one in (plain, sorted_)]
        assert keys[0] == keys[1]


# ---- resuming -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_workers", "bucket"), [(0, 1), (0, 3), (2, 1), (2, 2)])
@pytest.mark.parametrize("given", [0, 3, 5, 8])
def test_a_resumed_loader_goes_on_where_it_stood(root, num_workers, bucket, given):
    whole = _loader(root, num_workers=num_workers, bucket=bucket)
    expected = [batch for _ in range(3) for batch in whole]
    stopped = _loader(root, num_workers=num_workers, bucket=bucket)
    for _ in (batch for _ in range(3) for batch in stopped):
        if stopped.given == given:
            break
    state = {"given": 0} if given == 0 else stopped.state_dict()
    assert state["given"] == given
    resumed = _loader(root, num_workers=num_workers, bucket=bucket)
    resumed.load_state_dict(state)
    _same([batch for _ in range(2) for batch in resumed][: 15 - given], expected[given : given + 10])
    for loader in (whole, stopped, resumed):
        loader.close()


def test_workers_run_on_from_epoch_to_epoch(root):
    loader = _loader(root, num_workers=2, length=3)
    list(loader)
    running = loader._batches
    list(loader)
    assert loader._batches is running
    loader.close()


class _Recorder(LightningModule):
    """Notes the keys of all batches and trains nothing to speak of."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append((batch.task.spec, batch.keys))
        return self.weight * batch.weights.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def _fit(folder, loader, resume=None, **options):
    module = _Recorder()
    callback = ModelCheckpoint(folder, save_top_k=-1, every_n_train_steps=1, filename="{step}")
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", callbacks=[callback], **quiet, **options)
    trainer.fit(module, loader, ckpt_path=resume)
    loader.close()
    return module.seen


@pytest.mark.parametrize("num_workers", [0, 2])
def test_lightning_resumes_within_and_at_the_end_of_an_epoch(root, tmp_path, num_workers):
    unbroken = _fit(tmp_path / "whole", _loader(root, num_workers=num_workers), max_steps=13)
    assert len(unbroken) == 13
    for step in (3, 5, 7, 10):
        checkpoint = tmp_path / "whole" / f"step={step}.ckpt"
        resumed = _fit(tmp_path / "more", _loader(root, num_workers=num_workers), checkpoint, max_steps=13)
        assert resumed == unbroken[step:], step


def test_lightning_resumes_epochs_that_it_cuts_short(root, tmp_path):
    options = {"max_epochs": 3, "limit_train_batches": 3}
    unbroken = _fit(tmp_path / "whole", _loader(root), **options)
    assert len(unbroken) == 9
    for step in (2, 3, 6, 8):
        checkpoint = tmp_path / "whole" / f"step={step}.ckpt"
        assert _fit(tmp_path / "more", _loader(root), checkpoint, **options) == unbroken[step:], step
