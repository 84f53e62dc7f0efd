"use strict";

// The rule of eval/reporting/decide.py on the JSON in the page, so that limits and the margin can be moved. Pure.
const reportDecision = (() => {
  // The upper triangle of the pairs' errors as a square, row by row.
  function square(text, size) {
    const letters = atob(text), bytes = new Uint8Array(letters.length);
    for (let at = 0; at < bytes.length; at += 1) bytes[at] = letters.charCodeAt(at);
    const found = new Float32Array(bytes.buffer), table = new Float32Array(size * size);
    for (let i = 0, at = 0; i < size; i += 1) {
      for (let j = i + 1; j < size; j += 1, at += 1) table[i * size + j] = table[j * size + i] = found[at];
    }
    return table;
  }

  // What `decide` takes: the page's JSON with its errors decoded once.
  function open(json) {
    const size = json.critical.length;
    return { ...json, size, table: square(json.errors, size), byKey: new Map(json.cells.map((cell) => [cell.key, cell])) };
  }

  function ownLimits(rule) {
    return Object.fromEntries(rule.limits.map((limit) => [limit.name, limit.value]));
  }

  function breaches(rule, cell, limits) {
    return rule.limits.filter((limit) => {
      const bound = limits[limit.name] ?? null;
      const value = cell.measures[limit.measure] ?? null;
      if (bound === null) return false;
      return value === null || !(limit.most ? value <= bound : value >= bound);
    });
  }

  function whyOut(rule, cell, limits) {
    if (cell.failed !== null) return { kind: "failed" };
    const over = breaches(rule, cell, limits);
    if (over.length) return { kind: "over_limit", over };
    if (cell.guarded !== null) return { kind: "guarded" };
    return cell.place === null ? { kind: "unscored" } : null;
  }

  // For each cell: the gap to the best as measured, the most and the least that it may be, and the pictures it lacks.
  function gaps(rule, field, margin) {
    const best = Math.max(...field.map((cell) => cell.quality));
    return field.map((cell) => {
      let upper = 0, lower = 0, factor = 0, beaten = false;
      for (const other of field) {
        if (other === cell) continue;
        const lead = other.quality - cell.quality;
        const error = rule.table[other.place * rule.size + cell.place];
        const reach = rule.critical[other.place] * error;
        upper = Math.max(upper, lead + reach);
        lower = Math.max(lower, lead - rule.critical_pairs * error);
        beaten = beaten || lead >= margin;
        if (lead < margin) factor = Math.max(factor, (reach / (margin - lead)) ** 2);
      }
      const more = beaten ? null : Math.max(0, Math.ceil(rule.pictures * (factor - 1)));
      return { cell, gap: best - cell.quality, upper, lower, more };
    });
  }

  function cheapest(rule, shown) {
    const priced = shown.filter((each) => each.cell.cost !== null);
    if (!priced.length) return null;
    const limit = Math.min(...priced.map((each) => each.cell.cost)) * (1 + rule.tie);
    const level = priced.filter((each) => each.cell.cost <= limit);
    return level.reduce((first, each) => (each.cell.quality > first.cell.quality ? each : first));
  }

  // Good enough, as cheap as the choice as far as costs can be told apart, and of lower quality.
  function ties(rule, cell, chosen) {
    return chosen !== null && cell.cost <= chosen.cell.cost * (1 + rule.tie) && chosen.cell.quality > cell.quality;
  }

  function kindOf(rule, each, chosen, margin) {
    if (each === chosen) return "chosen";
    if (each.upper <= margin) return each.cell.cost === null ? "uncosted" : ties(rule, each.cell, chosen) ? "tied" : "dearer";
    return each.lower > margin ? "worse" : "unsure";
  }

  // Who is on the Pareto front of quality and cost among these, as far as that is sure.
  function front(rule, cells) {
    const priced = cells.filter((cell) => cell.cost !== null);
    const found = new Map();
    for (const cell of priced) {
      let on = true, off = false;
      for (const other of priced) {
        if (other === cell) continue;
        const reach = rule.critical_pairs * rule.table[other.place * rule.size + cell.place];
        const lead = cell.quality - other.quality;
        if (lead <= reach && other.cost <= cell.cost * (1 + rule.tie)) on = false;
        if (-lead > reach && other.cost <= cell.cost) { off = true; break; }
      }
      found.set(cell.key, on ? "on" : off ? "off" : "unsure");
    }
    return found;
  }

  const compared = (rule) => rule.cells.filter((cell) => cell.failed === null && cell.place !== null);

  // A cell among all that were compared, without limits and guards: the best of them, and how far below it the cell lies.
  function unlimited(rule, key, margin) {
    const found = gaps(rule, compared(rule), margin);
    const { cell } = found.reduce((first, each) => (each.gap < first.gap ? each : first));
    const { gap, upper } = found.find((each) => each.cell.key === key);
    return { best: cell.key, gap, upper };
  }

  // Of highest quality whatever the limits, so that a figure keeps its 0; null where nothing was compared.
  function bestOfAll(rule) {
    const field = compared(rule);
    return field.length ? field.reduce((first, cell) => (cell.quality > first.quality ? cell : first)) : null;
  }

  // `limits`: name -> number or null. `margin`: in margins of the rule. Verdicts and front go by cell key.
  function decide(rule, limits, margin) {
    const verdicts = new Map(), field = [];
    for (const cell of rule.cells) {
      const out = whyOut(rule, cell, limits);
      if (out) verdicts.set(cell.key, { gap: null, upper: null, more: null, ...out });
      else field.push(cell);
    }
    const answer = { verdicts, front: front(rule, field), chosen: null, best: null, more: null, shown: [], within: field.length, limited: false };
    answer.limited = field.length < compared(rule).length;
    if (!field.length) {
      const out = [...verdicts.values()].some(({ kind }) => kind === "over_limit" || kind === "guarded");
      return { ...answer, status: rule.size && out ? "no_cell_meets_limits" : "unknown" };
    }
    const found = gaps(rule, field, margin);
    const shown = found.filter((each) => each.upper <= margin);
    const chosen = cheapest(rule, shown);
    for (const each of found) {
      const kind = kindOf(rule, each, chosen, margin);
      const more = kind === "unsure" ? each.more : null;
      verdicts.set(each.cell.key, { kind, gap: each.gap, upper: each.upper, lower: each.lower, more });
    }
    answer.shown = shown.map((each) => each.cell.key);
    answer.best = found.reduce((first, each) => (each.gap < first.gap ? each : first)).cell.key;
    if (chosen) return { ...answer, status: "chosen", chosen: chosen.cell.key };
    if (shown.length) return { ...answer, status: "unknown" };
    return { ...answer, status: "too_few", more: Math.min(...found.map((each) => each.more ?? Infinity)) };
  }

  return { open, decide, ownLimits, unlimited, bestOfAll };
})();
