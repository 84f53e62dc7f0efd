"use strict";

// The decision in words, and the limits that move it. Tells the rest of the page by "decision-changed".
(() => {
  const json = JSON.parse(document.getElementById("decision-data").textContent);
  const page = JSON.parse(document.getElementById("page-data").textContent);
  const rule = reportDecision.open(json);
  const form = document.getElementById("limits");
  const inputs = form ? [...form.querySelectorAll("input[data-factor]")] : [];
  const marginInput = document.getElementById("limit-margin");
  const places = new Map(rule.cells.map((cell, place) => [cell.key, place]));
  const element = (name, text, className = "") => Object.assign(document.createElement(name), { textContent: text, className });
  const own = { limits: reportDecision.ownLimits(rule), margin: rule.margin };

  const isWrong = (input) => input.validity.badInput || (input.value !== "" && !(Number(input.value) > 0)) || (input.required && input.value === "");

  // Why a number cannot be a limit, beside it in words.
  function check(input) {
    const wrong = isWrong(input);
    const said = document.getElementById(`wrong-${input.id.replace("limit-", "")}`);
    said.textContent = wrong ? "Give a number above 0. Until then the run’s own counts." : "";
    said.hidden = !wrong;
    if (wrong) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }

  // What the form says. A field that nobody touched has the run's own number in full, not in the digits shown.
  function asked() {
    const limits = { ...own.limits };
    for (const input of inputs.filter((each) => each.value !== each.defaultValue && !isWrong(each))) {
      limits[input.name] = input.value === "" ? null : Number(input.value) / Number(input.dataset.factor);
    }
    const text = marginInput?.value ?? "";
    const kept = !marginInput || text === marginInput.defaultValue || isWrong(marginInput);
    return { limits, margin: kept ? own.margin : Number(text) };
  }

  function isOwn({ limits, margin }) {
    return margin === own.margin && Object.keys(own.limits).every((name) => own.limits[name] === limits[name]);
  }

  const NONE = { too_few: "Too few images to tell", no_cell_meets_limits: "No setting meets the limits" };

  function headline(answer, cell) {
    const line = document.getElementById("choice-setting");
    line.classList.toggle("none", !cell);
    if (!cell) return line.replaceChildren(NONE[answer.status] ?? "No decision");
    const strong = (text) => element("b", text);
    return line.replaceChildren("Use ", strong(cell.series), " with ", strong(`${cell.steps} steps`), " at ", strong(`guidance ${cell.guidance}`));
  }

  function ground(title, value, note, caution = "") {
    const box = document.createElement("div");
    const said = element("dd", value);
    said.append(element("small", note));
    if (caution) said.append(element("small", caution, "bad"));
    box.append(element("dt", title), said);
    return box;
  }

  function costGround(answer, cell) {
    const best = rule.byKey.get(answer.best);
    const ratio = best && best !== cell && best.cost > 0 && cell.cost > 0 ? best.cost / cell.cost : 1;
    const note = ratio >= 1.1 ? `; ${ratio.toFixed(1)} times less than the best${answer.limited ? " within the limits" : ""}, ${best.label}` : "";
    const doubt = page.doubts[places.get(cell.key)];
    return ground("Cost a picture", reportWords.cost(rule, cell.cost), `${rule.cost.title}${note}`, doubt);
  }

  function nearness(answer, cell, margin, mine) {
    const { upper, gap } = answer.verdicts.get(cell.key);
    const sure = `at ${Number((100 * rule.confidence).toPrecision(4))} % confidence, whichever setting is truly the best`;
    const bound = `at most ${reportWords.gap(rule, upper)}`;
    if (answer.limited) return ground("How far below the best within the limits", bound, `${reportWords.beside(rule, answer, margin, mine)} All this ${sure}.`);
    const measured = cell.key === answer.best ? "it is the best one measured" : `${reportWords.gap(rule, gap)} as measured`;
    return ground("How far below the best", bound, `${sure}; ${measured}. The margin is ${reportWords.gap(rule, margin)}.`);
  }

  function wanted({ more }) {
    if (more > reportWords.TOO_MANY) return ground("What would tell", "Not more pictures", "all lie too near the margin for that");
    return ground("What would tell", `${more} more pictures`, "a setting, were the values to stay as they are");
  }

  function grounds(answer, margin, mine) {
    const list = document.getElementById("grounds");
    const cell = rule.byKey.get(answer.chosen);
    const boxes = [];
    if (cell && cell.cost !== null) boxes.push(costGround(answer, cell));
    if (cell) boxes.push(nearness(answer, cell, margin, mine));
    if (answer.status === "too_few") boxes.push(wanted(answer));
    if (rule.pictures) {
      boxes.push(ground("Rests on", `${rule.pictures} pictures a setting`, `the same prompts and seeds for ${reportWords.settings(rule.size)}`));
    }
    list.replaceChildren(...boxes);
    list.hidden = !boxes.length;
  }

  function code(cell) {
    const box = document.getElementById("choice-code");
    const call = cell && page.codes[places.get(cell.key)];
    box.hidden = !call;
    box.querySelector("code").textContent = call ? `from sdkit import generate\n\n${call}` : "";
  }

  // Those that a reader asks about: cheaper ones that come nearest, then the best ones that cost more.
  function rivals(answer) {
    const chosen = rule.byKey.get(answer.chosen);
    const found = rule.cells.map((cell) => ({ cell, ...answer.verdicts.get(cell.key) })).filter(({ upper, kind }) => upper !== null && kind !== "chosen");
    const cheaper = chosen ? found.filter(({ cell }) => cell.cost !== null && cell.cost < chosen.cost) : [];
    const near = cheaper.sort((a, b) => a.upper - b.upper).slice(0, 3);
    const top = found.filter((each) => !near.includes(each)).sort((a, b) => a.gap - b.gap).slice(0, 5 - near.length);
    return [...near, ...top].map(({ cell }) => cell);
  }

  function showRivals(answer, say) {
    const box = document.getElementById("rivals");
    const items = rivals(answer).map((cell) => {
      const item = document.createElement("li");
      const { kind } = answer.verdicts.get(cell.key);
      const pick = element("button", cell.label, "link");
      pick.type = "button";
      pick.addEventListener("click", () => document.dispatchEvent(new CustomEvent("cell-selected", { detail: { key: cell.key, beside: box.querySelector("ul") } })));
      const price = cell.cost === null ? "" : ` ${reportWords.cost(rule, cell.cost)}.`;
      item.append(pick, " ", element("span", page.verdicts[kind], `mark is-${kind}`), `${price} ${say(cell.key)}`);
      return item;
    });
    box.querySelector("ul").replaceChildren(...items);
    box.hidden = !items.length;
  }

  function counts(answer) {
    const kinds = [...answer.verdicts.values()].map(({ kind }) => kind);
    const count = (...wanted) => kinds.filter((kind) => wanted.includes(kind)).length;
    const parts = [
      [count("chosen", "tied", "dearer", "uncosted"), `shown to lie within the margin of the best${answer.limited ? " within the limits" : ""}`],
      [count("worse"), "surely worse by more than it"],
      [count("unsure"), "not to be told with this many pictures"],
      [count("over_limit"), "outside the limits"],
      [count("guarded"), "left out by a guard"],
      [count("failed"), "failed"],
      [count("unscored"), "not comparable"],
    ].filter(([number]) => number).map(([number, what]) => `${number} ${number === 1 ? "is" : "are"} ${what}`);
    return `With your limits: of ${reportWords.settings(kinds.length)} ${parts.join(", ")}.`;
  }

  function show() {
    const now = asked();
    const mine = isOwn(now);
    const answer = reportDecision.decide(rule, now.limits, now.margin);
    const say = (key) => (mine && json.verdicts[key]?.sentence) || reportWords.verdict(rule, answer, rule.byKey.get(key), now.limits);
    const cell = rule.byKey.get(answer.chosen);
    headline(answer, cell);
    document.getElementById("choice-sentence").textContent = reportWords.sentence(rule, answer);
    grounds(answer, now.margin, mine);
    code(cell);
    document.getElementById("evidence").hidden = !mine;
    document.getElementById("moved").hidden = mine;
    document.getElementById("moved").textContent = mine ? "" : counts(answer);
    showRivals(answer, say);
    if (form) {
      document.getElementById("limits-reset").disabled = mine;
      document.getElementById("echo").textContent = cell ? `So the choice is ${cell.label}.` : `So there is no choice: ${reportWords.reason(rule, answer)}.`;
    }
    document.dispatchEvent(new CustomEvent("decision-changed", { detail: { rule, answer, say, own: mine, ...now } }));
  }

  // The figure's limit lines, when they are drawn elsewhere: `value` is in the measure's own unit.
  document.addEventListener("limit-moved", ({ detail: { name, value } }) => {
    const input = name === "margin" ? marginInput : inputs.find((each) => each.name === name);
    if (!input) return;
    input.value = value === null ? "" : String(Number((value * Number(input.dataset.factor ?? 1)).toPrecision(3)));
    check(input);
    show();
  });
  if (form) {
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    let due = 0;
    form.addEventListener("input", ({ target }) => {
      check(target);
      cancelAnimationFrame(due);
      due = requestAnimationFrame(show);
    });
    document.getElementById("limits-reset").addEventListener("click", () => {
      form.reset();
      [...inputs, marginInput].forEach(check);
      show();
    });
  }
  show();
})();
