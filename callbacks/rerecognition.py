"""Scores whether generated pictures show what was asked for, by a recogniser that had no part in making them.

Letters: B batch, H and W height and width of a picture, N objects of a scene, A attributes.
"""

from collections import deque
from collections.abc import Sequence

import torch
from lightning import Trainer
from torch import Tensor

from callbacks.picture_scoring import PictureScoring
from callbacks.scoring import SampleScores, one_by_one
from kyvo.metrics.rerecognition import Rerecognition as RerecognitionMetric
from kyvo.models.recognizer import Recognizer, word_attributes
from kyvo.sample import Sample
from kyvo.scene import SceneSchema
from kyvo.tokenizers.sequence import Generation
from kyvo.training.language import LanguageModule, TokenBatch
from kyvo.workload import Workload


class Rerecognition(PictureScoring):
    """Attributes read off generated pictures, in the true boxes of the scene's objects, and `scene_success`.

    `recognized_shape` and so on are shares of objects, `recognized_object` is of those read rightly in everything, and
    `scene_success` (success@scene) of scenes with every object right. To be read against: `_true`, the recogniser on
    true pictures; `_vq`, on what the image tokenizer makes of these; `_shuffled`, on true pictures of other samples.

    Args:
        recognizer: Folder of a recogniser trained on true pictures, or the name of one that ships; data sets with other
            words than its own are left out.
        least_pixels: Objects of which fewer pixels are seen are left out.
        apart: A shuffled pair is a scene and the picture of the sample so many before it, over all ranks; results are
            the same for each number of ranks that divides it. The first so many samples make no pair.

    Raises:
        ValueError: No task that writes pictures has scenes with the recogniser's words; or a sample lacks the boxes of
            its objects, or has a picture of another size than the image tokenizer's.
    """

    means = ("scene_success",)

    def __init__(self, recognizer: str, least_pixels: int = 25, apart: int = 24) -> None:
        super().__init__()
        if apart < 1:
            raise ValueError(f"apart should be at least 1, got {apart}")
        self.source = recognizer
        self.recognizer = Recognizer.from_pretrained(recognizer)
        self.least_pixels = least_pixels
        self.apart = apart
        self._earlier: dict[Workload, deque[Tensor]] = {}

    def start(self, trainer: Trainer, module: LanguageModule, stage: str) -> None:
        """Make fresh metrics for the data sets that the recogniser fits."""
        super().start(trainer, module, stage)
        fits = {one for one in self.metrics if word_attributes(module.schema_of(one)) == self.recognizer.attributes}
        if self.metrics and not fits:
            found = {one.label: word_attributes(module.schema_of(one)) for one in self.metrics}
            raise ValueError(f"{self.source} recognises {self.recognizer.attributes}, the scenes have {found}")
        self.metrics = {one: metric for one, metric in self.metrics.items() if one in fits}
        self.recognizer.to(module.device)
        # Each rank has every so manieth sample.
        kept = max(1, round(self.apart / trainer.world_size))
        self._earlier = {one: deque(maxlen=kept) for one in self.metrics}

    def make_metric(self, trainer: Trainer, module: LanguageModule, workload: Workload) -> RerecognitionMetric:
        """The metric of this name."""
        return RerecognitionMetric(tuple(self.recognizer.attributes))

    def add(
        self, metric: RerecognitionMetric, module: LanguageModule, batch: TokenBatch, written: Sequence[Generation]
    ) -> SampleScores:
        """Read generated, true, reconstructed and other samples' pictures."""
        samples = batch.samples[: len(written)]
        boxes, values = self._objects(samples, module.schema_of(batch.workload))
        found = self.pictures(module, samples, written)
        readable = zip(found.generated, written, strict=True)
        pictures: dict[str, Sequence[Tensor | None]] = {
            "generated": [None if one.image is None else picture for picture, one in readable],
            "true": list(found.true),
            "reconstructed": list(found.reconstructed),
            "shuffled": self._shuffled(batch.workload, found.true),
        }
        readings: list[dict[str, Tensor]] = [{} for _ in samples]
        for kind, shown in pictures.items():
            _check_sizes(shown, samples)
            self._read(readings, kind, shown, boxes)
        return one_by_one(metric, self.means, readings, values)

    def _objects(self, samples: Sequence[Sample], schema: SceneSchema) -> tuple[list[Tensor], list[Tensor]]:
        """Boxes [N, 4] of the objects of each sample that can be recognised, and their values [N, A]."""
        found = [self._objects_of(sample, schema) for sample in samples]
        return [boxes for boxes, _ in found], [values for _, values in found]

    def _objects_of(self, sample: Sample, schema: SceneSchema) -> tuple[Tensor, Tensor]:
        scene, seen = sample.pictured_scene, sample.written_seen
        if scene is None or seen is None:
            missing = "a scene" if scene is None else "bbox and visible_pixels of its objects"
            raise ValueError(f"sample {sample.key!r} lacks {missing}, which recognising them needs")
        shown = [
            (one.box, [schema[name].values.index(str(thing[name])) for name in self.recognizer.attributes])
            for thing, one in zip(scene, seen, strict=True)
            if one is not None and one.pixels >= self.least_pixels
        ]
        boxes, values = [box for box, _ in shown], [value for _, value in shown]
        columns = len(self.recognizer.attributes)
        return torch.tensor(boxes).reshape(-1, 4), torch.tensor(values, dtype=torch.long).reshape(-1, columns)

    def _shuffled(self, workload: Workload, true: Tensor) -> list[Tensor | None]:
        """For each sample the picture of an earlier one; None for the first ones."""
        earlier, found = self._earlier[workload], list[Tensor | None]()
        for picture in true:
            found.append(earlier[0] if len(earlier) == earlier.maxlen else None)
            earlier.append(picture)
        return found

    def _read(
        self, readings: list[dict[str, Tensor]], kind: str, pictures: Sequence[Tensor | None], boxes: Sequence[Tensor]
    ) -> None:
        """Add what is read of pictures to the readings; of a generated picture that is none, nothing is right."""
        rows = [row for row, picture in enumerate(pictures) if picture is not None and len(boxes[row])]
        if kind == "generated":
            for row, one in enumerate(boxes):
                readings[row][kind] = torch.full((len(one), len(self.recognizer.attributes)), -1)
        if not rows:
            return
        shown = torch.stack([picture for picture in (pictures[row] for row in rows) if picture is not None])
        read = self.recognizer.classify(2 * shown - 1, [boxes[row] for row in rows]).cpu()
        for row, values in zip(rows, read.split([len(boxes[row]) for row in rows]), strict=True):
            readings[row][kind] = values


def _check_sizes(pictures: Sequence[Tensor | None], samples: Sequence[Sample]) -> None:
    """Raise ValueError if the boxes of a sample would be read off a picture of another size than its own."""
    for picture, sample in zip(pictures, samples, strict=True):
        expected = None if sample.written_pixels is None else sample.written_pixels.shape[:2]
        if picture is not None and picture.shape[1:] != expected:
            raise ValueError(
                f"the picture of sample {sample.key!r} is {expected} pixels, not {tuple(picture.shape[1:])}"
            )
