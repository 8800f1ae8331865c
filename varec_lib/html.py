"""Pages that need nothing but themselves: pictures are inside, and nothing is fetched or run."""

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from varec_lib.files import write_text


def write_page(file: Path, template: str, **values: Any) -> None:
    """Fills in a template beside this module; values are escaped, so that names of files cannot break the page."""
    loader = FileSystemLoader(Path(__file__).parent)
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    write_text(file, pages.get_template(template).render(values))


def film_strip(frames: list[np.ndarray]) -> str:
    """RGB frames `(H, W, 3)` uint8 of one size side by side, as the address of a JPEG inside a page."""
    done, encoded = cv2.imencode(".jpg", np.hstack(frames)[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    assert done
    return f"data:image/jpeg;base64,{base64.b64encode(encoded).decode()}"
