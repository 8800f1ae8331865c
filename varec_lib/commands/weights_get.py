"""`varec weights get`: fetches published weights in advance."""

from pydantic.dataclasses import dataclass
from tyro.conf import Positional

from varec_lib.config import Settings
from varec_lib.errors import ConfigError


@dataclass
class Options(Settings):
    """Fetch published weights in advance, checked by hash; --pretrained does it when they are needed."""

    names: Positional[tuple[str, ...]]
    """Names as `varec weights` lists them."""


def run(options: Options) -> int:
    """Fetches published weights."""
    from varec_lib.models.weights import fetch, named_weights

    if not options.names:
        raise ConfigError("Name the weights to fetch: `varec weights` lists them.")
    for row in [named_weights(name) for name in options.names]:
        print(f"{row.name} is at {fetch(row)}")
    return 0
