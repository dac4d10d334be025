"""The CLEVR data module."""

from typing import Any

from data_modules.recipes.clevr import ClevrRecipe
from data_modules.scenes import SceneDataModule
from kyvo.tokenizers.tokenizer import UnifiedTokenizer


class ClevrDataModule(SceneDataModule):
    """CLEVR scenes: rendering, recognition, questions and instructions.

    Args:
        root: Folder of the shards, or its http(s) URL.
        tokenizer: Makes the sequences; its image tokenizer, if it has one, codes the pictures.
        tasks: How often each task is trained, relative to the others, by its spec; all of them are evaluated.
        make: The world to make in `root`, as far as it isn't there yet; None to take what is there.
        **kwargs: See `SceneDataModule` and `MixtureDataModule`.
    """

    def __init__(
        self,
        root: str,
        tokenizer: UnifiedTokenizer,
        tasks: dict[str, float],
        make: ClevrRecipe | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, tokenizer, tasks, make, **kwargs)
