"""Our ray tracer against Blender's path tracer on the same scenes, and the way to Blender itself."""

import json
import math
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_modules.worlds.blender import BlenderRenderer
from data_modules.worlds.clevr import ClevrWorld

REFERENCES = Path(__file__).parent / "data" / "blender"
"""Scenes of `ClevrWorld` drawn by `BlenderRenderer(samples=192)`."""


def psnr(a, b):
    return 10 * math.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


def reference(number):
    return json.loads((REFERENCES / f"scene_{number}.json").read_text()), pixels(REFERENCES / f"scene_{number}.png")


@pytest.mark.parametrize("number", range(4))
def test_the_ray_tracer_draws_what_blender_draws(number):
    scene, picture = reference(number)
    image, ids = ClevrWorld(image_size=picture.shape[:2]).render(scene)
    assert psnr(image, picture) >= 36
    assert psnr(image[ids == -1], picture[ids == -1]) >= 37
    for k, record in enumerate(scene["objects"]):
        # The two differ most in what metal reflects.
        assert psnr(image[ids == k], picture[ids == k]) >= (25 if record["material"] == "metal" else 30)


def test_references_hold_all_materials_shapes_and_sizes():
    seen = [record for number in range(4) for record in reference(number)[0]["objects"]]
    assert len(seen) >= 20
    assert len({(record["material"], record["shape"]) for record in seen}) == 6
    assert {record["size"] for record in seen} == {"large", "small"}
    assert sum(path.stat().st_size for path in REFERENCES.iterdir()) <= 600_000


@pytest.mark.skipif(find_spec("bpy") is not None, reason="this interpreter has bpy")
def test_missing_blender_names_the_extra():
    with pytest.raises(ValueError, match=r"kyvo\[blender\].*bpy 4.5, on Python 3.11"):
        BlenderRenderer().render([reference(0)[0]], (8, 8))


def test_no_scenes_need_no_blender():
    assert BlenderRenderer(python="/nowhere").render([], (8, 8)) == []


def test_wrong_settings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="samples must be 1 or more"):
        BlenderRenderer(samples=0)
    with pytest.raises(ValueError, match=r"base_scene\.blend; there is no such file"):
        BlenderRenderer(assets=tmp_path)


def test_failure_of_blender_is_told_with_its_words(tmp_path):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho 'out of memory' >&2\nexit 7\n")
    script.chmod(0o755)
    with pytest.raises(RuntimeError, match=r"(?s)status 7.*out of memory"):
        BlenderRenderer(python=str(script)).render([reference(0)[0]], (8, 8))


# With Blender, where the interpreter has it or the environment names one that does.


@pytest.fixture(scope="module")
def blender():
    python = os.environ.get("KYVO_BLENDER_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import bpy"], capture_output=True).returncode:
        pytest.skip("no bpy; KYVO_BLENDER_PYTHON can name an interpreter that has it")
    return python


def test_blender_draws_the_references_again(blender):
    scenes, pictures = zip(*(reference(number) for number in (1, 2)), strict=True)
    drawn = BlenderRenderer(samples=16, threads=1, python=blender).render(scenes, pictures[0].shape[:2])
    for image, picture in zip(drawn, pictures, strict=True):
        assert image.dtype == np.uint8
        assert image.shape == picture.shape
        assert psnr(image, picture) >= 38


SAVE_ASSETS = """
import bpy, sys
from pathlib import Path
folder = Path(sys.argv[1])
(folder / "shapes").mkdir(); (folder / "materials").mkdir()
def empty():
    bpy.ops.wm.read_factory_settings(use_empty=True)
def save(path):
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / path))
for name in ("SmoothCube_v2", "Sphere", "SmoothCylinder"):
    empty()
    bpy.ops.mesh.primitive_uv_sphere_add(radius=1.0)
    bpy.context.object.name = name
    save(f"shapes/{name}.blend")
for name in ("Rubber", "MyMetal"):
    empty()
    tree = bpy.data.node_groups.new(name, "ShaderNodeTree")
    tree.use_fake_user = True
    tree.interface.new_socket("Color", in_out="INPUT", socket_type="NodeSocketColor")
    tree.interface.new_socket("Shader", in_out="OUTPUT", socket_type="NodeSocketShader")
    a, b, c = (tree.nodes.new(kind) for kind in ("NodeGroupInput", "ShaderNodeBsdfDiffuse", "NodeGroupOutput"))
    tree.links.new(a.outputs[0], b.inputs[0]); tree.links.new(b.outputs[0], c.inputs[0])
    save(f"materials/{name}.blend")
empty()
scene = bpy.context.scene
target = bpy.data.objects.new("Empty", None); scene.collection.objects.link(target)
camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera")); scene.collection.objects.link(camera)
camera.constraints.new("TRACK_TO").target = target
scene.camera = camera
for name in ("Lamp_Key", "Lamp_Fill", "Lamp_Back"):
    light = bpy.data.lights.new(name, "AREA"); light.energy = 60
    lamp = bpy.data.objects.new(name, light); scene.collection.objects.link(lamp)
    lamp.constraints.new("TRACK_TO").target = target
save("base_scene.blend")
"""


def test_files_laid_out_as_clevrs_are_drawn_instead(blender, tmp_path):
    # CLEVR's own files are not at hand, these have their names and contents in small: spheres of diffuse colour.
    subprocess.run([blender, "-c", SAVE_ASSETS, str(tmp_path)], check=True, capture_output=True)
    scene, _ = reference(1)
    renderer = BlenderRenderer(samples=8, assets=tmp_path, threads=1, python=blender)
    (image,) = renderer.render([scene], (120, 160))
    world = ClevrWorld(image_size=(120, 160))
    spheres = {**scene, "objects": [record | {"shape": "sphere"} for record in scene["objects"]]}
    ids = world.identify(spheres)
    # No ground there: what is not black is an object, where ours are.
    assert (image[ids == -1].max(axis=1) < 30).mean() > 0.99
    for k, record in enumerate(spheres["objects"]):
        red, green, blue = image[ids == k].mean(axis=0)
        assert max(red, green, blue) > 20, record
