"use strict";
/* What the page does around the predictor: it waits for it, and notices when its kernel has ended. */
const varec = (() => {
  const find = (id) => document.getElementById(id);
  const config = () => JSON.parse(find("jupyter-config-data").textContent);
  let ready = false; // the predictor is on the page
  let over = false; // it will not be any more
  let leaving = false;
  let lostSince = 0;
  let started = null; // the server, by its own word
  let line = null; // the connection to the kernel
  let next = 0; // look, later

  function notice(title, text, label) {
    const box = find("notice");
    box.replaceChildren();
    const head = box.appendChild(document.createElement("strong"));
    head.textContent = title;
    box.appendChild(document.createElement("p")).textContent = text;
    if (label) {
      const button = box.appendChild(document.createElement("button"));
      button.textContent = label;
      button.onclick = () => location.reload();
    }
    box.hidden = false;
    return box;
  }

  function end(title, text) {
    if (over) return;
    over = true;
    find("loading").hidden = true;
    find("predictor").inert = true;
    notice(title, text, "Reload the page").querySelector("button").focus();
  }

  const restarted = () =>
    end(
      "The server was started again.",
      "The predictor of this page ended with it. Your answers are kept; reload to go on.",
    );

  const asleep = () =>
    end(
      "This page has been asleep.",
      "Nothing happened here for a while, so its predictor was stopped. Your answers are kept; reload to go on.",
    );

  const died = () =>
    end("The predictor has stopped.", "It may have run out of memory. Your answers are kept; reload to start another.");

  const failed = () => {
    end("The predictor could not start.", "Whoever runs this page finds the reason where varec app was started.");
    leave();
  };

  /* Is the kernel still there? Its connection may also end because the network did. */
  async function look() {
    clearTimeout(next);
    if (over || leaving) return;
    let answer;
    try {
      const { baseUrl, kernelId } = config();
      answer = await fetch(`${baseUrl}api/kernels/${kernelId}`, { cache: "no-store" });
    } catch {
      lostSince ||= Date.now();
      if (Date.now() - lostSince > 120_000)
        return end("The connection is lost.", "The server does not answer any more.");
      notice("The connection is lost.", "Trying to reach the server again …");
      next = setTimeout(look, 3000);
      return;
    }
    const start = answer.headers.get("X-Varec-Started");
    started ??= start;
    if (start !== started) return restarted();
    if (!answer.ok) return asleep();
    if (line?.readyState === WebSocket.OPEN) return found();
    if (lostSince) next = setTimeout(look, 3000); // until it is open again
  }

  function found() {
    if (lostSince && !over) find("notice").hidden = true;
    lostSince = 0;
  }

  function leave() {
    if (find("jupyter-config-data")) navigator.sendBeacon(`${config().baseUrl}voila/api/shutdown/${config().kernelId}`);
  }

  /* Voilà brings older modules of JupyterLab than its extensions ask for. They work, so nobody need be warned. */
  const { warn } = console;
  console.warn = (...what) => /^(Uns|No s)atisf(ied|ying) version/.test(what[0]) || warn.apply(console, what);

  window.WebSocket = class extends WebSocket {
    constructor(...address) {
      super(...address);
      if (!this.url.includes("/api/kernels/")) return;
      line = this;
      this.addEventListener("close", (event) => (event.code === 4001 ? died() : look()));
      this.addEventListener("open", found);
    }
  };

  function wait() {
    const shown = () => find("predictor").querySelector(".jp-OutputArea-output > .lm-Widget > *");
    const observer = new MutationObserver(() => {
      if (!shown()) return;
      observer.disconnect();
      ready = true;
      find("loading").hidden = true;
      find("predictor").removeAttribute("aria-busy");
      look();
    });
    observer.observe(find("predictor"), { childList: true, subtree: true });
    setTimeout(
      () => !ready && !over && (find("status").textContent = "Still starting. The first time takes longest …"),
      15_000,
    );
  }

  /* Files dropped beside the predictor are meant for it; browsers would open them, and leave the page. */
  for (const name of ["dragover", "drop"])
    addEventListener(name, (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      const { dataTransfer } = event;
      const zone = over ? null : find("predictor").querySelector(".vp-zone");
      if (name === "drop") zone?.dispatchEvent(new DragEvent(name, { bubbles: true, cancelable: true, dataTransfer }));
    });

  addEventListener("pagehide", leave);
  addEventListener("pageshow", (event) => event.persisted && location.reload());
  addEventListener("beforeunload", (event) => {
    event.stopImmediatePropagation(); // Voilà would end the kernel here, although the visitor may stay
    if (!over && document.querySelector(".varec.vp-working")) event.preventDefault();
    leaving = true;
    setTimeout(() => ((leaving = false), look()), 2000); // whoever stays after all
  });
  document.addEventListener("visibilitychange", () => ready && !document.hidden && look());
  addEventListener("DOMContentLoaded", () => {
    const address = new URL(location);
    address.searchParams.delete("token"); // it is in a cookie now, and need not be where others can read it
    history.replaceState(null, "", address);
  });

  /* Before Voilà fills them, and that is when all of the page is loaded. */
  const arrived = () => find("predictor").append(...document.querySelectorAll(".page-output"));

  return { wait, arrived, failed };
})();
window.voila_heartbeat = () => {}; // Voilà calls it while a cell takes long
