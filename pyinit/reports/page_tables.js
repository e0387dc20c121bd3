"use strict";

// Tables: sorted by their headings, filtered by a text box. Without this program they are complete.
{
  const ROWS_WITH_FILTER = 8;
  const DIRECTIONS = ["none", "ascending", "descending"];
  const texts = new Intl.Collator("en", { numeric: true });

  function makeSortable(table) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    if (original.length < 2) return;
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      heading.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const before = DIRECTIONS.indexOf(heading.getAttribute("aria-sort"));
        const direction = DIRECTIONS[(before + 1) % DIRECTIONS.length];
        headings.forEach((other) => other.setAttribute("aria-sort", "none"));
        heading.setAttribute("aria-sort", direction);
        body.append(...sorted(original, column, direction));
      });
    });
  }

  // Cells that say nothing, or NaN, come last in both directions.
  function sorted(rows, column, direction) {
    if (direction === "none") return rows;
    const keyed = rows.map((row) => [key(row.cells[column]), row]);
    const sign = direction === "ascending" ? 1 : -1;
    keyed.sort(([a], [b]) => (a === null) - (b === null) || (a === null ? 0 : sign * compare(a, b)));
    return keyed.map(([, row]) => row);
  }

  function key(cell) {
    const text = cell.textContent.trimEnd(); // the line ends behind the last cell
    const order = cell.dataset.order ?? (cell.matches("td:not(.t)") ? text : null);
    if (text === "" || order === "nan") return null;
    return order === null ? text : Number(order.replace("inf", "Infinity"));
  }

  function compare(a, b) {
    return typeof a === "number" ? (a < b ? -1 : +(a > b)) : texts.compare(a, b);
  }

  function makeFilterable(table, place, number) {
    const rows = [...table.tBodies[0].rows];
    if (rows.length < ROWS_WITH_FILTER) return;
    const bar = document.createElement("div");
    bar.className = "filter";
    const label = document.createElement("label");
    label.textContent = "Filter";
    const input = document.createElement("input");
    input.type = "search";
    input.id = label.htmlFor = `filter-${number}`;
    input.placeholder = "words that a row must have";
    const count = document.createElement("output");
    count.htmlFor.add(input.id);
    bar.append(label, input, count);
    place.prepend(bar);

    const contents = rows.map((row) => [...row.cells].map((c) => c.textContent).join("\n").toLowerCase());
    const show = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row, i) => {
        row.hidden = !words.every((word) => contents[i].includes(word));
        shown += !row.hidden;
      });
      count.textContent = words.length ? `${shown} of ${rows.length} rows` : `${rows.length} rows`;
    };
    input.addEventListener("input", show);
    show();
  }

  document.querySelectorAll(".table").forEach((place, number) => {
    const table = place.querySelector("table");
    makeSortable(table);
    makeFilterable(table, place, number);
  });
}
