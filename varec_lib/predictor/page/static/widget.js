// The page of `VideoPredictor`. Everything here is about showing; what is true comes from the kernel: `rows`.

// One for each widget: what is on its way belongs to the widget, not to one of its views.
function predictor() {
  let uploads;
  return {
    initialize({ model }) {
      uploads = new Uploads(model);
    },
    render({ model, el }) {
      const stopped = new AbortController();
      const view = new View(model, uploads, stopped.signal);
      el.classList.add("varec-host");
      el.append(view.root);
      return () => {
        stopped.abort();
        view.leave();
      };
    },
  };
}

const LOST = { state: "failed", sentence: "this browser could not read it, or lost the connection." };

class View extends WidgetView {
  constructor(model, uploads, signal) {
    super(model, signal);
    const id = Math.random().toString(36).slice(2); // of this view: there may be others of the same widget
    Object.assign(this, { uploads, id, selected: null, follow: true, partial: new Map(), wanted: new Set() });
    this.history = new History();
    this.status.className = "vp-live-region"; // for those who listen
    this.camera = cameraPanel(
      (files) => this.take(files),
      (text, problem) => this.say(text, problem),
    );
    this.panel = new AnswerPanel(this.forPanel());
    const cancel = (key) => uploads.cancel(key);
    this.table = resultsTable((key) => this.choose(key, true), cancel);
    this.root = h(
      "div",
      { class: "varec" },
      h("div", { class: "vp-columns" }, this.inputs(), this.panel.element),
      this.overview(),
      this.status,
    );
    acceptDrops(this.root, (files) => this.take(files));
    keepPlainKeys(this.root, signal);
    const leaving = (event) => this.root.classList.contains("vp-working") && event.preventDefault(); // the browser asks
    window.addEventListener("beforeunload", leaving, { signal });
    this.listen("change:rows", () => this.update());
    this.listen("change:model", () => this.panel.showOthers());
    this.listen("msg:custom", (message, buffers) => this.hear(message, buffers));
    uploads.addEventListener("change", () => this.update(), { signal });
    this.update();
  }

  // What the answer's side may do and ask.
  forPanel() {
    return {
      ask: (message) => this.ask(message),
      say: (text) => this.say(text),
      cancel: (key) => this.uploads.cancel(key),
      pick: (key) => this.choose(key, true),
      opened: () => this.follow && this.bringIntoView(),
      details: (key) => this.details(key),
      models: () => this.model.get("models"),
      chosen: () => this.model.get("model"),
      fileOf: (video) => this.uploads.files.get(video.key),
      answersTo: (video) => this.videos().filter((other) => other.video === video.video && other.state === "done"),
      canAsk: (video) => !this.uploads.dead && (video.again || this.uploads.files.has(video.key)),
      askAgain: (video, name) => this.askAgain(video, name),
    };
  }

  inputs() {
    const { button, input } = dropZone(this.model, (files) => this.take(files));
    const picker = modelPicker(this.model, this.id, this.listen, () => this.ask({ do: "models" }));
    const label = { class: "vp-input", "aria-label": "Choose a video" };
    return h(
      "section",
      label,
      picker,
      button,
      input,
      this.camera.button,
      this.camera.panel,
      this.alert,
      this.samples(),
      this.path(),
    );
  }

  overview() {
    const scroll = { class: "vp-scroll", tabIndex: 0, role: "group", "aria-label": "Table of all videos" };
    const csv = h("button", { type: "button", class: "vp-secondary" }, "Download as CSV");
    csv.onclick = () => this.ask({ do: "table" });
    const clear = h("button", { type: "button", class: "vp-quiet" }, "Clear all");
    clear.onclick = () => {
      this.selected = null;
      this.history.clear();
      this.uploads.clear();
    };
    const buttons = h("div", { class: "vp-row" }, csv, clear);
    this.all = h(
      "section",
      { class: "vp-all", hidden: true, "aria-label": "All videos" },
      h("div", scroll, this.table.table),
      buttons,
    );
    return this.all;
  }

  // A message to the kernel, whose reply is for this view.
  ask(message) {
    this.uploads.tell({ ...message, view: this.id });
  }

  samples() {
    const list = h("ul", { class: "vp-samples" });
    const part = h("div", {}, h("h2", {}, "Or try a sample"), list);
    const fill = () => {
      const samples = this.model.get("samples");
      part.hidden = !samples.length;
      list.replaceChildren(
        ...samples.map(({ label, picture }, number) => {
          const image = h("img", { src: URL.createObjectURL(new Blob([picture], { type: "image/jpeg" })), alt: "" });
          image.onload = () => URL.revokeObjectURL(image.src);
          const button = h("button", { type: "button" }, image, h("span", {}, shown(label)));
          button.onclick = () => {
            this.follow = true;
            this.ask({ do: "sample", number });
          };
          return h("li", {}, button);
        }),
      );
    };
    fill();
    this.listen("change:samples", fill);
    return part;
  }

