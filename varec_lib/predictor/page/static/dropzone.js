// Where files come from: a zone to drop them on, and what the browser can do with them.

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
  const input = h("input", {
    type: "file",
    multiple: true,
    hidden: true,
    accept: "video/*,.avi,.mkv,.wmv,.flv,.ts,.gif",
  });
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
