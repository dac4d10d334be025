"""Codes of shapes: from assets into shards, into sequences, through training, and back into names that are scored."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from data_modules import code_command
from data_modules.coding import fingerprint as image_fingerprint
from data_modules.index import Index
from data_modules.inspection import check
from data_modules.make import make
from data_modules.mixture import DataSet, MixtureDataModule
from data_modules.objaworld import ObjaWorldDataModule
from data_modules.pack import pack
from data_modules.recipes.objaworld import ObjaWorldRecipe
from data_modules.scenes import SceneDataModule
from data_modules.shape_coding import ShapeLibrary, add_shape_codes, code_folder, fingerprint, names_in
from data_modules.shards import read_shard
from data_modules.showing import show
from data_modules.sources.folder import FolderSource
from data_modules.voxels import voxelize_asset
from data_modules.worlds.assets.library import ASSETS
from data_modules.worlds.objaworld import ObjaWorld
from kyvo import cli
from kyvo.models.gradient_quantizer import GradientVectorQuantizer
from kyvo.models.shape_vq import ShapeNetwork, ShapeVQ
from kyvo.scene import SCHEMAS
from kyvo.task import Task
from kyvo.tokenizers.shapes import ShapeTokenizer
from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from tests.tiny_world import files_of, make_coded_world, tiny_image_tokenizer

WORLD = ObjaWorld(setup="shapes", image_size=(32, 32), min_visible_pixels=20.0, shadow_samples=1)
RECIPE = ObjaWorldRecipe(scenes={"train": 6, "val": 8}, scenes_per_shard=2, worlds=(WORLD,))
NETWORK = ShapeNetwork(
    resolution=16, patch=2, channels=(8, 16), layers=1, middle_layers=1, codes=32, code_dim=4, upsample="nearest"
)
N = 64


@cache
def tiny_shape_tokenizer(seed=0):
    """Random weights: 16^3 voxels to 4^3 codes of 32."""
    torch.manual_seed(seed)
    quantizer = GradientVectorQuantizer(NETWORK.codes, NETWORK.code_dim)
    # Codes as far apart as the encoder's vectors, so that assets differ in them.
    quantizer.embedding.weight.data.normal_(std=0.3)
    return ShapeTokenizer(ShapeVQ(NETWORK, quantizer), "voxel8")


@cache
def tokenizer():
    shapes = tiny_shape_tokenizer()
    return UnifiedTokenizer.from_preset(
        "quickstart", image=tiny_image_tokenizer(), shape=shapes, schema="objaworld-shapes", max_objects=3
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A made world without codes; copied by those who write."""
    root = tmp_path_factory.mktemp("world")
    make(root, RECIPE, workers=1)
    return root


@pytest.fixture
def root(world, tmp_path):
    for path in world.glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def scenes_of(root):
    """Names and codes of the shapes of each scene."""
    return [
        ([o["shape"] for o in raw.decode("scene.json")["objects"]], raw.decode("shapes.codes.npy"))
        for path in sorted(root.glob("*.tar"))
        for raw in read_shard(path)
    ]


# ---- tokenizer ------------------------------------------------------------------------------------------------------


def test_the_shape_tokenizer_sets_how_many_codes_there_are(tmp_path):
    made = tokenizer()
    assert (made.vocabulary.shape_codes, made.layout.shape_length, made.schema["shape"].codes) == (32, N, N)
    assert made.shape_codebook.shape == (32, 4)
    # A data set's schema is the same, whatever tokenizer codes its shapes.
    assert made.schema == SCHEMAS["objaworld-shapes"]
    assert SCHEMAS["objaworld-shapes"]["shape"].codes == 512
    made.save_pretrained(tmp_path)
    again = UnifiedTokenizer.from_pretrained(tmp_path)
    assert again.to_dict() == made.to_dict()
    assert torch.equal(again.shape_codebook, made.shape_codebook)
    by_path = UnifiedTokenizer.from_preset("quickstart", shape=tmp_path / "shape_tokenizer", schema="objaworld-shapes")
    assert by_path.layout.shape_length == N


