"use strict";

// What is told of one setting: in brief beside its point, and as a whole below the figure.
const reportCards = (() => {
  const element = (name, text, className = "") => Object.assign(document.createElement(name), { textContent: text, className });

  function thumbnail(key) {
    const uri = typeof reportPictures === "undefined" ? null : reportPictures.thumb?.(key);
    if (!uri) return [];
    const image = element("img", "");
    Object.assign(image, { src: uri, alt: "" });
    return [image];
  }

  function facts(page, state, place) {
    const cell = state.rule.cells[place];
    const spent = page.costs.filter(({ values }) => values[place] !== null).map(({ title, values, unit, doubts }) => [title, reportWords.measured(values[place], unit), doubts[place]]);
    const scores = page.scores.filter(({ values }) => values[place] !== null).map(({ name, title, values, low, high, doubt }) => {
      const span = low[place] === null || high[place] === null ? "" : ` (${reportWords.score(name, low[place])} to ${reportWords.score(name, high[place])})`;
      return [title, `${reportWords.score(name, values[place])}${span}`, doubt];
    });
    return { cell, spent, scores };
  }

  function brief(page, state, place) {
    const { cell, spent, scores } = facts(page, state, place);
    const lines = [...scores.slice(0, 4), ...spent.slice(0, 2)].map(([title, value, doubt]) => {
      const line = element("p", `${title}: ${value}`);
      if (doubt) line.append(" ", element("span", doubt, "bad"));
      return line;
    });
    return [...thumbnail(cell.key), element("strong", cell.label), ...lines, element("p", state.say(cell.key), "said")];
  }

  function whole(page, state, place) {
    const { cell, spent, scores } = facts(page, state, place);
    const list = document.createElement("dl");
    for (const [title, value, doubt] of [...spent, ...scores]) {
      const pair = document.createElement("div"), said = element("dd", value);
      if (doubt) said.append(" ", element("span", doubt, "bad"));
      pair.append(element("dt", title), said);
      list.append(pair);
    }
    const { kind } = state.answer.verdicts.get(cell.key);
    const said = element("p", "");
    said.append(element("span", page.verdicts[kind], `mark is-${kind}`), ` ${state.say(cell.key)}`);
    const code = page.codes[place];
    return [...thumbnail(cell.key), element("h3", cell.label), said, list, ...(code ? [codeBox(code)] : [])];
  }

  function codeBox(text) {
    const box = element("div", "", "code"), pre = document.createElement("pre"), copy = element("button", "Copy", "copy");
    copy.type = "button";
    pre.tabIndex = 0;
    pre.append(element("code", text));
    box.append(pre, copy);
    return box;
  }

  return { brief, whole };
})();
