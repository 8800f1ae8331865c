"""How long it takes until `varec --help` and `varec train --help` have answered, and `import varec_lib` has ended.

    python benchmarks/starting.py [--rounds 5]

Each is the best of some runs; beside it stands what a Python that does nothing takes.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

VAREC = str(Path(sys.executable).with_name("varec"))
COMMANDS = {
    "python": [sys.executable, "-c", "pass"],
    "import varec_lib": [sys.executable, "-c", "import varec_lib"],
    "varec --help": [VAREC, "--help"],
    "varec train --help": [VAREC, "train", "--help"],
}


def seconds(command: list[str], rounds: int) -> float:
    """The best of so many runs."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Prints one line per command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    for name, command in COMMANDS.items():
        print(f"{name:20s} {seconds(command, args.rounds):.2f} s")


if __name__ == "__main__":
    main()