def test_the_number_of_codes_is_the_same_for_every_data_set_of_a_mixture():
    made = UnifiedTokenizer.from_preset("unified", shape=tiny_shape_tokenizer())
    assert made.with_schema("objaworld-shapes").schema["shape"].codes == N
    asked = UnifiedTokenizer.from_preset("unified", shape_codes=16, shape_length=8)
    assert asked.with_schema("objaworld-shapes").schema["shape"].codes == 8


@pytest.mark.parametrize(("name", "found"), [("shape_codes", 32), ("shape_length", N)])
def test_a_number_that_is_not_the_tokenizers_is_refused(name, found):
    with pytest.raises(ValueError, match=f"{name} = 5 does not fit the shape tokenizer, which has {found}"):
        UnifiedTokenizer.from_preset("quickstart", shape=tiny_shape_tokenizer(), schema="objaworld-shapes", **{name: 5})


def test_the_grammar_has_exactly_so_many_codes():
    made = tokenizer()
    grammar = made.grammar(Task.parse("I-3"))
    # Three objects of 64 codes, 4 numbers and 4 markers, the scene's two, the end.
    assert grammar.max_length == 3 * (N + 8) + 3


# ---- shards ---------------------------------------------------------------------------------------------------------


def test_each_object_gets_the_codes_of_its_asset(root):
    shapes = tiny_shape_tokenizer()
    add_shape_codes(root, shapes, ShapeLibrary())
    index = Index.read(root)
    assert (index.shape_tokenizers(), index.image_tokenizers()) == ({fingerprint(shapes)}, {None})
    scenes = scenes_of(root)
    assert len(scenes) == 14
    for names, codes in scenes:
        assert (codes.dtype, codes.shape) == (np.uint16, (len(names), N))
        expected = shapes.encode([voxelize_asset(ASSETS[name], 16) for name in names])
        assert codes.tolist() == expected.tolist()
    assert len({codes.tobytes() for _, rows in scenes for codes in rows}) > 1
    check(root)
    assert names_in(root, index.families["train"], index.scene_schema["shape"]) == tuple(
        sorted({name for names, _ in scenes[:6] for name in names})
    )


def test_each_asset_is_coded_once_and_a_coded_shard_not_again(root, monkeypatch):
    shapes, coded = tiny_shape_tokenizer(), []
    encode = ShapeTokenizer.encode
    monkeypatch.setattr(ShapeTokenizer, "encode", lambda self, slats: coded.extend(slats) or encode(self, slats))
    add_shape_codes(root, shapes, ShapeLibrary())
    assert len(coded) == len({name for names, _ in scenes_of(root) for name in names})
    before = files_of(root)
    add_shape_codes(root, shapes, ShapeLibrary())
    assert files_of(root) == before
    # As if it had been interrupted before the last shard.
    index = Index.read(root)
    index.with_shard("val", replace(index.families["val"][-1], shape_tokenizer=None)).write(root)
    add_shape_codes(root, shapes, ShapeLibrary())
    assert files_of(root) == before


