"""How CLEVR's metal and rubber answer light."""

from __future__ import annotations

import numpy as np

GROUND_ALBEDO = 0.8

_POLISHED, _BRUSHED, _MATTE = 0.04, 0.2, 0.35
"""Widths (GGX alpha) of the two lobes of metal and of the gloss of rubber."""


def _lobe(cos_half_squared: np.ndarray, alpha: float) -> np.ndarray:
    """GGX density of microfacet normals."""
    squared = alpha * alpha
    denominator = cos_half_squared * (squared - 1) + 1
    return squared / (np.pi * denominator * denominator)


def highlights(
    metal: np.ndarray, cos_light: np.ndarray, cos_view: np.ndarray, cos_half: np.ndarray, cos_difference: np.ndarray
) -> np.ndarray:
    """Reflectance towards the eye of lamps seen in the surface.

    Args:
        metal: Whether each point is metal, [M].
        cos_light: Normal against light, [L, M].
        cos_view: Normal against eye, positive, [M].
        cos_half: Normal against the half vector, [L, M].
        cos_difference: Eye against the half vector, [L, M].

    Returns:
        [L, M], not yet tinted by the colour of metal.
    """
    squared = cos_half * cos_half
    polished = (0.5 * _lobe(squared, _BRUSHED) + 0.5 * _lobe(squared, _POLISHED)) * 0.9
    polished = polished / (4 * cos_view * np.maximum(cos_light, 0.05))
    glancing = np.maximum(1 - cos_difference, 0)
    fresnel = 0.0125 + 0.9875 * (glancing * glancing) ** 2 * glancing
    return np.where(metal, polished, 0.25 * fresnel * _lobe(squared, _MATTE))


def srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light -> sRGB, both in 0..1 (clipped)."""
    x = np.minimum(np.maximum(linear, 0), 1)
    return np.where(x < 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-6) ** (1 / 2.4) - 0.055)


def linear(coded: np.ndarray) -> np.ndarray:
    """sRGB -> linear light, both in 0..1: the inverse of `srgb`."""
    return np.where(coded < 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
