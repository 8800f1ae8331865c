// Small things that all parts of the page use: elements, icons, numbers in words.

// An element with properties, attributes and children; null children are left out.
function h(tag, properties, ...children) {
  const element = document.createElement(tag);
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

const DEAD = "The kernel of this page has stopped. Run the notebook's cell again.";
const shown = (label) => label.replaceAll("_", " ");
const time = (seconds) => `${seconds.toFixed(1)} s`;
const stillness = () => window.matchMedia("(prefers-reduced-motion: reduce)").matches;

function percent(share) {
  if (share < 0.01) return "<1 %";
  return share < 1 && share >= 0.995 ? ">99 %" : `${Math.round(100 * share)} %`;
}

function download(text, name, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// JupyterLab takes keys for shortcuts unless the element that has the focus says no. Those with Ctrl or Cmd (save,
// above all) stay JupyterLab's.
function keepPlainKeys(root, signal) {
  const mark = (event) => {
    if (!root.contains(event.target)) return;
    event.target.toggleAttribute("data-lm-suppress-shortcuts", !event.ctrlKey && !event.metaKey);
  };
  window.addEventListener("keydown", mark, { capture: true, signal });
}

// JupyterLab keeps the Enter key from submitting a form by itself.
function submitsOnEnter(form, field) {
  field.onkeydown = (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    form.requestSubmit();
  };
}

// What the views of all widgets share: they hear the kernel until they are left, talk to it, and say things in words.
class WidgetView {
  constructor(model, signal) {
    Object.assign(this, { model, signal });
    this.status = h("p", { class: "vp-soft", role: "status" });
    this.alert = h("p", { class: "vp-alert", role: "alert", hidden: true });
    // Handed to parts of the page, too.
    this.listen = (name, act) => {
      model.on(name, act);
      signal.addEventListener("abort", () => model.off(name, act));
    };
  }

  // Whether it was sent: JupyterLab throws where the kernel was restarted or has died.
  tell(message, buffers) {
    try {
      this.model.send(message, undefined, buffers);
      return true;
    } catch {
      this.say(DEAD, true);
      return false;
    }
  }

  say(text, problem = false) {
    this.alert.hidden = !problem;
    this.alert.textContent = problem ? text : "";
    this.status.textContent = problem ? "" : text;
  }
}

// A widget with such views and nothing that they share.
const widgetOf = (View) => ({
  render({ model, el }) {
    const left = new AbortController();
    el.classList.add("varec-host");
    el.append(new View(model, left.signal).root);
    return () => left.abort();
  },
});