def test_codes_of_both_kinds_in_one_command_and_older_ones_are_replaced(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizers")
    tiny_image_tokenizer().save_pretrained(folder / "image")
    for seed in (0, 1):
        tiny_shape_tokenizer(seed).save_pretrained(folder / str(seed))
    options = {"accelerator": "cpu", "devices": 1}
    code_command.code(root, str(folder / "image"), str(folder / "1"), **options)
    index = Index.read(root)
    assert index.image_tokenizers() == {image_fingerprint(tiny_image_tokenizer())}
    assert index.shape_tokenizers() == {fingerprint(tiny_shape_tokenizer(1))}
    code_command.code(root, shape_tokenizer=str(folder / "0"), **options)
    again = Index.read(root)
    assert again.shape_tokenizers() == {fingerprint(tiny_shape_tokenizer())}
    assert again.image_tokenizers() == index.image_tokenizers()
    assert all("image.codes.npy" in shard.members for shards in again.families.values() for shard in shards)


def test_the_fingerprint_is_that_of_the_weights_that_code(tmp_path):
    first = tiny_shape_tokenizer()
    first.save_pretrained(tmp_path)
    again = ShapeTokenizer.from_pretrained(tmp_path)
    assert fingerprint(again) == fingerprint(first) != fingerprint(tiny_shape_tokenizer(1))
    again.model.decoder[0].weight.data += 1
    assert fingerprint(again) == fingerprint(first)
    again.codebook[0] += 1
    assert fingerprint(again) != fingerprint(first)


BOX = """v 0 0 0
v 1 0 0
v 1 2 0
v 0 2 0
v 0 0 1
v 1 0 1
v 1 2 1
v 0 2 1
f 1 2 3 4
f 5 6 7 8
f 1 2 6 5
f 3 4 8 7
f 1 4 8 5
f 2 3 7 6
"""


def test_meshes_become_latents_and_codes_and_shards_take_them(root, tmp_path_factory, capsys):
    pytest.importorskip("trimesh")
    folder = tmp_path_factory.mktemp("own")
    (folder / "meshes").mkdir()
    names = names_in(
        root, [s for f in Index.read(root).families.values() for s in f], SCHEMAS["objaworld-shapes"]["shape"]
    )
    for name in names:
        (folder / "meshes" / f"{name}.obj").write_text(BOX)
    tiny_shape_tokenizer().save_pretrained(folder / "tokenizer")
    options = {"meshes": folder / "meshes", "out": folder / "shapes", "shape_tokenizer": str(folder / "tokenizer")}
    made = code_command.code(**options, accelerator="cpu")
    assert (made["made"], made["coded"]) == (len(names), len(names))
    with np.load(folder / "shapes" / "codes" / f"{names[0]}.npz") as arrays:
        tokens = arrays["tokens"]
        assert (tokens.dtype, tokens.shape, arrays["grid"].tolist()) == (np.uint16, (N,), [4, 4, 4])
        assert str(arrays["tokenizer"]) == fingerprint(tiny_shape_tokenizer())
    assert code_command.code(**options, accelerator="cpu")["coded"] == 0
    code_command.code(root, shape_tokenizer=str(folder / "tokenizer"), latents=folder / "shapes", accelerator="cpu")
    # All of them are the same box.
    assert {tuple(row) for _, codes in scenes_of(root) for row in codes.tolist()} == {tuple(tokens.tolist())}
    assert code_folder(folder / "shapes", tiny_shape_tokenizer(1)) == len(names)


OWN = """
name: toys
attributes:
  - {name: toy, marker: "[TOY]", kind: shape}
  - {name: place, marker: "[PLACE]", quantities: [x, y]}
numbers: {x: {low: -1, high: 1, step: 0.1}, y: {low: -1, high: 1, step: 0.1}}
"""


def test_a_users_own_schema_with_shapes(tmp_path):
    (tmp_path / "my.yaml").write_text(OWN)
    scenes = tmp_path / "data" / "val" / "scenes"
    scenes.mkdir(parents=True)
    toys = [{"toy": "bear", "place": [0.5, 0]}, {"toy": "car", "place": [0, 0.1]}]
    (scenes / "a.json").write_text(json.dumps({"objects": toys}))
    for toy, asset in (("bear", "duck"), ("car", "book")):
        voxelize_asset(ASSETS[asset], 16).save(tmp_path / "toys" / "latents" / "mine" / f"{toy}.npz")
    pack(FolderSource(tmp_path / "data", tmp_path / "my.yaml"), tmp_path / "shards", workers=1)
    made = UnifiedTokenizer.from_preset("quickstart", shape=tiny_shape_tokenizer(), schema=tmp_path / "my.yaml")
    data = SceneDataModule(str(tmp_path / "shards"), made, {"3-3": 1}, latents=str(tmp_path / "toys"))
    data.prepare_data()
    data.setup("validate")
    [sample] = next(iter(data.val_dataloader()[0])).samples
    assert sample.shapes == ("bear", "car")
    expected = tiny_shape_tokenizer().encode([voxelize_asset(ASSETS[name], 16) for name in ("duck", "book")])
    assert [list(item["toy"]) for item in sample.scene] == expected.tolist()
    assert list(data.shape_references("", 16)) == ["bear", "car"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give --root, the folder of shards to code, or --meshes"),
        ({"root": Path("a"), "meshes": Path("b"), "out": Path("c")}, "give --root"),
        ({"meshes": Path("b")}, "give --root"),
        ({"root": Path("a")}, "give --image_tokenizer, --shape_tokenizer or both"),
        (
            {"root": Path("a"), "image_tokenizer": "b", "latents": Path("c")},
            "--latents are what --shape_tokenizer codes",
        ),
        ({"meshes": Path("b"), "out": Path("c"), "latents": Path("d")}, "are for shards"),
    ],
)
def test_arguments_that_do_not_go_together(arguments, message):
    with pytest.raises(ValueError, match=message):
        code_command.code(**arguments)


