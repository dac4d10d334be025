"""The scene data module: one data set, of any schema."""

from typing import Any

from data_modules.index import Index
from data_modules.mixture import DataSet, MixtureDataModule
from data_modules.recipes.recipe import WorldRecipe
from kyvo.tokenizers.tokenizer import UnifiedTokenizer


class SceneDataModule(MixtureDataModule):
    """One folder of shards, such as a data set of your own.

    Args:
        root: Folder of the shards, or its http(s) URL.
        tokenizer: Makes the sequences; its image tokenizer, if it has one, codes the pictures, its shape tokenizer the
            shapes that scenes name.
        tasks: How often each task is trained, relative to the others, by its spec; all of them are evaluated.
        make: The world to make in `root`, as far as it isn't there yet; None to take what is there.
        train_limit: Train on the first so many scenes and edits only.
        val_limit: Validate on the first so many scenes or edits of each task only.
        test_limit: Test, and predict, on the first so many scenes or edits of each task only.
        val_split: The split that validation reads.
        test_split: The split that test and prediction read; `val` where no test split was made.
        latents: Folder with latents of the shapes that scenes name, as `kyvo data code --meshes` makes it; by default
            they are the embedded assets.
        **kwargs: See `MixtureDataModule`.
    """

    def __init__(
        self,
        root: str,
        tokenizer: UnifiedTokenizer,
        tasks: dict[str, float],
        make: WorldRecipe | None = None,
        train_limit: int | None = None,
        val_limit: int | None = None,
        test_limit: int | None = None,
        val_split: str = "val",
        test_split: str = "test",
        latents: str | None = None,
        **kwargs: Any,
    ) -> None:
        data = DataSet(
            root=root,
            tasks=tasks,
            make=make,
            train_limit=train_limit,
            val_limit=val_limit,
            test_limit=test_limit,
            val_split=val_split,
            test_split=test_split,
            latents=latents,
        )
        super().__init__({"": data}, tokenizer, **kwargs)

    def _check(self, root: str, index: Index) -> None:
        if index.scene_schema != self.tokenizer.schema:
            found, wanted = index.schema, self.tokenizer.schema.name
            raise ValueError(f"{root} holds scenes of schema {found!r}, the tokenizer has {wanted!r}")
        super()._check(root, index)
