"""The `kyvo` command: training and evaluation through LightningCLI, and plain functions turned into commands."""

import importlib
import inspect
import json
import os
import re
import sys
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.pytorch.cli import LightningCLI

TRAINER_COMMANDS = {
    "fit": "train a model: kyvo fit -c quickstart",
    "validate": "evaluate a checkpoint on held-out data: kyvo validate -c quickstart --ckpt_path runs/.../last.ckpt",
    "test": "the same on test data",
    "predict": "write what the model generates for test data",
}
FUNCTIONS = {
    "data make": ("data_modules.command:make_world", "make a world of scenes, pictures, questions and edits"),
    "data pack": ("data_modules.command:pack_source", "pack a published data set, or your own, into shards"),
    "data code": ("data_modules.code_command:code", "add codes of pictures and shapes to shards; code meshes"),
    "data latents": ("data_modules.latents_command:encode", "latents that a learned autoencoder makes of voxels"),
    "data check": ("data_modules.inspection:check", "read every sample of a data set and name the first bad one"),
    "data show": ("data_modules.showing:show", "print samples as coloured token sequences"),
    "data first-codes": ("data_modules.first_codes:first_codes", "how many images begin with the same code"),
    "import image-tokenizer": ("kyvo.importing:import_image_tokenizer", "a published image tokenizer into a folder"),
    "score jaccard": ("kyvo.score.jaccard:score", "Jaccard of scenes in files, ours or the official formats"),
    "score answers": ("kyvo.score.answers:score", "exact match of answers in files, by type, beside baselines"),
    "score chat-prompts": ("kyvo.score.chat:write_prompts", "prompts for vision-language models as baselines"),
    "score boxes": ("kyvo.score.boxes:score", "AP3D and overlap of 3D boxes against an Omni3D file"),
    "score images": ("kyvo.score.images:score", "PSNR, SSIM and more of folders of pictures"),
    "score shapes": ("kyvo.shape_ranking:rank", "whose pictures of shapes come nearest, by metrics and by people"),
    "score shape-tokenizer": ("data_modules.shape_score:score", "voxels, surfaces, views and codes, beside oracles"),
    "score image-tokenizer": ("data_modules.tokenizer_score:score", "pixels, codes, and what is still recognised"),
    "compare": ("kyvo.compare:compare", "one table from several runs: Markdown, LaTeX, CSV, a plot"),
    "cookbook run": ("kyvo.cookbook.command:run", "a grid of experiments: kyvo cookbook run recipes_mini --jobs 2"),
    "cookbook table": ("kyvo.cookbook.command:table", "its table in the paper's form, the paper's numbers beside ours"),
    "report": ("kyvo.report.page_run:report", "the page of a finished run, from its folder"),
    "doctor": ("kyvo.doctor:doctor", "what works on this machine, its licences, and what to install for the rest"),
    "export": ("kyvo.export:export", "a trained model as a Hugging Face folder, adapters merged or kept"),
    "demo": ("kyvo.demo.command:demo", "a page in the browser over one model: recognise, edit, instruct, ask"),
    "bench data": ("data_modules.bench:bench", "speed and memory of streaming, cost of a picture"),
    "bench train": ("kyvo.bench.train:bench", "a training step beside the official way and transformers' own"),
    "bench generate": ("kyvo.bench.generate:bench", "speed of writing, beside the official code's and transformers'"),
    "bench tokenize": ("kyvo.bench.tokenize:bench", "speed of an image tokenizer and bytes of its codes"),
}
"""What runs besides the trainer: module and function, imported only when called, and one line of help."""

_UNHELPFUL = re.compile(
    r"Does not validate against any of the Union subtypes\s+Subtypes: \[.*?\]\s+Errors:\s+- "
    r"|\s*- Expected a <class 'NoneType'>.*",
    re.DOTALL,
)
"""What jsonargparse says of each value that may be None: a page, with the whole config in it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command line; bad input ends it with one line and exit status 2.

    Args:
        arguments: Words of the command line; default is the process's own.
    """
    # NumPy's matrices are small here: its threads would only wait for each other. It reads this when it is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(usage())
        return
    try:
        _dispatch(words)
    except (ValueError, OSError, ArgumentError) as error:
        if os.environ.get("KYVO_TRACEBACK"):
            raise
        sys.stderr.write(f"kyvo: error: {_one_line(error)}\n")
        sys.exit(2)


def _one_line(error: Exception) -> str:
    return " ".join(_UNHELPFUL.sub("", str(error)).split()) or type(error).__name__


