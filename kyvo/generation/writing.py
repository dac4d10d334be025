"""Samples in, what the model writes for them out, in one batch.

Letters: N hypotheses of a sample, T generated positions.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from kyvo.generation.confidence import object_confidences
from kyvo.generation.decode import Decoded, decode
from kyvo.generation.refinement import Refinement
from kyvo.generation.sampling import Sampling
from kyvo.models.language_model import KyvoForCausalLM
from kyvo.sample import Sample
from kyvo.task import Task
from kyvo.tokenizers.sequence import Generation
from kyvo.tokenizers.tokenizer import UnifiedTokenizer


def write(
    model: KyvoForCausalLM,
    tokenizer: UnifiedTokenizer,
    task: Task,
    samples: Sequence[Sample],
    sampling: Sampling | None = None,
    confidences: bool = False,
) -> list[Generation]:
    """Write the outputs of a task for samples, of which only what the task reads is needed.

    Args:
        model: The language model, in evaluation mode.
        tokenizer: Of the schema of the samples' scenes.
        task: What is read and written.
        samples: At least one.
        sampling: Greedy by default; of several hypotheses the likeliest is returned.
        confidences: Whether to say how sure the model was of each object.

    Raises:
        ValueError: If a sample lacks something, or has a value that no token stands for.
    """
    return [one[0] for one in write_hypotheses(model, tokenizer, task, samples, sampling, confidences)]


def write_hypotheses(
    model: KyvoForCausalLM,
    tokenizer: UnifiedTokenizer,
    task: Task,
    samples: Sequence[Sample],
    sampling: Sampling | None = None,
    confidences: bool = False,
) -> list[list[Generation]]:
    """As `write`, all `sampling.hypotheses` of each sample, the likeliest first."""
    sampling = sampling or Sampling()
    prompts = [torch.as_tensor(tokenizer.prompt(task, sample)) for sample in samples]
    several, has_scene = sampling.hypotheses > 1, "scene" in task.outputs
    found = decode(
        model,
        tokenizer.grammar(task),
        prompts,
        sampling,
        scored=several or (confidences and has_scene),
        numbers=has_scene and sampling.refine == "expectation",
        compiled=model.compiled and model.lm_head.weight.is_cuda,
    )
    read = _read(tokenizer, task, found, sampling, confidences)
    return [[read[row] for row in rows] for rows in _ranked(found, sampling.hypotheses)]


def _read(
    tokenizer: UnifiedTokenizer, task: Task, found: Decoded, sampling: Sampling, confidences: bool
) -> list[Generation]:
    ids = found.ids.cpu().numpy()
    scores = None if found.log_probabilities is None else found.log_probabilities.cpu().numpy()
    refinement = Refinement(tokenizer, sampling.refine_bins) if found.numbers else None
    read = []
    for row, line in enumerate(ids):
        one = tokenizer.decode(task, line)
        if one.scene is not None and refinement is not None:
            one = replace(one, scene=refinement.refine(one.scene, line, row, found.numbers))
        if one.scene is not None and confidences and scores is not None:
            codec = tokenizer.codec
            one = replace(one, confidences=object_confidences(line, scores[row], codec.open, codec.close))
        read.append(one)
    return read


def _ranked(found: Decoded, hypotheses: int) -> np.ndarray:
    """Rows of each sample's hypotheses, the likeliest first, int64 [samples, N]."""
    rows = np.arange(len(found.ids)).reshape(-1, hypotheses)
    if found.log_probabilities is None:
        return rows
    whole = found.log_probabilities.sum(dim=-1).cpu().numpy().reshape(rows.shape)
    return np.take_along_axis(rows, np.argsort(-whole, axis=1, kind="stable"), axis=1)
