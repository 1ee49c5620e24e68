"""Make one of the embedded checkpoints, or measure one.

    python -m models.training whisper --out models/whisper-embedded
    python -m models.training diarization --out models/diarization-embedded --librispeech LibriSpeech/train-clean-100
    python -m models.training chat --out models/chat-embedded
    python -m models.training evaluate whisper models/whisper-embedded

Corpora, checkpoints of the run and logs are kept in --work: the same command goes on where it was cut off.
"""

import argparse
import os
from importlib import import_module
from pathlib import Path

RECIPES = ("whisper", "diarization", "chat")


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    # before torch is imported: spinning threads take the processor from the one that prepares the batches
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    import torch

    torch.set_num_threads(options.threads)
    if options.command == "evaluate":
        _evaluate(options)
    else:
        _train(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for recipe in RECIPES:
        command = commands.add_parser(recipe, help=f"make a {recipe} checkpoint")
        command.add_argument("--out", type=Path, required=True, help="where the checkpoint is written")
        command.add_argument("--work", type=Path, default=Path("build/training"), help="corpora, states, logs")
        command.add_argument("--smoke", action="store_true", help="a tiny run that shows that everything works")
        command.add_argument("--minutes", type=float, help="train for so long instead of the recipe's steps")
        command.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
        command.add_argument("--threads", type=int, default=1, help="torch's threads (default: 1)")
        command.add_argument(
            "--processes", type=int, default=os.cpu_count() or 1, help="to synthesise with (default: one for each core)"
        )
        _RECIPE_OPTIONS[recipe](command)
    evaluate = commands.add_parser("evaluate", help="print the table of a checkpoint's card")
    evaluate.add_argument("recipe", choices=RECIPES)
    evaluate.add_argument("checkpoint", type=Path)
    evaluate.add_argument("--count", type=int, help="samples of each kind (default: the card's)")
    evaluate.add_argument("--threads", type=int, default=1)
    return parser


def _whisper_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--start", type=Path, help="a Whisper directory to go on from, instead of from nothing")
    command.add_argument("--stage", help="the first stage to run (default: all, or the last one with --start)")
    command.add_argument(
        "--keep", type=float, default=0.0, help="share of the --start in the weights that are written (default: 0)"
    )
    _seed_option(command)


def _diarization_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--librispeech", type=Path, help="a folder of LibriSpeech's, to learn from people too")
    command.add_argument("--meetings", type=Path, help="a folder of meetings (audio and RTTM), likewise")


def _chat_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--encoder",
        type=Path,
        default=Path("models/whisper-embedded"),
        help="the Whisper directory whose encoder it starts from (default: models/whisper-embedded)",
    )
    command.add_argument("--start", type=Path, help="a chat directory to go on from, instead of from nothing")
    _seed_option(command)


def _seed_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seed", type=int, help="another one makes another corpus (default: the recipe's)")


_RECIPE_OPTIONS = {"whisper": _whisper_options, "diarization": _diarization_options, "chat": _chat_options}


_OWN_ARGUMENTS = {
    "whisper": ("start", "stage", "keep", "seed"),
    "diarization": ("librispeech", "meetings"),
    "chat": ("encoder", "start", "seed"),
}


def _train(options: argparse.Namespace) -> None:
    # a recipe is imported when it is asked for: pyannote alone takes seconds
    recipe = import_module(f"models.training.{options.command}.recipe")
    settings = import_module(f"models.training.{options.command}.settings")
    recipe.train(
        options.out,
        # what is tiny is not gone on with
        options.work / "smoke" if options.smoke else options.work,
        settings.SMOKE if options.smoke else settings.FULL,
        device=options.device,
        processes=options.processes,
        minutes=options.minutes,
        **{name: getattr(options, name) for name in _OWN_ARGUMENTS[options.command]},
    )


def _evaluate(options: argparse.Namespace) -> None:
    evaluation = import_module(f"models.training.{options.recipe}.evaluation")
    sizes = {} if options.count is None else {"count": options.count}
    evaluation.evaluate(options.checkpoint, **sizes)


if __name__ == "__main__":
    main()
