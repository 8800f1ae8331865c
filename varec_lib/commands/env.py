"""`varec env`: says what this machine and installation are."""

import json

from pydantic.dataclasses import dataclass

from varec_lib.config import Settings


@dataclass
class Options(Settings):
    """Print what a report of a problem needs: versions, processor, formats, memory, weights, ffmpeg. Never fails."""

    json: bool = False
    """Print JSON only."""


def run(options: Options) -> int:
    """Prints what this machine and installation are, with warnings in place of what cannot be told."""
    from varec_lib.environment import as_text, environment

    found = environment()
    print(json.dumps(found) if options.json else as_text(found))
    return 0
