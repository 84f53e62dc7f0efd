"use strict";

// Pictures: the grid. It holds one page of rows and columns at a time, so that 1,000 cells stay quick.
(() => {
  const pictures = window.reportPictures;
  const { data, axes, ownAxes, promptAxis } = pictures;
  if (!data) return;
  const ROWS = 24, COLUMNS = 16;
  const byId = (id) => document.getElementById(id);
  const table = byId("pictures-table");
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const start = [data.chosen, ...data.keys].map(pictures.cellOf).find((cell) => cell >= 0 && pictures.thumb(data.keys[cell])) ?? 0;
  // Samplers and steps where they fit on a screen, else what there is most to see of.
  const usual = ["sampler-steps", "steps", "sampler", "guidance", "setting"].map((id) => axes.find((each) => each.id === id));
  const state = {
    rows: promptAxis,
    columns: usual.find((each) => each.values.length > 1 && each.values.length <= COLUMNS) ?? usual[0],
    point: { ...pictures.pointOf(start), prompt: 0 },
    draw: 0, order: "file", row: 0, column: 0, selected: start,
  };

  const place = (point) => promptAxis.values[point.prompt] * data.draws + state.draw;
  const pointAt = (row, column) => ({ ...state.point, ...state.rows.coordinates(row), ...state.columns.coordinates(column) });

  // The cells that the grid shows of any one prompt, whichever page of them is on the screen.
  function shownCells() {
    const sides = [state.rows, state.columns].filter((each) => each !== promptAxis);
    const points = sides.reduce((found, each) => found.flatMap((point) => each.values.map((_, i) => ({ ...point, ...each.coordinates(i) }))), [state.point]);
    return points.map(pictures.cellAt).filter((cell) => cell >= 0);
  }

  // Values' places along both sides, in the order in which they are shown.
  function sides() {
    const cells = shownCells();
    const list = (each) => (each === promptAxis ? pictures.ordered(state.order, cells, state.selected, state.draw) : each.values.map((_, i) => i));
    return { rows: list(state.rows), columns: list(state.columns), cells };
  }

  function select(cell) {
    if (cell >= 0) document.dispatchEvent(new CustomEvent("cell-selected", { detail: { key: data.keys[cell] } }));
  }

  // A head that stands for one cell is a button that selects it; others are plain.
  function head(each, value, scope, cells) {
    const cell = each !== promptAxis && [state.rows, state.columns].includes(promptAxis) ? pictures.cellAt({ ...state.point, ...each.coordinates(value) }) : -1;
    const text = scope === "row" && each.group ? [...new Set([each.group(value), each.text(value)])].join(" · ") : each.text(value);
    const th = make("th", { scope });
    if (each === promptAxis) {
      th.append(make("bdi", { className: "text", dir: "auto", textContent: text }));
      const why = pictures.why(state.order, cells, state.selected, promptAxis.values[value] * data.draws + state.draw);
      if (why) th.append(make("small", { textContent: why }));
      return th;
    }
    if (cell < 0) th.append(make("bdi", { textContent: text }));
    else {
      const button = make("button", { type: "button", title: `Select ${data.labels[cell]}` }, make("bdi", { textContent: text }));
      button.setAttribute("aria-pressed", String(cell === state.selected));
      button.addEventListener("click", () => select(cell));
      th.append(button);
      if (data.keys[cell] === data.chosen) th.append(make("span", { className: "tag", textContent: "decision" }));
    }
    return th;
  }

  // Over the heads of joined axes, the first part of each once, as wide as its columns.
  function groups(across) {
    const each = state.columns, found = [];
    if (!each.group) return [];
    for (const column of across) {
      if (found.at(-1)?.name === each.group(column)) found.at(-1).width += 1;
      else found.push({ name: each.group(column), width: 1 });
    }
    const heads = found.map(({ name, width }) => make("th", { scope: "colgroup", colSpan: width, className: "group" }, make("bdi", { textContent: name })));
    return [make("tr", { className: "groups" }, make("td", {}), ...heads)];
  }

  function gone(words) {
    return make("span", { className: "gone", textContent: words });
  }

  function describe(cell, at) {
    const right = pictures.verdict(cell, at);
    const judged = right === null ? "" : right ? ", right by the judge" : ", wrong by the judge";
    return `${pictures.short(pictures.promptOf(at))}, ${data.labels[cell]}${judged}`;
  }

  // An <img> that says in words when its file is missing or broken.
  function image(address, alt) {
    const img = make("img", { loading: "lazy", decoding: "async", alt, draggable: false });
    img.addEventListener("error", () => img.replaceWith(gone("no picture")));
    img.addEventListener("load", () => img.classList.toggle("small", Math.max(img.naturalWidth, img.naturalHeight) <= 128));
    img.src = address;
    return img;
  }

  // A column that begins another group than the one before it.
  function starts(column) {
    const { group } = state.columns;
    return Boolean(group) && column > 0 && group(column) !== group(column - 1);
  }

  function shot(row, column) {
    const point = pointAt(row, column);
    const cell = pictures.cellAt(point), at = place(point);
    const address = cell < 0 ? null : pictures.small(cell, at);
    const td = make("td", { className: cell >= 0 && cell === state.selected ? "selected" : "" });
    if (starts(column)) td.classList.add("first");
    if (!address) {
      td.append(gone(pictures.lack(cell, at)));
      return td;
    }
    const button = make("button", { type: "button", className: "shot", title: pictures.note(cell, at), tabIndex: -1 });
    button.append(image(address, describe(cell, at)));
    Object.assign(button.dataset, { row, column });
    const right = pictures.verdict(cell, at);
    if (right !== null) {
      const mark = make("span", { className: `verdict ${right ? "yes" : "no"}`, textContent: right ? "✓" : "✗" });
      mark.setAttribute("aria-hidden", "true");
      button.append(mark);
    }
    button.addEventListener("click", () => pictures.open(row, column));
    button.addEventListener("focus", () => rove(button));
    td.append(button);
    return td;
  }

  // One picture can be reached by Tab; arrow keys go on from there.
  function rove(button) {
    table.querySelectorAll(".shot[tabindex='0']").forEach((other) => { other.tabIndex = -1; });
    button.tabIndex = 0;
  }

  function draw() {
    const { rows, columns, cells } = sides();
    state.row = Math.min(state.row, Math.floor((rows.length - 1) / ROWS) * ROWS);
    state.column = Math.min(state.column, Math.floor((columns.length - 1) / COLUMNS) * COLUMNS);
    const down = rows.slice(state.row, state.row + ROWS), across = columns.slice(state.column, state.column + COLUMNS);
    const corner = make("th", { scope: "col", textContent: state.rows.title });
    const top = make("thead", {}, ...groups(across), make("tr", {}, corner, ...across.map((column) => head(state.columns, column, "col", cells))));
    const body = make("tbody", {}, ...down.map((row) => make("tr", {}, head(state.rows, row, "row", cells), ...across.map((column) => shot(row, column)))));
    table.replaceChildren(top, body);
    table.classList.toggle("by-prompt", state.rows === promptAxis);
    table.style.setProperty("--columns", across.length);
    table.style.setProperty("--heads", `${corner.offsetWidth}px`);
    byId("pictures-heads").hidden = !table.querySelector("th button");
    const button = table.querySelector(".shot");
    if (button) button.tabIndex = 0;
    pictures.drawn?.(state, { rows, columns, ROWS, COLUMNS });
  }

  // Turn to the page that shows a position.
  function reveal(row, column) {
    if (row < 0 || column < 0) return;
    [state.row, state.column] = [Math.floor(row / ROWS) * ROWS, Math.floor(column / COLUMNS) * COLUMNS];
    draw();
  }

  table.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    const td = event.target.closest?.(".shot") && event.target.closest("td");
    if (!move || !td || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    let [row, column] = [td.parentElement.rowIndex, td.cellIndex];
    do {
      [row, column] = [row + move[0], column + move[1]];
    } while (table.rows[row]?.cells[column] && !table.rows[row].cells[column].querySelector(".shot"));
    table.rows[row]?.cells[column]?.querySelector(".shot")?.focus();
  });

  document.addEventListener("cell-selected", (event) => {
    const cell = pictures.cellOf(event.detail?.key);
    if (cell < 0) return;
    const focused = document.activeElement?.closest?.("#pictures-table thead, #pictures-table tbody th");
    const where = focused && [document.activeElement.closest("tr").rowIndex, document.activeElement.closest("th").cellIndex];
    state.selected = cell;
    Object.assign(state.point, pictures.pointOf(cell));
    pictures.synchronise?.();
    const column = state.columns === promptAxis ? -1 : state.columns.of(cell);
    if (column >= 0) state.column = Math.floor(column / COLUMNS) * COLUMNS;
    draw();
    if (where) table.rows[where[0]]?.cells[where[1]]?.querySelector("button")?.focus();
  });

  Object.assign(pictures, { state, sides, pointAt, place, select, draw, reveal, image, gone, make });
})();
