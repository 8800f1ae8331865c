"""The `varec` command: it parses and calls, nothing more."""

import sys
from collections.abc import Callable
from pathlib import Path

import tyro

from varec_lib import commands, handlers
from varec_lib.config import TrainConfig
from varec_lib.errors import ResumeError, VarecError


def _resumed(argv: list[str]) -> TrainConfig | None:
    """The settings of the experiment that --resume names: they are the defaults of all other flags then."""
    words = [word for argument in argv for word in argument.split("=", 1)]
    if "--resume" not in words[:-1]:
        return None
    file = Path(words[words.index("--resume") + 1]) / "config.json"
    if not file.is_file():
        raise ResumeError(f"{file.parent}: not an experiment folder (it has no config.json).")
    return TrainConfig.load(file)


def _for_frozen(command: TrainConfig | commands.Bench) -> TrainConfig | commands.Bench | None:
    """The same command with the defaults that a frozen pretrained backbone changes; flags still win over them."""
    from varec_lib.models.pretrained import frozen_settings
    from varec_lib.models.registry import load_plugin

    config = command.config if isinstance(command, commands.Bench) else command
    if config.plugin:
        load_plugin(config.plugin)
    settings = frozen_settings(config)
    if not settings:
        return None
    if isinstance(command, commands.Bench):
        settings["batch_size"] = commands.Bench().config.batch_size
    default = TrainConfig(model=config.model, **settings)
    return commands.Bench(default) if isinstance(command, commands.Bench) else default


COMMANDS: dict[str, tuple[type, Callable[..., int], str]] = {
    "train": (TrainConfig, handlers.train, "Train a model on a dataset folder."),
    "evaluate": (commands.Evaluate, handlers.evaluate, "Test a checkpoint on a dataset."),
    "predict": (commands.Predict, handlers.predict, "Say what is in a video, or in many."),
    "weights": (commands.Weights, handlers.weights, "List published weights."),
    "weights get": (commands.WeightsGet, handlers.weights_get, "Fetch some of them."),
    "data demo": (commands.DataDemo, handlers.data_demo, "Draw the embedded dataset."),
    "data check": (commands.DataCheck, handlers.data_check, "Find videos that cannot be used."),
    "data store": (commands.DataStore, handlers.data_store, "Decode a dataset once, for fast training."),
    "bench": (commands.Bench, handlers.bench, "Measure where the time of a training goes."),
    "env": (commands.Env, handlers.env, "Say what this machine is, for a report of a problem."),
    "app": (commands.App, handlers.app, "Serve the predictor as a web page."),
    "course": (commands.Course, handlers.course, "Run the notebooks."),
}


def _usage() -> str:
    lines = [f"  varec {name:12s} {text}" for name, (_, _, text) in COMMANDS.items()]
    return "Recognising human actions in video: the commands behind the course.\n\n" + "\n".join(
        [*lines, "\n`varec COMMAND --help` lists the options of a command."]
    )


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns its exit status: 0 done, 1 done with problems found, 2 an error of use, 130 Ctrl-C."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0
    both = " ".join(argv[:2])
    name = both if both in COMMANDS or argv[0] == "data" else argv[0]
    if name not in COMMANDS:
        print(f"varec: there is no command {name!r}.\n\n{_usage()}", file=sys.stderr)
        return 2
    kind, run, description = COMMANDS[name]
    argv = argv[len(name.split()) :]
    try:
        resumed = _resumed(argv) if kind is TrainConfig else None
        defaults = {"default": resumed} if resumed else {}
        command = tyro.cli(kind, prog=f"varec {name}", description=description, args=argv, **defaults)
        if kind in (TrainConfig, commands.Bench) and not resumed and (default := _for_frozen(command)):
            command = tyro.cli(kind, args=argv, default=default)
        return run(command)
    except VarecError as error:
        print(f"varec: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `varec ... | head`
        sys.stderr.close()
        return 1
    except OSError as error:
        print(f"varec: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("varec: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
