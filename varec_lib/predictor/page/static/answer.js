// The answer's side of the page: one video, from its first piece to what a model says of it.

// The kernel's states of a video that has no answer yet, in words.
const WORDS = { waiting: "In line", uploading: "Sending", loading: "Loading the model", predicting: "Looking" };
const isUnderway = (video) => video.state in WORDS;

// The state of a video in words, and the share that is done: null where that is unknown, undefined where nothing moves.
function progressOf({ state, share, left_s, silent, note }) {
  if (silent) return { text: "The kernel does not answer. Is it busy, or has it stopped?" };
  if (state === "waiting") return { text: WORDS.waiting };
  if (state === "loading" && share > 0 && share < 1) return { text: `Downloading the model ${percent(share)}`, share };
  if (state === "loading") return { text: `${WORDS.loading}${note ? ` (${note})` : ""} …`, share: null };
  if (share === undefined || (state === "predicting" && !share)) return { text: `${WORDS[state]} …`, share: null };
  const left = state === "predicting" && left_s > 1 ? `, ${Math.ceil(left_s)} s left` : "";
  return { text: `${WORDS[state]} ${percent(share)}${left}`, share };
}

function progressBar(video) {
  const { text, share } = progressOf(video);
  const bar = h("progress", { max: 1, "aria-label": `${video.name}: ${WORDS[video.state]}` });
  if (share !== null) bar.value = share ?? 0; // without a value it runs to and fro
  return h("div", { class: "vp-progress" }, bar, h("span", { class: "vp-soft" }, text));
}

function cancelButton(video, cancel) {
  const button = h("button", { type: "button", class: "vp-quiet", "aria-label": `Cancel ${video.name}` }, "Cancel");
  button.onclick = () => cancel(video.key);
  return button;
}

// What "sure" means, and on what it rests.
function whySure({ sure_above: bound, rests_on: found, published, segments }) {
  if (bound === null) return "How sure this model must be to be trusted was not measured.";
  const some = `Sure means ${(100 * bound).toFixed(bound < 0.99 ? 0 : 2)} % or more`;
  if (published) return `${some}, fitted on clips of four actions. What is none of its 400 may seem sure as well.`;
  if (bound >= 1)
    return "Never sure: too few answers of this model were right on its validation videos, or too few to tell.";
  const averaged = segments.length > 1 ? ", of each of which it saw one clip; this is a mean of several" : "";
  if (!found) return `${some}: nine in ten such answers were right on validation videos${averaged}.`;
  const { right, videos, low, high } = found;
  return `${some}: ${right} of ${videos} such answers were right on validation videos (${percent(low)} to ${percent(high)} is what that can tell)${averaged}.`;
}

// How far an answer can be trusted, in a word or two; in a table only where it cannot.
function badgeOf({ sure, unlike, state }, place) {
  if (state !== "done") return null;
  if (unlike) return h("span", { class: "vp-badge vp-unlike" }, "Unlike its training");
  if (sure === false) return h("span", { class: "vp-badge vp-unsure" }, "Not sure");
  return sure && place !== "table" ? h("span", { class: "vp-badge vp-sure" }, "Sure") : null;
}

// The headline of an answer, of a whole video or of one window of it.
function verdict({ label, share, sure, unlike, state = "done" }, ...notes) {
  const guess = sure === false || unlike ? "The best guess is " : null;
  const best = h("span", { class: "vp-best" }, shown(label));
  const line = h("p", { class: "vp-verdict" }, guess, best, h("span", { class: "vp-share" }, percent(share)));
  return h("div", {}, badgeOf({ sure, unlike, state }) ?? "", line, ...notes);
}

// The most probable classes as bars.
function bars(top) {
  const list = h("ol", { class: "vp-bars", "aria-label": "Most probable classes" });
  for (const [label, share] of top) {
    const bar = h("span", { class: "vp-bar", "aria-hidden": "true" }, h("span", {}));
    bar.firstChild.style.width = `${100 * share}%`;
    const name = h("span", { class: "vp-bar-label" }, shown(label));
    list.append(h("li", {}, name, bar, h("span", { class: "vp-bar-share" }, percent(share))));
  }
  return list;
}

// The frames of a window that went through the model.
function frames(buffers, total, span, urls) {
  const strip = h("div", { class: "vp-frames", role: "group", "aria-label": "Frames the model saw" });
  buffers.forEach((buffer, number) => {
    const url = URL.createObjectURL(new Blob([buffer], { type: "image/jpeg" }));
    urls.push(url);
    strip.append(h("img", { src: url, alt: `frame ${number + 1} of ${buffers.length}` }));
  });
  const some = buffers.length < total ? `${buffers.length} of the ${total} frames` : `The ${total} frames`;
  return [h("h3", {}, `${some} the model saw${span}`), strip];
}

