"""LightningCLI as Kyvo uses it: a tokenizer built once for model and data, and a final evaluation after `fit`."""

import warnings
from typing import Self

from jsonargparse import class_from_function, set_parsing_settings
from lightning import LightningDataModule, LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from kyvo.training.language import LanguageModule

Tokenizer = class_from_function(UnifiedTokenizer.from_preset, UnifiedTokenizer)


class KyvoCLI(LightningCLI):
    """Model and data by class path; `tokenizer`, where the model takes one, is built once and linked to both."""

    @classmethod
    def run(cls, words: list[str]) -> Self:
        """Parse a command line and run its subcommand."""
        set_parsing_settings(docstring_parse_attribute_docstrings=True)
        # The words are those of the command line, with the names of shipped configs made paths.
        warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
        # Lightning's own use of torch's pytree.
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec")
        return cls(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            # A run that is queued again, or tested in its own folder, finds the config that it wrote before.
            save_config_kwargs={"overwrite": True},
            # The data modules split samples over ranks themselves, each sample once.
            trainer_defaults={"use_distributed_sampler": False},
            auto_configure_optimizers=False,
            seed_everything_default=0,
            args=words,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the tokenizer and the links that keep shared values equal."""
        parser.add_class_arguments(Tokenizer, "tokenizer")
        parser.link_arguments("tokenizer", "model.init_args.tokenizer", apply_on="instantiate")
        parser.link_arguments("tokenizer", "data.init_args.tokenizer", apply_on="instantiate")
        parser.link_arguments("trainer.max_steps", "model.init_args.total_steps")

    def _parse_ckpt_path(self) -> None:
        # Lightning would lay the checkpoint's hyperparameters over the command line, silently.
        return

    def before_instantiate_classes(self) -> None:
        """Give evaluations a folder of their own below the run's, so that they leave its logs as they are."""
        config = self.config[self.subcommand]
        for logger in config.trainer.logger if isinstance(config.trainer.logger, list) else ():
            if self.subcommand != "fit" and logger.init_args.get("version") == "":
                logger.init_args.version = self.subcommand
        if self.subcommand == "predict":
            # A callback writes them to files as they come; a list of all would only grow.
            config.return_predictions = False

    def after_fit(self) -> None:
        """Save the weights that training ended with, and evaluate them with all generated samples.

        A checkpoint callback saves every so many steps; the last of them need not be the end.
        """
        for callback in self.trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.last_model_path:
                self.trainer.save_checkpoint(callback.last_model_path)
        if isinstance(self.model, LanguageModule):
            self.trainer.validate(self.model, datamodule=self.datamodule, verbose=False)
