"use strict";

// Quality against cost: the axes are the reader's, and limits, front and choice follow the decision.
(() => {
  const stage = document.getElementById("explorer-stage");
  if (!stage || typeof Plotly === "undefined") return;
  const plot = document.getElementById("explorer");
  const card = document.getElementById("point-card");
  const across = document.getElementById("axis-x"), up = document.getElementById("axis-y");
  const page = JSON.parse(document.getElementById("page-data").textContent);
  const MOST_BARS = 80, MANY = 200;
  let state = null, due = 0, pointed = null, selected = null;

  const element = (name, text, className = "") => Object.assign(document.createElement(name), { textContent: text, className });
  const { plain, squeeze, loosen, numberAxis } = reportAxes;
  const cost = () => page.costs[across.value];
  const score = () => page.scores.find(({ name }) => name === up.value) ?? null;
  const inMargins = () => score() === null;

  const xOf = (place) => { const value = cost().values[place]; return value === null ? null : value * cost().factor; };

  // Gaps count from the best of all, so that points stay where they are while limits move.
  function gapOf(cell) {
    return cell.quality === null || !state.top ? null : state.top.quality - cell.quality;
  }

  // From there to the best within the limits, which margins count from.
  const offset = () => { const best = state.rule.byKey.get(state.answer.best); return best ? gapOf(best) ?? 0 : 0; };

  function yOf(place) {
    if (!inMargins()) return score().values[place];
    const gap = gapOf(state.rule.cells[place]);
    return gap === null ? null : squeeze(gap);
  }

  // Half-lengths of a point's bar upwards and downwards; 0 where there is none.
  function barOf(place, crowded) {
    const y = yOf(place);
    const { key } = state.rule.cells[place];
    if (inMargins()) {
      const { upper } = state.answer.verdicts.get(key);
      const far = crowded && state.answer.front.get(key) === "off";
      return upper === null || far ? [0, 0] : [0, y - squeeze(offset() + upper)];
    }
    const [low, high] = [score().low[place], score().high[place]];
    if (low === null || high === null || (crowded && !state.onLine.has(place))) return [0, 0];
    return [high - y, y - low];
  }

  // Cells that no other beats in what the axes show, cheapest first.
  function staircase() {
    const costRises = cost().rising, scoreRises = inMargins() || score().rising;
    const points = state.rule.cells
      .map((cell, place) => ({ place, x: xOf(place), y: yOf(place), kind: state.answer.verdicts.get(cell.key).kind }))
      .filter(({ x, y, kind }) => x !== null && y !== null && kind !== "over_limit" && kind !== "guarded")
      .map((each) => ({ ...each, spent: costRises ? -each.x : each.x, merit: scoreRises ? each.y : -each.y }))
      .sort((a, b) => a.spent - b.spent || b.merit - a.merit);
    const front = [];
    for (const each of points) if (!front.length || each.merit > front.at(-1).merit) front.push(each);
    return scoreRises === null ? [] : front;
  }

  const decides = () => inMargins() && across.value === "0";

  const isOut = (place) => ["over_limit", "guarded"].includes(state.answer.verdicts.get(state.rule.cells[place].key).kind);

  // How a point is drawn: whole on the front, hollow where that is not sure, faint off it.
  function lookOf(place) {
    const { key } = state.rule.cells[place];
    if (isOut(place)) return { open: false, opacity: 0.4 };
    const on = decides() ? state.answer.front.get(key) : state.onLine.has(place) ? "on" : "off";
    return { open: on === "unsure", opacity: on === "off" || on === undefined ? 0.3 : 1 };
  }

  function seriesTraces() {
    const names = [...new Set(page.series)];
    const crowded = page.series.length > MOST_BARS;
    return names.flatMap((name) => {
      const look = page.looks[name] ?? { colour: "#8a8f98", marker: "circle" };
      const places = page.series.flatMap((each, place) => (each === name && xOf(place) !== null && yOf(place) !== null ? [place] : []));
      const looks = places.map(lookOf), bars = places.map((place) => barOf(place, crowded));
      const same = { name: plain(name), legendgroup: name, mode: "markers", hoverinfo: "none" };
      return [
        {
          ...same, x: places.map(xOf), y: places.map(yOf), customdata: places, showlegend: false,
          marker: {
            color: look.colour, size: 9, opacity: looks.map(({ opacity }) => opacity),
            symbol: looks.map(({ open }) => look.marker + (open ? "-open" : "")), line: { width: looks.map(({ open }) => (open ? 2 : 0)) },
          },
          error_y: { array: bars.map(([high]) => high), arrayminus: bars.map(([, low]) => low), width: 0, thickness: 1, color: `${look.colour}88` },
        },
        { ...same, x: [null], y: [null], marker: { color: look.colour, symbol: look.marker, size: 9 } },
      ];
    });
  }

  function frontTrace() {
    return {
      x: state.front.map(({ x }) => x), y: state.front.map(({ y }) => y), mode: "lines", name: "Pareto front", hoverinfo: "skip",
      line: { color: "#8a8f98", width: 1.5, shape: cost().rising ? "vh" : "hv" },
    };
  }

  // What the looks of points mean, as entries of the key that stand for no sampler.
  function keyTraces() {
    const grey = "#8a8f98";
    const entry = (name, marker) => ({ name, x: [null], y: [null], mode: "markers", hoverinfo: "skip", marker: { color: grey, size: 9, symbol: "circle", ...marker } });
    const off = entry("not on it", { opacity: 0.3 });
    if (!decides()) return [entry("on the staircase", {}), off];
    return [entry("surely on the front", {}), entry("perhaps on the front", { symbol: "circle-open", line: { width: 2 } }), off];
  }

  function outTrace() {
    const places = state.rule.cells.flatMap((_, place) => (isOut(place) && xOf(place) !== null && yOf(place) !== null ? [place] : []));
    if (!places.length) return [];
    return [{
      x: places.map(xOf), y: places.map(yOf), mode: "markers", name: "outside the limits", hoverinfo: "skip",
      marker: { symbol: "x-thin", size: 8, color: reportFigures.colour("--ink"), line: { color: reportFigures.colour("--ink"), width: 1.1 } },
    }];
  }

  // Text is told from what lies behind it by a rim in the colour of the paper.
  const halo = () => { const paper = reportFigures.colour("--card"); return `0 0 3px ${paper}, 0 0 3px ${paper}, 0 0 4px ${paper}, 0 0 4px ${paper}`; };

  // Points as shares of the figure's width and height, nearly: as far as it takes to find room for words.
  function spots() {
    const points = state.rule.cells.map((_, place) => ({ place, x: xOf(place), y: yOf(place) })).filter(({ x, y }) => x !== null && y !== null);
    const scaled = (name) => {
      const values = points.map((each) => each[name]), low = Math.min(...values), high = Math.max(...values);
      const log = low > 0 && high / low > 8, height = (value) => (log ? Math.log(value) : value);
      return points.map((each) => (high > low ? (height(each[name]) - height(low)) / (height(high) - height(low)) : 0.5));
    };
    const across = scaled("x"), upwards = scaled("y");
    return points.map(({ place }, i) => ({ place, x: 0.03 + 0.94 * across[i], y: 0.05 + 0.88 * upwards[i] }));
  }

  const crowd = (points, left, right, low, high) => points.filter(({ x, y }) => x > left && x < right && y > low && y < high).length;

  // The side of the choice where fewest points lie under its name; outside of the figure none is wanted.
  function freeSide(place) {
    const points = spots(), own = points.find((each) => each.place === place), others = points.filter((each) => each !== own);
    const wide = Math.min(0.6, (state.rule.cells[place].label.length * 7.6 + 16) / Math.max(200, stage.clientWidth - 90));
    const sides = ["top right", "top left", "bottom right", "bottom left"].map((name) => {
      const right = name.endsWith("right"), top = name.startsWith("top");
      const [from, to] = right ? [own.x + 0.005, own.x + wide] : [own.x - wide, own.x - 0.005];
      const outside = from < 0 || to > 1 ? 100 : 0;
      return { name, cost: outside + crowd(others, from - 0.01, to + 0.01, top ? own.y + 0.005 : own.y - 0.08, top ? own.y + 0.08 : own.y - 0.005) };
    });
    return sides.reduce((first, each) => (each.cost < first.cost ? each : first)).name;
  }

  // The end of the margin's line, above or below it, where fewest points lie; right and below where all are alike.
  function marginPlace(at) {
    const points = spots(), ys = points.map(({ place }) => yOf(place));
    const low = Math.min(...ys), high = Math.max(...ys);
    const y = high > low ? 0.05 + (0.88 * (at - low)) / (high - low) : 0.5;
    const wide = 130 / Math.max(200, stage.clientWidth - 90);
    const sides = [[1, "top"], [1, "bottom"], [0, "bottom"], [0, "top"]].map(([x, yanchor]) => {
      const [from, to] = x ? [1 - wide, 1.01] : [-0.01, wide];
      return { x, xanchor: x ? "right" : "left", yanchor, cost: yanchor === "top" ? crowd(points, from, to, y - 0.06, y) : crowd(points, from, to, y, y + 0.06) };
    });
    const { cost: _, ...found } = sides.reduce((first, each) => (each.cost < first.cost ? each : first));
    return found;
  }

  function choiceTrace() {
    const place = state.rule.cells.findIndex(({ key }) => key === state.answer.chosen);
    const known = place >= 0 && xOf(place) !== null && yOf(place) !== null;
    const ink = reportFigures.colour("--ink");
    return {
      x: [known ? xOf(place) : null], y: [known ? yOf(place) : null], mode: "markers+text", name: "the choice", hoverinfo: "skip",
      text: [known ? plain(state.rule.cells[place].label) : ""], textposition: known ? freeSide(place) : "top right", textfont: { color: ink, size: 13, weight: 600, shadow: halo() },
      marker: { symbol: "circle-open", size: 19, color: ink, line: { width: 2.5 } }, cliponaxis: false,
    };
  }

  function gapAxis() {
    const gaps = state.rule.cells.map(gapOf).filter((gap) => gap !== null);
    const uppers = [...state.answer.verdicts.values()].map(({ upper }) => upper ?? 0);
    const most = Math.max((offset() + state.margin) * 1.5, ...gaps, ...uppers.map((upper) => offset() + upper), 1), least = Math.min(0, ...gaps);
    const ticks = [0, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 1e4, 1e5].filter((tick) => tick <= most * 1.1);
    return {
      title: { text: "Below the best, in margins (up is better)" }, zeroline: false,
      tickvals: ticks.map(squeeze), ticktext: ticks.map(String), range: [squeeze(most) - 0.15, squeeze(least) + 0.35],
    };
  }

  function scoreAxis() {
    const { title, direction, values, name } = score();
    const text = `${title} (${direction})`;
    const share = /^(judge|zero_shot|precision|recall|coverage|clipped)/.test(name);
    return share ? { title: { text: plain(text) }, zeroline: false, tickformat: ".0%", automargin: true } : numberAxis(text, values);
  }

  function line(position, horizontal) {
    const [fixed, moving] = horizontal ? ["x", "y"] : ["y", "x"];
    return {
      type: "line", [`${fixed}ref`]: "paper", [`${fixed}0`]: 0, [`${fixed}1`]: 1, [`${moving}0`]: position, [`${moving}1`]: position,
      line: { color: reportFigures.colour("--bad"), width: 1.5, dash: "dash" }, layer: "below",
    };
  }

  function note(text, more) {
    return { text: plain(text), showarrow: false, font: { color: reportFigures.colour("--bad"), size: 11, shadow: halo() }, ...more };
  }

  const limitOf = () => state.rule.limits.find(({ name }) => name === cost().limit) ?? null;
  const bound = () => { const limit = limitOf(); return limit ? state.limits[limit.name] ?? null : null; };

  function layout() {
    const x = numberAxis(cost().title + (cost().shown ? ` (${cost().shown})` : ""), page.costs[across.value].values.map((_, place) => xOf(place)));
    const shapes = [], annotations = [];
    if (inMargins()) {
      const at = squeeze(offset() + state.margin);
      shapes.push(line(at, true));
      annotations.push(note(`the margin, ${Number(state.margin.toPrecision(3))}`, { xref: "paper", y: at, ...marginPlace(at) }));
    }
    if (bound() !== null) {
      const at = bound() * cost().factor;
      shapes.push(line(at, false));
      annotations.push(note(`${limitOf().most ? "at most" : "at least"} ${reportWords.measured(bound(), cost().unit)}`, { x: x.type === "log" ? Math.log10(at) : at, yref: "paper", y: 1, yanchor: "bottom", xanchor: "center" }));
    }
    return reportFigures.painted({
      ...reportFigures.size(),
      template: "none", height: 480 + 12 * Math.min(Object.keys(page.looks).length, 12), margin: { l: 64, r: 24, t: 64, b: 56 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 13 }, legend: { orientation: "h", y: 1.07, yanchor: "bottom", x: 0 },
      hovermode: "closest", dragmode: false, xaxis: x, yaxis: inMargins() ? gapAxis() : scoreAxis(), shapes, annotations,
    });
  }

  function caption() {
    const bars = inMargins()
      ? "its bar reaches down to the lowest that its quality may lie below the best."
      : "its bar is the 95 % interval of its own score, where there is one.";
    const drawn = decides()
      ? "A point is a setting; its bar reaches down to the lowest that it may lie. It is shown to be good enough where the whole bar stays above the margin’s line, and the cheapest of these is the choice. On the Pareto front of quality and cost a filled point surely is, a hollow one may be, a faint one surely is not."
      : `A point is a setting; ${bars} The staircase joins those that no other beats in what the axes show; the others are faint.`;
    const lines = [limitOf() && "the limit", inMargins() && "the margin"].filter(Boolean).join(" or ");
    const drag = lines ? ` Drag the handle at the edge to move ${lines}.` : "";
    const doubt = score()?.doubt ? ` ${score().title} here is ${score().doubt}.` : "";
    const best = state.rule.byKey.get(state.answer.best);
    const from = inMargins() && best && best !== state.top ? ` 0 is the best of all; the margin counts from the best within the limits, ${best.label}.` : "";
    document.getElementById("explorer-caption").textContent = drawn + from + drag + doubt;
  }

  function draw() {
    state.front = staircase();
    state.onLine = new Set(state.front.map(({ place }) => place));
    caption();
    Plotly.react(plot, [frontTrace(), ...seriesTraces(), ...keyTraces(), ...outTrace(), choiceTrace()], layout(), reportFigures.options);
  }

  // What lies over the plot, placed in its pixels: rings around points, and the handles of the lines.
  const ring = (name) => { const found = element("div", "", `ring ${name}`); found.hidden = true; stage.append(found); return found; };
  const rings = { pointed: ring("pointed"), selected: ring("selected") };
  const handles = { x: element("div", "", "handle x"), y: element("div", "", "handle y") };
  for (const handle of Object.values(handles)) { handle.setAttribute("aria-hidden", "true"); stage.append(handle); }

  function pixels(place) {
    const { xaxis, yaxis } = plot._fullLayout;
    return [xaxis._offset + xaxis.d2p(xOf(place)), yaxis._offset + yaxis.d2p(yOf(place))];
  }

  function settle() {
    if (!plot._fullLayout?.xaxis) return;
    for (const [name, place] of [["pointed", pointed], ["selected", selected]]) {
      const known = place !== null && xOf(place) !== null && yOf(place) !== null;
      rings[name].hidden = !known;
      if (!known) continue;
      const [left, top] = pixels(place);
      Object.assign(rings[name].style, { left: `${left}px`, top: `${top}px` });
    }
    const { xaxis, yaxis } = plot._fullLayout;
    const edge = limitOf()?.most === false ? 0 : xaxis._length;
    const at = bound() === null ? edge : xaxis.d2p(bound() * cost().factor);
    handles.x.hidden = limitOf() === null;
    Object.assign(handles.x.style, { left: `${xaxis._offset + Math.min(Math.max(at, 0), xaxis._length)}px`, top: `${yaxis._offset}px`, height: `${yaxis._length}px` });
    handles.y.hidden = !inMargins();
    Object.assign(handles.y.style, { left: `${xaxis._offset}px`, width: `${xaxis._length}px`, top: `${yaxis._offset + yaxis.d2p(squeeze(offset() + state.margin))}px` });
  }

  function moved(handle, event) {
    const { xaxis, yaxis } = plot._fullLayout;
    const box = plot.getBoundingClientRect();
    if (handle === handles.y) {
      const gap = loosen(yaxis.p2d(event.clientY - box.top - yaxis._offset));
      return { name: "margin", value: Math.max(gap - offset(), 0.01) };
    }
    const at = event.clientX - box.left - xaxis._offset;
    const beyond = limitOf().most ? at >= xaxis._length : at <= 0;
    return { name: limitOf().name, value: beyond ? null : xaxis.p2d(Math.min(Math.max(at, 0), xaxis._length)) / cost().factor };
  }

  for (const handle of Object.values(handles)) {
    let due = 0;
    handle.addEventListener("pointerdown", (event) => { handle.setPointerCapture(event.pointerId); event.preventDefault(); });
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      cancelAnimationFrame(due);
      due = requestAnimationFrame(() => document.dispatchEvent(new CustomEvent("limit-moved", { detail: moved(handle, event) })));
    });
  }

  function showCard(place) {
    card.replaceChildren(...reportCards.brief(page, state, place));
    card.hidden = false;
    const [left, top] = pixels(place);
    const room = stage.clientWidth - card.offsetWidth - 8;
    Object.assign(card.style, { left: `${Math.max(4, Math.min(left + 16, room))}px`, top: `${Math.max(4, top - card.offsetHeight - 14)}px` });
  }

  const box = document.getElementById("selected"), home = stage.closest("figure");

  function select(key) {
    const place = state.rule.cells.findIndex((cell) => cell.key === key);
    if (place < 0) return;
    selected = place;
    box.replaceChildren(...reportCards.whole(page, state, place));
    box.hidden = false;
    if (!box.isConnected) home.after(box);
    settle();
  }

  document.addEventListener("decision-changed", ({ detail }) => {
    const first = state === null;
    state = { ...detail, top: reportDecision.bestOfAll(detail.rule) };
    clearTimeout(due);
    // Many points are drawn anew when the reader pauses; the handle goes along at once.
    if (first || state.rule.cells.length <= MANY) draw();
    else due = setTimeout(draw, 120);
    settle();
    if (selected !== null) select(state.rule.cells[selected].key);
    if (!first) return;
    plot.on("plotly_afterplot", settle);
    plot.on("plotly_hover", ({ points: [point] }) => typeof point.customdata === "number" && showCard(point.customdata));
    plot.on("plotly_unhover", () => { card.hidden = true; });
    plot.on("plotly_click", ({ points: [point] }) => {
      if (typeof point.customdata !== "number") return;
      document.dispatchEvent(new CustomEvent("cell-selected", { detail: { key: state.rule.cells[point.customdata].key, beside: home } }));
    });
    settle();
  });
  document.addEventListener("cell-selected", ({ detail }) => {
    // The card opens where the reader is: after what was clicked.
    detail.beside?.after(box);
    select(detail.key);
    if (detail.beside) box.scrollIntoView({ block: "nearest" });
  });
  document.addEventListener("cell-pointed", ({ detail }) => {
    const place = state.rule.cells.findIndex(({ key }) => key === detail.key);
    pointed = place < 0 ? null : place;
    settle();
  });

  const gap = new Option("Quality: margins below the best", "");
  if (page.costs.length && page.scores.length) up.append(gap);
  for (const { title, name, rising } of page.scores) if (rising !== null) up.append(new Option(title, name));
  for (const [place, { title }] of page.costs.entries()) across.append(new Option(title, String(place)));
  for (const select of [across, up]) select.addEventListener("change", () => { draw(); settle(); });
  document.addEventListener("colours-changed", () => draw());
})();
