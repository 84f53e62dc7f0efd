"use strict";

// Sorting: numbers as numbers, missing values last in both directions, equal rows keep their order.
(() => {
  const table = document.getElementById("sheet");
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];

  function compare(first, second, numeric, sign) {
    if (first === "" || second === "") return (first === "") - (second === "");
    const order = numeric ? Number(first) - Number(second) : first.localeCompare(second);
    return sign * order;
  }

  function sortBy(head) {
    const column = heads.indexOf(head);
    const numeric = head.hasAttribute("data-numeric");
    const direction = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    const sign = direction === "ascending" ? 1 : -1;
    heads.forEach((other) => other.setAttribute("aria-sort", other === head ? direction : "none"));
    const key = (row) => row.cells[column].dataset.sort;
    body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b), numeric, sign)));
  }

  heads.forEach((head) => head.querySelector("button").addEventListener("click", () => sortBy(head)));
})();

// Figures: drawn from the JSON beside them, in the colours of the page, again when those change.
(() => {
  if (typeof Plotly === "undefined") return;
  const plots = [...document.querySelectorAll("[data-figure]")];
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  function paint(layout) {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const paints = {
      "font.color": colour("--ink"),
      "hoverlabel.bgcolor": colour("--card"),
      "hoverlabel.bordercolor": colour("--line"),
      "hoverlabel.font.color": colour("--ink"),
    };
    for (const name of Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))) {
      paints[`${name}.gridcolor`] = colour("--line");
      paints[`${name}.linecolor`] = colour("--line");
    }
    return paints;
  }

  for (const plot of plots) {
    const figure = JSON.parse(document.getElementById(plot.dataset.figure).textContent);
    const options = { responsive: true, displaylogo: false, displayModeBar: false };
    Plotly.newPlot(plot, figure.data, figure.layout, options).then(() => Plotly.relayout(plot, paint(figure.layout)));
  }
  dark.addEventListener("change", () => plots.forEach((plot) => Plotly.relayout(plot, paint(plot.layout))));
})();
