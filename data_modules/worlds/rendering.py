"""Pictures of ray-traced scenes: a ray through each pixel, more where there are edges.

H and W size of the picture in pixels.
"""

from __future__ import annotations

import numpy as np

from data_modules.worlds.camera import Camera
from data_modules.worlds.materials import srgb
from data_modules.worlds.ray_tracer import RayTracer

_EDGE_CONTRAST = 0.06
_EDGE_SPREAD = 1.3
"""Width, in pixels, of the square that the extra samples at edges cover."""


def _edges(ids: np.ndarray, brightness: np.ndarray) -> np.ndarray:
    """Flat indices of pixels beside another id or a jump of brightness; both arguments [H, W]."""
    edge = np.zeros(ids.shape, dtype=bool)
    down = (ids[1:] != ids[:-1]) | (np.abs(brightness[1:] - brightness[:-1]) > _EDGE_CONTRAST)
    across = (ids[:, 1:] != ids[:, :-1]) | (np.abs(brightness[:, 1:] - brightness[:, :-1]) > _EDGE_CONTRAST)
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    return np.flatnonzero(edge)


def _pixel_centers(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows of the centres of all pixels in row-major order, [H * W] each."""
    rows, columns = np.indices((camera.height, camera.width)).reshape(2, -1) + 0.5
    return columns, rows


def identify(tracer: RayTracer, camera: Camera) -> np.ndarray:
    """The id map of `render`, without the picture."""
    eye = np.array(camera.location, dtype=np.float32)[:, None]
    _, ids = tracer.trace(eye, camera.rays(*_pixel_centers(camera)), None)
    return ids.reshape(camera.height, camera.width).astype(np.int32)


def render(tracer: RayTracer, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Draws the scene.

    Returns:
        sRGB image uint8 [H, W, 3], and what the centre of each pixel shows, int32 [H, W]: the index of an object,
        -1 for ground, -2 for nothing.
    """
    height, width, sampling = camera.height, camera.width, tracer.sampling
    columns, rows = _pixel_centers(camera)
    eye = np.array(camera.location, dtype=np.float32)[:, None]
    color, ids = tracer.shade(eye, camera.rays(columns, rows), sampling.shadow_samples)
    ids = ids.reshape(height, width).astype(np.int32)
    if sampling.edge_samples:
        k = _edges(ids, srgb(color.mean(0)).reshape(height, width))
        steps = np.arange(sampling.edge_samples) + 0.5
        across, along = (_EDGE_SPREAD * ((steps * ratio) % 1 - 0.5) for ratio in (0.7548777, 0.5698403))
        rays = camera.rays((columns[k] + across[:, None]).reshape(-1), (rows[k] + along[:, None]).reshape(-1))
        fine, _ = tracer.shade(eye, rays, sampling.secondary_shadow_samples, 1)
        color[:, k] = np.minimum(np.maximum(fine, 0), 1.5).reshape(3, sampling.edge_samples, -1).mean(1)
    image = np.ascontiguousarray((srgb(color) * 255 + 0.5).astype(np.uint8).T).reshape(height, width, 3)
    return image, ids
