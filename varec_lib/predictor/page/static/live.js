// The page of `LivePredictor`: the camera's picture, and what the model says of the newest seconds, again and again.

const LIVE_UNDERWAY = 2; // frames that are sent before the kernel has taken one
const LIVE_SHOWN = 6; // classes with a bar
const LIVE_COUNTED_MS = 3000; // over which answers are counted

class LiveView extends WidgetView {
  constructor(model, signal) {
    super(model, signal);
    Object.assign(this, { underway: 0, answered: [], started: 0, timer: null });
    this.button = h("button", { type: "button", class: "vp-primary" }, icon(CAMERA_ICON), h("span", {}, "Start"));
    this.camera = new Camera(
      (text, problem) => this.say(text, problem),
      () => this.stop(),
    );
    this.canvas = h("canvas", { hidden: true }).getContext("2d", { willReadFrequently: true });
    this.label = h("p", { class: "lp-label", "aria-live": "polite" }, "…");
    this.bars = h("ul", { class: "lp-bars" });
    this.slider = h("input", {
      type: "range",
      min: 0,
      max: 100,
      step: 1,
      id: `lp-${Math.random().toString(36).slice(2)}`,
    });
    this.slider.value = Math.round(100 * model.get("threshold"));
    this.slider.oninput = () => this.showThreshold();
    this.limit = h("label", { htmlFor: this.slider.id });
    this.showThreshold();
    this.button.onclick = () => (this.timer === null ? this.start() : this.stop());
    this.root = h(
      "div",
      { class: "varec" },
      h(
        "div",
        { class: "vp-columns" },
        h("section", { class: "vp-input", "aria-label": "Camera" }, this.camera.live, this.button, this.alert),
        h(
          "section",
          { class: "vp-result", "aria-label": "What the model says" },
          this.label,
          this.bars,
          h("div", { class: "vp-field" }, this.limit, this.slider),
          this.status,
        ),
      ),
    );
    this.listen("msg:custom", (message) => this.hear(message));
    signal.addEventListener("abort", () => this.stop());
    this.showBars(model.get("classes").map((name) => [name, 0]));
  }

  get threshold() {
    return Number(this.slider.value) / 100;
  }

  showThreshold() {
    this.limit.textContent = `Says nothing below ${this.slider.value} %`;
  }

  async start() {
    this.say("");
    if (!(await this.camera.open()) || this.signal.aborted) return;
    Object.assign(this, { underway: 0, answered: [], started: performance.now() });
    this.button.lastChild.textContent = "Stop";
    this.label.textContent = "…";
    this.say(`The first answer comes when ${time(this.model.get("seconds"))} have been seen.`);
    this.model.send({ do: "begin" });
    this.timer = setInterval(() => this.capture(), 1000 / this.model.get("fps"));
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.camera.close();
    this.button.lastChild.textContent = "Start";
  }

  // Pixels, not a JPEG: small ones, and the kernel need not trust a decoder with what a stranger sends.
  capture() {
    const { videoWidth, videoHeight } = this.camera.live;
    if (!videoWidth || this.underway >= LIVE_UNDERWAY) return;
    const time_s = (performance.now() - this.started) / 1000;
    const scale = Math.min(this.model.get("side") / Math.min(videoWidth, videoHeight), 1);
    const [width, height] = [Math.round(videoWidth * scale), Math.round(videoHeight * scale)];
    Object.assign(this.canvas.canvas, { width, height });
    this.canvas.imageSmoothingQuality = "high";
    this.canvas.drawImage(this.camera.live, 0, 0, width, height);
    this.underway++;
    const pixels = this.canvas.getImageData(0, 0, width, height).data.buffer; // red, green, blue, alpha
    if (this.tell({ do: "frame", time_s, width, height }, [pixels])) return;
    this.stop();
    this.say(DEAD, true);
  }

  hear(message) {
    if (this.timer === null) return;
    if (message.kind === "taken") this.underway = Math.max(this.underway - 1, 0);
    if (message.kind === "problem") {
      this.stop();
      this.say(message.sentence, true);
    }
    if (message.kind !== "answer") return;
    const now = performance.now();
    this.answered = [...this.answered.filter((at) => now - at < LIVE_COUNTED_MS), now];
    const top = message.top;
    const sure = top[0][1] >= this.threshold;
    const name = sure ? shown(top[0][0]) : "…";
    if (this.label.textContent !== name) this.label.textContent = name;
    this.showBars(top);
    const rate = this.answered.length / (Math.min(now - this.answered[0], LIVE_COUNTED_MS) / 1000 || 1);
    const delay = now - (this.started + 1000 * message.time_s);
    this.root.dataset.rate = rate.toFixed(1);
    this.root.dataset.delay = Math.round(delay);
    this.status.textContent = `${rate.toFixed(0)} answers a second, ${Math.round(delay)} ms behind the camera`;
  }

  // Bars stay where they are, so that the eye can follow them: classes in the model's order, of many the best.
  showBars(top) {
    const names = this.model.get("classes");
    const few = names.length <= LIVE_SHOWN ? names : top.slice(0, LIVE_SHOWN).map(([name]) => name);
    const shares = new Map(top);
    const rows = few.map((name) => {
      const share = shares.get(name) ?? 0;
      const bar = h("div", { class: "vp-bar" }, h("span", {}));
      bar.firstChild.style.width = `${100 * share}%`;
      const row = h(
        "li",
        {},
        h("span", { class: "vp-bar-label" }, shown(name)),
        h("span", { class: "vp-bar-share" }, percent(share)),
        bar,
      );
      row.toggleAttribute("data-best", name === top[0][0] && share > 0);
      return row;
    });
    this.bars.replaceChildren(...rows);
  }
}

export default widgetOf(LiveView);
