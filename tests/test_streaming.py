"""Streaming: over http, without codes, and several data sets of different schemas in one mixture."""

import functools
import http.server
import json
import threading

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from data_modules.clevr import ClevrDataModule
from data_modules.index import Index
from data_modules.make import make
from data_modules.mixture import DataSet, MixtureDataModule
from data_modules.shards import Shard, ShardWriter, encode_json, encode_npy, encode_png
from data_modules.storage import open_stream
from kyvo.scene import SCHEMAS
from kyvo.task import Task
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from tests.tiny_world import make_coded_world, tiny_image_tokenizer, tiny_recipe, tiny_tokenizer

TASKS = {"3-I": 1.0, "I-3": 2.0, "I+3+Q-A": 1.0}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_coded_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def server(root):
    """URL of the world."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}/"
        serving.shutdown()


def _data(root, **options):
    data = ClevrDataModule(str(root), tiny_tokenizer(), **({"tasks": TASKS, "batch_size": 3} | options))
    data.prepare_data()
    data.setup("fit")
    return data


def _transferred(data, loader, count=6):
    return [
        data.on_after_batch_transfer(data.on_before_batch_transfer(batch, 0), 0)
        for batch, _ in zip(loader, range(count), strict=False)
    ]


def _assert_same(first, second):
    assert [batch.keys for batch in first] == [batch.keys for batch in second]
    for one, two in zip(first, second, strict=True):
        assert torch.equal(one.ids, two.ids)
        assert torch.equal(one.weights, two.weights)


# ---- http -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_url_gives_the_batches_of_the_folder(root, server, num_workers):
    here, there = (_data(place, num_workers=num_workers) for place in (root, server))
    _assert_same(_transferred(here, here.train_dataloader()), _transferred(there, there.train_dataloader()))
    for one, two in zip(here.val_dataloader(), there.val_dataloader(), strict=True):
        _assert_same(_transferred(here, one), _transferred(there, two))
    assert here.training_answers("") == there.training_answers("")
    for data in (here, there):
        data.teardown("fit")


def test_what_a_server_lacks_is_named(server):
    with pytest.raises(FileNotFoundError, match=r"no-000000\.tar: the server says 404"):
        open_stream(server + "no-000000.tar")
    with pytest.raises(FileNotFoundError, match="no folder of shards"):
        Index.read(server + "elsewhere")


def test_a_server_that_does_not_answer_is_named():
    with pytest.raises(OSError, match="no answer after 3 attempts"):
        open_stream("http://127.0.0.1:9/x.tar")


# ---- pictures without codes -----------------------------------------------------------------------------------------


def test_pictures_are_encoded_as_they_are_read_as_they_would_be_before(root, tmp_path):
    make(tmp_path, tiny_recipe(), workers=1)
    plain = _data(tmp_path, store_codes=False, bucket=2)
    coded = _data(root, bucket=2)
    assert Index.read(tmp_path).image_tokenizers() == {None}
    _assert_same(_transferred(plain, plain.train_dataloader()), _transferred(coded, coded.train_dataloader()))
    for one, two in zip(plain.val_dataloader(), coded.val_dataloader(), strict=True):
        for fresh, stored in zip(_transferred(plain, one), _transferred(coded, two), strict=True):
            _assert_same([fresh], [stored])
            for sample, other in zip(fresh.samples, stored.samples, strict=True):
                np.testing.assert_array_equal(sample.image, other.image)


def test_edits_with_pictures_are_encoded_on_both_sides(tmp_path):
    make(tmp_path, tiny_recipe(scenes={"train": 4}, edit_images=True), workers=1)
    tasks = {"I+3+T-I+3": 1.0, "I+T-I": 1.0}
    fresh = _data(tmp_path, tasks=tasks, store_codes=False)
    expected = _transferred(fresh, fresh.train_dataloader())
    stored = _data(tmp_path, tasks=tasks)
    _assert_same(_transferred(stored, stored.train_dataloader()), expected)


# ---- several data sets ----------------------------------------------------------------------------------------------


def _objaworld(root, scenes):
    """Scenes of two assets each, with pictures and codes, in a shard for every two."""
    index = Index("objaworld")
    rng = np.random.default_rng(0)
    for number in range(scenes // 2):
        with ShardWriter(root / f"train-{number:06d}.tar") as writer:
            for k in range(2):
                objects = [
                    {"shape": shape, "3d_coords": rng.uniform(-2, 2, 3).round(2).tolist(), "rotation": 0.5}
                    for shape in ("bench-01", "lamppost")
                ]
                codes = rng.integers(0, 16, 16).astype(np.uint16)
                picture = encode_png(np.zeros((32, 32, 3), dtype=np.uint8))
                members = {"image.png": picture, "image.codes.npy": encode_npy(codes)}
                writer.write(f"o-{number}-{k}", {**members, "scene.json": encode_json({"objects": objects})})
        index = index.with_shard("train", Shard(**{**vars(writer.shard), "image_tokenizer": None}))
        index = index.with_shard("val", writer.shard)
    index.write(root)
    return root


@pytest.fixture
def mixture(root, tmp_path):
    other = _objaworld(tmp_path, 8)
    tokenizer = UnifiedTokenizer.from_preset("unified", image=tiny_image_tokenizer())
    datasets = {
        "clevr": DataSet(str(root), {"I-3": 3.0, "3-I": 1.0}, weight=3.0),
        "obja": DataSet(str(other), {"I-3": 1.0}, weight=1.0),
    }
    data = MixtureDataModule(datasets, tokenizer, batch_size=2, store_codes=False, epoch_batches=256)
    data.setup("fit")
    return data


def test_a_mixture_keeps_its_proportions_over_an_epoch(mixture):
    labels = [batch.workload.label for batch in mixture.train_dataloader()]
    assert {label: labels.count(label) for label in sorted(set(labels))} == {
        "clevr/recognition": 144,
        "clevr/rendering": 48,
        "obja/recognition": 64,
    }


def test_each_data_set_of_a_mixture_is_read_by_its_own_schema(mixture):
    for loader, workload in zip(mixture.val_dataloader(), mixture.workloads, strict=True):
        tokenizer = mixture.tokenizer.with_schema(workload.schema)
        for batch in _transferred(mixture, loader):
            assert batch.workload == workload
            for sample, ids, length, start in zip(
                batch.samples, batch.ids, batch.lengths, batch.prompt_lengths, strict=True
            ):
                written = tokenizer.decode(workload.task, ids[start:length].tolist())
                assert written.malformed == 0
                if "scene" in workload.task.outputs:
                    keys = {"clevr": ("shape", "color"), "objaworld": ("shape",)}[workload.schema]
                    assert [[o[key] for key in keys] for o in written.scene] == [
                        [o[key] for key in keys] for o in sample.scene
                    ]


def test_a_mixture_trains_and_scores_every_data_set(mixture, tmp_path):
    from callbacks.jaccard import Jaccard
    from callbacks.predictions import Predictions
    from callbacks.well_formed import WellFormed
    from kyvo.training.backbone import Backbone
    from kyvo.training.language import LanguageModule

    module = LanguageModule(mixture.tokenizer, backbone=Backbone(hidden_size=32, layers=1, heads=2), total_steps=3)
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=3,
        limit_val_batches=1,
        num_sanity_val_steps=0,
        val_check_interval=3,
        callbacks=[Jaccard(), WellFormed(), Predictions(str(tmp_path / "written"))],
        **quiet,
    )
    trainer.fit(module, mixture)
    names = {name for name in trainer.callback_metrics if name.startswith("val/")}
    assert {"val/clevr/recognition/jaccard", "val/obja/recognition/jaccard", "val/clevr/rendering/well_formed"} <= names
    line = json.loads((tmp_path / "written/val/obja-I-3.rank0.jsonl").read_text().splitlines()[0])
    assert set(line["target"]["scene"]["objects"][0]) == {"shape", "3d_coords", "rotation"}


def test_a_view_for_another_schema_shares_the_ids():
    tokenizer = UnifiedTokenizer.from_preset("unified")
    view = tokenizer.with_schema("objectron")
    assert view.vocabulary is tokenizer.vocabulary
    assert view.with_schema("clevr") is tokenizer
    assert tokenizer.with_schema("objectron") is view
    scene = SCHEMAS["objectron"].read(
        {"objects": [{"category": "cup", "center_cam": [0.1, 0.1, 1], "dimensions": [1] * 3}]}
    )
    assert len(view.codec.encode(scene)) > 4
    with pytest.raises(ValueError, match=r"CENTER_CAM|CATEGORY"):
        UnifiedTokenizer.from_preset("quickstart").with_schema("objectron")


def test_tasks_of_one_name_are_told_apart(root):
    data = _data(root, tasks={"3+T-3": 1.0, "3+T-I": 1.0, "I-3": 1.0})
    assert [one.label for one in data.workloads] == ["instruction[3+T-3]", "instruction[3+T-I]", "recognition"]
    assert Task.parse("3+T-I").name == "instruction"
