"""The ARKitScenes data module."""

from typing import Any

from data_modules.scenes import SceneDataModule
from kyvo.tokenizers.tokenizer import UnifiedTokenizer


class ARKitScenesDataModule(SceneDataModule):
    """ARKitScenes photographs, with boxes in the camera's frame: recognition.

    Args:
        root: Folder of the shards, or its http(s) URL.
        tokenizer: Makes the sequences; its image tokenizer, if it has one, codes the pictures.
        tasks: How often each task is trained, relative to the others, by its spec; all of them are evaluated.
        **kwargs: See `SceneDataModule` and `MixtureDataModule`.
    """

    def __init__(
        self,
        root: str,
        tokenizer: UnifiedTokenizer,
        tasks: dict[str, float],
        **kwargs: Any,
    ) -> None:
        super().__init__(root, tokenizer, tasks, **kwargs)
