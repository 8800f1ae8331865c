// The page of `Recorder`: labels, a countdown, three seconds of each clip; every clip can be looked at and deleted.

const COUNTDOWN_S = 3;
const RECORDER_SILENCE_MS = 5000; // after which a piece is sent again,
const RECORDER_SILENCES = 4; // and after so many of them none
const RECORDER_PIECE = 512 * 1024; // bytes; Jupyter's websocket drops messages of 10 MB without a word

class RecorderView extends WidgetView {
  constructor(model, signal) {
    super(model, signal);
    Object.assign(this, { busy: false, known: new Map(), waiting: new Map() });
    this.turn = Promise.resolve(); // files are sent one after the other, whatever is dropped meanwhile
    this.camera = new Camera(
      (text, problem) => this.say(text, problem),
      () => this.showCamera(false),
    );
    this.count = h("p", { class: "rc-count", hidden: true, "aria-live": "assertive" });
    this.meter = h("progress", { max: RECORDED_MS, value: 0, "aria-label": "Recorded" });
    this.toggle = h("button", { type: "button", class: "vp-secondary" }, icon(CAMERA_ICON), h("span", {}, ""));
    this.toggle.onclick = () => (this.camera.stream ? this.close() : this.open());
    this.labels = h("ul", { class: "rc-labels" });
    this.clips = h("ul", { class: "rc-clips" });
    this.advice = h("ul", { class: "rc-advice" });
    this.newest = h(
      "section",
      { class: "rc-newest", "aria-label": "Newest clips" },
      h("h3", {}, "Newest clips"),
      this.clips,
    );
    this.root = h(
      "div",
      { class: "varec" },
      h(
        "div",
        { class: "vp-columns" },
        h(
          "section",
          { class: "vp-input", "aria-label": "Camera" },
          h("div", { class: "rc-picture" }, this.camera.live, this.count),
          this.meter,
          this.toggle,
          this.alert,
          this.status,
        ),
        h(
          "section",
          { class: "vp-result", "aria-label": "Labels" },
          this.field("Session: who, where or which day", "session", (name) => this.tell({ do: "session", name })),
          this.labels,
          this.field("New label", "label", (name) => this.tell({ do: "label", name })),
          h("h3", {}, "Before the training"),
          this.advice,
        ),
      ),
      this.newest,
    );
    this.listen("change:labels", () => this.showLabels());
    this.listen("change:clips", () => this.showClips());
    this.listen("change:advice", () => this.showAdvice());
    this.listen("msg:custom", (message, buffers) => this.hear(message, buffers));
    signal.addEventListener("abort", () => this.camera.close());
    keepPlainKeys(this.root, signal);
    this.showCamera(false);
    this.showLabels();
    this.showClips();
    this.showAdvice();
  }

  field(title, name, send) {
    const id = `rc-${name}-${Math.random().toString(36).slice(2)}`;
    const input = h("input", { type: "text", id, autocomplete: "off", spellcheck: false, maxLength: 60 });
    if (name === "session") input.value = this.model.get("session");
    const button = h("button", { type: "submit", class: "vp-secondary" }, name === "session" ? "Begin" : "Add");
    const form = h(
      "form",
      { class: "vp-field" },
      h("label", { htmlFor: id }, title),
      h("div", { class: "vp-row" }, input, button),
    );
    submitsOnEnter(form, input);
    form.onsubmit = (event) => {
      event.preventDefault();
      if (!input.value.trim()) return;
      this.say("");
      send(input.value.trim());
      if (name !== "session") input.value = "";
    };
    return form;
  }

  async open() {
    this.say("");
    if (!window.MediaRecorder) return this.say("This browser cannot record from a camera.", true);
    this.showCamera(await this.camera.open());
  }

  close() {
    this.camera.close();
    this.showCamera(false);
  }

  showCamera(on) {
    this.toggle.lastChild.textContent = on ? "Close camera" : "Use the camera";
    this.meter.value = 0;
    if (!on) this.count.hidden = true;
  }

  showLabels() {
    const rows = this.model.get("labels").map(({ name, here, all }) => {
      const button = h("button", { type: "button", class: "vp-primary", disabled: this.busy }, "Record");
      button.setAttribute("aria-label", `Record ${shown(name)}`);
      button.onclick = () => this.record(name);
      const text = h("span", { class: "vp-soft" }, `${here} in this session, ${all} in all`);
      const row = h("li", {}, h("b", {}, shown(name)), text, button);
      row.dataset.label = name;
      acceptDrops(row, (files) => this.take(name, [...files]));
      return row;
    });
    const empty = h(
      "li",
      { class: "vp-soft" },
      "None yet. Add one below, and another for clips in which nothing happens.",
    );
    this.labels.replaceChildren(...(rows.length ? rows : [empty]));
  }

