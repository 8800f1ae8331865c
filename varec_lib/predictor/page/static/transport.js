// Files on their way to the kernel: in pieces, a few at a time, each answered, so that one that is lost, or that another
// has overtaken, is sent again, and all can be cancelled. One instance per widget, shared by all its views. Their states are the kernel's words: waiting, uploading,
// failed, cancelled; a file is `handed` over when all of it was sent, and what happens to it then is the kernel's to say.

const PIECE = 512 * 1024; // bytes; Jupyter's websocket drops messages of 10 MB without a word
const PIECES_UNDERWAY = 4;
const UNANSWERED_UPLOADS = 4; // the server takes twice as many
const SILENCE_MS = 20_000; // after which the page says that nobody answers
const PATIENCE_MS = 60_000; // after which it does not wait for the last answers: the kernel knows whether all is there

const ours = (entry) => !entry.handed && ["waiting", "uploading"].includes(entry.state);

class Uploads extends EventTarget {
  constructor(model) {
    super();
    this.model = model;
    this.files = new Map(); // by key, in the order they were added
    this.busy = false;
    this.dead = false; // the kernel that the widget belongs to is gone
    model.on("msg:custom", (message) => {
      if (message.kind === "received") this.received(message);
    });
    model.on("change:rows", () => this.next());
    model.on("comm_live_update", () => this.tell({ do: "models" })); // JupyterLab's, when a kernel is started again
  }

  add(files) {
    for (const file of files) {
      const url = URL.createObjectURL(file);
      this.queue({ file, url, name: file.name || "video", playable: playable(url) });
    }
  }

  // Asks a model about a file that was sent before, once more. Returns the question's key.
  again(entry, model) {
    return this.queue({
      file: entry.file,
      url: entry.url,
      name: entry.name,
      playable: entry.playable,
      video: entry.video,
      model,
    });
  }

  queue(entry) {
    const key = `page-${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 10)}`;
    this.files.set(key, {
      key,
      video: key,
      model: "",
      sent: 0,
      here: 0,
      state: "waiting",
      handed: false,
      silent: false,
      ...entry,
    });
    this.changed();
    this.next();
    return key;
  }

  // A message to the kernel. JupyterLab throws where that was restarted or has died.
  tell(message, buffers) {
    try {
      this.model.send(message, undefined, buffers);
    } catch {
      this.dead = true;
      for (const entry of this.files.values()) if (ours(entry)) entry.state = "failed";
      this.changed();
    }
  }

  async next() {
    if (this.busy) return;
    const mine = (row) => row.state === "waiting" || (row.state === "uploading" && this.files.has(row.key));
    const unanswered = this.model.get("rows").filter(mine).length;
    const entry = [...this.files.values()].find((file) => file.state === "waiting" && !file.handed);
    if (!entry || (unanswered >= UNANSWERED_UPLOADS && !this.dead)) return;
    this.busy = true;
    try {
      await this.send(entry);
    } catch {
      entry.state = "failed"; // the browser cannot read it (any more)
      this.tell({ do: "cancel", key: entry.key });
    }
    this.busy = false;
    this.changed();
    this.next();
  }

  async send(entry) {
    const { key, file } = entry;
    entry.state = "uploading";
    this.begin(entry);
    this.changed();
    const allSent = () => entry.sent >= file.size;
    const silent = () => entry.since && Date.now() - entry.since > PATIENCE_MS;
    while (entry.here < file.size && this.wanted(entry) && !(allSent() && silent())) {
      if (allSent() || entry.sent - entry.here >= PIECES_UNDERWAY * PIECE) {
        await this.answer(entry);
        continue;
      }
      const offset = entry.sent;
      const piece = await file.slice(offset, offset + PIECE).arrayBuffer();
      if (entry.sent !== offset) continue; // an answer has said that an earlier one is missing
      this.tell({ do: "piece", key, offset }, [piece]);
      entry.sent += piece.byteLength;
    }
    const preview = !(await entry.playable);
    if (!this.wanted(entry)) return;
    entry.state = "waiting";
    entry.handed = true;
    this.tell({ do: "end", key, preview, model: entry.model });
  }

  begin({ key, name, file, video }) {
    this.tell({ do: "begin", key, name, size: file.size, video });
  }

  // Whether it still makes sense to send: not after it was cancelled here, or refused or forgotten there.
  wanted(entry) {
    const row = this.model.get("rows").find((row) => row.key === entry.key);
    return entry.state === "uploading" && (row ? row.state === "uploading" : !entry.listed);
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
      if (silent && Date.now() - (entry.retried ?? 0) > SILENCE_MS) {
        entry.retried = Date.now(); // what is underway may have been lost: once more
        entry.sent = entry.here;
        if (!entry.listed) this.begin(entry);
      }
      if (silent !== entry.silent) {
        entry.silent = silent;
        this.changed();
      }
    });
  }

  received({ key, bytes, missing }) {
    const entry = this.files.get(key);
    if (!entry) return;
    entry.here = bytes;
    if (missing) entry.sent = bytes;
    entry.since = undefined;
    entry.silent = false;
    entry.answered?.();
    this.changed();
  }

  cancel(key) {
    const entry = this.files.get(key);
    if (entry && ours(entry)) entry.state = "cancelled";
    this.tell({ do: "cancel", key });
    this.changed();
  }

  forget(key) {
    const entry = this.files.get(key);
    this.files.delete(key);
    if (entry && ![...this.files.values()].some((other) => other.url === entry.url)) URL.revokeObjectURL(entry.url);
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
