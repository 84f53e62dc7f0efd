"use strict";

// Pictures: two of one prompt on top of each other, with a divider that keys and fingers move.
(() => {
  const pictures = window.reportPictures;
  const { data, make } = pictures;
  if (!data) return;
  const byId = (id) => document.getElementById(id);
  const stage = byId("picture-stage"), divider = byId("picture-divider"), sides = byId("picture-sides");
  let labels = null;

  function cut() {
    stage.style.setProperty("--cut", `${divider.value}%`);
    if (labels) divider.setAttribute("aria-valuetext", `${divider.value} % ${labels[0]}, the rest ${labels[1]}`);
  }

  function alone(cell, place) {
    const address = pictures.large(cell, place);
    labels = null;
    byId("picture-divider-label").hidden = sides.hidden = true;
    stage.classList.remove("two");
    stage.replaceChildren(address ? pictures.image(address, words(cell, place)) : pictures.gone(pictures.lack(cell, place)));
  }

  function words(cell, place) {
    return `${pictures.short(pictures.promptOf(place))}, ${data.labels[cell]}`;
  }

  // `cell` to the left of the divider, `other` to its right.
  function pair(cell, other, place) {
    const addresses = [cell, other].map((each) => pictures.large(each, place));
    if (!addresses.every(Boolean)) return alone(cell, place);
    labels = [data.labels[cell], data.labels[other]];
    const [left, right] = addresses.map((address, i) => pictures.image(address, words([cell, other][i], place)));
    right.classList.add("over");
    stage.replaceChildren(left, right, make("span", { className: "line" }));
    stage.classList.add("two");
    byId("picture-left").textContent = `◀ ${labels[0]}`;
    byId("picture-right").textContent = `${labels[1]} ▶`;
    byId("picture-divider-label").hidden = sides.hidden = false;
    cut();
    return undefined;
  }

  function drag(event) {
    if (!stage.classList.contains("two") || (event.type === "pointermove" && event.buttons !== 1)) return;
    const box = stage.getBoundingClientRect();
    divider.value = Math.round((100 * (event.clientX - box.left)) / box.width);
    cut();
    event.preventDefault();
  }

  divider.addEventListener("input", cut);
  stage.addEventListener("pointerdown", (event) => { stage.setPointerCapture(event.pointerId); drag(event); });
  stage.addEventListener("pointermove", drag);
  pictures.stage = { alone, pair };
})();
