#!/usr/bin/env bash
# ipykernel 7.4.0 answers a later message of a widget before an earlier one, in another thread, where JupyterLab
# sends a file or frames in several messages.
#
# Versions: ipykernel 7.4.0, ipywidgets 8.1.9, jupyter_client 8.10.0. JupyterLab 4.6.6 is not needed: what it sends is
#   sent here (its setting "Kernel Comms over subshells" has the default perCommTarget: it asks for a subshell when a
#   widget's comm opens, and names it in the header of every later message).
# Behaviour: comm messages are not handled where their header says, but in the thread from which the kernel last sent
#   on that comm: at first the main thread, which made the widget. A reply takes the name of the subshell from the
#   message it replies to, so from the first reply on, messages go to the subshell's thread, while those that came
#   before it still wait for the main thread. So order is lost, and two messages of one widget can be handled at once.
#   An upload in pieces, with a few underway, arrives in disorder on a busy machine.
# Seen (three numbered messages; the first is replied to, and takes a second; the third is sent after the reply):
#   ipykernel 7.4.0: handled [(0, 'main'), (2, 'subshell'), (1, 'main')]
# Needs: Python 3.11 or newer, a minute. Exits with 0 if it is still so, 1 if the behaviour changed, 2 if pip fails.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
packages="ipykernel==7.4.0 ipywidgets==8.1.9 jupyter_client==8.10.0"
venv/bin/pip install --quiet --disable-pip-version-check $packages 2>pip.log || { cat pip.log; exit 2; }

if ! venv/bin/python - <<'PYTHON'
import json
import time

from jupyter_client.manager import start_new_kernel

WIDGET = """
import threading, time, ipywidgets
main, heard = threading.main_thread(), []
class Numbered(ipywidgets.DOMWidget):
    pass
def hear(widget, content, buffers):
    heard.append((content["number"], "main" if threading.current_thread() is main else "subshell"))
    if content["number"] == 0:
        widget.send({"kind": "received"})
        time.sleep(1)
widget = Numbered()
widget.on_msg(hear)
print(widget.comm.comm_id)
"""
manager, client = start_new_kernel(kernel_name="python3")


def run(code):
    """What a cell prints."""
    printed = []
    client.execute_interactive(
        code, output_hook=lambda m: m["msg_type"] == "stream" and printed.append(m["content"]["text"]), timeout=60
    )
    return "".join(printed).strip()


comm = run(WIDGET)
client.control_channel.send(client.session.msg("create_subshell_request", {}))
subshell = client.get_control_msg(timeout=60)["content"]["subshell_id"]


def send(number):
    message = client.session.msg(
        "comm_msg", {"comm_id": comm, "data": {"method": "custom", "content": {"number": number}}}
    )
    message["header"]["subshell_id"] = subshell
    client.shell_channel.send(message)


send(0)
send(1)
while True:  # until the kernel has replied to the first
    message = client.get_iopub_msg(timeout=60)
    if message["msg_type"] == "comm_msg" and message["content"]["data"].get("content") == {"kind": "received"}:
        break
send(2)
time.sleep(3)
heard = [tuple(row) for row in json.loads(run("import json; print(json.dumps(heard))"))]
client.stop_channels()
manager.shutdown_kernel(now=True)
print(f"ipykernel 7.4.0: handled {heard}")
assert heard == [(0, "main"), (2, "subshell"), (1, "main")]
PYTHON
then
    echo "the behaviour changed"
    exit 1
fi
