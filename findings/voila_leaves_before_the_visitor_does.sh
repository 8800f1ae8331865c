#!/usr/bin/env bash
# Voilà 0.5.13 gives a page's kernel up when the browser asks "Leave this page?", not when the page is left.
#
# On `beforeunload` its widget manager asks the server to end the kernel and disposes of its own connection to it. That
# event comes before the visitor has answered: on a page with unfinished work that asks, as browsers let pages do,
# every widget is dead from then on for the visitor who chooses to stay. `pagehide` comes only when a page is left.
# Seen: a button counts clicks in Python, 2 after the second. The dialog is dismissed, the page is still open, and after
# another click, with five seconds to spare, the page still shows 2.
#
# Needs Python 3.11 or newer and a Chromium. Fails where Voilà behaves otherwise.
set -euo pipefail
chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || { echo "no Chromium here"; exit 1; }
folder=$(mktemp -d)
trap 'kill %1 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check voila==0.5.13 ipykernel==7.4.0 ipywidgets==8.1.9 playwright==1.65.2 2>/dev/null

venv/bin/python - <<'PYTHON'
from pathlib import Path
from nbformat import write
from nbformat.v4 import new_code_cell, new_notebook
CELL = """
import ipywidgets
button, label = ipywidgets.Button(description="work"), ipywidgets.Label("clicks: 0")
button.on_click(lambda _: setattr(label, "value", f"clicks: {int(label.value[8:]) + 1}"))
ipywidgets.VBox([button, label])
"""
write(new_notebook(cells=[new_code_cell(CELL)]), Path("page.ipynb"))
PYTHON
port=$(venv/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
venv/bin/voila page.ipynb --no-browser --port "$port" >voila.log 2>&1 &
touch voila.log
for _ in $(seq 120); do grep -q "running at" voila.log && break; sleep 0.5; done

venv/bin/python - "$port" "$chromium" <<'PYTHON'
import sys
from playwright.sync_api import sync_playwright

url = f"http://127.0.0.1:{sys.argv[1]}/"
flags = ["--no-sandbox", "--disable-quic", "--disable-background-networking"]
with sync_playwright() as driver:
    browser = driver.chromium.launch(executable_path=sys.argv[2], args=flags)
    page = browser.new_page()
    page.goto(url)
    button = page.get_by_role("button", name="work")
    button.click(timeout=120_000)  # browsers ask only whoever has used the page
    page.get_by_text("clicks: 1").wait_for()
    button.click()
    page.get_by_text("clicks: 2").wait_for()
    asked = []
    page.evaluate("() => void addEventListener('beforeunload', (event) => event.preventDefault())")
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))  # the visitor stays
    page.evaluate("() => void setTimeout(() => location.assign('about:blank'))")
    page.wait_for_timeout(3000)
    button.click()
    page.wait_for_timeout(5000)
    shown = page.locator(".widget-label").last.inner_text()
    browser.close()
print(f"voila 0.5.13: asked {asked}, the visitor stayed and clicked a third time; the page shows {shown!r}")
assert (asked, shown) == (["beforeunload"], "clicks: 2")
PYTHON
