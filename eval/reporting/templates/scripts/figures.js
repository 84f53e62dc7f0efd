"use strict";

// Figures: drawn from the JSON beside them when they come near, in the colours of the page, again when those change.
const reportFigures = (() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const options = { responsive: true, displaylogo: false, displayModeBar: false };
  const paper = window.matchMedia("print");
  // Paper is white whatever the screen was, and a figure does not follow styles by itself.
  const PAPER = { "--ink": "#111111", "--card": "#ffffff", "--line": "#bbbbbb", "--bad": "#9c1c14" };
  let printing = false;

  function colour(name) {
    if (printing && PAPER[name]) return PAPER[name];
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function paint(layout) {
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

  // Sets "a.b" of the layout for each paint, so that it is drawn once and in the right colours.
  function painted(layout) {
    for (const [path, value] of Object.entries(paint(layout))) {
      const names = path.split(".");
      const last = names.pop();
      names.reduce((place, name) => (place[name] ??= {}), layout)[last] = value;
    }
    return layout;
  }

  const plots = typeof Plotly === "undefined" ? [] : [...document.querySelectorAll("[data-figure]")];
  const drawn = new Set();

  function draw(plot) {
    if (drawn.has(plot)) return;
    drawn.add(plot);
    const figure = JSON.parse(document.getElementById(plot.dataset.figure).textContent);
    Plotly.newPlot(plot, figure.data, painted(figure.layout), options);
  }

  const near = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
      near.unobserve(entry.target);
      draw(entry.target);
    }),
    { rootMargin: "600px" },
  );
  plots.forEach((plot) => near.observe(plot));
  // As wide as a sheet of A4 between its margins; on the screen as wide as there is room.
  const size = () => (printing ? { width: 690 } : { width: undefined, autosize: true });

  function repaint(onPaper) {
    printing = onPaper;
    if (onPaper) plots.forEach(draw);
    drawn.forEach((plot) => Plotly.relayout(plot, { ...paint(plot.layout), ...size() }));
    document.dispatchEvent(new CustomEvent("colours-changed"));
  }

  window.addEventListener("beforeprint", () => repaint(true));
  window.addEventListener("afterprint", () => repaint(false));
  paper.addEventListener("change", ({ matches }) => repaint(matches));
  dark.addEventListener("change", () => repaint(printing));

  return { options, colour, painted, size };
})();
