"""`varec weights`: lists published weights."""

import json

from pydantic.dataclasses import dataclass

from varec_lib.config import Settings


@dataclass
class Options(Settings):
    """List the published weights that --pretrained and --weights know, and which of them are on this machine."""

    all: bool = False
    """Also the many of torchvision that the course does not use."""
    json: bool = False
    """Print JSON only, with addresses and hashes."""


def run(options: Options) -> int:
    """Lists published weights."""
    from varec_lib.models.weights import cached_file, shown_weights, weights_table

    rows = list(weights_table().values()) if options.all else shown_weights()
    files = [cached_file(row) for row in rows]
    if options.json:
        found = [
            vars(row) | {"source": str(row.source), "file": str(file), "here": file.is_file()}
            for row, file in zip(rows, files, strict=True)
        ]
        print(json.dumps(found))
        return 0
    for row, file in zip(rows, files, strict=True):
        here = "on this machine" if file.is_file() else f"not here, {row.megabytes:.0f} MB to download"
        print(f"{row.name}  ({here})")
        print(f"    {row.model}, trained on {row.trained_on}; published accuracy: {row.published}")
        print(f"    SHA-256 {row.sha256[:12]}, licence {row.licence}")
        print(f"    from {row.source}")
    print("\n`varec weights get NAME` fetches one" + ("." if options.all else "; --all lists all of torchvision's."))
    return 0
