"""The site is built from what is committed, without a warning, and works in a real browser without any other server."""

import http.server
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("sphinx")
ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "index", "notebooks/02_cnn_lstm", "notebooks/museum/bug_museum", "docs/flags", "gallery", "reference/evaluation",
    "search", "genindex",
)  # fmt: skip


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing of it."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def site():
    """The address of the site, built anew."""
    built = subprocess.run([sys.executable, ROOT / "site" / "build.py"], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-3000:]
    folder = ROOT / "build" / "site"
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@pytest.mark.slow
def test_it_is_small_and_holds_all_chapters_and_closed_repairs(site):
    folder = ROOT / "build" / "site"
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 60e6
    for notebook in (ROOT / "notebooks").rglob("*.ipynb"):
        assert (folder / notebook.relative_to(ROOT)).with_suffix(".html").is_file()
    museum = (folder / "notebooks" / "museum" / "bug_museum.html").read_text(encoding="utf-8")
    assert museum.count("tag_hide-input") == 15


@pytest.mark.slow
def test_it_reads_well_in_a_browser_on_a_desk_and_on_a_phone(site, browser):
    for width, scheme in ((1280, "light"), (390, "dark")):
        window = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
        page, asked, errors = window.new_page(), [], []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.on("pageerror", lambda error, errors=errors: errors.append(error))
        for name in PAGES:
            page.goto(f"{site}{name}.html")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        window.close()
        assert not errors
        assert not [url for url in asked if not url.startswith((site, "data:"))]


@pytest.mark.slow
def test_nothing_serious_keeps_people_from_using_it(site, browser):
    axe, page = pytest.importorskip("axe_playwright_python.sync_playwright").Axe(), browser.new_page()
    for name in PAGES:
        page.goto(f"{site}{name}.html")
        found = axe.run(page).response["violations"]
        assert not [kind["id"] for kind in found if kind["impact"] in ("serious", "critical")], name
    page.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("group leakage", "01_data_exploration"),
        ("clip-consistent", "01_data_exploration"),
        ("sure_above", "reference/evaluation"),
    ],
)
def test_the_search_finds(site, browser, words, page):
    window = browser.new_page()
    window.goto(f"{site}search.html?q={words.replace(' ', '+')}")
    window.wait_for_selector("#search-results li")
    addresses = window.eval_on_selector_all("#search-results li > a", "links => links.map(link => link.href)")
    assert any(page in address for address in addresses)
    window.close()


@pytest.mark.slow
def test_formulas_and_folded_answers_work(site, browser):
    page = browser.new_page()
    page.goto(f"{site}notebooks/02_cnn_lstm.html")
    assert page.locator("math").count() > 10
    answer = page.locator("details").first
    assert answer.evaluate("node => !node.open")
    answer.locator("summary").click()
    assert answer.evaluate("node => node.open")
    page.close()
