// Answers that outlive the page: kept in this browser, under this page's address, without their videos.

const KEPT_ANSWERS = 50;

class History {
  constructor() {
    this.place = `varec answers ${location.pathname}`;
    this.answers = this.read(); // by key: {row, details}
  }

  read() {
    try {
      return new Map(JSON.parse(localStorage.getItem(this.place) ?? "[]").map((answer) => [answer.row.key, answer]));
    } catch {
      return new Map(); // the browser keeps nothing, or something else wrote there
    }
  }

  // The rows of former pages, which the kernel of this one does not know.
  rows(known) {
    const former = [...this.answers.values()].filter(({ row }) => !known.has(row.key));
    return former.map(({ row }) => ({ ...row, former: true, again: false, preview: false }));
  }

  details(key) {
    return this.answers.get(key)?.details ?? null;
  }

  keep(row, details) {
    this.answers = new Map([...this.read(), ...this.answers, [row.key, { row, details }]]); // other tabs write there too
    while (this.answers.size > KEPT_ANSWERS) this.answers.delete(this.answers.keys().next().value);
    this.save();
  }

  clear() {
    this.answers.clear();
    this.save();
  }

  save() {
    try {
      localStorage.setItem(this.place, JSON.stringify([...this.answers.values()]));
    } catch {
      // no room, or not allowed: then they end with the page
    }
  }
}
