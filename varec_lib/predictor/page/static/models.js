// The choice of models, and the card of the chosen one.

// What is to be known of a model before one asks it, in a line.
function factsOf({ classes, trained_on, val_top1, val_videos, published, at_chance }) {
  const facts = [];
  if (trained_on) facts.push(`Trained on ${trained_on}`);
  if (val_top1 !== null) {
    const videos = val_videos ? ` of ${val_videos} validation videos` : " of its validation videos";
    facts.push(`right on ${percent(val_top1)}${videos}${at_chance ? ", which is no better than guessing" : ""}`);
  } else if (published) facts.push("not measured here");
  return `${facts.join("; ")}${facts.length ? "." : ""} It knows ${classes.length} actions.`;
}

// All actions that a model knows, to be searched.
function classList(id) {
  const list = h("ul", { class: "vp-classes" });
  const none = h("p", { class: "vp-soft", hidden: true }, "It does not know such an action.");
  const search = h("input", { type: "search", id, autocomplete: "off", spellcheck: false });
  const summary = h("summary", {});
  const element = h(
    "details",
    { class: "vp-known" },
    summary,
    h("div", { class: "vp-field" }, h("label", { htmlFor: id }, "Search"), search),
    list,
    none,
  );
  search.oninput = () => {
    const wanted = search.value.trim().toLowerCase();
    for (const item of list.children) item.hidden = !item.textContent.toLowerCase().includes(wanted);
    none.hidden = [...list.children].some((item) => !item.hidden);
  };
  const fill = (classes) => {
    summary.textContent = `The ${classes.length} actions it knows`;
    list.replaceChildren(
      ...classes
        .map(shown)
        .sort()
        .map((label) => h("li", {}, label)),
    );
    search.oninput();
  };
  return { element, fill };
}

function modelPicker(model, id, listen, refresh) {
  const select = h("select", { id: `vp-model-${id}` });
  const facts = h("p", { class: "vp-soft" });
  const known = classList(`vp-search-${id}`);
  const fill = () => {
    const models = model.get("models");
    const option = ({ name, label, note }) => h("option", { value: name }, [label, note].filter(Boolean).join(" · "));
    select.replaceChildren(...models.map(option));
    select.value = model.get("model");
    const card = models.find(({ name }) => name === select.value);
    facts.textContent = card ? factsOf(card) : "";
    known.fill(card?.classes ?? []);
  };
  fill();
  listen("change:models", fill);
  listen("change:model", fill);
  select.onchange = () => {
    model.set("model", select.value);
    model.save_changes();
  };
  select.onfocus = refresh;
  const field = h("div", { class: "vp-field" }, h("label", { htmlFor: select.id }, "Model"), select);
  return h("div", { class: "vp-model" }, field, facts, known.element);
}

// Asks another model about the video of an answer; the one that is most likely to know better stands first.
function askAnother(models, answered, chosen, ask) {
  const others = models.filter(({ name }) => !answered.includes(name));
  if (!others.length) return null;
  others.sort((a, b) => (b.name === chosen) - (a.name === chosen) || b.real - a.real);
  const text = ({ label, note }) => [label, note].filter(Boolean).join(" · ");
  const select = h(
    "select",
    { "aria-label": "Another model" },
    ...others.map((card) => h("option", { value: card.name }, text(card))),
  );
  const button = h("button", { type: "button", class: "vp-secondary" }, "Ask it");
  button.onclick = () => ask(select.value);
  const row = h("div", { class: "vp-row vp-ask" }, select, button);
  return h("div", {}, h("h3", {}, "Ask another model about this video"), row);
}