def test_what_cannot_be_coded_is_named(root, tmp_path_factory, tmp_path):
    clevr = make_coded_world(tmp_path_factory.mktemp("clevr"), scenes={"train": 2}, edits=0, questions=0)
    with pytest.raises(ValueError, match="holds scenes of schema 'clevr', whose objects have no shapes to be coded"):
        add_shape_codes(clevr, tiny_shape_tokenizer(), ShapeLibrary())
    with pytest.raises(ValueError, match="no embedded asset is called 'sphere'"):
        ShapeLibrary().load("sphere", 16)
    torch.manual_seed(0)
    other = ShapeTokenizer(tiny_shape_tokenizer().model, "trellis")
    with pytest.raises(ValueError, match=r"shape '\w+': the tokenizer codes space trellis.*got space voxel8"):
        add_shape_codes(root, other, ShapeLibrary())
    shapes = tmp_path_factory.mktemp("latents")
    voxelize_asset(ASSETS["apple"], 16).save(shapes / "latents" / "voxel8" / "thing.npz")
    with pytest.raises(ValueError, match=r"a scene has the shape '\w+', of which there are no latents in"):
        add_shape_codes(root, tiny_shape_tokenizer(), ShapeLibrary(shapes))
    index = Index.read(root)
    own = {**index.settings["train"], "worlds": [{"setup": "shapes", "assets": "meshes"}]}
    index.with_settings("train", own).write(root)
    with pytest.raises(ValueError, match="was made with the meshes in meshes: make latents of them"):
        add_shape_codes(root, tiny_shape_tokenizer(), ShapeLibrary())


def test_shards_with_another_number_of_codes_are_refused(root):
    add_shape_codes(root, tiny_shape_tokenizer(), ShapeLibrary())
    data = ObjaWorldDataModule(str(root), tokenizer(), {"3-I": 1})
    data.setup("fit")
    # Without its mark only the codes themselves tell.
    codes = UnifiedTokenizer.from_preset(
        "quickstart", image=tiny_image_tokenizer(), schema="objaworld-shapes", shape_codes=32, max_objects=2
    )
    plain = ObjaWorldDataModule(str(root), codes, {"I-3": 1})
    plain.setup("fit")
    with pytest.raises(ValueError, match="expected 512 shape codes from 0 to 31, got 64 up to"):
        next(iter(plain.train_dataloader()))
    others = UnifiedTokenizer.from_preset("quickstart", shape=tiny_shape_tokenizer(1), schema="objaworld-shapes")
    other = ObjaWorldDataModule(str(root), others, {"3-3": 1})
    with pytest.raises(ValueError, match=r"has shape codes of tokenizer .*code it again with `kyvo data code`"):
        other.setup("fit")


def test_a_mixture_codes_and_reads_shapes_beside_words(root, tmp_path_factory):
    clevr = make_coded_world(tmp_path_factory.mktemp("clevr"), scenes={"train": 2, "val": 2}, edits=0, questions=0)
    made = UnifiedTokenizer.from_preset("unified", image=tiny_image_tokenizer(), shape=tiny_shape_tokenizer())
    sets = {"clevr": DataSet(str(clevr), {"I-3": 1}), "shapes": DataSet(str(root), {"I-3": 1, "3-I": 1})}
    data = MixtureDataModule(sets, made, batch_size=2)
    data.prepare_data()
    data.setup("fit")
    loaders = data.val_dataloader()
    batch = next(iter(loaders[1]))
    assert batch.samples[0].shapes == tuple(batch.samples[0].written_shapes)
    assert len(batch.samples[0].scene.objects[0]["shape"]) == N
    references = data.shape_references("shapes", 16)
    assert set(references) == {name for names, _ in scenes_of(root) for name in names}
    assert {slat.resolution for slat in references.values()} == {16}


