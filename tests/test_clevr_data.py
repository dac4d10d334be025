"""The CLEVR data module: making the world, what each loader gives, and what is refused."""

from dataclasses import replace
from itertools import islice

import pytest
from lightning.pytorch import Trainer

from data_modules.clevr import ClevrDataModule
from data_modules.coding import add_codes
from data_modules.evaluation import EvaluationStream
from data_modules.families import members_of, task_shards
from data_modules.index import Index
from data_modules.inspection import check
from data_modules.mixing import Mixture
from data_modules.records import load_records
from data_modules.shards import ShardWriter, read_shard
from data_modules.stream import BatchStream, Supply
from kyvo.task import Task
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from tests.test_stream import _Recorder
from tests.tiny_world import make_coded_world, tiny_image_tokenizer, tiny_recipe, tiny_tokenizer
from tests.worlds import workload

TASKS = {"3-I": 1.0, "I-3": 2.0, "I+3+Q-A": 1.0, "3+T-3": 1.0}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_coded_world(tmp_path_factory.mktemp("world"))


def _data(root, **options):
    defaults = {"tasks": TASKS, "batch_size": 2, "eval_batch_size": 4}
    return ClevrDataModule(root, **({"tokenizer": tiny_tokenizer()} | defaults | options))


class _Evaluated(_Recorder):
    """Notes the evaluation batches too."""

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.seen.append(("val", dataloader_idx, batch.task.spec, len(batch.samples)))
        return batch_idx

    test_step = predict_step = validation_step


def _trainer(**options):
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    return Trainer(accelerator="cpu", num_sanity_val_steps=0, **quiet, **options)


def _ready(root, **options):
    data = _data(root, **options)
    data.prepare_data()
    data.setup("fit")
    return data


def test_the_world_is_made_and_coded_if_it_is_not_there(tmp_path):
    data = _ready(tmp_path / "world", make=tiny_recipe())
    batch = next(iter(data.train_dataloader()))
    assert len(batch) == 2
    assert batch.samples == ()
    before = {path.name: path.stat().st_ino for path in (tmp_path / "world").iterdir()}
    again = _ready(tmp_path / "world", make=tiny_recipe())
    assert {path.name: path.stat().st_ino for path in (tmp_path / "world").glob("*.tar")}.items() <= before.items()
    assert next(iter(again.train_dataloader())).keys == batch.keys


@pytest.mark.parametrize(
    ("command", "made"), [("fit", {"train", "val"}), ("validate", {"val"}), ("test", {"test"}), ("predict", {"test"})]
)
def test_a_command_makes_the_splits_that_it_reads(tmp_path, command, made):
    data = _data(tmp_path, make=tiny_recipe(scenes={"train": 2, "val": 2, "test": 2}), tasks={"I-3": 1.0})
    getattr(_trainer(max_steps=1), command)(_Evaluated(), datamodule=data)
    assert {path.name.split("-")[0] for path in tmp_path.glob("*.tar")} == made


def test_the_length_of_an_epoch(root):
    edits = sum(shard.samples for shard in Index.read(root).shards("train-edits"))
    assert len(_ready(root).train_dataloader()) == (8 + edits) // 2
    assert len(_ready(root, tasks={"I-3": 1.0}).train_dataloader()) == 4
    assert len(_ready(root, epoch_batches=7).train_dataloader()) == 7
    assert len(_ready(root, tasks={"I-3": 1.0}, train_limit=5).train_dataloader()) == 2


def test_a_limit_restricts_training_to_the_first_scenes(root):
    loader = _ready(root, tasks={"I-3": 1.0}, train_limit=3).train_dataloader()
    keys = {key for _ in range(4) for batch in loader for key in batch.keys}
    assert keys == {"train-000000", "train-000001", "train-000002"}


# ---- evaluation -----------------------------------------------------------------------------------------------------


def _evaluation(root, spec, rank=0, ranks=1, batch_size=2, questions=3, split="val"):
    task = Task.parse(spec)
    shards = task_shards(Index.read(root), task, split)
    return EvaluationStream(Supply(workload(task), root, shards), tiny_tokenizer(), batch_size, questions, rank, ranks)


@pytest.mark.parametrize("spec", ["I-3", "I+3+Q-A", "3+T-3"])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_each_sample_is_evaluated_once_in_equally_many_batches(root, spec, ranks):
    streams = [_evaluation(root, spec, rank, ranks) for rank in range(ranks)]
    taken = [[key for batch in stream for key in batch.keys] for stream in streams]
    alone = [key for batch in _evaluation(root, spec) for key in batch.keys]
    assert taken == [alone[rank::ranks] for rank in range(ranks)]
    assert len(set(alone)) == len(alone)
    assert len({len(stream) for stream in streams}) == 1
    assert all(1 <= len(batch) <= 2 for stream in streams for batch in stream)


def test_the_first_questions_of_each_scene_are_asked(root):
    expected = []
    for shard in Index.read(root).shards("val"):
        for record in load_records(root / shard.name, shard.samples, tiny_tokenizer().schema):
            expected += [(question.text, question.answer) for question in record.questions[:2]]
    samples = [sample for batch in _evaluation(root, "I+3+Q-A", questions=2) for sample in batch.samples]
    assert [(sample.text, sample.target_text) for sample in samples] == expected
    assert len(expected) > 5


