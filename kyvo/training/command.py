"""LightningCLI as Kyvo uses it: a tokenizer built once for model and data, and a final evaluation after `fit`."""

from importlib.util import find_spec
from pkgutil import resolve_name
from typing import Any, Self

from jsonargparse import class_from_function, set_parsing_settings
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, ProgressBar, RichModelSummary
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from kyvo.tokenizers.tokenizer import UnifiedTokenizer
from kyvo.training.checkpoint_files import CheckpointFiles
from kyvo.training.continuation import Resume, RunConfig, last_checkpoint_path, own_checkpoint, training_config
from kyvo.training.failures import BUILDING, LOST, MEMORY, explaining
from kyvo.training.guard import NonFiniteGuard
from kyvo.training.language import LanguageModule
from kyvo.training.parameter_table import ParameterTable
from kyvo.training.preemption import Preemption
from kyvo.training.quiet import quiet
from kyvo.training.random_numbers import StepSeed
from kyvo.training.run_folder import RunFolder

Tokenizer = class_from_function(UnifiedTokenizer.from_preset, UnifiedTokenizer)


class KyvoCLI(LightningCLI):
    """Model and data by class path; `tokenizer`, where the model takes one, is built once and linked to both."""

    @classmethod
    def run(cls, words: list[str]) -> Self:
        """Parse a command line and run its subcommand."""
        set_parsing_settings(docstring_parse_attribute_docstrings=True)
        with quiet():
            return cls(
                LightningModule,
                LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                # A run that is queued again, or tested in its own folder, finds the config that it wrote before.
                save_config_callback=RunFolder,
                save_config_kwargs={"overwrite": True, "words": words},
                # The data modules split samples over ranks themselves, each sample once.
                trainer_defaults={"use_distributed_sampler": False, "callbacks": [Preemption()]},
                # The command line says what is wrong in one line, without a page of options before it.
                parser_kwargs={"exit_on_error": False},
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
        parser.add_lightning_class_args(NonFiniteGuard, "guard")
        parser.add_argument(
            "--resume",
            type=Resume,
            default="auto",
            help="in fit, without ckpt_path: go on from the run's own last checkpoint, or never",
        )

    def _parse_ckpt_path(self) -> None:
        # Lightning would lay the checkpoint's hyperparameters over the command line, silently.
        return

    def before_instantiate_classes(self) -> None:
        """Give evaluations a folder of their own below the run's, so that they leave its logs as they are."""
        config = self.config[self.subcommand]
        for logger in config.trainer.logger if isinstance(config.trainer.logger, list) else ():
            if self.subcommand != "fit" and logger.init_args.get("version") == "":
                logger.init_args.version = self.subcommand
        if config.trainer.get("enable_progress_bar") is False:
            # Lightning refuses a progress bar among the callbacks where none is wanted.
            callbacks = config.trainer.callbacks or ()
            config.trainer.callbacks = [one for one in callbacks if not _is_class(one, ProgressBar)]
        if self.subcommand in ("validate", "test") and _is_class(config.model, LanguageModule):
            # Lightning's table has a hundred lines; callbacks print what matters and write the rest.
            config.verbose = False
        if self.subcommand == "predict":
            # A callback writes them to files as they come; a list of all would only grow.
            config.return_predictions = False

    def instantiate_classes(self) -> None:
        """Build everything; ValueError names a logger whose package is missing, which Lightning would not do."""
        loggers = self.config[self.subcommand].trainer.logger
        for logger in loggers if isinstance(loggers, list) else ():
            if logger.class_path.endswith("WandbLogger") and find_spec("wandb") is None:
                raise ValueError(f"trainer.logger: {logger.class_path} needs `pip install 'kyvo[wandb]'`")
        with explaining(BUILDING):
            super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer, whose checkpoints are written whole unless a plugin of the config writes them."""
        trainer = super().instantiate_trainer(**kwargs)
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        callbacks[:] = [ParameterTable() if type(one) is RichModelSummary else one for one in callbacks]
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = CheckpointFiles()
        return trainer

    def fit(
        self, model: LightningModule, ckpt_path: str | None = None, weights_only: bool | None = None, **options: Any
    ) -> None:
        """Train, from the checkpoint that was named, else from the run's own last one, else from the start."""
        config = training_config(self.config.fit.as_dict())
        # First, so that the others draw what the seed of the step gives.
        self.trainer.callbacks[:0] = [StepSeed(), RunConfig(config)]  # type: ignore[attr-defined]
        path = ckpt_path or self._own_checkpoint(config)
        kept = self.trainer.checkpoint_callbacks
        if kept and not any(isinstance(one, ModelCheckpoint) and one.save_last for one in kept):
            rank_zero_info("kyvo: broken off, this run would start over: no ModelCheckpoint has save_last: true")
        self.trainer.fit(model, ckpt_path=path, weights_only=weights_only is not False, **options)

    def _run_subcommand(self, subcommand: str) -> None:
        with explaining(MEMORY, LOST):
            super()._run_subcommand(subcommand)

    def _own_checkpoint(self, config: dict[str, Any]) -> str | None:
        """The last checkpoint of an earlier start of this run, said in one line; None if there is none.

        Raises:
            ValueError: If another run left one in its place.
        """
        if self.config.fit.resume == "never":
            path = last_checkpoint_path(self.trainer)
            if path is not None and path.exists():
                rank_zero_info(f"kyvo: starting over; {path} will be overwritten")
            return None
        found, total = own_checkpoint(self.trainer, config), self.trainer.max_steps
        if found is None:
            return None
        if 0 <= total <= found.steps:
            rank_zero_info(
                f"kyvo: this run is finished, {found.steps} of {total} steps: nothing is trained, {found.path} is "
                "evaluated again; a larger trainer.max_steps trains on, --resume never starts over"
            )
        else:
            of_total = f" of {total}" if total > 0 else ""
            rank_zero_info(f"kyvo: going on from step {found.steps}{of_total}: {found.path}")
        return str(found.path)

    def after_fit(self) -> None:
        """Save the weights that training ended with, and evaluate them with all generated samples.

        A checkpoint callback saves every so many steps; the last of them need not be the end.
        """
        for callback in self.trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.last_model_path:
                self.trainer.save_checkpoint(callback.last_model_path)
        if isinstance(self.trainer.strategy, FSDPStrategy):
            # Each process would wait for parts of the weights that the others use a different number of times.
            rank_zero_info("kyvo: samples are not written with sharded weights: kyvo validate on one GPU, or with ddp")
        elif isinstance(self.model, LanguageModule):
            self.trainer.validate(self.model, datamodule=self.datamodule, verbose=False)


def _is_class(config: Any, kind: type) -> bool:
    """Whether what a config builds is of a class."""
    return issubclass(resolve_name(config.class_path), kind)