def test_samples_with_shapes_can_be_shown(root, capsys):
    add_shape_codes(root, tiny_shape_tokenizer(), ShapeLibrary())
    show(str(root), "3-3", n=1)
    assert "[SHAPE]{" in capsys.readouterr().out.replace("\n", "")


# ---- the whole way --------------------------------------------------------------------------------------------------


def test_fit_makes_codes_trains_and_scores_shapes(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_image_tokenizer().save_pretrained(tmp_path / "image")
    tiny_shape_tokenizer().save_pretrained(tmp_path / "shape")
    init = {
        "make": {
            "scenes": {"train": 6, "val": 8},
            "scenes_per_shard": 2,
            "worlds": [{"image_size": [32, 32], "min_visible_pixels": 20.0, "shadow_samples": 1, "setup": "shapes"}],
        },
        "root": str(root),
        "batch_size": 2,
        "eval_batch_size": 4,
        "workers": 1,
    }
    changes = {
        "tokenizer": {"image": "image", "shape": "shape"},
        # Drawn at random: the likeliest of an untrained model may be scenes without objects.
        "model": {
            "init_args": {
                "backbone": {"hidden_size": 32, "layers": 1, "heads": 2},
                "sampling": {"temperature": 1.0},
                "bidirectional_shapes": True,
            }
        },
        "data": {"init_args": init},
        "trainer": {"max_steps": 3, "val_check_interval": 3, "enable_progress_bar": False},
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(changes))
    done = cli.run_trainer(["fit", "-c", "quickstart", "-c", "shapes/quickstart", "-c", "tiny.yaml"])
    scores = {name: float(value) for name, value in done.trainer.callback_metrics.items()}
    for name in ("jaccard_tau0_50", "shape_accuracy", "shape_iou", "shape_unknown_rate"):
        assert 0 <= scores[f"val/recognition/{name}"] <= 1, name
    assert scores["val/recognition/well_formed"] == scores["val/rendering/well_formed"] == 1
    assert "val/rendering/psnr" in scores
    assert done.model.model.config.bidirectional_shapes
    codebook = tiny_shape_tokenizer().codebook
    part = done.model.model.embedding.parts["shape"]
    torch.testing.assert_close(part.codebook, (codebook - codebook.mean(0)) / codebook.std())
    assert part.projector.bias is None
    lines = next(Path("runs").rglob("predictions/val/I-3.rank0.jsonl")).read_text().splitlines()
    assert len(lines) == 8
    assert all(len(o["shape_codes"]) == N for line in lines for o in json.loads(line)["generated"]["scene"]["objects"])
    # What the shapes are called lies beside, so that the page of the run reads like one of words.
    for line in map(json.loads, lines):
        for part in ("target", "generated"):
            assert len(line["shapes"][part]) == len(line[part]["scene"]["objects"])
    assert scores["val/recognition/shape_chamfer"] > 0
    page = next(Path("runs").rglob("report.html")).read_text()
    assert "shape · " in page
    assert "shape Chamfer" in page
    assert "shape_codes" not in page


def test_two_ranks_code_as_one(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizers")
    tiny_image_tokenizer().save_pretrained(folder / "image")
    tiny_shape_tokenizer().save_pretrained(folder / "shape")
    shutil.copytree(root, folder / "two")
    tokenizers = ["--image_tokenizer", str(folder / "image"), "--shape_tokenizer", str(folder / "shape")]
    code_command.code(root, tokenizers[1], tokenizers[3], accelerator="cpu", devices=1)
    command = [sys.executable, "-m", "kyvo", "data", "code", "--root", str(folder / "two"), "--devices", "2"]
    done = subprocess.run(
        [*command, *tokenizers, "--accelerator", "cpu"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert Index.read(folder / "two").shape_tokenizers() == {fingerprint(tiny_shape_tokenizer())}
    assert files_of(folder / "two") == files_of(root)
