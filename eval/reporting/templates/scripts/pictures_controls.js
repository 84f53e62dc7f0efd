"use strict";

// Pictures: the controls above the grid, and what it says of itself in words.
(() => {
  const pictures = window.reportPictures;
  const { data, axes, promptAxis, state, make } = pictures;
  if (!data) return;
  const byId = (id) => document.getElementById(id);
  const picked = byId("pictures-picked");
  const orders = { file: "as in the file", changed: "most changed first", worst: "worst for the selected" };

  function options(select, entries, value) {
    select.replaceChildren(...entries.map(([key, text]) => make("option", { value: key, textContent: text })));
    select.value = value;
  }

  // What is on neither side is chosen here: one select an axis that has more than one value.
  function fixed() {
    const laid = [...state.rows.parts, ...state.columns.parts];
    return axes.filter((each) => each.parts.length === 1 && !laid.includes(each.id) && each.values.length > 1);
  }

  function synchronise() {
    const usable = axes.filter((each) => each.values.length > 1 || each === state.rows || each === state.columns);
    options(byId("pictures-rows"), usable.map((each) => [each.id, each.title]), state.rows.id);
    options(byId("pictures-columns"), usable.map((each) => [each.id, each.title]), state.columns.id);
    const selects = fixed().map((each) => {
      const select = make("select", {});
      select.dataset.axis = each.id;
      options(select, each.values.map((_, i) => [i, pictures.short(each.text(i), 60)]), state.point[each.id]);
      select.addEventListener("change", () => { state.point[each.id] = Number(select.value); pictures.draw(); });
      return make("label", {}, `${each.title} `, select);
    });
    if (data.draws > 1 && data.mode === "beside") {
      const select = make("select", {});
      options(select, Array.from({ length: data.draws }, (_, i) => [i, `${i + 1} of ${data.draws}`]), state.draw);
      select.addEventListener("change", () => { state.draw = Number(select.value); pictures.draw(); });
      selects.push(make("label", {}, "Draw ", select));
    }
    picked.replaceChildren(...selects);
    byId("pictures-order-label").hidden = !pictures.hasScores || ![state.rows, state.columns].includes(promptAxis);
    options(byId("pictures-order"), Object.entries(orders), state.order);
  }

  function turn(side, id) {
    const other = side === "rows" ? "columns" : "rows";
    const chosen = axes.find((each) => each.id === id);
    const before = state[side];
    state[side] = chosen;
    if (chosen.parts.some((part) => state[other].parts.includes(part)))
      state[other] = before.parts.some((part) => chosen.parts.includes(part)) ? promptAxis : before;
    [state.row, state.column] = [0, 0];
    synchronise();
    pictures.draw();
  }

  function pager(label, count, from, size, go) {
    if (count <= size) return [];
    const button = (text, to, words) => {
      const made = make("button", { type: "button", textContent: text, disabled: to < 0 || to >= count });
      made.setAttribute("aria-label", words);
      made.addEventListener("click", () => { go(to); pictures.draw(); });
      return made;
    };
    return [make("span", { className: "pager" },
      button("←", from - size, `Previous ${label}`),
      ` ${label} ${from + 1}–${Math.min(from + size, count)} of ${count} `,
      button("→", from + size, `Next ${label}`))];
  }

  pictures.drawn = (now, { rows, columns, ROWS, COLUMNS }) => {
    const pages = byId("pictures-pages");
    const kept = pages.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
    const plural = (each) => (each === promptAxis ? "prompts" : each.parts.length > 1 ? "settings" : `values of ${each.title.toLowerCase()}`);
    pages.replaceChildren(
      ...pager(plural(now.rows), rows.length, now.row, ROWS, (to) => { now.row = to; }),
      ...pager(plural(now.columns), columns.length, now.column, COLUMNS, (to) => { now.column = to; }));
    const again = kept && [...pages.querySelectorAll("button")].find((each) => each.getAttribute("aria-label") === kept);
    if (again) (again.disabled ? pages.querySelector("button:not([disabled])") : again)?.focus();
    const values = fixed().map((each) => each.text(now.point[each.id]));
    const of = [`${now.rows.title} down, ${now.columns.title.toLowerCase()} across`, ...values.map((text) => pictures.short(text, 60))];
    const some = data.shown && data.shown.length < data.prompts.length ? [`${data.shown.length} of ${data.prompts.length} prompts`] : [];
    const order = [now.rows, now.columns].includes(promptAxis) && now.order !== "file" ? [orders[now.order]] : [];
    byId("pictures-state").textContent = [...of, ...some, ...order, `selected: ${data.labels[now.selected]}`].join(" · ");
    pictures.showFilm?.();
  };
  pictures.synchronise = synchronise;

  byId("pictures-rows").addEventListener("change", (event) => turn("rows", event.target.value));
  byId("pictures-columns").addEventListener("change", (event) => turn("columns", event.target.value));
  byId("pictures-order").addEventListener("change", (event) => {
    Object.assign(state, { order: event.target.value, row: 0, column: 0 });
    pictures.draw();
  });
  const size = byId("pictures-size");
  const resize = () => byId("pictures").style.setProperty("--shot", `${size.value}px`);
  // As large as lets the first columns stand beside their prompts.
  const room = byId("pictures-table").parentElement.clientWidth - 250;
  size.value = window.innerWidth < 620 ? 72 : Math.min(128, Math.max(64, 8 * Math.floor((room / Math.max(1, state.columns.values.length) - 8) / 8)));
  size.addEventListener("input", resize);
  byId("picture-controls").addEventListener("submit", (event) => event.preventDefault());
  byId("picture-controls").hidden = byId("pictures-keys").hidden = false;
  resize();
  synchronise();
})();
