"""Instructions and questions to try, about the objects of a scene, in the words of CLEVR's templates."""

from kyvo.clevr import SHAPES, SIZES
from kyvo.scene import Scene, SceneObject, SceneSchema

MOST = 5


def instructions(scene: Scene | None, schema: SceneSchema) -> list[str]:
    """Instructions that can be carried out in a scene; none for schemas other than CLEVR's.

    Args:
        scene: What they are about.
        schema: Its schema.
    """
    if not scene or schema.name != "clevr":
        return []
    found = []
    for index, one in enumerate(scene):
        other = (SHAPES * 2)[SHAPES.index(str(one["shape"])) + 1]
        size = next(size for size in SIZES if size != one["size"])
        kinds = (f"color of the {_noun(one)} to yellow", f"size of the {_noun(one)} to {size}")
        found.append(f"Change the {(*kinds, f'shape of the {_noun(one)} to {other}')[index % 3]}")
        found.append(f"Remove the {_noun(one)}")
    return list(dict.fromkeys(found))[:MOST]


def questions(scene: Scene | None, schema: SceneSchema) -> list[str]:
    """Questions about a scene; none for schemas other than CLEVR's.

    Args:
        scene: What they are about.
        schema: Its schema.
    """
    if not scene or schema.name != "clevr":
        return []
    found = ["how many things are there"]
    for one in scene:
        found.append(f"what color is the {one['size']} {one['shape']}")
        found.append(f"is there a {one['material']} {one['shape']}")
    return list(dict.fromkeys(found))[:MOST]


def _noun(one: SceneObject) -> str:
    return f"{one['color']} {one['shape']}"
