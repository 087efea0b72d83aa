// Tables that are sorted by a click on a head, filtered by a word, and that show no more rows than one can read.

const ROWS_SHOWN = 200;

class Sortable {
  constructor(box, table) {
    this.box = box;
    this.table = table;
    this.most = ROWS_SHOWN;
    this.word = "";
    this.order = undefined;
    this.body = box.querySelector("tbody");
    this.heads = [...box.querySelectorAll("thead th")];
    this.heads.forEach((head, place) => {
      const button = element("button", { type: "button" }, ...head.childNodes);
      button.addEventListener("click", () => this.sort(place));
      head.append(button);
      head.setAttribute("aria-sort", "none");
    });
    if (table.rows.length > 40) this.makeFilter();
    this.makeMore();
  }

  makeFilter() {
    const input = element("input", { type: "search", placeholder: "Filter by name", "aria-label": "Filter: " + this.table.caption });
    input.addEventListener("input", () => {
      this.word = input.value.toLowerCase();
      this.show();
    });
    this.box.classList.add("filtered");
    this.box.prepend(input);
  }

  makeMore() {
    this.more = this.box.querySelector(".more") || element("p", { class: "more" });
    this.box.append(this.more);
    this.tellMore(this.table.rows.length, Math.min(this.most, this.table.rows.length));
  }

  tellMore(found, shown) {
    this.more.replaceChildren();
    if (shown >= found) return;
    const button = element("button", { type: "button" }, "Show " + grouped(String(Math.min(1000, found - shown))) + " more");
    button.addEventListener("click", () => {
      this.most += 1000;
      this.show();
    });
    this.more.append(grouped(String(shown)) + " of " + grouped(String(found)) + " rows. ", button);
  }

  sort(place) {
    const numbers = this.table.columns[place].number;
    const same = this.order && this.order.place === place;
    // The largest first, names from A on; a second click turns it round.
    this.order = { place, down: same ? !this.order.down : numbers };
    this.heads.forEach((head, other) => {
      const sorted = this.order.down ? "descending" : "ascending";
      head.setAttribute("aria-sort", other === place ? sorted : "none");
    });
    this.show();
  }

  show() {
    const text = (cell) => (Array.isArray(cell) ? cell[1] : cell);
    let rows = this.table.rows;
    if (this.word) rows = rows.filter((row) => text(row[0]).toLowerCase().includes(this.word));
    if (this.order) {
      const { place, down } = this.order;
      const key = (row) => (Array.isArray(row[place]) ? row[place][0] : row[place]);
      // What has no value comes last, either way.
      rows = [...rows].sort((one, other) => {
        const [a, b] = [key(one), key(other)];
        if (a === null || b === null) return (a === null) - (b === null);
        const order = typeof a === "number" ? a - b : a.localeCompare(b);
        return down ? -order : order;
      });
    }
    const shown = rows.slice(0, this.most);
    this.body.replaceChildren(...shown.map((row) => element("tr", { role: "row" }, ...row.map((cell, place) => {
      const content = element("bdi", {}, text(cell));
      if (!place) return element("th", { scope: "row", role: "rowheader" }, content);
      const { title, number } = this.table.columns[place];
      const made = element("td", { "data-title": title, role: "cell" }, content);
      if (number) made.className = "number";
      return made;
    }))));
    this.tellMore(rows.length, shown.length);
  }
}
