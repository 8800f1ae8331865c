// Three seconds from the camera: a live picture, a button, and a file like any other.

const RECORDED_MS = 3000;
const CAMERA_ERRORS = {
  NotAllowedError: "The camera was refused. Allow it beside the address of this page, then try again.",
  NotFoundError: "No camera was found on this device.",
  OverconstrainedError: "No camera was found on this device.",
  NotReadableError: "The camera is there but cannot be used; perhaps another program has it.",
  lost: "The camera has gone: it was unplugged, or taken away from this page.",
  other: "The camera cannot be used.",
};

function cameraPanel(take, say) {
  const button = h(
    "button",
    { type: "button", class: "vp-secondary" },
    icon("M3 7h11v10H3zM14 10l6-3v10l-6-3"),
    "Use the camera",
  );
  const live = h("video", { muted: true, playsInline: true, autoplay: true, class: "vp-live" });
  live.muted = true;
  const meter = h("progress", { max: RECORDED_MS, value: 0, "aria-label": "Recorded" });
  const record = h("button", { type: "button", class: "vp-primary" }, "Record 3 seconds");
  const close = h("button", { type: "button", class: "vp-quiet" }, "Close camera");
  const panel = h(
    "div",
    { class: "vp-camera", hidden: true },
    live,
    meter,
    h("div", { class: "vp-row" }, record, close),
  );
  let stream = null;
  let recorder = null;
  let asking = null; // the newest question for the camera, if it was not withdrawn

  const release = (stream) => stream?.getTracks().forEach((track) => track.stop());
  const stop = () => {
    if (recorder?.state === "recording") recorder.stop();
    release(stream);
    stream = recorder = asking = live.srcObject = null;
    if (panel.contains(document.activeElement)) button.focus();
    panel.hidden = true;
  };

  button.onclick = async () => {
    stop();
    if (!navigator.mediaDevices?.getUserMedia)
      return say("The browser gives the camera to secure pages only: open this page by https, or as localhost.", true);
    if (!window.MediaRecorder) return say("This browser cannot record from a camera.", true);
    const mine = (asking = {});
    let given;
    try {
      const wanted = { video: { width: { ideal: 640 }, height: { ideal: 480 } }, audio: false };
      given = await navigator.mediaDevices.getUserMedia(wanted);
    } catch (error) {
      if (asking !== mine) return;
      return say(CAMERA_ERRORS[error.name] ?? CAMERA_ERRORS.other, true);
    }
    if (asking !== mine) return release(given);
    live.srcObject = stream = given;
    stream.getVideoTracks()[0].onended = () => {
      stop();
      say(CAMERA_ERRORS.lost, true);
    };
    meter.value = 0;
    panel.hidden = false;
    record.disabled = false;
    record.focus();
    say("The camera is on.");
  };

  record.onclick = () => {
    const kind = ["video/webm;codecs=vp8", "video/webm", "video/mp4"].find((type) =>
      MediaRecorder.isTypeSupported(type),
    );
    const parts = [];
    const mine = (recorder = new MediaRecorder(stream, kind ? { mimeType: kind } : {}));
    let complete = false;
    mine.ondataavailable = (event) => parts.push(event.data);
    mine.onstop = () => {
      if (!complete) return; // closed meanwhile
      const type = mine.mimeType.split(";")[0] || "video/webm";
      stop();
      take([new File(parts, `camera.${type.endsWith("mp4") ? "mp4" : "webm"}`, { type })]);
    };
    record.disabled = true;
    say("Recording three seconds.");
    const start = performance.now();
    const tick = () => {
      const passed = performance.now() - start;
      meter.value = Math.min(passed, RECORDED_MS);
      if (recorder !== mine) return;
      if (passed < RECORDED_MS) return void setTimeout(tick, 50);
      complete = true;
      mine.stop();
    };
    mine.start();
    tick();
  };
  close.onclick = () => {
    stop();
    say("The camera is off.");
  };
  return { button, panel, stop };
}