// What several models say of the same video.
function comparison(videos, selected, choose) {
  const rows = videos.map((video) => {
    const name = h("button", { type: "button", class: "vp-link" }, video.model);
    name.setAttribute("aria-current", String(video.key === selected));
    name.onclick = () => choose(video.key);
    const answer = h("td", {}, shown(video.label), badgeOf(video, "table") ?? "");
    const row = h("tr", {}, h("th", { scope: "row" }, name), answer, h("td", {}, percent(video.share)));
    row.classList.toggle("vp-selected", video.key === selected);
    return row;
  });
  return h("table", {}, h("caption", {}, "What each model says"), h("tbody", {}, ...rows));
}

const SLOTS = ["verdict", "pair", "timeline", "frames", "others"];

// `page` is the view: it asks the kernel, chooses videos, and cancels them.
class AnswerPanel {
  constructor(page) {
    Object.assign(this, { page, video: null, details: null, segment: 0, urls: [], line: null });
    this.element = h("section", { class: "vp-result", "aria-label": "Answer" });
    this.show(null);
  }

  show(video, partial = null) {
    if (!video) {
      this.open(null);
      const film = icon("M4 5h16v14H4zM10 9l5 3-5 3z");
      this.element.replaceChildren(h("p", { class: "vp-empty" }, film, "The answer appears here."));
      return;
    }
    if (this.video?.key !== video.key) this.open(video);
    const before = this.video?.state;
    this.video = video;
    if (isUnderway(video)) this.showProgress(video, partial);
    else if (before !== video.state || !this.ended) this.showEnd(video);
    this.fetchPreview(video);
  }

  // Empties the side for another video.
  open(video) {
    this.urls.splice(0).forEach((url) => URL.revokeObjectURL(url));
    Object.assign(this, { video: null, details: null, segment: 0, line: null, asked: false, ended: false });
    if (!video) return;
    this.name = h("h2", { class: "vp-name", tabIndex: -1 }, video.name);
    this.slots = Object.fromEntries(SLOTS.map((name) => [name, h("div", { class: `vp-slot-${name}` })]));
    this.slots.player = h("div", { class: "vp-slot-video" });
    this.slots.bars = h("div", { class: "vp-slot-bars" });
    this.slots.pair.classList.add("vp-pair");
    this.slots.pair.classList.toggle("vp-former", Boolean(video.former)); // which has no preview
    this.element.replaceChildren(this.name, ...SLOTS.map((name) => this.slots[name]));
    this.page.opened(this.element);
  }

  showProgress(video, partial) {
    const progress = progressBar(video);
    const old = this.slots.verdict.querySelector(".vp-progress");
    if (old) old.replaceWith(progress);
    else this.slots.verdict.replaceChildren(progress, cancelButton(video, this.page.cancel));
    if (!partial?.top.length) return;
    const [label, share] = partial.top[0];
    const text = `So far, up to ${time(partial.reached_s)}: ${shown(label)}, ${percent(share)}`;
    this.slots.verdict.querySelector(".vp-sofar")?.remove();
    progress.before(h("p", { class: "vp-sofar" }, text));
    this.slots.bars.replaceChildren(bars(partial.top));
    this.layOut();
  }

  // The preview and the bars take their room when the first of them is there.
  layOut() {
    if (!this.slots.pair.firstChild) this.slots.pair.append(this.slots.player, this.slots.bars);
  }

  showEnd(video) {
    const focused = this.slots.verdict.contains(document.activeElement); // on the button to cancel
    this.ended = true;
    if (video.state === "failed") {
      const text = `${video.name}: ${video.sentence}`;
      this.slots.verdict.replaceChildren(h("p", { class: "vp-problem" }, text));
      this.page.say(text);
    } else if (video.state === "cancelled") {
      this.slots.verdict.replaceChildren(h("p", { class: "vp-soft vp-cancelled" }, "Cancelled."));
      this.page.say(`${video.name}: cancelled.`);
    } else {
      this.slots.verdict.replaceChildren(verdict(video));
      this.layOut();
      const doubt = video.unlike
        ? "unlike its training, best guess "
        : video.sure === false
          ? "not sure, best guess "
          : "";
      this.page.say(`${video.name}: ${doubt}${shown(video.label)}, ${percent(video.share)}`);
      const details = this.page.details(video.key);
      if (details) this.showDetails(details);
    }
    if (video.state !== "done") this.slots.pair.replaceChildren();
    if (focused) this.name.focus();
    this.showOthers();
  }

