"use strict";

// Pictures: what can be laid along an axis, which cell stands where, and in which order prompts are shown.
(() => {
  const pictures = window.reportPictures;
  const { data } = pictures;
  if (!data) return;

  function axis(id, title, ofCell, text, numeric) {
    const values = [...new Set(data.keys.map((_, cell) => ofCell(cell)))];
    if (numeric) values.sort((a, b) => a - b);
    const places = new Map(values.map((value, i) => [value, i]));
    const of = (cell) => places.get(ofCell(cell));
    return { id, title, values, parts: [id], text: (i) => text(values[i]), of, coordinates: (i) => ({ [id]: i }) };
  }

  // Several axes along one side: its values are the combinations that some cell has, the first part outermost.
  function joined(id, title, parts) {
    const found = new Map();
    data.keys.forEach((_, cell) => {
      const places = parts.map((each) => each.of(cell));
      found.set(places.join(), places);
    });
    const compare = (a, b) => a.map((place, i) => place - b[i]).find((difference) => difference !== 0) ?? 0;
    const values = [...found.values()].sort(compare);
    const at = new Map(values.map((places, i) => [places.join(), i]));
    const last = (i) => parts.slice(1).map((each, k) => (each.values.length > 1 ? each.text(values[i][k + 1]) : "")).filter(Boolean).join(" · ");
    return {
      id, title, values,
      parts: parts.map((each) => each.id),
      group: (i) => parts[0].text(values[i][0]),
      text: (i) => last(i) || parts[0].text(values[i][0]),
      of: (cell) => at.get(parts.map((each) => each.of(cell)).join()),
      coordinates: (i) => Object.fromEntries(parts.map((each, k) => [each.id, values[i][k]])),
    };
  }

  const own = [
    ...data.marks.map((heading, i) => axis(`mark-${i}`, heading, (cell) => data.marked?.[cell]?.[i] ?? "", (value) => value)),
    axis("sampler", "Sampler", (cell) => data.samplers[cell], (value) => value),
    axis("steps", "Steps", (cell) => data.steps[cell], (value) => `${value} ${value === 1 ? "step" : "steps"}`, true),
    axis("guidance", "Guidance", (cell) => data.guidances[cell], (value) => `g ${Number(value.toPrecision(6))}`, true),
  ];
  const prompts = {
    id: "prompt",
    title: "Prompt",
    values: pictures.promptsShown,
    parts: ["prompt"],
    coordinates: (i) => ({ prompt: i }),
    text: (i) => pictures.short(data.prompts[pictures.promptsShown[i]]) || "(empty prompt)",
  };
  const [series, steps] = [own.slice(0, -2), own.at(-2)];
  const several = [
    joined("sampler-steps", data.marks.length ? `${data.marks.join(", ")}, sampler and steps` : "Sampler and steps", [...series, steps]),
    joined("setting", "Every setting", own),
  ];
  // Of two cells at one point, the first: labels tell cells apart by more than the axes only if runs were merged.
  const at = new Map();
  for (let cell = data.keys.length - 1; cell >= 0; cell -= 1) at.set(own.map((each) => each.of(cell)).join(), cell);

  // The cell at a point, -1 where there is none. `point` has a value's place for every axis but the prompt's.
  const cellAt = (point) => at.get(own.map((each) => point[each.id]).join()) ?? -1;
  const pointOf = (cell) => Object.fromEntries(own.map((each) => [each.id, each.of(cell)]));

  const known = (cells, place) => cells.map((cell) => pictures.score(cell, place)).filter((value) => !Number.isNaN(value));

  // How much a prompt's pictures differ in score; NaN where fewer than two have one.
  function spread(cells, place) {
    const values = known(cells, place);
    return values.length < 2 ? NaN : Math.max(...values) - Math.min(...values);
  }

  // How far a cell's picture lies below the prompt's best one; NaN where it has no score.
  function behind(cell, cells, place) {
    const value = pictures.score(cell, place);
    return Number.isNaN(value) ? NaN : Math.max(value, ...known(cells, place)) - value;
  }

  // Places in `prompts.values`, in order. `cells` are those that the grid shows, `cell` the selected one.
  function ordered(order, cells, cell, draw) {
    const places = prompts.values.map((_, i) => i);
    if (order === "file") return places;
    const picture = (i) => prompts.values[i] * data.draws + draw;
    const rank = places.map((i) => {
      const value = order === "changed" ? spread(cells, picture(i)) : behind(cell, cells, picture(i));
      const wrong = order === "worst" && pictures.verdict(cell, picture(i)) === false;
      return [wrong ? 0 : 1, Number.isNaN(value) ? Infinity : -value];
    });
    const compare = (a, b) => (a === b ? 0 : a < b ? -1 : 1);
    return places.sort((a, b) => compare(rank[a][0], rank[b][0]) || compare(rank[a][1], rank[b][1]) || a - b);
  }

  function why(order, cells, cell, place) {
    const value = order === "changed" ? spread(cells, place) : order === "worst" ? behind(cell, cells, place) : NaN;
    if (Number.isNaN(value)) return "";
    return order === "changed" ? `CLIP scores ${value.toFixed(1)} apart` : `CLIP score ${value.toFixed(1)} below the prompt’s best`;
  }

  Object.assign(pictures, { axes: [prompts, ...own, ...several], ownAxes: own, promptAxis: prompts, cellAt, pointOf, ordered, why });
})();