def _dispatch(words: list[str]) -> None:
    if words[0] in TRAINER_COMMANDS:
        run_trainer(words)
        return
    name = words[0] if words[0] in FUNCTIONS else " ".join(words[:2])
    if name not in FUNCTIONS:
        raise ValueError(f"there is no command {name!r}; see kyvo --help")
    result = run_function(name, words[len(name.split()) :])
    if result is not None:
        sys.stdout.write(json.dumps(result, indent=1) + "\n")


def usage() -> str:
    """The commands, one a line."""
    width = max(map(len, FUNCTIONS)) + 2
    lines = [f"  {name:<{width}}{text}" for name, text in TRAINER_COMMANDS.items()]
    lines += [f"  {name:<{width}}{text}" for name, (_, text) in FUNCTIONS.items()]
    head = "usage: kyvo COMMAND ...      (kyvo COMMAND --help lists its arguments)\n\n"
    tail = "An error is one line and exit status 2; with KYVO_TRACEBACK=1 in the environment it says where it arose."
    names = f"configs that ship with the package: {', '.join(config_names())}"
    return head + "\n".join(lines) + f"\n\n{names}\n\n{tail}\n"


# ---- configs ------------------------------------------------------------------------------------------------------


def config_root() -> Path:
    """Folder of the configs: inside an installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    return package / "configs" if (package / "configs").is_dir() else package.parent / "configs"


def config_names() -> list[str]:
    """Names that `-c` accepts from any folder."""
    root = config_root()
    # Grids of the cookbook are no configs: they say which configs are run.
    paths = [path for path in root.rglob("*.yaml") if path.parent != root / "cookbook"]
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in paths)


def find_config(name: str) -> str:
    """Path of a config: a file where there is one, else the one of that name that ships with the package.

    Raises:
        ValueError: If there is neither, with the names that ship.
    """
    if Path(name).is_file():
        return name
    shipped = (config_root() / name.removeprefix("configs/")).with_suffix(".yaml")
    if not shipped.is_file():
        raise ValueError(f"no config file {name!r}, and none of that name ships: {', '.join(config_names())}")
    return str(shipped)


def _with_found_configs(words: list[str]) -> list[str]:
    found = list(words)
    for index, word in enumerate(words):
        if word in ("-c", "--config") and index + 1 < len(words):
            found[index + 1] = find_config(words[index + 1])
        elif word.startswith("--config="):
            found[index] = "--config=" + find_config(word.removeprefix("--config="))
    return found


# ---- functions ----------------------------------------------------------------------------------------------------


def load(target: str) -> Callable[..., Any]:
    """The object that `module:name` names."""
    module, _, name = target.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def run_function(name: str, words: list[str]) -> Any:
    """Call a function with arguments parsed by its signature."""
    import docstring_parser
    from jsonargparse import auto_parser, set_parsing_settings

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    function = load(FUNCTIONS[name][0])
    parser = auto_parser(function, prog=f"kyvo {name}", as_positional=False, exit_on_error=False)
    parameters = inspect.signature(function).parameters
    # auto_parser leaves out `*names`: the words that need no option.
    listed = [key for key, one in parameters.items() if one.kind is one.VAR_POSITIONAL]
    texts = {one.arg_name: one.description for one in docstring_parser.parse(function.__doc__ or "").params}
    for key in listed:
        parser.add_argument(key, nargs="*", default=[], type=str, help=texts[key])
    found = vars(parser.instantiate_classes(parser.parse_args(_spelled(function, words))))
    positional = [word for key in listed for word in found.pop(key)]
    # auto_cli would do the same, but keeps --config from functions that have an argument of that name.
    return function(*positional, **{key: found[key] for key in parameters if key in found})


def _spelled(function: Callable[..., Any], words: list[str]) -> list[str]:
    """The words as the parser takes them.

    Names of options may have dashes; `--raw` alone says true; the values of a list may follow it one by one.
    """
    parameters = inspect.signature(function).parameters
    found: list[str] = []
    for name, values in _groups(words):
        annotation = str(getattr(parameters.get(name.lstrip("-")), "annotation", ""))
        if not values and "bool" in annotation:
            values = ["true"]
        if values and "list[" in annotation and not values[0].startswith("["):
            values = [f"[{','.join(values)}]"]
        found += [name, *values] if name else values
    return found


def _groups(words: list[str]) -> list[tuple[str, list[str]]]:
    """Each option with the words that follow it; what comes before the first has no name."""
    groups: list[tuple[str, list[str]]] = [("", [])]
    for word in words:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            groups.append((f"--{name[2:].replace('-', '_')}{equals}{value}", []))
        else:
            groups[-1][1].append(word)
    return groups


# ---- trainer ------------------------------------------------------------------------------------------------------


def run_trainer(words: list[str]) -> "LightningCLI":
    """Build trainer, model, data and tokenizer from a command line and run them."""
    from kyvo.training.command import KyvoCLI

    return KyvoCLI.run(_with_found_configs(words))