  // What the page shows of an answer beside its row.
  showDetails(details) {
    this.details = details;
    this.line = null;
    this.slots.timeline.replaceChildren();
    if (details.segments.length > 1) {
      this.line = timeline(details.segments, (number) => this.chooseSegment(number));
      this.slots.timeline.append(h("h3", {}, "Along the video"), this.line.element);
    }
    this.showWhole();
  }

  showWhole() {
    const { video, details } = this;
    const notes = [h("p", { class: "vp-soft" }, whySure(details))];
    if (video.unlike)
      notes.unshift(
        h(
          "p",
          { class: "vp-note" },
          "This is unlike anything this model was trained on: whatever it says, it says for want of better.",
        ),
      );
    if (video.sentence) notes.push(h("p", { class: "vp-note" }, video.sentence));
    notes.push(h("p", { class: "vp-soft vp-took" }, `Answered in ${time(video.seconds)} by ${video.model}`));
    if (video.former)
      notes.push(h("p", { class: "vp-soft" }, "Kept in this browser from an earlier visit, without the video."));
    this.slots.verdict.replaceChildren(verdict(video, ...notes));
    this.slots.bars.replaceChildren(bars(details.top));
    this.line?.mark(null);
    this.showFrames(0);
  }

  // One window: its classes, its frames, and the video from there.
  chooseSegment(number) {
    const { start, end, top } = this.details.segments[number];
    const [label, share] = top[0];
    const bound = this.details.sure_above;
    const all = h("button", { type: "button", class: "vp-link" }, "show the whole video");
    all.onclick = () => {
      this.showWhole();
      this.line.focus(number);
    };
    const note = h("p", { class: "vp-soft" }, `${time(start)} to ${time(end)} · `, all);
    const sure = bound === null ? null : share >= bound;
    this.slots.verdict.replaceChildren(verdict({ label, share, sure, unlike: this.video.unlike }, note));
    this.slots.bars.replaceChildren(bars(top));
    this.line.mark(number);
    this.showFrames(number);
    const player = this.slots.player.querySelector("video");
    if (player) player.currentTime = start;
  }

  showFrames(number) {
    this.segment = number;
    if (!this.video.former) this.page.ask({ do: "pictures", key: this.video.key, segment: number });
  }

  // The times of the chosen window, where there are several.
  span() {
    const { start, end } = this.details.segments[this.segment];
    return this.details.segments.length > 1 ? `, ${time(start)} to ${time(end)}` : "";
  }

  // Other models' answers to this video, and a way to ask one more.
  showOthers() {
    const { video, page } = this;
    const parts = [];
    if (video?.state === "done") {
      const same = page.answersTo(video);
      if (same.length > 1) parts.push(comparison(same, video.key, page.pick));
      if (page.canAsk(video))
        parts.push(
          askAnother(
            page.models(),
            same.map(({ choice }) => choice),
            page.chosen(),
            (name) => page.askAgain(video, name),
          ),
        );
    }
    this.slots?.others.replaceChildren(...parts.filter(Boolean));
  }

  // A playing picture of the video: the file itself where the browser can, else what was made of the model's frames.
  async fetchPreview(video) {
    if (this.slots.player.childElementCount || ["failed", "cancelled"].includes(video.state)) return;
    const file = this.page.fileOf(video);
    const here = () =>
      this.video?.key === video.key &&
      !this.slots.player.childElementCount &&
      !["failed", "cancelled"].includes(this.video.state);
    if (file && (await file.playable)) {
      if (here()) this.play(file.url);
    } else if (video.preview && !this.asked) {
      this.asked = true;
      this.page.ask({ do: "preview", key: video.key });
    }
  }

  play(url) {
    const label = `Preview of ${this.video.name}`;
    const player = h("video", {
      src: url,
      controls: true,
      muted: true,
      loop: true,
      playsInline: true,
      "aria-label": label,
    });
    player.muted = true;
    if (!stillness()) player.autoplay = true;
    player.onloadedmetadata = () => player.style.setProperty("--vp-ratio", player.videoWidth / player.videoHeight);
    player.ontimeupdate = () => this.line?.play(player.currentTime);
    this.slots.player.replaceChildren(player);
    this.layOut();
  }

  // What the kernel sent about a video.
  hear(message, buffers) {
    if (message.key !== this.video?.key || this.video.state !== "done") return;
    if (message.kind === "details" && !this.details) this.showDetails(message);
    if (message.kind === "preview" && buffers.length && !this.slots.player.childElementCount) {
      this.urls.push(URL.createObjectURL(new Blob([buffers[0]], { type: "video/webm" })));
      this.play(this.urls.at(-1));
    }
    if (message.kind === "pictures" && this.details && message.segment === this.segment && buffers.length)
      this.slots.frames.replaceChildren(...frames(buffers, this.details.frames, this.span(), this.urls));
  }

  leave() {
    this.open(null);
  }
}
