// The camera: a live picture, what it gives as a file of a few seconds, and problems with it in words.

const CAMERA_ERRORS = {
  NotAllowedError: "The camera was refused. Allow it beside the address of this page, then try again.",
  NotFoundError: "No camera was found on this device.",
  OverconstrainedError: "No camera was found on this device.",
  NotReadableError: "The camera is there but cannot be used; perhaps another program has it.",
  lost: "The camera has gone: it was unplugged, or taken away from this page.",
  other: "The camera cannot be used.",
};
const CAMERA_ICON = "M3 7h11v10H3zM14 10l6-3v10l-6-3";

class Camera {
  // `say(text, problem)` is told what happens; `gone()` is called when the camera is lost while it is on.
  constructor(say, gone) {
    this.say = say;
    this.gone = gone;
    this.live = h("video", { muted: true, playsInline: true, autoplay: true, class: "vp-live" });
    this.live.muted = true;
    this.stream = null;
    this.recorder = null;
    this.asking = null; // the newest question for the camera, if it was not withdrawn
  }

  // Whether it is on now.
  async open() {
    this.close();
    if (!navigator.mediaDevices?.getUserMedia) {
      this.say("The browser gives the camera to secure pages only: open this page by https, or as localhost.", true);
      return false;
    }
    const mine = (this.asking = {});
    let given;
    try {
      const wanted = { video: { width: { ideal: 640 }, height: { ideal: 480 } }, audio: false };
      given = await navigator.mediaDevices.getUserMedia(wanted);
    } catch (error) {
      if (this.asking === mine) this.say(CAMERA_ERRORS[error.name] ?? CAMERA_ERRORS.other, true);
      return false;
    }
    if (this.asking !== mine) {
      given.getTracks().forEach((track) => track.stop());
      return false;
    }
    this.live.srcObject = this.stream = given;
    given.getVideoTracks()[0].onended = () => {
      this.close();
      this.gone();
      this.say(CAMERA_ERRORS.lost, true);
    };
    return true;
  }

  // A file with what it sees in the next `ms`, and null if it is closed meanwhile. `tick` is told how many have passed.
  record(ms, tick) {
    return new Promise((resolve) => {
      const kind = ["video/webm;codecs=vp8", "video/webm", "video/mp4"].find((type) =>
        MediaRecorder.isTypeSupported(type),
      );
      const parts = [];
      const mine = (this.recorder = new MediaRecorder(this.stream, kind ? { mimeType: kind } : {}));
      let complete = false;
      mine.ondataavailable = (event) => parts.push(event.data);
      mine.onstop = () => {
        const type = mine.mimeType.split(";")[0] || "video/webm";
        resolve(complete ? new File(parts, `camera.${type.endsWith("mp4") ? "mp4" : "webm"}`, { type }) : null);
      };
      const start = performance.now();
      const step = () => {
        const passed = performance.now() - start;
        tick(Math.min(passed, ms));
        if (this.recorder !== mine) return;
        if (passed < ms) return void setTimeout(step, 50);
        complete = true;
        mine.stop();
      };
      mine.start();
      step();
    });
  }

  close() {
    if (this.recorder?.state === "recording") this.recorder.stop();
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = this.recorder = this.asking = this.live.srcObject = null;
  }
}

// On the predictor's page: three seconds as a file like any other.
const RECORDED_MS = 3000;

function cameraPanel(take, say) {
  const button = h("button", { type: "button", class: "vp-secondary" }, icon(CAMERA_ICON), "Use the camera");
  const meter = h("progress", { max: RECORDED_MS, value: 0, "aria-label": "Recorded" });
  const record = h("button", { type: "button", class: "vp-primary" }, "Record 3 seconds");
  const close = h("button", { type: "button", class: "vp-quiet" }, "Close camera");
  const hide = () => {
    if (panel.contains(document.activeElement)) button.focus();
    panel.hidden = true;
  };
  const camera = new Camera(say, hide);
  const panel = h(
    "div",
    { class: "vp-camera", hidden: true },
    camera.live,
    meter,
    h("div", { class: "vp-row" }, record, close),
  );
  const stop = () => {
    camera.close();
    hide();
  };
  button.onclick = async () => {
    stop();
    if (!window.MediaRecorder) return say("This browser cannot record from a camera.", true);
    if (!(await camera.open())) return;
    meter.value = 0;
    panel.hidden = false;
    record.disabled = false;
    record.focus();
    say("The camera is on.");
  };
  record.onclick = async () => {
    record.disabled = true;
    say("Recording three seconds.");
    const file = await camera.record(RECORDED_MS, (passed) => (meter.value = passed));
    if (!file) return; // closed meanwhile
    stop();
    take([file]);
  };
  close.onclick = () => {
    stop();
    say("The camera is off.");
  };
  return { button, panel, stop };
}
