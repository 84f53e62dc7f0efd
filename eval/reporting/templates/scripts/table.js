"use strict";

// The table: sorted, filtered, walked with the keyboard, downloaded, and with verdicts that follow the decision.
(() => {
  const table = document.getElementById("sheet");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...body.rows];
  const byKey = new Map(rows.map((row) => [row.dataset.key, row]));
  const verdicts = JSON.parse(document.getElementById("page-data").textContent).verdicts;
  const verdictColumn = heads.findIndex((head) => head.hasAttribute("data-verdict"));

  // Numbers as numbers, missing values last in both directions, equal rows keep their order.
  function compare(first, second, numeric, sign) {
    if (first === "" || second === "") return (first === "") - (second === "");
    const order = numeric ? Number(first) - Number(second) : first.localeCompare(second);
    return sign * order;
  }

  function sortBy(head) {
    const column = heads.indexOf(head);
    const numeric = head.hasAttribute("data-numeric");
    // The best first where one direction is better, then the other way round.
    const first = head.dataset.first ?? "ascending";
    const direction = head.getAttribute("aria-sort") === "none" ? first : head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    const sign = direction === "ascending" ? 1 : -1;
    heads.forEach((other) => other.setAttribute("aria-sort", other === head ? direction : "none"));
    const key = (row) => row.cells[column].dataset.sort;
    body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b), numeric, sign)));
  }

  heads.forEach((head) => head.querySelector("button").addEventListener("click", () => sortBy(head)));

  const controls = document.getElementById("table-controls");
  const words = document.getElementById("filter-text");
  const kind = document.getElementById("filter-verdict");
  const samplers = [...controls.querySelectorAll("#filter-samplers input")];
  const labelled = heads.map((head, column) => (head.hasAttribute("data-numeric") ? -1 : column)).filter((column) => column >= 0);
  const numbers = heads.findIndex((head) => head.textContent.startsWith("Steps"));

  // Every word must stand in one of the row's texts, or be its step count or guidance.
  function matches(row, asked) {
    const texts = labelled.map((column) => row.cells[column].textContent.toLowerCase()).join(" ");
    const own = numbers < 0 ? [] : [row.cells[numbers], row.cells[numbers + 1]].map((cell) => cell.textContent.trim());
    return asked.every((word) => (/^[\d.]+$/.test(word) && own.includes(word)) || texts.includes(word));
  }

  function filter() {
    const asked = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const series = new Set(samplers.filter((box) => box.checked).map((box) => box.value));
    let shown = 0;
    for (const row of rows) {
      const right = !kind.value || row.cells[verdictColumn].dataset.sort === kind.value;
      row.hidden = !(right && (!samplers.length || series.has(row.dataset.series)) && matches(row, asked));
      shown += !row.hidden;
    }
    document.getElementById("table-count").textContent = `${shown} of ${rows.length} settings`;
    rove();
  }

  // One row at a time is a stop of the Tab key; arrows move on from it.
  function rove(row = body.querySelector("tr[tabindex='0']:not([hidden])") ?? body.querySelector("tr:not([hidden])")) {
    body.querySelectorAll("tr[tabindex='0']").forEach((other) => { other.tabIndex = -1; });
    if (row) row.tabIndex = 0;
  }

  function beside(row, step) {
    let next = row;
    do next = next[step < 0 ? "previousElementSibling" : "nextElementSibling"]; while (next?.hidden);
    return next;
  }

  function tell(name, key, beside = null) {
    document.dispatchEvent(new CustomEvent(name, { detail: { key, beside } }));
  }

  body.addEventListener("keydown", (event) => {
    const row = event.target.closest("tr");
    if (event.target !== row) return;
    const shown = [...body.rows].filter((each) => !each.hidden);
    const next = { ArrowDown: () => beside(row, 1), ArrowUp: () => beside(row, -1), Home: () => shown[0], End: () => shown.at(-1) }[event.key];
    if (next) next()?.focus();
    else if (event.key === "Enter" || event.key === " ") tell("cell-selected", row.dataset.key, table.closest(".sheet-frame"));
    else return;
    event.preventDefault();
  });
  body.addEventListener("focusin", (event) => {
    rove(event.target.closest("tr"));
    tell("cell-pointed", event.target.closest("tr").dataset.key);
  });
  body.addEventListener("focusout", () => tell("cell-pointed", null));
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row && !event.target.closest("a, button")) tell("cell-selected", row.dataset.key, table.closest(".sheet-frame"));
  });
  document.addEventListener("cell-selected", ({ detail }) => {
    for (const row of rows) {
      if (row.dataset.key === detail.key) row.setAttribute("aria-selected", "true");
      else row.removeAttribute("aria-selected");
    }
  });

  // A shade at the right edge for as long as columns lie beyond it.
  const area = table.parentElement;
  const cue = () => area.parentElement.classList.toggle("more-right", area.scrollLeft + area.clientWidth < area.scrollWidth - 2);
  area.addEventListener("scroll", cue, { passive: true });
  new ResizeObserver(cue).observe(area);
  new ResizeObserver(cue).observe(table);

  document.addEventListener("decision-changed", ({ detail }) => {
    if (verdictColumn < 0) return;
    const ranks = Object.keys(verdicts);
    for (const [key, { kind: found }] of detail.answer.verdicts) {
      const row = byKey.get(key), cell = row?.cells[verdictColumn];
      const mark = cell?.querySelector(".mark");
      if (!mark) continue;
      row.classList.toggle("chosen", found === "chosen");
      const said = detail.say(key);
      if (mark.title === said && cell.dataset.sort === String(ranks.indexOf(found))) continue;
      cell.dataset.sort = String(ranks.indexOf(found));
      mark.className = `mark is-${found}`;
      mark.textContent = verdicts[found];
      mark.title = said;
    }
    if (kind.value) filter();
  });

  // A text that a spreadsheet would take for a formula gets an apostrophe; numbers stay numbers.
  function field(text, numeric) {
    const safe = !numeric && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }

  // Columns that a column takes along: the ends of its intervals and why a value is doubted, where any row has one.
  function extras(column) {
    return {
      interval: rows.some((row) => row.cells[column].dataset.low),
      unsure: rows.some((row) => row.cells[column].dataset.unsure),
    };
  }

  function csv() {
    const columns = heads.map((_, column) => column).filter((column) => getComputedStyle(heads[column]).display !== "none");
    const title = (head) => head.querySelector("button").firstChild.textContent;
    const value = (row, column) => {
      const cell = row.cells[column];
      if (column === verdictColumn) return [field(cell.textContent.trim(), false)];
      const { sort, low = "", high = "", unsure = "" } = cell.dataset;
      const beside = extras(column);
      return [
        field(sort, heads[column].hasAttribute("data-numeric")),
        ...(beside.interval ? [low, high] : []),
        ...(beside.unsure ? [field(unsure, false)] : []),
      ];
    };
    const titles = (column) => {
      const name = title(heads[column]), beside = extras(column);
      return [name, ...(beside.interval ? [`${name}, 95 % low`, `${name}, 95 % high`] : []), ...(beside.unsure ? [`${name}, unreliable`] : [])];
    };
    const shown = [...body.rows].filter((row) => !row.hidden);
    const lines = [
      ["Cell", ...columns.flatMap(titles).map((text) => field(text, false))],
      ...shown.map((row) => [row.dataset.key, ...columns.flatMap((column) => value(row, column))]),
    ];
    return lines.map((line) => `${line.join(",")}\r\n`).join("");
  }

  document.getElementById("table-csv").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv;charset=utf-8" }));
    link.download = "settings.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });

  for (const [place, text] of Object.values(verdicts).entries()) kind.append(new Option(text, String(place)));
  for (const control of [words, kind, ...samplers]) control.addEventListener("input", filter);
  rows.forEach((row) => { row.tabIndex = -1; });
  controls.hidden = false;
  filter();
})();
