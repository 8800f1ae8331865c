#!/usr/bin/env bash
# Voilà 0.5.13 gives a page's kernel up when the browser asks "Leave this page?", not when the page is left.
#
# Versions: voila 0.5.13, ipykernel 7.4.0, ipywidgets 8.1.9, playwright 1.65.2; seen with Chromium 156.0.8078.108.
# Behaviour: on `beforeunload` Voilà's widget manager asks the server to end the kernel and disposes of its own
#   connection to it. That event comes before the visitor has answered: on a page that asks because of unfinished work,
#   as browsers let pages do, every widget is dead from then on for the visitor who chooses to stay. `pagehide` comes
#   only when a page is left.
# Seen (output seen; a button counts clicks in Python, and five seconds after the third click the page still shows 2):
#   voila 0.5.13: asked ['beforeunload'], the visitor stayed and clicked a third time; the page shows 'clicks: 2'
# Needs: Python 3.11 or newer, a Chromium, two minutes. Exits with 0 if it is still so, 1 if the behaviour changed, 2 if
#   there is no Chromium, pip fails or Voilà does not start.
set -euo pipefail
chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome) || {
    echo "no Chromium here"
    exit 2
}
folder=$(mktemp -d)
trap 'kill %1 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
packages="voila==0.5.13 ipykernel==7.4.0 ipywidgets==8.1.9 playwright==1.65.2"
venv/bin/pip install --quiet --disable-pip-version-check $packages 2>pip.log || { cat pip.log; exit 2; }

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
grep -q "running at" voila.log || { echo "Voilà did not start"; exit 2; }

if ! venv/bin/python - "$port" "$chromium" <<'PYTHON'
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
then
    echo "changed: Voilà treats a visitor who stays on a page otherwise than described above."
    exit 1
fi