  path() {
    const folder = this.model.get("server_folder");
    if (!folder) return null;
    const id = `vp-path-${this.id}`;
    const field = h("input", { type: "text", id, autocomplete: "off", spellcheck: false, required: true });
    const row = h("div", { class: "vp-row" }, field, h("button", { class: "vp-secondary" }, "Look"));
    const form = h(
      "form",
      { class: "vp-field" },
      h("label", { htmlFor: id }, `Or a file on the server, in ${folder}/`),
      row,
    );
    submitsOnEnter(form, field);
    form.onsubmit = (event) => {
      event.preventDefault();
      this.follow = true;
      this.ask({ do: "path", path: field.value });
    };
    return form;
  }

  take(files) {
    if (!files.length) return;
    this.follow = true;
    this.say("");
    this.uploads.add(files);
  }

  askAgain(video, name) {
    this.follow = true;
    const file = this.uploads.files.get(video.key);
    if (file) this.uploads.again(file, name);
    else this.ask({ do: "again", key: video.key, model: name });
  }

  // The kernel's rows, with what only the page knows, between those of former pages and files that it has not heard of.
  videos() {
    const files = this.uploads.files;
    const models = this.model.get("models");
    const rows = this.model.get("rows").map((row) => {
      const file = files.get(row.key);
      if (file) file.listed = true;
      const partial = this.partial.get(row.key);
      const sent = file && file.here / Math.max(file.file.size, 1);
      const underway = { uploading: sent, loading: partial?.share, predicting: partial?.share };
      const share = row.state in underway ? underway[row.state] : row.share;
      const note = models.find((card) => card.name === row.choice)?.note; // such as what has to be downloaded first
      const lost = file?.state === "failed" || (this.uploads.dead && isUnderway(row));
      return { ...row, share, left_s: partial?.left_s, note, silent: file?.silent ?? false, ...(lost ? LOST : {}) };
    });
    const known = new Set(rows.map((row) => row.key));
    const others = [...files.values()].filter((file) => !known.has(file.key) && !file.listed);
    const unheard = others.map(({ key, name, video, silent, state }) => {
      const row = { key, name, video, silent, state, share: 0, label: "", sentence: "", model: "", choice: "" };
      return state === "failed" ? { ...row, ...LOST } : row;
    });
    return [...this.history.rows(known), ...rows, ...unheard];
  }

  update() {
    const videos = this.videos();
    if (this.follow && videos.length) {
      const shows = (video) => !isUnderway(video) && (video.state !== "cancelled" || video.key === this.selected);
      const sentElsewhere = (video) => video.state === "uploading" && !this.uploads.files.has(video.key);
      const underway = videos.find((video) => isUnderway(video) && !sentElsewhere(video));
      this.choose((underway ?? videos.findLast(shows) ?? videos.at(-1)).key, false);
    }
    if (!videos.some((video) => video.key === this.selected)) this.selected = null;
    this.root.classList.toggle("vp-working", videos.some(isUnderway)); // page.js looks there too
    this.all.hidden = videos.length < 2;
    this.table.update(videos, this.selected);
    this.panel.show(
      videos.find((video) => video.key === this.selected),
      this.partial.get(this.selected),
    );
    for (const video of videos) this.keepAnswer(video);
    if (this.uploads.dead) this.say(DEAD, true);
  }

  // Answers are asked for in full once, and kept.
  keepAnswer({ key, state, former }) {
    if (state !== "done" || former || this.wanted.has(key) || this.history.details(key)) return;
    this.wanted.add(key);
    this.ask({ do: "details", key });
  }

  details(key) {
    const kept = this.history.details(key);
    if (!kept && this.wanted.has(key)) this.ask({ do: "details", key }); // no longer among the latest
    return kept;
  }

  choose(key, byHand) {
    this.selected = key;
    if (!byHand) return;
    this.follow = false;
    this.update();
  }

  // On a narrow page the answer lies below everything that can be chosen.
  bringIntoView() {
    const element = this.panel.element;
    const below = element.getBoundingClientRect().top > window.innerHeight - 120;
    if (below) element.scrollIntoView({ block: "start", behavior: stillness() ? "auto" : "smooth" });
  }

  hear(message, buffers) {
    if (message.view !== undefined && message.view !== this.id) return;
    if (message.kind === "table") return download(message.csv, "predictions.csv", "text/csv");
    if (message.kind === "progress") {
      this.partial.set(message.key, message);
      return this.update();
    }
    const video = this.videos().find((video) => video.key === message.key);
    if (!video) return;
    if (message.kind === "details") {
      this.partial.delete(message.key);
      this.history.keep(video, message);
    }
    this.panel.hear(message, buffers);
  }

  leave() {
    this.camera.stop();
    this.panel.leave();
  }
}

export default predictor;
