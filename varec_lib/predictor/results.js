// What the model says: the answer of one video, and the table of all.

const KINDS = 6; // colours of a timeline; further classes share the grey one
const WAITING = { queued: "In line", waiting: "In line", uploading: "Sending", loading: "Loading the model", predicting: "Looking" };

const percent = (share) => (share < 0.01 ? "<1 %" : share < 1 && share >= 0.995 ? ">99 %" : `${Math.round(100 * share)} %`);
const shown = (label) => label.replaceAll("_", " ");
const time = (seconds) => `${seconds.toFixed(1)} s`;

// The state of a video in words and, where it is on its way, the share that is done (null: unknown).
function progressOf(video) {
  if (video.silent) return { text: "The kernel does not answer. Is it busy, or has it stopped?", share: null };
  if (video.state === "uploading" && video.share !== undefined) return { text: `Sending ${percent(video.share)}`, share: video.share };
  if (video.state === "predicting" && video.share > 0) return { text: `Looking ${percent(video.share)}`, share: video.share };
  if (["uploading", "loading", "predicting"].includes(video.state)) return { text: `${WAITING[video.state]} …`, share: null };
  return { text: WAITING[video.state] ?? "", share: video.state in WAITING ? null : undefined };
}

function progressBar(video) {
  const { text, share } = progressOf(video);
  const bar = h("progress", { max: 1, "aria-label": `${video.name}: ${WAITING[video.state]}` });
  if (share !== null) bar.value = share;
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
  if (bound >= 1) return "Never sure: too few answers of this model were right on its validation videos, or too few to tell.";
  const averaged = segments.length > 1 ? ", of each of which it saw one clip; this is a mean of several" : "";
  if (!found) return `${some}: nine in ten such answers were right on validation videos${averaged}.`;
  const { right, videos, low, high } = found;
  return `${some}: ${right} of ${videos} such answers were right on validation videos (${percent(low)} to ${percent(high)} is what that can tell)${averaged}.`;
}

// The headline of an answered video.
function verdict(video, details) {
  const badge = { true: ["sure", "Sure"], false: ["unsure", "Not sure"] }[video.sure];
  const best = h("span", { class: "vp-best" }, shown(video.label));
  const parts = [h("p", { class: "vp-verdict" }, video.sure === false ? "The best guess is " : null, best, h("span", { class: "vp-share" }, percent(video.share)))];
  if (badge) parts.unshift(h("span", { class: `vp-badge vp-${badge[0]}` }, badge[1]));
  if (details) parts.push(h("p", { class: "vp-soft" }, whySure(details)));
  if (video.sentence) parts.push(h("p", { class: "vp-note" }, video.sentence));
  return h("div", {}, ...parts);
}

// The most probable classes as bars.
function bars(top) {
  const list = h("ol", { class: "vp-bars", "aria-label": "Most probable classes" });
  for (const [label, share] of top) {
    const bar = h("span", { class: "vp-bar", "aria-hidden": "true" }, h("span", {}));
    bar.firstChild.style.width = `${100 * share}%`;
    list.append(h("li", {}, h("span", { class: "vp-bar-label" }, shown(label)), bar, h("span", { class: "vp-bar-share" }, percent(share))));
  }
  return list;
}

// Predictions along the video: a button for each window, as high as its best class is probable.
function timeline(segments, choose) {
  const end = segments.at(-1).end;
  const totals = new Map();
  for (const { top } of segments) totals.set(top[0][0], (totals.get(top[0][0]) ?? 0) + 1);
  const kinds = [...totals.keys()].sort((a, b) => totals.get(b) - totals.get(a));
  const kind = (label) => Math.min(kinds.indexOf(label), KINDS - 1);
  const track = h("div", { class: "vp-track", role: "group", "aria-label": "Predictions along the video" });
  segments.forEach((segment, number) => {
    const [label, share] = segment.top[0];
    const until = segments[number + 1]?.start ?? segment.end;
    const text = `${time(segment.start)} to ${time(segment.end)}: ${shown(label)}, ${percent(share)}`;
    const fill = h("span", { class: `vp-kind-${kind(label)}` });
    fill.style.height = `${Math.max(100 * share, 4)}%`;
    const button = h("button", { type: "button", "aria-label": text, title: text, "aria-pressed": "false" }, fill);
    button.style.flexGrow = Math.max(until - segment.start, 0.01);
    button.onclick = () => choose(number);
    track.append(button);
  });
  const legend = h("ul", { class: "vp-legend" });
  kinds.slice(0, KINDS).forEach((label, number) => {
    const others = number === KINDS - 1 && kinds.length > KINDS;
    legend.append(h("li", {}, h("span", { class: `vp-dot vp-kind-${number}`, "aria-hidden": "true" }), others ? "others" : shown(label)));
  });
  const axis = h("div", { class: "vp-axis vp-soft", "aria-hidden": "true" }, h("span", {}, "0 s"), h("span", {}, time(end)));
  return { element: h("div", { class: "vp-timeline" }, track, axis, legend), track };
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

// The table of all videos, updated in place so that the focus stays where it is.
function resultsTable(choose, cancel) {
  const body = h("tbody", {});
  const heads = ["Video", "Answer", "Probability", "Time"].map((text) => h("th", { scope: "col" }, text));
  const table = h("table", {}, h("caption", {}, "All videos"), h("thead", {}, h("tr", {}, ...heads)), body);
  const lines = new Map();

  const line = (video) => {
    const name = h("button", { type: "button", class: "vp-link" });
    name.onclick = () => choose(video.key);
    const cells = [h("td", {}), h("td", {}), h("td", {})];
    const row = h("tr", {}, h("th", { scope: "row" }, name), ...cells);
    body.append(row);
    return { row, name, cells, state: "" };
  };

  const update = (videos, selected) => {
    for (const [key, { row }] of lines) {
      if (videos.some((video) => video.key === key)) continue;
      row.remove();
      lines.delete(key);
    }
    for (const video of videos) {
      if (!lines.has(video.key)) lines.set(video.key, line(video));
      const { row, name, cells } = lines.get(video.key);
      name.textContent = video.name;
      row.classList.toggle("vp-selected", video.key === selected);
      name.setAttribute("aria-current", String(video.key === selected));
      if (video.state in WAITING) {
        if (!cells[1].firstChild) cells[1].append(cancelButton(video, cancel));
        cells[0].replaceChildren(progressBar(video));
      } else if (row.dataset.state !== video.state) {
        const answer = { done: shown(video.label), failed: `Not answered: ${video.sentence}`, cancelled: "Cancelled" }[video.state];
        cells[0].replaceChildren(h("span", { class: video.state === "done" ? "" : "vp-soft" }, answer ?? ""), video.sure === false ? h("span", { class: "vp-badge vp-unsure" }, "Not sure") : "");
        cells[1].replaceChildren(video.state === "done" ? percent(video.share) : "");
        cells[2].replaceChildren(video.state === "done" ? time(video.seconds) : "");
      }
      row.dataset.state = video.state;
    }
  };
  return { table, update };
}
