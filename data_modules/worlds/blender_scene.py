"""Run by `blender.py` in a process of its own: builds scenes in Blender from a file of numbers and draws them.

It imports nothing of this package, so that the interpreter that has Blender needs nothing else.
"""

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

try:
    import bpy  # type: ignore[import-not-found]
except ImportError:
    sys.exit(3)

# These two come with bpy and cannot be found before it is imported.
import bmesh  # type: ignore[import-not-found]
from mathutils import Vector  # type: ignore[import-not-found]

Job = Mapping[str, Any]

_GROUND_HALF_WIDTH = 60.0
_SEGMENTS = 16
"""Faces across a rounded edge: enough for the interpolated normals of the flat sides to stay flat."""

_SHARP, _BRUSHED, _ANISOTROPY, _SHARP_SHARE = 0.1, math.sqrt(0.2), 0.25, 0.6
"""Roughness of the two lobes of CLEVR's metal, and the share of the first."""

_VELVET, _GLOSS, _GLOSS_COLOR = 0.6, math.sqrt(0.35), (0.8, 0.8, 0.8, 1.0)
_VELVET_INDEX, _GLOSS_INDEX = 1.4, 1.2
"""CLEVR's rubber: indices of refraction whose Fresnel terms mix velvet, then gloss, into the diffuse colour."""


def main(path: str) -> None:
    """Draw all scenes of a job."""
    job = json.loads(Path(path).read_text())
    for scene in job["scenes"]:
        if job["assets"] is None:
            _build(scene, job)
        else:
            _open(scene, job["assets"])
        _draw(scene, job)


def _build(scene: Job, job: Job) -> None:
    """The scene from numbers alone."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    world = bpy.data.worlds.new("world")
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs["Strength"].default_value = 0.0
    bpy.context.scene.world = world
    _add_ground(job["ground"])
    for lamp in scene["lamps"]:
        _add_lamp(lamp)
    _add_sun(scene["sun"])
    _add_camera(scene)
    solids = {shape: _solid(shape, job["rounding"]) for shape in sorted({o["shape"] for o in scene["objects"]})}
    for number, record in enumerate(scene["objects"]):
        mesh = solids[record["shape"]].copy()
        mesh.materials.append(_material(record))
        _pose(_add(f"object {number}", mesh), record)


def _open(scene: Job, assets: Mapping[str, str]) -> None:
    """The scene in CLEVR's own base scene, of its own shapes and materials."""
    bpy.ops.wm.open_mainfile(filepath=assets["base"])
    for lamp in scene["lamps"]:
        bpy.data.objects[lamp["name"]].location = lamp["location"]
    camera = bpy.data.objects["Camera"]
    camera.location = scene["camera"]
    camera.data.lens, camera.data.sensor_width = scene["lens"], scene["sensor"]
    for record in scene["objects"]:
        solid = _load(assets[record["shape"]], "objects")
        bpy.context.scene.collection.objects.link(solid)
        _pose(solid, record)
        solid.data.materials.clear()
        solid.data.materials.append(_loaded_material(assets[record["material"]], record["color"]))


def _load(file: str, kind: str) -> Any:
    """The thing that a .blend file holds under its own name."""
    with bpy.data.libraries.load(file) as (_, wanted):
        setattr(wanted, kind, [Path(file).stem])
    return getattr(wanted, kind)[0]


def _loaded_material(file: str, color: Sequence[float]) -> Any:
    material, output = _empty_material()
    group = material.node_tree.nodes.new("ShaderNodeGroup")
    group.node_tree = _load(file, "node_groups")
    group.inputs["Color"].default_value = (*color, 1.0)
    material.node_tree.links.new(group.outputs["Shader"], output.inputs["Surface"])
    return material


def _add(name: str, data: Any) -> Any:
    """A new object in the scene."""
    added = bpy.data.objects.new(name, data)
    bpy.context.scene.collection.objects.link(added)
    return added


