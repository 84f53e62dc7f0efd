"use strict";

// Pictures: one of them large, in a dialog, with its neighbours on the arrow keys and another setting beside it.
(() => {
  const pictures = window.reportPictures;
  const { data, state, make } = pictures;
  if (!data) return;
  const byId = (id) => document.getElementById(id);
  const dialog = byId("picture-dialog"), other = byId("picture-other");
  let at = null; // { row, column }: values' places on both sides of the grid
  const moves = {
    ArrowUp: [-1, 0, "↑", "above"],
    ArrowDown: [1, 0, "↓", "below"],
    ArrowLeft: [0, -1, "←", "to the left"],
    ArrowRight: [0, 1, "→", "to the right"],
  };

  function current() {
    const point = pictures.pointAt(at.row, at.column);
    return { cell: pictures.cellAt(point), place: pictures.place(point) };
  }

  // The next position that has a picture in this direction, or null.
  function next([down, across], { rows, columns }) {
    let row = rows.indexOf(at.row) + down, column = columns.indexOf(at.column) + across;
    for (; row >= 0 && row < rows.length && column >= 0 && column < columns.length; row += down, column += across) {
      const point = pictures.pointAt(rows[row], columns[column]), cell = pictures.cellAt(point);
      if (cell >= 0 && pictures.large(cell, pictures.place(point))) return { row: rows[row], column: columns[column], index: [row, column] };
    }
    return null;
  }

  function go(key) {
    const found = next(moves[key], pictures.sides());
    if (!found) return;
    at = found;
    show();
  }

  function steps() {
    const sides = pictures.sides();
    return Object.entries(moves).map(([key, [down, across, arrow]]) => {
      const found = next([down, across], sides), axis = down ? state.rows : state.columns;
      const there = found && found[down ? "row" : "column"];
      const text = axis.id === "prompt" ? (down + across < 0 ? "previous prompt" : "next prompt") : found && [...new Set([axis.group?.(there) ?? "", axis.text(there)])].filter(Boolean).join(" · ");
      const button = make("button", { type: "button", disabled: !found, textContent: text ? `${arrow} ${text}` : arrow });
      button.setAttribute("aria-label", text || `nothing ${moves[key][3]}`);
      button.dataset.key = key;
      button.addEventListener("click", () => { go(key); byId("picture-steps").querySelector(`[data-key=${key}]`)?.focus(); });
      return button;
    });
  }

  // Settings that have this prompt's picture, by series.
  function others(cell, place) {
    const kept = other.value;
    const groups = new Map();
    data.keys.forEach((_, each) => {
      if (each === cell || !pictures.large(each, place)) return;
      const series = pictures.ownAxes.filter(({ id }) => id !== "steps" && id !== "guidance").map((axis) => axis.text(axis.of(each))).join(" · ");
      const option = make("option", { value: each, textContent: data.labels[each] + (data.keys[each] === data.chosen ? " (decision)" : "") });
      groups.set(series, [...(groups.get(series) ?? []), option]);
    });
    other.replaceChildren(make("option", { value: "", textContent: "no other setting" }), ...[...groups].map(([label, found]) => {
      const group = make("optgroup", { label });
      group.append(...found);
      return group;
    }));
    other.value = kept;
    if (other.selectedIndex < 0) other.value = "";
  }

  function stage(cell, place) {
    const beside = other.value === "" ? -1 : Number(other.value);
    if (beside >= 0) pictures.stage.pair(cell, beside, place);
    else pictures.stage.alone(cell, place);
    const facts = [pictures.note(cell, place)];
    if (beside >= 0) facts.push(`${pictures.note(beside, place)} · ${data.labels[beside]}`);
    if (beside >= 0 && pictures.seed(cell, place) !== pictures.seed(beside, place)) facts.push("their seeds differ, so they start from different noise");
    byId("picture-facts").replaceChildren(...facts.map((textContent) => make("span", { textContent })));
  }

  function show() {
    const { cell, place } = current();
    byId("picture-setting").textContent = data.labels[cell] + (data.keys[cell] === data.chosen ? " (decision)" : "");
    byId("picture-prompt").replaceChildren(make("bdi", { dir: "auto", textContent: pictures.promptOf(place) || "(empty prompt)" }));
    byId("picture-steps").replaceChildren(...steps());
    others(cell, place);
    stage(cell, place);
    const film = pictures.strip(cell, place);
    byId("picture-film").replaceChildren(...(film ? [film] : []));
    byId("picture-select").hidden = cell === state.selected;
  }

  pictures.open = (row, column) => {
    at = { row, column };
    other.value = "";
    show();
    dialog.showModal();
    byId("picture-close").focus();
  };

  // Focus goes back to the picture that was looked at last, on whichever page of the grid it stands.
  dialog.addEventListener("close", () => {
    byId("picture-stage").replaceChildren();
    byId("picture-film").replaceChildren();
    const find = () => document.querySelector(`#pictures-table .shot[data-row="${at.row}"][data-column="${at.column}"]`);
    if (!find()) {
      const { rows, columns } = pictures.sides();
      pictures.reveal(rows.indexOf(at.row), columns.indexOf(at.column));
    }
    find()?.focus();
  });
  dialog.addEventListener("keydown", (event) => {
    if (!(event.key in moves) || event.target.matches("input, select") || event.target.closest(".strip, .prompt")) return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const button = byId("picture-steps").contains(event.target);
    go(event.key);
    if (button) byId("picture-close").focus();
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  byId("picture-close").addEventListener("click", () => dialog.close());
  byId("picture-select").addEventListener("click", () => {
    pictures.select(current().cell);
    byId("picture-select").hidden = true;
    byId("picture-close").focus();
  });
  other.addEventListener("change", () => { const { cell, place } = current(); stage(cell, place); });

  pictures.draw();
})();
