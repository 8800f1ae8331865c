// The page of `VideoPredictor`. Everything here is about showing; what is true comes from the kernel: `rows`.

// An element with properties, attributes and children; null children are left out.
function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  // Keeps JupyterLab from taking keys for its shortcuts while this has the focus; on a parent it would come too late.
  element.setAttribute("data-lm-suppress-shortcuts", "true");
  for (const [name, value] of Object.entries(properties)) {
    if (name in element && name !== "class") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function icon(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
  svg.firstChild.setAttribute("d", path);
  return svg;
}

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

const DEAD = "The kernel of this page has stopped. Run the notebook's cell again.";
const LOST = { state: "failed", sentence: "this browser could not read it, or lost the connection." };

class View {
  constructor(model, uploads, signal) {
    // Until this view is left.
    this.listen = (name, act) => {
      model.on(name, act);
      signal.addEventListener("abort", () => model.off(name, act));
    };
    const id = Math.random().toString(36).slice(2); // of this view: there may be others of the same widget
    Object.assign(this, { model, uploads, id, selected: null, follow: true, urls: [], details: null, shares: new Map() });
    this.live = h("p", { class: "vp-live-region", role: "status", "aria-live": "polite" });
    this.alert = h("p", { class: "vp-alert", role: "alert", hidden: true });
    const take = (files) => this.take(files);
    this.camera = cameraPanel(take, (text, problem) => this.say(text, problem));
    const { button, input } = dropZone(model, take);
    this.result = h("section", { class: "vp-result", "aria-label": "Answer" });
    this.table = resultsTable((key) => this.choose(key, true), (key) => uploads.cancel(key));
    this.all = h("section", { class: "vp-all", hidden: true, "aria-label": "All videos" }, h("div", { class: "vp-scroll", tabIndex: 0, role: "group", "aria-label": "Table of all videos" }, this.table.table), this.tableButtons());
    const input_ = h("section", { class: "vp-input", "aria-label": "Choose a video" }, this.models(), button, input, this.camera.button, this.camera.panel, this.alert, this.samples(), this.path());
    this.root = h("div", { class: "varec" }, h("div", { class: "vp-columns" }, input_, this.result), this.all, this.live);
    acceptDrops(this.root, take);

    this.listen("change:rows", () => this.update());
    this.listen("msg:custom", (message, buffers) => this.hear(message, buffers));
    uploads.addEventListener("change", () => this.update(), { signal });
    this.update();
  }

  // A message to the kernel, whose reply is for this view.
  ask(message) {
    this.uploads.tell({ ...message, view: this.id });
  }

  // The choice of models, newest experiment first.
  models() {
    const select = h("select", { id: `vp-model-${this.id}` });
    const fill = () => {
      select.replaceChildren(...this.model.get("models").map(({ name, label }) => h("option", { value: name }, label)));
      select.value = this.model.get("model");
    };
    fill();
    this.listen("change:models change:model", fill);
    select.onchange = () => {
      this.model.set("model", select.value);
      this.model.save_changes();
    };
    select.onfocus = () => this.ask({ do: "models" });
    return h("div", { class: "vp-field" }, h("label", { htmlFor: select.id }, "Model"), select);
  }

  samples() {
    const samples = this.model.get("samples");
    if (!samples.length) return null;
    const list = h("ul", { class: "vp-samples" });
    samples.forEach(({ label, picture }, number) => {
      const image = h("img", { src: URL.createObjectURL(new Blob([picture], { type: "image/jpeg" })), alt: "" });
      image.onload = () => URL.revokeObjectURL(image.src);
      const button = h("button", { type: "button" }, image, h("span", {}, shown(label)));
      button.onclick = () => {
        this.follow = true;
        this.ask({ do: "sample", number });
      };
      list.append(h("li", {}, button));
    });
    return h("div", {}, h("h2", {}, "Or try a sample"), list);
  }

  path() {
    const folder = this.model.get("server_folder");
    if (!folder) return null;
    const id = `vp-path-${this.id}`;
    const field = h("input", { type: "text", id, autocomplete: "off", spellcheck: false, required: true });
    const form = h("form", { class: "vp-field" }, h("label", { htmlFor: id }, `Or a file on the server, in ${folder}/`), h("div", { class: "vp-row" }, field, h("button", { class: "vp-secondary" }, "Look")));
    field.onkeydown = (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault(); // JupyterLab keeps the key from submitting by itself
      form.requestSubmit();
    };
    form.onsubmit = (event) => {
      event.preventDefault();
      this.follow = true;
      this.ask({ do: "path", path: field.value });
    };
    return form;
  }

  tableButtons() {
    const download = h("button", { type: "button", class: "vp-secondary" }, "Download as CSV");
    download.onclick = () => this.ask({ do: "table" });
    const clear = h("button", { type: "button", class: "vp-quiet" }, "Clear all");
    clear.onclick = () => {
      this.selected = null;
      this.uploads.clear();
    };
    return h("div", { class: "vp-row" }, download, clear);
  }

  take(files) {
    if (!files.length) return;
    this.follow = true;
    this.say("");
    this.uploads.add(files);
  }

  say(text, problem = false) {
    this.alert.hidden = !problem;
    this.alert.textContent = problem ? text : "";
    this.live.textContent = problem ? "" : text;
  }

  // The kernel's rows, with what only the page knows, then the files that the kernel has not heard of.
  videos() {
    const files = this.uploads.files;
    const rows = this.model.get("rows").map((row) => {
      const file = files.get(row.key);
      const sent = file ? file.here / Math.max(file.file.size, 1) : 0;
      const underway = { uploading: file && sent, predicting: this.shares.get(row.key) ?? 0 };
      const share = row.state in underway ? underway[row.state] : row.share;
      if (file) file.listed = true;
      const lost = file?.state === "lost" || (this.uploads.dead && row.state in WAITING);
      return { ...row, share, silent: file?.silent ?? false, ...(lost ? LOST : {}) };
    });
    const known = new Set(rows.map((row) => row.key));
    const others = [...files.values()].filter((file) => !known.has(file.key) && !file.listed);
    const own = { cancelled: { state: "cancelled" }, lost: LOST };
    const empty = { state: "queued", share: 0, label: "", sentence: "" };
    const unheard = others.map(({ key, name, silent, state }) => ({ ...empty, key, name, silent, ...own[state] }));
    return rows.concat(unheard);
  }

  update() {
    const videos = this.videos();
    if (this.follow && videos.length) {
      const shows = (video) => !(video.state in WAITING) && (video.state !== "cancelled" || video.key === this.selected);
      const sentElsewhere = (video) => video.state === "uploading" && !this.uploads.files.has(video.key);
      const underway = videos.find((video) => video.state in WAITING && !sentElsewhere(video));
      const wanted = (underway ?? videos.findLast(shows) ?? videos.at(-1)).key;
      if (wanted !== this.selected) this.choose(wanted, false);
    }
    if (!videos.some((video) => video.key === this.selected)) this.selected = null;
    this.all.hidden = videos.length < 2;
    this.table.update(videos, this.selected);
    this.show(videos.find((video) => video.key === this.selected));
    if (this.uploads.dead) this.say(DEAD, true);
  }

  choose(key, byHand) {
    if (key !== this.selected) this.details = null;
    this.selected = key;
    if (byHand) {
      this.follow = false;
      this.update();
    }
  }

  // The answer's side of the page.
  show(video) {
    if (!video) {
      this.built = null;
      this.result.replaceChildren(h("p", { class: "vp-empty" }, icon("M4 5h16v14H4zM10 9l5 3-5 3z"), "The answer appears here."));
      return;
    }
    if (video.state in WAITING) {
      this.built = null;
      this.progress(video);
      return;
    }
    const now = `${video.key} ${video.state}`;
    if (this.built !== now) this.build(video, now);
    if (video.state === "done") this.fetchPreview(video);
  }

  // What there is to see of a video that has ended; only when something in it changed.
  build(video, now) {
    this.built = now;
    this.releaseUrls();
    const head = h("h2", { class: "vp-name", tabIndex: -1 }, video.name);
    const parts = [head];
    if (video.state === "failed") {
      parts.push(h("p", { class: "vp-problem" }, `${video.name}: ${video.sentence}`));
      this.say(`${video.name}: ${video.sentence}`);
    } else if (video.state === "cancelled") {
      parts.push(h("p", { class: "vp-soft vp-cancelled" }, "Cancelled."));
      this.say(`${video.name}: cancelled.`);
    } else {
      this.say(`${video.name}: ${video.sure === false ? "not sure, best guess " : ""}${shown(video.label)}, ${percent(video.share)}`);
      this.slots = Object.fromEntries(["verdict", "video", "bars", "timeline", "frames"].map((name) => [name, h("div", { class: `vp-slot-${name}` })]));
      this.slots.verdict.append(verdict(video, null));
      const took = h("p", { class: "vp-soft vp-took" }, `Answered in ${time(video.seconds)} by ${video.model}`);
      parts.push(this.slots.verdict, h("div", { class: "vp-pair" }, this.slots.video, this.slots.bars), this.slots.timeline, this.slots.frames, took);
      this.ask({ do: "details", key: video.key });
    }
    const focused = this.result.contains(document.activeElement); // on the button to cancel
    this.result.replaceChildren(...parts);
    if (focused) head.focus();
    if (this.follow) this.bringIntoView();
  }

  // On a narrow page the answer lies below everything that can be chosen.
  bringIntoView() {
    const below = this.result.getBoundingClientRect().top > window.innerHeight - 120;
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (below) this.result.scrollIntoView({ block: "start", behavior: still ? "auto" : "smooth" });
  }

  progress(video) {
    const parts = [h("h2", { class: "vp-name" }, video.name), progressBar(video)];
    const old = this.result.querySelector("[data-cancels]");
    if (old?.dataset.cancels === video.key) {
      this.result.querySelector(".vp-progress").replaceWith(parts[1]);
      return;
    }
    const cancel = cancelButton(video, (key) => this.uploads.cancel(key));
    cancel.dataset.cancels = video.key;
    this.result.replaceChildren(...parts, cancel);
  }

  // A playing picture of the video: the file itself where the browser can, else what the kernel made of it.
  async fetchPreview(video) {
    if (this.slots.video.childElementCount) return;
    const file = this.uploads.files.get(video.key);
    if (file && (await file.playable)) {
      if (this.selected === video.key && !this.slots.video.childElementCount) this.play(file.url, video);
    } else if (video.preview && this.asked !== video.key) {
      this.asked = video.key;
      this.ask({ do: "preview", key: video.key });
    }
  }

  play(url, video) {
    const player = h("video", { src: url, controls: true, muted: true, loop: true, playsInline: true, "aria-label": `Preview of ${video.name}` });
    player.muted = true;
    if (!window.matchMedia("(prefers-reduced-motion: reduce)").matches) player.autoplay = true;
    player.onloadedmetadata = () => player.style.setProperty("--vp-ratio", player.videoWidth / player.videoHeight);
    player.ontimeupdate = () => this.mark(player.currentTime);
    this.slots.video.replaceChildren(player);
  }

  // Marks the window of the timeline that is playing.
  mark(seconds) {
    const segments = this.details?.segments ?? [];
    const number = segments.findLastIndex((segment) => segment.start <= seconds);
    this.slots.timeline.querySelectorAll(".vp-track button").forEach((button, i) => button.classList.toggle("vp-now", i === number));
  }

  hear(message, buffers) {
    if (message.view !== undefined && message.view !== this.id) return;
    if (message.about === "table") return download(message.csv);
    if (message.about === "progress") {
      this.shares.set(message.key, message.share);
      return this.update();
    }
    const video = this.videos().find((video) => video.key === message.key);
    if (!video || message.key !== this.selected || video.state !== "done") return;
    if (message.about === "details") this.showDetails(video, message);
    if (message.about === "preview" && buffers.length && !this.slots.video.childElementCount) {
      this.urls.push(URL.createObjectURL(new Blob([buffers[0]], { type: "video/webm" })));
      this.play(this.urls.at(-1), video);
    }
    if (message.about === "pictures" && this.details && message.segment === this.segment && buffers.length)
      this.slots.frames.replaceChildren(...frames(buffers, this.details.frames, this.span(), this.urls));
  }

  showDetails(video, details) {
    this.details = details;
    this.slots.verdict.replaceChildren(verdict(video, details));
    this.slots.bars.replaceChildren(bars(details.top));
    this.slots.timeline.replaceChildren();
    if (details.segments.length > 1) {
      const { element, track } = timeline(details.segments, (number) => this.chooseSegment(number, true));
      this.slots.timeline.append(h("h3", {}, "Along the video"), element);
      this.track = track;
    }
    this.chooseSegment(0, false);
  }

  // The times of the chosen window, where there are several.
  span() {
    const { start, end } = this.details.segments[this.segment];
    return this.details.segments.length > 1 ? `, ${time(start)} to ${time(end)}` : "";
  }

  // Shows the frames of a window; by hand, its classes too, and the video from there.
  chooseSegment(number, byHand) {
    this.segment = number;
    this.ask({ do: "pictures", key: this.selected, segment: number });
    if (!byHand) return;
    [...this.track.children].forEach((button, i) => button.setAttribute("aria-pressed", String(i === number)));
    const segment = this.details.segments[number];
    const all = h("button", { type: "button", class: "vp-link" }, "show the whole video");
    all.onclick = () => {
      this.showDetails(this.videos().find((video) => video.key === this.selected), this.details);
      this.track.children[number].focus();
    };
    this.slots.bars.replaceChildren(bars(segment.top), h("p", { class: "vp-soft" }, `${time(segment.start)} to ${time(segment.end)} · `, all));
    const player = this.slots.video.querySelector("video");
    if (player) player.currentTime = segment.start;
  }

  releaseUrls() {
    this.urls.splice(0).forEach((url) => URL.revokeObjectURL(url));
    this.asked = null;
  }

  leave() {
    this.camera.stop();
    this.releaseUrls();
  }
}

function download(csv) {
  const url = URL.createObjectURL(new Blob([csv], { type: "text/csv" }));
  const link = h("a", { href: url, download: "predictions.csv" });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

export default predictor;
