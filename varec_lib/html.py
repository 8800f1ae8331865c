"""Pages that need nothing but themselves: pictures are inside, and nothing is fetched or run."""

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from varec_lib.files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_page(file: Path, template: str, **values: Any) -> None:
    """Fills in a template beside this module; values are escaped, so that names of files cannot break the page."""
    loader = FileSystemLoader(Path(__file__).parent)
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    write_text(file, pages.get_template(template).render(values))


def film_strip(frames: list[np.ndarray]) -> str:
    """RGB frames `(H, W, 3)` uint8 of one size side by side, as the address of a JPEG inside a page."""
    done, encoded = cv2.imencode(".jpg", np.hstack(frames)[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    assert done
    return inside("image/jpeg", encoded)


def picture(figure: "Figure") -> str:
    """A matplotlib figure, which is closed, as the address of a PNG inside a page."""
    import matplotlib.pyplot as plt  # a page of findings does without

    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    plt.close(figure)
    return inside("image/png", stream.getvalue())


def inside(kind: str, content: bytes) -> str:
    """The address of a file of this media type that is inside a page."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
