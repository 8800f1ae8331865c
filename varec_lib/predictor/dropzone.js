// Files on their way to the kernel: in pieces, a few at a time, each answered, so that none is lost and all can be
// cancelled. One instance per widget, shared by all its views.

const PIECE = 512 * 1024; // bytes; Jupyter's websocket drops messages of 10 MB without a word
const PIECES_UNDERWAY = 4;
const UNANSWERED_UPLOADS = 4; // the server takes twice as many
const SILENCE_MS = 20_000; // after which the page says that nobody answers
const PATIENCE_MS = 60_000; // after which it does not wait for the last answers: the kernel knows whether all is there

class Uploads extends EventTarget {
  constructor(model) {
    super();
    this.model = model;
    this.files = new Map(); // by key, in the order they were added
    this.busy = false;
    this.dead = false; // the kernel that the widget belongs to is gone
    model.on("msg:custom", (message) => {
      if (message.about === "received") this.received(message.key, message.bytes);
    });
    model.on("change:rows", () => this.next());
    model.on("comm_live_update", () => this.tell({ do: "models" })); // JupyterLab's, when a kernel is started again
  }

  add(files) {
    for (const file of files) {
      const key = `page-${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 10)}`;
      const url = URL.createObjectURL(file);
      const entry = { key, file, url, name: file.name || "video", sent: 0, here: 0, state: "queued", silent: false };
      entry.playable = playable(url);
      this.files.set(key, entry);
    }
    this.changed();
    this.next();
  }

  // A message to the kernel. JupyterLab throws where that was restarted or has died.
  tell(message, buffers) {
    try {
      this.model.send(message, undefined, buffers);
    } catch {
      this.dead = true;
      for (const entry of this.files.values()) if (["queued", "sending"].includes(entry.state)) entry.state = "lost";
      this.changed();
    }
  }

  async next() {
    if (this.busy) return;
    const mine = (row) => row.state === "waiting" || (row.state === "uploading" && this.files.has(row.key));
    const unanswered = this.model.get("rows").filter(mine).length;
    const entry = [...this.files.values()].find((file) => file.state === "queued");
    if (!entry || (unanswered >= UNANSWERED_UPLOADS && !this.dead)) return;
    this.busy = true;
    try {
      await this.send(entry);
    } catch {
      entry.state = "lost"; // the browser cannot read it (any more)
      this.tell({ do: "cancel", key: entry.key });
    }
    this.busy = false;
    this.changed();
    this.next();
  }

  async send(entry) {
    const { key, file } = entry;
    entry.state = "sending";
    this.tell({ do: "begin", key, name: entry.name, size: file.size });
    this.changed();
    while (entry.sent < file.size && this.wanted(entry)) {
      const piece = await file.slice(entry.sent, entry.sent + PIECE).arrayBuffer();
      this.tell({ do: "piece", key, offset: entry.sent }, [piece]);
      entry.sent += piece.byteLength;
      while (entry.sent - entry.here >= PIECES_UNDERWAY * PIECE && this.wanted(entry)) await this.answer(entry);
    }
    const silent = () => entry.since && Date.now() - entry.since > PATIENCE_MS;
    while (entry.here < file.size && this.wanted(entry) && !silent()) await this.answer(entry);
    const preview = !(await entry.playable);
    if (!this.wanted(entry)) return;
    entry.state = "sent";
    this.tell({ do: "end", key, preview });
  }

  // Whether it still makes sense to send: not after it was cancelled here, or refused or forgotten there.
  wanted(entry) {
    const row = this.model.get("rows").find((row) => row.key === entry.key);
    return entry.state === "sending" && (row ? row.state === "uploading" : !entry.listed);
  }

  // The next answer of the kernel to this file, or a while without one.
  answer(entry) {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(patience);
        entry.answered = undefined;
        resolve();
      };
      const patience = setTimeout(done, 500); // look whether it is still wanted
      entry.answered = done;
      entry.since ??= Date.now();
      const silent = Date.now() - entry.since > SILENCE_MS;
      if (silent !== entry.silent) {
        entry.silent = silent;
        this.changed();
      }
    });
  }

  received(key, bytes) {
    const entry = this.files.get(key);
    if (!entry) return;
    entry.here = bytes;
    entry.since = undefined;
    entry.silent = false;
    entry.answered?.();
    this.changed();
  }

  cancel(key) {
    const entry = this.files.get(key);
    if (entry && ["queued", "sending"].includes(entry.state)) entry.state = "cancelled";
    this.tell({ do: "cancel", key });
    this.changed();
  }

  forget(key) {
    const entry = this.files.get(key);
    if (entry) URL.revokeObjectURL(entry.url);
    this.files.delete(key);
  }

  clear() {
    for (const [key, entry] of this.files) {
      entry.state = "cancelled";
      this.forget(key);
    }
    this.tell({ do: "clear" });
    this.changed();
  }

  changed() {
    this.dispatchEvent(new Event("change"));
  }
}

// Whether this browser plays a video itself: it decodes a first picture within three seconds.
function playable(url) {
  return new Promise((resolve) => {
    const video = document.createElement("video");
    const answer = (yes) => {
      clearTimeout(timer);
      video.removeAttribute("src");
      video.load();
      resolve(yes);
    };
    const timer = setTimeout(() => answer(false), 3000);
    video.muted = true;
    video.preload = "auto";
    video.onloadeddata = () => answer(video.videoWidth > 0);
    video.onerror = () => answer(false);
    video.src = url;
  });
}

// The zone itself: a button for mouse and keyboard that files can be dropped on.
function dropZone(model, take) {
  const { megabytes, seconds } = model.get("limits");
  const input = h("input", { type: "file", multiple: true, hidden: true, accept: "video/*,.avi,.mkv,.wmv,.flv,.ts,.gif" });
  const button = h(
    "button",
    { type: "button", class: "vp-zone" },
    icon("M12 16V4m0 0L7 9m5-5 5 5M4 16v3a1 1 0 0 0 1 1h14a1 1 0 0 0 1-1v-3"),
    h("span", { class: "vp-zone-title" }, "Drop a video here, or click to choose"),
    h("span", { class: "vp-soft" }, `One or several, up to ${megabytes} MB each; the first ${lengthOf(seconds)} count`),
  );
  button.onclick = () => input.click();
  input.onchange = () => {
    take(input.files);
    input.value = "";
  };
  return { button, input };
}

function lengthOf(seconds) {
  return seconds % 60 === 0 && seconds > 60 ? `${seconds / 60} minutes` : `${Math.round(seconds)} seconds`;
}

// Lets files be dropped anywhere on an element, and keeps the page from opening them itself.
function acceptDrops(element, take) {
  let depth = 0;
  const mark = () => element.classList.toggle("vp-dropping", depth > 0);
  const on = (name, act) =>
    element.addEventListener(name, (event) => {
      if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
      event.preventDefault();
      event.stopPropagation();
      act(event);
      mark();
    });
  on("dragenter", () => depth++);
  on("dragover", (event) => (event.dataTransfer.dropEffect = "copy"));
  on("dragleave", () => (depth = Math.max(depth - 1, 0)));
  on("drop", (event) => {
    depth = 0;
    take(event.dataTransfer.files);
  });
}