def _pose(solid: Any, record: Job) -> None:
    solid.location = record["center"]
    solid.scale = [side * record["radius"] for side in solid.scale]
    solid.rotation_euler[2] = record["yaw"]


def _look_at(thing: Any, place: Sequence[float], target: Sequence[float] = (0.0, 0.0, 0.0)) -> None:
    thing.location = place
    thing.rotation_euler = (Vector(target) - Vector(place)).to_track_quat("-Z", "Y").to_euler()


def _add_ground(ground: Job) -> None:
    """The sweep: a strip across its profile."""
    x, y = ground["direction"]
    # The profile begins where the ground is flat; far behind the camera it goes on.
    distances = [-_GROUND_HALF_WIDTH, *ground["distances"]]
    heights = [ground["heights"][0], *ground["heights"]]
    vertices = [
        (s * x + side * -y, s * y + side * x, z)
        for s, z in zip(distances, heights, strict=True)
        for side in (-_GROUND_HALF_WIDTH, _GROUND_HALF_WIDTH)
    ]
    faces = [(2 * k, 2 * k + 1, 2 * k + 3, 2 * k + 2) for k in range(len(distances) - 1)]
    mesh = bpy.data.meshes.new("ground")
    mesh.from_pydata(vertices, [], faces)
    mesh.shade_smooth()
    material, output = _empty_material()
    diffuse = material.node_tree.nodes.new("ShaderNodeBsdfDiffuse")
    diffuse.inputs["Color"].default_value = (*3 * [ground["albedo"]], 1.0)
    material.node_tree.links.new(diffuse.outputs[0], output.inputs["Surface"])
    mesh.materials.append(material)
    _add("ground", mesh)


def _add_lamp(lamp: Job) -> None:
    light = bpy.data.lights.new(lamp["name"], "AREA")
    light.shape, light.size = "SQUARE", lamp["side"]
    light.energy, light.color = lamp["power"], lamp["color"]
    _look_at(_add(lamp["name"], light), lamp["location"])


def _add_sun(sun: Job) -> None:
    light = bpy.data.lights.new("sun", "SUN")
    light.energy, light.angle = sun["irradiance"], sun["angle"]
    _look_at(_add("sun", light), sun["direction"])


def _add_camera(scene: Job) -> None:
    data = bpy.data.cameras.new("camera")
    data.lens, data.sensor_width = scene["lens"], scene["sensor"]
    camera = _add("camera", data)
    _look_at(camera, scene["camera"], scene["target"])
    bpy.context.scene.camera = camera


def _solid(shape: str, rounding: Mapping[str, float]) -> Any:
    """The mesh of a solid of half extent one."""
    builders: Mapping[str, Callable[[Any], None]] = {
        "sphere": lambda b: bmesh.ops.create_uvsphere(b, u_segments=128, v_segments=64, radius=1.0),
        "cube": lambda b: _rounded_cube(b, rounding["cube"]),
        "cylinder": lambda b: _rounded_cylinder(b, rounding["cylinder"]),
    }
    builder = bmesh.new()
    builders[shape](builder)
    mesh = bpy.data.meshes.new(shape)
    builder.to_mesh(mesh)
    builder.free()
    mesh.shade_smooth()
    return mesh


def _rounded_cube(builder: Any, radius: float) -> None:
    bmesh.ops.create_cube(builder, size=2.0)
    _round(builder, builder.edges[:], radius)


def _rounded_cylinder(builder: Any, radius: float) -> None:
    bmesh.ops.create_cone(builder, cap_ends=True, segments=192, radius1=1.0, radius2=1.0, depth=2.0)
    rims = [edge for edge in builder.edges if any(len(face.verts) > 4 for face in edge.link_faces)]
    _round(builder, rims, radius)


def _round(builder: Any, edges: list[Any], radius: float) -> None:
    bmesh.ops.bevel(
        builder, geom=edges, offset=radius, offset_type="OFFSET", affect="EDGES", segments=_SEGMENTS, profile=0.5
    )


