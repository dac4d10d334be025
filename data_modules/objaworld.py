"""The ObjaWorld data module."""

from typing import Any

from data_modules.recipes.objaworld import ObjaWorldRecipe
from data_modules.scenes import SceneDataModule
from kyvo.tokenizers.tokenizer import UnifiedTokenizer


class ObjaWorldDataModule(SceneDataModule):
    """ObjaWorld scenes, of assets named by words or given as shape codes: rendering and recognition.

    Args:
        root: Folder of the shards, or its http(s) URL.
        tokenizer: Makes the sequences; its image tokenizer, if it has one, codes the pictures, its shape tokenizer the
            shapes that scenes name.
        tasks: How often each task is trained, relative to the others, by its spec; all of them are evaluated.
        make: The world to make in `root`, as far as it isn't there yet; None to take what is there.
        **kwargs: See `SceneDataModule` and `MixtureDataModule`.
    """

    def __init__(
        self,
        root: str,
        tokenizer: UnifiedTokenizer,
        tasks: dict[str, float],
        make: ObjaWorldRecipe | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, tokenizer, tasks, make, **kwargs)
