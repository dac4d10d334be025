"""What CLEVR's world is made of: the words of its attributes and what they measure, and its constant directions."""

COLORS: dict[str, tuple[int, int, int]] = {
    "gray": (87, 87, 87),
    "red": (173, 35, 35),
    "blue": (42, 75, 215),
    "green": (29, 105, 20),
    "brown": (129, 74, 25),
    "purple": (129, 38, 192),
    "cyan": (41, 208, 208),
    "yellow": (255, 238, 51),
}
"""Linear reflectance times 255: CLEVR hands these numbers to the renderer without undoing sRGB."""

SIZES = {"large": 0.7, "small": 0.35}
"""Half extent of each size in world units; the centre of every shape stands that high."""

MATERIALS = ("rubber", "metal")
SHAPES = ("cube", "sphere", "cylinder")

DIRECTIONS: dict[str, tuple[float, float, float]] = {
    "behind": (-0.754490315914154, 0.6563112735748291, 0.0),
    "front": (0.754490315914154, -0.6563112735748291, 0.0),
    "left": (-0.6563112735748291, -0.7544902563095093, 0.0),
    "right": (0.6563112735748291, 0.7544902563095093, 0.0),
    "above": (0.0, 0.0, 1.0),
    "below": (0.0, 0.0, -1.0),
}
"""Constants in every CLEVR file: they belong to the camera of the base scene, not to the jittered one."""
