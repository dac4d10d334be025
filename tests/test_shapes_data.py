"""Folders of shapes, made shapes, and batches of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from data_modules.recipes.shapes import HELD_OUT, NAMED, ShapeRecipe, make_shapes
from data_modules.shape_folder import ViewFiles, find_shapes, read_picture, write_shape
from data_modules.shapes import SeenShape, ShapeDataModule, ShapeDataset, Visit, VisitSampler, shape_batch, turn
from data_modules.voxels import voxelize_asset
from data_modules.worlds.assets.library import SHAPES
from data_modules.worlds.assets.primitives import box, cone
from data_modules.worlds.assets.solid import union
from data_modules.worlds.assets.textures import stripes
from kyvo.cameras import Cameras
from kyvo.slat import Slat, densify


def some_slat(count=5, size=8, space="voxel8", seed=0):
    rng = np.random.default_rng(seed)
    cells = rng.choice(size**3, count, replace=False)
    coords = torch.tensor(np.stack(np.unravel_index(cells, (size,) * 3), 1), dtype=torch.int32)
    return Slat(coords, torch.tensor(rng.normal(size=(count, 8)), dtype=torch.float32), size, space)


def write_views(folder, count=3, side=4):
    folder.mkdir(parents=True)
    names = [f"{k:03d}.png" for k in range(count)]
    Cameras.sphere(count).write_transforms(folder / "transforms.json", names)
    for k, name in enumerate(names):
        pixels = np.zeros((side, side, 4), dtype=np.uint8)
        pixels[:, : side // 2] = (255, 51 * k, 0, 255)
        Image.fromarray(pixels).save(folder / name)


@pytest.fixture
def root(tmp_path):
    for k, name in enumerate(("b", "a", "c")):
        write_shape_in(tmp_path, "voxel8", name, some_slat(seed=k))
        write_views(tmp_path / "renders" / name)
    return tmp_path


def write_shape_in(root, model, name, slat):
    folder = root / "latents" / model
    folder.mkdir(parents=True, exist_ok=True)
    write_shape(folder / f"{name}.npz", slat)


# ---- folders --------------------------------------------------------------------------------------------------------


def test_shapes_are_found_in_order(root):
    (root / "renders" / "c" / "transforms.json").unlink()
    (root / "latents" / "voxel8" / "stats.json").write_text("{}")
    (root / "latents" / "voxel8" / ".half.npz").write_bytes(b"cut")
    shapes = find_shapes(root)
    assert [shape.name for shape in shapes] == ["a", "b", "c"]
    assert shapes[0].latents == root / "latents" / "voxel8" / "a.npz"
    assert [shape.renders is None for shape in shapes] == [False, False, True]
    assert torch.equal(Slat.load(shapes[0].latents).coords, some_slat(seed=1).coords)


def test_a_table_says_which_shapes_there_are(root):
    table = root / "metadata.csv"
    table.write_text("sha256,aesthetic_score,latent_voxel8\nc,5,True\na,5,True\nb,5,False\nd,5,\n")
    assert [shape.name for shape in find_shapes(root)] == ["a", "c"]
    table.write_text("sha256,aesthetic_score\nc,5\na,5\n")
    assert [shape.name for shape in find_shapes(root)] == ["a", "c"]
    table.write_text("sha256,latent_voxel8\nc,True\nmissing,True\n")
    with pytest.raises(ValueError, match=r"missing\.npz, which is not there"):
        find_shapes(root)
    table.write_text("name\nc\n")
    with pytest.raises(ValueError, match="column sha256"):
        find_shapes(root)


def test_folders_without_one_kind_of_latents_are_refused(root, tmp_path):
    write_shape_in(root, "other", "a", some_slat(space="trellis"))
    with pytest.raises(ValueError, match="other, voxel8: name one"):
        find_shapes(root)
    assert [shape.name for shape in find_shapes(root, "other")] == ["a"]
    with pytest.raises(ValueError, match="found none"):
        find_shapes(root, "absent")
    with pytest.raises(ValueError, match="found none"):
        find_shapes(tmp_path / "nowhere")


def test_pictures_lie_over_a_background(tmp_path):
    pixels = np.array([[[255, 0, 0, 255], [0, 255, 0, 51]], [[0, 0, 255, 0], [255, 255, 255, 255]]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    colors, alpha = read_picture(tmp_path / "x.png", 2)
    assert torch.allclose(alpha, torch.tensor([[1, 0.2], [0, 1]]))
    assert torch.allclose(colors[:, 0, 1], torch.tensor([0.8, 1, 0.8]))
    assert torch.allclose(colors[:, 1, 0], torch.ones(3))
    dark, _ = read_picture(tmp_path / "x.png", 2, 0.0)
    assert torch.allclose(dark[:, 0, 1], torch.tensor([0, 0.2, 0]))
    straight, _ = read_picture(tmp_path / "x.png", 2, None)
    assert torch.allclose(straight[:, 0, 1], torch.tensor([0.0, 1, 0]))
    Image.fromarray(pixels[..., :3]).save(tmp_path / "y.png")
    assert (read_picture(tmp_path / "y.png", 2)[1] == 1).all()


def test_transparent_colors_do_not_bleed_when_scaled(tmp_path):
    pixels = np.zeros((16, 16, 4), dtype=np.uint8)
    pixels[:, :8], pixels[:, 8:] = (255, 0, 0, 255), (0, 255, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    colors, alpha = read_picture(tmp_path / "x.png", 5, None)
    assert colors.shape == (3, 5, 5)
    seen = alpha > 0.05
    assert colors[1][seen].max() < 0.02
    assert colors[0][seen].min() > 0.98


def test_bad_pictures_are_named(tmp_path):
    write_views(tmp_path / "v", 2)
    views = ViewFiles.of(tmp_path / "v" / "transforms.json")
    assert len(views) == 2
    (tmp_path / "v" / "001.png").write_bytes(b"no picture")
    Image.new("RGBA", (4, 2)).save(tmp_path / "v" / "000.png")
    with pytest.raises(ValueError, match=r"001\.png"):
        views.read(1, 4)
    with pytest.raises(ValueError, match=r"000\.png.*square"):
        views.read(0, 4)
    (tmp_path / "v" / "000.png").unlink()
    with pytest.raises(ValueError, match=r"000\.png"):
        views.read(0, 4)


# ---- made shapes ----------------------------------------------------------------------------------------------------

RECIPE = ShapeRecipe(shapes={"train": 18, "val": 8}, resolution=16)


def made(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.npz"))}


def test_the_bytes_do_not_depend_on_workers_and_runs_are_continued(tmp_path):
    make_shapes(tmp_path / "one", replace(RECIPE, shapes={"train": 5}), workers=1)
    early = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*.npz")}
    make_shapes(tmp_path / "one", RECIPE, workers=1)
    assert {path: path.stat().st_mtime_ns for path in early} == early
    make_shapes(tmp_path / "two", RECIPE, workers=2)
    assert made(tmp_path / "one") == made(tmp_path / "two")
    assert len(made(tmp_path / "one")) == 26
    slat = Slat.load(find_shapes(tmp_path / "two" / "val")[0].latents)
    assert (slat.resolution, slat.space) == (16, "voxel8")
    with pytest.raises(ValueError, match="holds 18 shapes"):
        make_shapes(tmp_path / "one", replace(RECIPE, shapes={"train": 5}))
    with pytest.raises(ValueError, match=r"other shapes.*'resolution': 16.*'resolution': 8"):
        make_shapes(tmp_path / "one", replace(RECIPE, resolution=8))
    (tmp_path / "one" / "val" / "recipe.json").unlink()
    with pytest.raises(ValueError, match="no recipe made"):
        make_shapes(tmp_path / "one", RECIPE)


def test_held_out_shapes_are_seen_by_no_training_split():
    names = {}
    for split in ("train", "train-more", "val", "test"):
        names[split] = [RECIPE.asset(split, number).name.split("-")[1:] for number in range(60)]
    for split, found in names.items():
        training = split.startswith("train")
        seeds = {int(name[1]) for name in found if name[0] == "invented"}
        assert {seed % 2 for seed in seeds} == {0 if training else 1}
        plain = {name[0] for name in found if name[0] != "invented"}
        assert plain
        assert plain.isdisjoint(HELD_OUT) if training else plain <= set(HELD_OUT)
    assert names["train"] != names["train-more"]
    assert set(SHAPES) < set(NAMED)
    assert set(HELD_OUT) < set(SHAPES)


def test_named_shapes_vary():
    recipe = ShapeRecipe(named=1, resolution=16)
    assets = [recipe.asset("val", number) for number in range(40)]
    mugs = [asset for asset in assets if asset.name.endswith("mug")]
    assert len(mugs) > 2
    assert len({mug.upper for mug in mugs}) == len(mugs)
    assert all(abs(asset.lower[2]) < 1e-6 for asset in assets)
    slats = [voxelize_asset(mug, 16) for mug in mugs]
    assert len({slat.feats[:, :3].mean(0).numpy().tobytes() for slat in slats}) == len(mugs)
    assert all(slat.feats.abs().max() <= 1 for slat in slats)
    only = ShapeRecipe(named=1, held_out=())
    assert only.asset("val", 0).name.startswith("000000-invented")
    assert "invented" not in only.asset("train", 0).name


def test_recipes_are_checked():
    with pytest.raises(ValueError, match="held_out names kettle"):
        ShapeRecipe(held_out=("kettle",))
    with pytest.raises(ValueError, match="named is a share"):
        ShapeRecipe(named=1.5)


# ---- turns ----------------------------------------------------------------------------------------------------------


def lopsided():
    foot = box((0.3, 0, 0.2), (0.7, 0.4, 0.2)).painted(stripes(0.21, ["#c02020", "#2040c0"], "x"))
    return union(foot, cone((0.6, 0.1, 0.4), 0.25, 0.9), box((-0.2, -0.3, 0.6), (0.12, 0.05, 0.2)))


def assert_same_object(first, second):
    order, other = first.cells().argsort(), second.cells().argsort()
    assert torch.equal(first.coords[order], second.coords[other])
    apart = (first.feats[order] - second.feats[other]).abs().amax(1)
    # At edges the search for the surface, which starts aside of the middle, decides for either face.
    assert (apart < 0.01).float().mean() > 0.95


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_turned_voxels_are_those_of_the_turned_solid(quarters):
    turned = turn(SeenShape(voxelize_asset(lopsided().asset("it"), 24)), quarters, mirror=False).slat
    assert_same_object(turned, voxelize_asset(lopsided().turned(90 * quarters).asset("it"), 24))


def test_mirrored_voxels_are_those_of_the_mirrored_solid():
    flip = np.array([[-1], [1], [1]], dtype=np.float32)
    asset = lopsided().asset("it")
    mirrored = replace(
        asset,
        distance=lambda p: asset.distance(p * flip),
        color=lambda p: asset.color(p * flip),
        lower=(-asset.upper[0], *asset.lower[1:]),
        upper=(-asset.lower[0], *asset.upper[1:]),
    )
    assert_same_object(turn(SeenShape(voxelize_asset(asset, 24)), 0, mirror=True).slat, voxelize_asset(mirrored, 24))


def test_turns_are_exact_and_undone():
    shape = SeenShape(some_slat(40))
    around = shape
    for _ in range(4):
        around = turn(around, 1, mirror=False)
    assert torch.equal(around.slat.coords, shape.slat.coords)
    assert torch.equal(around.slat.feats, shape.slat.feats)
    twice = turn(turn(shape, 0, mirror=True), 0, mirror=True)
    assert torch.equal(twice.slat.feats, shape.slat.feats)
    assert torch.equal(turn(shape, 3, False).slat.coords, turn(turn(shape, 1, False), 2, False).slat.coords)
    first = turn(SeenShape(Slat(torch.tensor([[0, 1, 2]]), torch.arange(8.0)[None], 8, "voxel8")), 1, mirror=True).slat
    # Mirrored, (0, 1, 2) is (7, 1, 2), and turned (6, 7, 2); the normal (3, 4, 5) is (-3, 4, 5), and then (-4, -3, 5).
    assert first.coords.tolist() == [[6, 7, 2]]
    assert first.feats.tolist() == [[0, 1, 2, -4, -3, 5, 6, 7]]
    with pytest.raises(ValueError, match="only shapes of the space 'voxel8'"):
        turn(SeenShape(some_slat(space="trellis")), 1, mirror=False)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("quarters", range(4))
def test_cameras_turn_with_the_shape(quarters, mirror):
    camera = Cameras.sphere(7)[[3]]
    camera.intrinsics[0, 0, 2] = 0.4
    image = torch.rand(3, 6, 6)
    point = SeenShape(Slat(torch.tensor([[5, 1, 6]]), torch.zeros(1, 8), 8, "voxel8"), image, image[0], camera)
    turned = turn(point, quarters, mirror)

    def seen(shape):
        place = torch.cat([(shape.slat.coords[0] + 0.5) / 8 - 0.5, torch.ones(1)])
        pixel = shape.camera.intrinsics[0] @ (shape.camera.extrinsics[0] @ place)[:3]
        return pixel[:2] / pixel[2], pixel[2]

    (before, depth), (after, depth_after) = seen(point), seen(turned)
    expected = torch.stack([1 - before[0], before[1]]) if mirror else before
    assert torch.allclose(after, expected, atol=1e-5)
    assert torch.allclose(depth, depth_after, atol=1e-5)
    assert torch.allclose(torch.det(turned.camera.extrinsics), torch.ones(1), atol=1e-5)
    assert turned.camera.intrinsics[0, 0, 0] > 0
    assert torch.equal(turned.image, image.flip(-1) if mirror else image)


# ---- batches --------------------------------------------------------------------------------------------------------


def test_each_visit_draws_one_view(root):
    shapes = ShapeDataset(find_shapes(root), image_size=4, seed=1)
    views = ViewFiles.of(root / "renders" / "a" / "transforms.json")
    seen = set()
    for epoch in range(12):
        found, again = shapes[Visit(0, epoch)], shapes[Visit(0, epoch)]
        assert torch.equal(found.image, again.image)
        view = round(5 * float(found.image[1, 0, 0]))
        assert torch.equal(found.camera.extrinsics[0], views.cameras.extrinsics[view])
        seen.add(view)
    assert seen == {0, 1, 2}
    batch = shape_batch([shapes[Visit(k, 0)] for k in range(3)])
    assert batch.grid.shape == (3, 9, 8, 8, 8)
    assert (batch.images.shape, batch.alphas.shape, len(batch.cameras)) == ((3, 3, 4, 4), (3, 4, 4), 3)
    assert torch.equal(batch.alphas[0], torch.tensor([1.0, 1, 0, 0]).expand(4, 4))


def test_shapes_without_pictures_and_corrupt_ones_are_named(root):
    (root / "renders" / "b" / "transforms.json").unlink()
    with pytest.raises(ValueError, match=r"b\.npz: expected pictures"):
        ShapeDataset(find_shapes(root), image_size=4)
    (root / "latents" / "voxel8" / "a.npz").write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match=r"a\.npz"):
        ShapeDataset(find_shapes(root))[Visit(0, 0)]


def test_the_order_of_an_epoch_is_shared_out():
    data = list(range(10))
    parts = [VisitSampler(data, 2, rank, True, seed=3) for rank in range(2)]
    whole = VisitSampler(data, 1, 0, True, seed=3)
    for sampler in (*parts, whole):
        sampler.set_epoch(4)
    found = [list(sampler) for sampler in parts]
    assert [visit for pair in zip(*found, strict=True) for visit in pair] == list(whole)
    assert sorted(visit.number for visit in whole) == data
    assert {visit.epoch for visit in whole} == {4}
    still = VisitSampler(data, 1, 0, False)
    still.set_epoch(4)
    assert list(still) == [Visit(number, 0) for number in data]


def test_batches_of_made_shapes(tmp_path):
    places = {"train": str(tmp_path / "train"), "val": str(tmp_path / "val")}
    make = ShapeRecipe(shapes={"train": 7, "val": 3}, resolution=8)

    def batches(**options):
        module = ShapeDataModule(**places, batch_size=2, make=make, workers=1, seed=5, **options)
        module.prepare_data()
        module.setup("fit")
        loader = module.train_dataloader()
        # The second epoch.
        loader.load_state_dict({"given": len(loader), "length": len(loader)})
        return list(loader), list(module.val_dataloader())

    train, val = batches()
    assert (len(train), [len(batch) for batch in val]) == (3, [2, 1])
    assert train[0].images is None
    expected = densify([Slat.load(shape.latents) for shape in find_shapes(tmp_path / "val")])
    assert torch.equal(torch.cat([batch.grid for batch in val]), expected)
    turned, same = batches(augment=True)
    assert torch.equal(same[0].grid, val[0].grid)
    assert any(not torch.equal(a.grid, b.grid) for a, b in zip(train, turned, strict=True))
    assert [a.grid[:, 0].sum() for a in train] == [b.grid[:, 0].sum() for b in turned]
    elsewhere, _ = batches(augment=True, num_workers=1)
    assert all(torch.equal(a.grid, b.grid) for a, b in zip(turned, elsewhere, strict=True))
    assert len(batches(val_limit=1)[1]) == 1
    with pytest.raises(ValueError, match="make fills"):
        ShapeDataModule(places["train"], str(tmp_path / "else"), make=make).prepare_data()


def test_settings_are_written_beside_the_shapes(tmp_path):
    make_shapes(tmp_path, ShapeRecipe(shapes={"val": 1}, resolution=8), workers=1)
    written = json.loads((tmp_path / "val" / "recipe.json").read_text())
    expected = {"seed": 0, "resolution": 8, "named": 0.4, "held_out": list(HELD_OUT), "split": "val"}
    assert written == expected
