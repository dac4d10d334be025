"""The README of an exported model: what it is, what its ids mean, how it is loaded."""

from dataclasses import dataclass

from kyvo.task import Task
from kyvo.tokenizers.vocabulary import Vocabulary

_METHODS = {
    "3-I": "render(scenes)",
    "I-3": "recognize(images)",
    "I+3+T-I+3": "edit(images, scenes, texts)",
    "3+T-3": "edit_scenes(scenes, texts)",
    "I+3+Q-A": "answer(images, scenes, texts)",
    "I+Q-A": "answer(images, None, texts)",
}


@dataclass(frozen=True)
class ModelCard:
    """What a model card says.

    Args:
        vocabulary: The ids.
        recipe: How it was trained.
        steps: Optimiser steps.
        tasks: Specs of its tasks.
        data: Folders of its training data.
        start: The model that it started from; None for random weights.
        adapter: Whether the folder holds an adapter of the backbone.
        not_plain: What of it no plain Llama computes; None if the folder holds one.
    """

    vocabulary: Vocabulary
    recipe: str
    steps: int
    tasks: tuple[str, ...]
    data: tuple[str, ...]
    start: str | None
    adapter: bool
    not_plain: str | None

    def markdown(self) -> str:
        """The text of README.md, with the metadata that the Hub reads."""
        parts = [self._metadata(), self._what(), self._loading(), self._ids(), self._limits()]
        return "\n\n".join(parts) + "\n"

    def _metadata(self) -> str:
        lines = ["library_name: kyvo", "tags: [kyvo, 3d, image-to-3d, multimodal]"]
        if self.start is not None:
            lines.append(f"base_model: {self.start}")
        return "\n".join(["---", *lines, "---"])

    def _what(self) -> str:
        start = f"from {self.start}" if self.start else "from random weights"
        tasks = "\n".join(f"- `{spec}`: {Task.parse(spec).name.replace('_', ' ')}" for spec in self.tasks)
        data = ", ".join(f"`{root}`" for root in self.data) or "data that its config does not name"
        return (
            "# A Kyvo model\n\nOne language model over text, images and structured 3D scenes, after *Aligning Text, "
            "Images and 3D Structure Token-by-Token* (arXiv 2506.08002).\n\n"
            f"Trained {start} (recipe `{self.recipe}`, {self.steps:,} steps) on {data}, for:\n\n{tasks}"
        )

    def _loading(self) -> str:
        calls = [f"model.{_METHODS[spec]}" for spec in self.tasks if spec in _METHODS]
        kyvo = "\n".join(["from kyvo import Kyvo", "", 'model = Kyvo.from_pretrained("FOLDER")', *calls])
        text = (
            f"## Loading\n\n```python\n{kyvo}\n```\n\nWhat is written so always parses: decoding is bound to a grammar."
        )
        if self.not_plain is not None:
            return (
                f"{text}\n\nThis is no plain Llama: {self.not_plain}. transformers loads it after "
                "`import kyvo.models.language_model`, which tells it of the model type `kyvo`."
            )
        return f"{text}\n\n{self._plain()}"

    def _plain(self) -> str:
        name, package = (
            ("AutoPeftModelForCausalLM", "peft") if self.adapter else ("AutoModelForCausalLM", "transformers")
        )
        code = [
            f"from {package} import {name}",
            "from transformers import AutoTokenizer",
            "",
            'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
            f'model = {name}.from_pretrained("FOLDER")',
        ]
        intro = (
            "Without Kyvo it is a Llama whose tokenizer knows numbers, markers and codes; nothing binds what it writes:"
        )
        return intro + "\n\n```python\n" + "\n".join(code) + "\n```"

    def _ids(self) -> str:
        words = self.vocabulary
        spans = {
            "text": (words.text_range, "those of the text tokenizer"),
            "numbers": (words.number_range, f"`{words.numbers[0]}` to `{words.numbers[-1]}`" if words.numbers else ""),
            "markers": (words.marker_range, " ".join(words.markers)),
            "reserved": (words.reserved_range, "unused"),
            "image codes": (words.image_range, "`<image-0>` and on"),
            "shape codes": (words.shape_range, "`<shape-0>` and on"),
        }
        rows = [f"| {name} | {ids.start} | {len(ids)} | {what} |" for name, (ids, what) in spans.items() if len(ids)]
        head = "| | first | count | tokens |\n|---|---|---|---|\n"
        return (
            f"## Ids\n\nA sequence is BOS, what is read, `[OUTPUT-START]`, what is written, EOS.\n\n{head}"
            + "\n".join(rows)
        )

    def _limits(self) -> str:
        licence = (
            f"The weights derive from {self.start}: its licence holds for them."
            if self.start
            else "The weights are as free as the data that they were trained on."
        )
        return (
            "## Limits\n\nIt knows scenes like those of its training data, through an image tokenizer that was trained "
            f"on such pictures, and little else. {licence}"
        )
