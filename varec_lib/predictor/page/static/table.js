// The table of all videos, updated in place so that the focus stays where it is.

function resultsTable(choose, cancel) {
  const body = h("tbody", {});
  const heads = ["Video", "Answer", "Probability", "Time", "Model"].map((text) => h("th", { scope: "col" }, text));
  const table = h("table", {}, h("caption", {}, "All videos"), h("thead", {}, h("tr", {}, ...heads)), body);
  const lines = new Map();

  const line = (video) => {
    const name = h("button", { type: "button", class: "vp-link" });
    name.onclick = () => choose(video.key);
    const cells = [h("td", {}), h("td", {}), h("td", {}), h("td", { class: "vp-soft" })];
    const row = h("tr", {}, h("th", { scope: "row" }, name), ...cells);
    body.append(row);
    return { row, name, cells };
  };

  const fill = (video, [answer, share, seconds, model]) => {
    if (isUnderway(video)) {
      if (!share.firstChild) share.append(cancelButton(video, cancel));
      answer.replaceChildren(progressBar(video));
      return;
    }
    const failed = `Not answered: ${video.sentence}`;
    const text = { done: shown(video.label), failed, cancelled: "Cancelled" }[video.state];
    const badge = badgeOf(video, "table");
    answer.replaceChildren(h("span", { class: video.state === "done" ? "" : "vp-soft" }, text ?? ""), badge ?? "");
    share.replaceChildren(video.state === "done" ? percent(video.share) : "");
    seconds.replaceChildren(video.state === "done" ? time(video.seconds) : "");
    model.replaceChildren(video.model);
  };

  const update = (videos, selected) => {
    const known = new Set(videos.map((video) => video.key));
    for (const [key, { row }] of lines) {
      if (known.has(key)) continue;
      row.remove();
      lines.delete(key);
    }
    for (const video of videos) {
      if (!lines.has(video.key)) lines.set(video.key, line(video));
      const { row, name, cells } = lines.get(video.key);
      name.textContent = video.name;
      row.classList.toggle("vp-selected", video.key === selected);
      name.setAttribute("aria-current", String(video.key === selected));
      if (isUnderway(video) || row.dataset.state !== video.state) fill(video, cells);
      row.dataset.state = video.state;
    }
  };
  return { table, update };
}
