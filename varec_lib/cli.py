"""The `varec` command: it finds a command in `varec_lib.commands` and calls it, nothing more."""

import importlib
import sys
from types import ModuleType

from varec_lib.errors import VarecError

# Each is a module of varec_lib.commands; `data from-folders` is data_from_folders.
COMMANDS = {
    "train": "Train a model on a dataset folder.",
    "evaluate": "Test a checkpoint on a dataset.",
    "report": "Write a page on how good an experiment's model is.",
    "compare": "Say whether models can be told apart.",
    "export": "Write a model as an ONNX file for other programs.",
    "predict": "Say what is in a video, or in many.",
    "weights": "List published weights.",
    "weights get": "Fetch some of them.",
    "data demo": "Draw the embedded dataset.",
    "data ucf101": "Fetch UCF-101.",
    "data from-folders": "Make a dataset of class folders.",
    "data check": "Find videos that cannot be used.",
    "data store": "Decode a dataset once, for fast training.",
    "bench": "Measure where the time of a training goes.",
    "env": "Say what this machine is, for a report of a problem.",
    "app": "Serve the predictor as a web page.",
    "course": "Run the notebooks.",
    "sweep": "Run a notebook with many combinations of parameters.",
}


def command(name: str) -> ModuleType:
    """The module of a command, with its `Options` and `run`."""
    return importlib.import_module(f"varec_lib.commands.{name.replace(' ', '_').replace('-', '_')}")


def _usage() -> str:
    lines = [f"  varec {name:18s} {text}" for name, text in COMMANDS.items()]
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
    try:
        return _run(name, argv[len(name.split()) :])
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


def _run(name: str, words: list[str]) -> int:
    import tyro

    module = command(name)
    how = {"prog": f"varec {name}", "description": COMMANDS[name], "args": words}
    options = tyro.cli(module.Options, **how)
    if defaults := getattr(module, "defaults", lambda options: None)(options):  # they depend on what was said
        options = tyro.cli(module.Options, **how, default=defaults)
    return module.run(options)


if __name__ == "__main__":
    sys.exit(main())
