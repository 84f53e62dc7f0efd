"use strict";

// Pictures: the filmstrip of one picture, from noise to the end.
(() => {
  const pictures = window.reportPictures;
  const { data, state, make } = pictures;
  if (!data) return;
  const byId = (id) => document.getElementById(id);
  const choice = byId("pictures-film-of");

  // The strip is one picture with its frames side by side; the steps stand under them. Null where there is none.
  function strip(cell, place) {
    const film = pictures.film(cell, place);
    if (!film) return null;
    const words = `From noise to picture, after ${film.steps.join(", ")} steps: ${pictures.short(pictures.promptOf(place))}, ${data.labels[cell]}`;
    const box = make("div", { className: "strip", tabIndex: 0 });
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", "Filmstrip");
    box.style.setProperty("--frames", film.steps.length);
    box.style.setProperty("--frame-shape", film.width / film.height);
    const img = pictures.image(film.address, words);
    img.addEventListener("load", () => img.classList.toggle("small", film.height <= 128));
    const labels = film.steps.map((step) => make("span", { textContent: step === 0 ? "noise" : `step ${step}` }));
    const row = make("div", { className: "strip-steps" }, ...labels);
    row.setAttribute("aria-hidden", "true");
    box.append(make("div", { className: "strip-inner" }, img, row));
    return box;
  }

  // Places of the pictures that a cell has a film of.
  function places(cell) {
    if (!data.films[cell]) return [];
    const found = [];
    for (const prompt of pictures.promptsShown)
      for (let draw = 0; draw < data.draws; draw += 1)
        if (pictures.film(cell, prompt * data.draws + draw)) found.push(prompt * data.draws + draw);
    return found;
  }

  pictures.showFilm = () => {
    const figure = byId("pictures-film"), target = byId("pictures-film-strip");
    figure.hidden = Object.keys(data.films).length === 0;
    if (figure.hidden) return;
    const found = places(state.selected), asked = Number(choice.value);
    const shown = found.includes(asked) && choice.value !== "" ? asked : found[0];
    choice.replaceChildren(...found.map((place) => make("option", { value: place, textContent: pictures.short(pictures.promptOf(place), 80) })));
    choice.parentElement.hidden = found.length < 2;
    byId("pictures-film-h").textContent = `From noise to picture: ${data.labels[state.selected]}`;
    if (shown === undefined) {
      const inside = data.mode === "embedded" && data.films[state.selected];
      const words = inside ? "This page does not carry this setting’s filmstrips; they lie in the run’s folder." : "No filmstrip was kept of this setting.";
      target.replaceChildren(make("p", { className: "note", textContent: words }));
      return;
    }
    choice.value = shown;
    target.replaceChildren(strip(state.selected, shown));
  };
  choice.addEventListener("change", () => pictures.showFilm());
  pictures.strip = strip;
})();
