"use strict";

// Numbers and verdicts as people read them, in the words of eval/reporting/decide.py and costs.py. Pure.
const reportWords = (() => {
  const SHARES = /^(judge|zero_shot|precision|recall|coverage|clipped)/;
  const TOO_MANY = 10000;
  const digits = (value, count) => String(Number(value.toPrecision(count)));
  // Three digits that count, and never fewer than stand before the point.
  const short = (value) => (Math.abs(value) < 1000 ? value.toPrecision(3) : value.toFixed(0));
  const lowered = (text) => text[0].toLowerCase() + text.slice(1);
  const settings = (count) => `${count} ${count === 1 ? "setting" : "settings"}`;

  function measured(value, unit) {
    if (unit === "s") return value < 1 ? `${digits(value * 1e3, 3)} ms` : `${digits(value, 3)} s`;
    if (unit === "B") return value >= 1e9 ? `${digits(value / 1e9, 3)} GB` : `${digits(value / 1e6, 3)} MB`;
    return `${digits(value, 4)}${unit && ` ${unit}`}`;
  }

  function cost(rule, value) {
    return rule.cost.unit === "s" ? measured(value, "s") : `${digits(value, 6)} ${rule.cost.title}`;
  }

  // A score's value, as eval/reporting/axes.py shows it.
  function score(name, value) {
    if (SHARES.test(name) && value >= 0 && value <= 1) return `${(100 * value).toFixed(1)} %`;
    return name.startsWith("clip_score") ? value.toFixed(2) : digits(value, 4);
  }

  // A difference of quality: in the score's own unit where the rule has one score alone.
  function gap(rule, value) {
    return rule.scores.length === 1 ? `${size(rule, value)} in ${rule.scores[0].title}` : size(rule, value);
  }

  // The same without the score's name, where that has just been said.
  function size(rule, value) {
    if (rule.scores.length !== 1) return short(value) === "1.00" ? "1 margin" : `${short(value)} margins`;
    const [{ name, margin }] = rule.scores;
    return SHARES.test(name) ? `${(100 * value * margin).toFixed(1)} points` : short(value * margin);
  }

  // The best that a gap counts from: of all settings, or of those within the limits.
  const best = ({ limited }) => (limited ? "the best within the limits" : "the best one measured");

  function over(limit, cell, limits) {
    const value = cell.measures[limit.measure] ?? null;
    const asked = `${lowered(limit.title)} ${measured(limits[limit.name], limit.unit)}`;
    return value === null ? `${asked}: not known for it` : `${asked}: it has ${measured(value, limit.unit)}`;
  }

  function dearer(rule, cell, chosen) {
    if (!chosen || !(chosen.cost > 0)) return "It is good enough too.";
    const times = cell.cost / chosen.cost;
    return `It is good enough, but costs ${times >= 2 ? `${times.toFixed(1)} times as much` : `${Math.round(100 * (times - 1))} % more`}.`;
  }

  function unsure(rule, answer, { gap: measuredGap, upper, more }) {
    const text = `It lies ${gap(rule, measuredGap)} below ${best(answer)}, and may lie ${gap(rule, upper)} below.`;
    if (more === null) return `${text} It is measured to lie beyond the margin.`;
    if (more > TOO_MANY) return `${text} It lies too near the margin for more pictures to settle.`;
    return `${text} ${more} pictures more would show it to be good enough, were the values to stay.`;
  }

  function verdict(rule, answer, cell, limits) {
    const found = answer.verdicts.get(cell.key);
    const chosen = rule.byKey.get(answer.chosen);
    return {
      chosen: () => "It is the choice.",
      dearer: () => dearer(rule, cell, chosen),
      tied: () => "It is good enough and costs as much; the choice has the higher quality.",
      uncosted: () => "It is good enough, but its cost is not known.",
      unsure: () => unsure(rule, answer, found),
      worse: () => `Its quality is lower by ${gap(rule, found.gap)}, and surely by more than ${gap(rule, found.lower)}.`,
      over_limit: () => `It does not meet the limits: ${found.over.map((each) => over(each, cell, limits)).join("; ")}.`,
      guarded: () => `A guard leaves it out: ${cell.guarded}.`,
      failed: () => `It failed: ${cell.failed}`,
      unscored: () => `It cannot be compared: ${cell.reason}.`,
    }[found.kind]();
  }

  function reason(rule, answer) {
    if (answer.status === "too_few") {
      const enough = answer.more > TOO_MANY ? "the nearest lies too near the margin for more to settle" : `${answer.more} more would do, were the values to stay`;
      return `too few images to tell: ${rule.pictures} pictures a setting show none to lie within the margin of the best; ${enough}`;
    }
    if (answer.status === "no_cell_meets_limits") {
      const tried = [...answer.verdicts.values()].filter(({ kind }) => kind !== "failed").length;
      return `none of the ${settings(tried)} that have a result meets the limits`;
    }
    if (answer.shown.length) return "no cost was measured for the settings that are shown to lie within the margin";
    return rule.reason ?? "no setting can be compared";
  }

  function sentence(rule, answer) {
    const cell = rule.byKey.get(answer.chosen);
    if (!cell) return `No decision: ${reason(rule, answer)}.`;
    const price = cell.cost === null ? "" : `, at ${cost(rule, cell.cost)} a picture`;
    const tied = [...answer.verdicts.values()].some(({ kind }) => kind === "tied");
    const equal = tied ? `; costs within ${digits(100 * rule.tie, 3)} % count as equal` : "";
    const all = answer.limited ? `Of the ${settings(answer.within)} within the limits, the` : "The";
    const what = tied ? "best of the cheapest settings that are" : answer.limited ? "cheapest that is" : "cheapest setting that is";
    return `${all} ${what} shown to be as good as the best${answer.limited ? " of them" : ""} to within the margin${price}${equal}.`;
  }

  // How far below the best, where limits keep some out: of those within them, and of all.
  function beside(rule, answer, margin, mine) {
    const cell = rule.byKey.get(answer.chosen), all = reportDecision.unlimited(rule, cell.key, margin);
    const { upper } = answer.verdicts.get(cell.key);
    const within = `Of the ${settings(answer.within)} within ${mine ? "the" : "your"} limits it lies at most ${gap(rule, upper)} below the best.`;
    const held = `${size(rule, all.upper)}, ${all.upper > margin ? "more than" : "within"} the margin of ${size(rule, margin)}`;
    const free = [...answer.verdicts.values()].some(({ kind }) => kind === "guarded") ? "Without limits and guards" : "Without limits";
    if (all.best === cell.key) return `${within} ${free} it is the best measured too, and lies at most ${held}, below whichever truly is.`;
    return `${within} ${free} ${rule.byKey.get(all.best).label} is the best: this lies ${gap(rule, all.gap)} below it, at most ${held}.`;
  }

  return { TOO_MANY, measured, cost, score, gap, beside, verdict, reason, sentence, settings };
})();
