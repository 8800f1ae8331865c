// Predictions along a video: one bar for each window, and keys to walk among them.

const KINDS = 6; // colours and numbers; further classes share the last

// The classes of the windows in the order of how often they are best: `kind` is a class's number among them.
function kindsOf(segments) {
  const totals = new Map();
  for (const { top } of segments) totals.set(top[0][0], (totals.get(top[0][0]) ?? 0) + 1);
  const labels = [...totals.keys()].sort((a, b) => totals.get(b) - totals.get(a));
  return { labels, kind: (label) => Math.min(labels.indexOf(label), KINDS - 1) };
}

function legendOf({ labels }) {
  const items = labels.slice(0, KINDS).map((label, number) => {
    const others = number === KINDS - 1 && labels.length > KINDS;
    const sign = h("span", { class: `vp-sign vp-kind-${number}`, "aria-hidden": "true" }, `${number + 1}`);
    return h("li", {}, sign, others ? "others" : shown(label));
  });
  return h("ul", { class: "vp-legend" }, ...items);
}

// Bars as wide as their windows are long and as high as the best class is probable. `choose` is told the number of a
// window that is clicked or walked to with the arrow keys; `mark` shows which one is chosen, `play` which one plays.
function timeline(segments, choose) {
  const kinds = kindsOf(segments);
  const track = h("div", { class: "vp-track", role: "group", "aria-label": "Predictions along the video" });
  segments.forEach((segment, number) => {
    const [label, share] = segment.top[0];
    const text = `${time(segment.start)} to ${time(segment.end)}: ${shown(label)}, ${percent(share)}`;
    const fill = h("span", { class: `vp-kind-${kinds.kind(label)}` }, `${kinds.kind(label) + 1}`);
    fill.style.height = `${Math.max(100 * share, 4)}%`;
    const button = h("button", { type: "button", "aria-label": text, title: text, "aria-pressed": "false" }, fill);
    button.tabIndex = number ? -1 : 0;
    button.style.flexGrow = Math.max(segment.end - segment.start, 0.01);
    button.onclick = () => choose(number);
    track.append(button);
  });
  const buttons = [...track.children];
  track.onkeydown = (event) => {
    const now = buttons.indexOf(document.activeElement);
    const last = buttons.length - 1;
    const steps = { ArrowLeft: now - 1, ArrowUp: now - 1, ArrowRight: now + 1, ArrowDown: now + 1, Home: 0, End: last };
    if (!(event.key in steps) || now < 0) return;
    event.preventDefault();
    event.stopPropagation();
    const next = Math.min(Math.max(steps[event.key], 0), last);
    choose(next);
    buttons[next].focus();
  };
  const mark = (number) =>
    buttons.forEach((button, i) => {
      button.setAttribute("aria-pressed", String(i === number));
      button.tabIndex = i === (number ?? 0) ? 0 : -1;
    });
  const play = (seconds) => {
    const number = segments.findLastIndex((segment) => segment.start <= seconds);
    buttons.forEach((button, i) => button.classList.toggle("vp-now", i === number));
  };
  const focus = (number) => buttons[number].focus();
  const scale = h(
    "div",
    { class: "vp-scale vp-soft", "aria-hidden": "true" },
    ...["100 %", "50 %", "0 %"].map((text) => h("span", {}, text)),
  );
  const ends = h(
    "div",
    { class: "vp-axis vp-soft", "aria-hidden": "true" },
    h("span", {}, time(segments[0].start)),
    h("span", {}, time(segments.at(-1).end)),
  );
  const element = h("div", { class: "vp-timeline" }, scale, track, ends, legendOf(kinds));
  return { element, mark, play, focus };
}
