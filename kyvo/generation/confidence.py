"""How sure a model was of each object that it wrote.

Letters: T generated positions.
"""

from collections.abc import Sequence

import numpy as np


def object_confidences(
    ids: Sequence[int] | np.ndarray, log_probabilities: Sequence[float] | np.ndarray, opening: int, closing: int
) -> tuple[float, ...]:
    """How sure the model was of each object that it wrote: the geometric mean of its tokens' probabilities.

    Args:
        ids: What was generated `[T]`, bound to the grammar, which closes what it opens.
        log_probabilities: Of each id `[T]`.
        opening: Id of [OBJECT-START].
        closing: Id of [OBJECT-END].

    Returns:
        One number in (0, 1] for each object, its markers included, in the order of the scene.
    """
    written, scores = np.asarray(ids), np.asarray(log_probabilities, dtype=np.float64)
    starts, ends = np.flatnonzero(written == opening), np.flatnonzero(written == closing)
    return tuple(float(np.exp(scores[a : b + 1].mean())) for a, b in zip(starts, ends, strict=True))