def _empty_material() -> tuple[Any, Any]:
    """A material and the one of its nodes that takes the surface."""
    material = bpy.data.materials.new("material")
    material.use_nodes = True
    nodes = material.node_tree.nodes
    nodes.clear()
    return material, nodes.new("ShaderNodeOutputMaterial")


def _material(record: Job) -> Any:
    material, output = _empty_material()
    color = (*record["color"], 1.0)
    shader = _metal(material.node_tree, color) if record["material"] == "metal" else _rubber(material.node_tree, color)
    material.node_tree.links.new(shader.outputs[0], output.inputs["Surface"])
    return material


def _metal(tree: Any, color: Sequence[float]) -> Any:
    brushed, sharp = (_glossy(tree, color, "GGX", roughness, _ANISOTROPY) for roughness in (_BRUSHED, _SHARP))
    return _mix(tree, _SHARP_SHARE, brushed, sharp)


def _rubber(tree: Any, color: Sequence[float]) -> Any:
    diffuse = tree.nodes.new("ShaderNodeBsdfDiffuse")
    diffuse.inputs["Color"].default_value = color
    velvet = tree.nodes.new("ShaderNodeBsdfSheen")
    velvet.distribution = "ASHIKHMIN"
    velvet.inputs["Color"].default_value = color
    velvet.inputs["Roughness"].default_value = _VELVET
    matte = _mix(tree, _fresnel(tree, _VELVET_INDEX), diffuse, velvet)
    return _mix(tree, _fresnel(tree, _GLOSS_INDEX), matte, _glossy(tree, _GLOSS_COLOR, "BECKMANN", _GLOSS, 0.0))


def _glossy(tree: Any, color: Sequence[float], distribution: str, roughness: float, anisotropy: float) -> Any:
    node = tree.nodes.new("ShaderNodeBsdfAnisotropic")
    node.distribution = distribution
    node.inputs["Color"].default_value = color
    node.inputs["Roughness"].default_value = roughness
    node.inputs["Anisotropy"].default_value = anisotropy
    return node


def _fresnel(tree: Any, index: float) -> Any:
    node = tree.nodes.new("ShaderNodeFresnel")
    node.inputs["IOR"].default_value = index
    return node


def _mix(tree: Any, share: Any, first: Any, second: Any) -> Any:
    """Two shaders mixed; `share` of the second is a number or a node."""
    node = tree.nodes.new("ShaderNodeMixShader")
    if isinstance(share, float):
        node.inputs[0].default_value = share
    else:
        tree.links.new(share.outputs[0], node.inputs[0])
    tree.links.new(first.outputs[0], node.inputs[1])
    tree.links.new(second.outputs[0], node.inputs[2])
    return node


def _draw(scene: Job, job: Job) -> None:
    """Render with CLEVR's settings, but a denoiser in place of many samples."""
    target = bpy.context.scene
    render, cycles = target.render, target.cycles
    render.engine = "CYCLES"
    render.resolution_x, render.resolution_y, render.resolution_percentage = job["width"], job["height"], 100
    render.threads_mode, render.threads = ("FIXED", job["threads"]) if job["threads"] else ("AUTO", 1)
    render.image_settings.file_format, render.image_settings.color_mode = "PNG", "RGB"
    render.filepath, render.dither_intensity = scene["picture"], 0.0
    target.view_settings.view_transform = "Standard"
    cycles.device, cycles.samples, cycles.seed, cycles.use_adaptive_sampling = "CPU", job["samples"], 0, False
    # The thorough cleaning of the denoiser's guides costs as much as a dozen samples and shows no gain.
    cycles.use_denoising, cycles.denoiser, cycles.denoising_prefilter = True, "OPENIMAGEDENOISE", "FAST"
    cycles.blur_glossy, cycles.max_bounces = 2.0, job["bounces"]
    bpy.ops.render.render(write_still=True)


if __name__ == "__main__":
    main(sys.argv[1])
