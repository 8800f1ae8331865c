"""`varec data demo`: draws the embedded dataset."""

from pathlib import Path

from pydantic.dataclasses import dataclass

from varec_lib.config import Settings, UserPath, Whole


@dataclass
class Options(Settings):
    """Draw the embedded dataset, stick-actions: 560 small videos, 8 actions."""

    out: UserPath = Path("data/stick_actions")
    """Folder to create."""
    seed: Whole = 0
    """Seed of performers, backgrounds and movements."""


def run(options: Options) -> int:
    """Draws the embedded dataset."""
    from varec_lib.data.stick_actions import generate

    print(f"stick-actions is in {generate(options.out, seed=options.seed)}")
    return 0
