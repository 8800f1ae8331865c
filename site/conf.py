"""Sphinx settings of the site; `site/build.py` lays out the folder that it reads."""

from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

from varec_lib import __version__

project = "varec"
author = "The varec contributors"
copyright = "The varec contributors, MIT license"
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # pages show the committed outputs
nb_render_markdown_format = "myst"
html_math_renderer = "mathml"  # every current browser draws it; MathJax would come from another server
autodoc_default_options = {"members": True, "member-order": "bysource", "undoc-members": False}
autodoc_typehints = "signature"
default_role = "literal"  # docstrings are Markdown's way of marking code
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}

html_theme = "sphinx_book_theme"
html_title = "varec"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "home_page_in_toc": True,
    "show_toc_level": 2,
    "navigation_with_keys": True,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}


def _mathml(self, node, block: bool) -> None:
    """Writes a formula as MathML, and stops before what docutils would write."""
    from docutils import nodes

    formula = tex2mathml(node.astext().strip(), as_block=block)
    self.body.append(f'<div class="math">{formula}</div>' if block else str(formula))
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Registers the renderer of formulas."""
    app.add_html_math_renderer(
        "mathml",
        inline_renderers=(lambda self, node: _mathml(self, node, False), None),
        block_renderers=(lambda self, node: _mathml(self, node, True), None),
    )
