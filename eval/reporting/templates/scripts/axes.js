"use strict";

// Axes of the page's own figure. Pure.
const reportAxes = (() => {
  // Plotly reads labels as a little HTML.
  const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  // Near 0 as it is, far from it by its logarithm: the margin stays in sight beside settings that are far off.
  const squeeze = (gap) => -Math.asinh(gap);
  const loosen = (height) => Math.sinh(-height);

  // Logarithmic with 1-2-5 ticks where values span a wide positive range, as eval/reporting/canvas.py has it.
  function numberAxis(title, values) {
    const known = values.filter((value) => value !== null);
    const [low, high] = [Math.min(...known), Math.max(...known)];
    const axis = { title: { text: plain(title) }, zeroline: false, automargin: true };
    if (!(low > 0 && high / low > 8)) return axis;
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)) - 1; power <= Math.ceil(Math.log10(high)); power += 1) {
      for (const digit of [1, 2, 5]) ticks.push(digit * 10 ** power);
    }
    return { ...axis, type: "log", tickvals: ticks, ticktext: ticks.map((tick) => String(Number(tick.toPrecision(3)))) };
  }

  return { plain, squeeze, loosen, numberAxis };
})();