  showAdvice() {
    const sentences = this.model.get("advice");
    const rows = sentences.length ? sentences : ["Nothing is missing."];
    this.advice.replaceChildren(...rows.map((sentence) => h("li", {}, sentence)));
  }

  showClips() {
    const clips = this.model.get("clips");
    const rows = clips.map(({ name, label }) => {
      if (!this.known.has(name)) this.known.set(name, this.clip(name, label));
      return this.known.get(name);
    });
    for (const [name, row] of this.known) {
      if (clips.some((clip) => clip.name === name)) continue;
      URL.revokeObjectURL(row.querySelector("video").src);
      this.known.delete(name);
    }
    this.newest.hidden = !rows.length;
    this.clips.replaceChildren(...rows);
  }

  clip(name, label) {
    const video = h("video", { muted: true, loop: true, playsInline: true, preload: "auto" });
    video.muted = true;
    video.setAttribute("aria-label", name);
    video.onmouseenter = () => video.play().catch(() => {});
    video.onmouseleave = () => video.pause();
    const again = h("button", { type: "button", class: "vp-quiet" }, "Take again");
    again.onclick = async () => {
      if (await this.record(label)) this.tell({ do: "remove", name }); // not before there is another one
    };
    const remove = h("button", { type: "button", class: "vp-quiet" }, "Delete");
    remove.onclick = () => this.tell({ do: "remove", name });
    for (const button of [again, remove]) button.setAttribute("aria-label", `${button.textContent}: ${name}`);
    this.tell({ do: "show", name });
    const row = h("li", {}, video, h("span", {}, shown(label)), h("div", { class: "vp-row" }, again, remove));
    row.dataset.clip = name;
    return row;
  }

  // Whether a clip was recorded and kept.
  async record(label) {
    if (this.busy) return false;
    if (!this.camera.stream) {
      await this.open();
      if (!this.camera.stream) return false;
    }
    this.busy = true;
    this.showLabels();
    let file = null;
    try {
      for (let left = COUNTDOWN_S; left > 0 && this.camera.stream; left--) {
        this.count.hidden = false;
        this.count.textContent = left;
        await new Promise((resolve) => setTimeout(resolve, 1000));
      }
      this.count.hidden = true;
      if (this.camera.stream) {
        this.say(`Recording ${shown(label)}.`);
        file = await this.camera.record(RECORDED_MS, (passed) => (this.meter.value = passed));
      }
    } finally {
      this.busy = false;
      this.meter.value = 0;
      this.showLabels();
    }
    return file ? this.take(label, [file]) : false;
  }

  // Sends files in their turn, as clips of the session that this is now. Whether all were kept.
  take(label, files) {
    const session = this.model.get("session");
    this.turn = this.turn.then(() => this.keep(label, session, files));
    return this.turn;
  }

  async keep(label, session, files) {
    this.say(`Keeping ${files.length === 1 ? "a clip" : `${files.length} clips`} of ${shown(label)} …`);
    const problems = [];
    for (const file of files) {
      const problem = await this.send(label, session, file).catch(() => `${file.name}: cannot be read.`);
      if (problem) problems.push(problem);
    }
    if (problems.length) this.say(problems.join(" "), true);
    return !problems.length;
  }

  // In pieces, each answered before the next one goes; one without an answer is sent again. What went wrong, if anything.
  async send(label, session, file) {
    const key = Math.random().toString(36).slice(2);
    let here = 0;
    let silences = 0;
    const answer = () =>
      new Promise((resolve) => {
        const patience = setTimeout(
          () => resolve({ bytes: here, ended: ++silences >= RECORDER_SILENCES }),
          RECORDER_SILENCE_MS,
        );
        this.waiting.set(key, (reply) => {
          clearTimeout(patience);
          silences = 0;
          resolve(reply);
        });
      });
    try {
      if (!this.tell({ do: "begin", key, label, session, name: file.name, size: file.size })) return DEAD;
      let reply = await answer();
      while (!reply.ended) {
        here = reply.bytes;
        const piece = await file.slice(here, here + RECORDER_PIECE).arrayBuffer();
        if (!this.tell({ do: "piece", key, offset: here }, [piece])) return DEAD;
        reply = await answer();
      }
      return silences ? `Nobody answers. Look whether a new clip of ${shown(label)} is here.` : reply.problem;
    } finally {
      this.waiting.delete(key);
    }
  }

  hear(message, buffers) {
    const answered = this.waiting.get(message.key);
    if (message.kind === "received") answered?.(message);
    if (message.kind === "kept") this.say(`Kept ${message.name}.`);
    if (message.kind === "problem") {
      if (answered) answered({ ended: true, problem: message.sentence });
      else this.say(message.sentence, true);
    }
    if (message.kind !== "clip") return;
    const video = this.known.get(message.name)?.querySelector("video");
    if (!video || video.src) return;
    video.src = URL.createObjectURL(new Blob([buffers[0]], { type: message.type }));
  }
}

export default widgetOf(RecorderView);