@pytest.mark.parametrize("num_workers", [0, 2])
def test_there_is_a_loader_for_each_task_with_the_samples(root, num_workers):
    loaders = _ready(root, num_workers=num_workers, val_limit=4).val_dataloader()
    assert len(loaders) == len(TASKS)
    for loader, spec in zip(loaders, TASKS, strict=True):
        batches = list(loader)
        assert [key for batch in batches for key in batch.keys] == [s.key for batch in batches for s in batch.samples]
        assert {batch.task.spec for batch in batches} == {spec}
        assert (len(loader), sum(map(len, batches))) == (1, 4)
    sample = next(iter(loaders[0])).samples[0]
    assert (sample.pixels.shape, sample.mask.shape) == ((32, 32, 3), (32, 32))
    assert sample.mask.any()
    assert not sample.mask.all()


def test_more_ranks_than_samples_are_refused(root):
    with pytest.raises(ValueError, match="5 samples to evaluate, fewer than 6 ranks"):
        _evaluation(root, "I-3", ranks=6)


def test_test_and_predict_read_the_test_split(tmp_path):
    data = _ready(tmp_path, make=tiny_recipe(scenes={"train": 2, "test": 3}), tasks={"I-3": 1.0})
    for loaders in (data.test_dataloader(), data.predict_dataloader()):
        assert [key for batch in loaders[0] for key in batch.keys] == ["test-000000", "test-000001", "test-000002"]


# ---- what is refused ------------------------------------------------------------------------------------------------


def test_codes_of_another_image_tokenizer_are_refused_and_not_replaced(root):
    other = UnifiedTokenizer.from_preset("quickstart", image=tiny_image_tokenizer(1))
    coded = Index.read(root).image_tokenizers()
    with pytest.raises(ValueError, match=r"has image codes of tokenizer .* code it again"):
        _ready(root, tokenizer=other)
    assert Index.read(root).image_tokenizers() == coded


def test_another_world_in_the_folder_is_refused(root):
    recipe = tiny_recipe()
    with pytest.raises(ValueError, match=r"holds another world.*extent.*1\.5.*extent.*2\.0"):
        _ready(root, make=replace(recipe, world=replace(recipe.world, extent=2.0)))


def test_another_schema_is_refused(root):
    tokenizer = UnifiedTokenizer.from_preset("quickstart", schema="objectron", image=tiny_image_tokenizer())
    with pytest.raises(ValueError, match="schema 'clevr', the tokenizer has 'objectron'"):
        _ready(root, tokenizer=tokenizer)


def test_a_task_that_lacks_its_members_is_refused(root):
    with pytest.raises(ValueError, match=r"task I\+T-I needs image\.codes\.npy in each of .* train-edits-000000"):
        _ready(root, tasks={"I+T-I": 1.0}).train_dataloader()


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder of shards"):
        _ready(tmp_path)


def test_members_of_a_task():
    assert members_of(Task.parse("3-I")) == {"scene.json", "image.codes.npy"}
    assert members_of(Task.parse("I+3+Q-A")) == {"scene.json", "image.codes.npy", "question.json"}
    assert members_of(Task.parse("I+T-3")) == {"image.codes.npy", "instruction.json", "target.scene.json"}


def _run(stream):
    """What the data module does with the first batches of a stream."""
    data = ClevrDataModule("", tiny_tokenizer(), TASKS)
    for batch in islice(stream, 3):
        data.on_before_batch_transfer(batch, 0)


def test_a_trainer_takes_the_module(root):
    model = _Evaluated()
    _trainer(max_steps=3, limit_train_batches=3).fit(model, _data(root))
    assert [seen[:3] for seen in model.seen][3:6] == [("val", 0, "3-I"), ("val", 0, "3-I"), ("val", 1, "I-3")]
    drawn = Mixture(list(TASKS.values()), 0).schedule(0, 3)
    assert [seen[0] for seen in model.seen][:3] == [list(TASKS)[number] for number in drawn]


@pytest.mark.parametrize("use", ["check", "code", "train", "evaluate"])
def test_a_member_that_one_key_lacks_is_named_by_whoever_reads_it(root, tmp_path, use):
    for path in root.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    broken = tmp_path / "train-000001.tar"
    raws = list(read_shard(broken))
    with ShardWriter(broken) as writer:
        for number, raw in enumerate(raws):
            writer.write(raw.key, {k: v for k, v in raw.members.items() if number != 1 or k != "scene.json"})
    shards, tokenizer = Index.read(tmp_path).shards("train"), tiny_tokenizer()
    supply = Supply(workload("I-3"), tmp_path, shards)
    acts = {
        "check": lambda: check(tmp_path),
        "code": lambda: add_codes(tmp_path, tiny_image_tokenizer(1)),
        "train": lambda: _run(BatchStream([supply], tokenizer, Mixture([1.0]), 8)),
        "evaluate": lambda: _run(EvaluationStream(supply, tokenizer, 4)),
    }
    with pytest.raises(ValueError, match=rf"train-000001\.tar: key '{raws[1].key}': member 'scene\.json': missing"):
        acts[use]()
