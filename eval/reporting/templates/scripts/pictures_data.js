"use strict";

// Pictures: what the page knows of each, unpacked from its columns. A cell is a row of them, a place is a
// prompt with one of its draws. Everything else about pictures is built on `window.reportPictures`.
(() => {
  const element = document.getElementById("pictures-data");
  if (!element) {
    window.reportPictures = { thumb: () => null };
    return;
  }
  const data = JSON.parse(element.textContent);
  const cells = data.keys.length;
  const places = data.prompts.length * data.draws;
  const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const clip = data.clip && new Float32Array(bytes(data.clip).buffer);
  const judge = data.judge && bytes(data.judge);
  const present = data.present && bytes(data.present);
  const orders = data.orders.map((text) => text && new Int32Array(bytes(text).buffer));
  const failed = new Set(data.failed);
  const byKey = new Map(data.keys.map((key, cell) => [key, cell]));
  const NOT_JUDGED = 255;

  const cellOf = (key) => byKey.get(key) ?? -1;
  const promptOf = (place) => data.prompts[Math.floor(place / data.draws)];
  const name = (index) => `${String(index).padStart(5, "0")}.png`;
  const folderOf = (cell) => `${data.homes[data.home[cell]]}cells/${encodeURIComponent((data.own_keys ?? data.keys)[cell])}`;

  function indexOf(cell, place) {
    if (failed.has(cell)) return -1;
    const order = orders[data.run[cell]];
    return order ? order[place] : place;
  }

  function isPresent(cell, place) {
    const bit = cell * places + place;
    return indexOf(cell, place) >= 0 && (!present || ((present[bit >> 3] >> (bit & 7)) & 1) === 1);
  }

  function score(cell, place) {
    return clip ? clip[cell * places + place] : NaN;
  }

  // true, false, or null where nobody judged.
  function verdict(cell, place) {
    const bits = judge ? judge[cell * places + place] : NOT_JUDGED;
    return bits === NOT_JUDGED ? null : bits === 0;
  }

  function wrongs(cell, place) {
    return data.attributes.filter((_, bit) => (judge[cell * places + place] >> bit) & 1);
  }

  // In a page that carries its pictures, only those; else the small copy or the picture's own file.
  function small(cell, place) {
    const index = indexOf(cell, place);
    const copy = data.pictures[cell]?.[index];
    if (copy) return copy;
    return data.mode === "beside" && isPresent(cell, place) ? `${folderOf(cell)}/images/${name(index)}` : null;
  }

  function large(cell, place) {
    if (data.mode !== "beside") return small(cell, place);
    return isPresent(cell, place) ? `${folderOf(cell)}/images/${name(indexOf(cell, place))}` : null;
  }

  function film(cell, place) {
    const kept = data.films[cell];
    const index = indexOf(cell, place);
    if (!kept || !kept.pictures.includes(index)) return null;
    const address = data.mode === "beside" ? `${folderOf(cell)}/film/${name(index)}` : data.strips[cell]?.[index];
    return address ? { ...kept, address } : null;
  }

  // Why there is no picture, in words.
  function lack(cell, place) {
    if (cell < 0) return "not in this run";
    if (failed.has(cell)) return "failed";
    return data.mode === "embedded" && isPresent(cell, place) ? "not in this file" : "no picture";
  }

  function seed(cell, place) {
    return data.seeds[cell] + (data.shared_seeds[cell] ? 0 : indexOf(cell, place));
  }

  function note(cell, place) {
    if (indexOf(cell, place) < 0) return lack(cell, place);
    const parts = [`seed ${seed(cell, place)}`];
    const value = score(cell, place);
    if (!Number.isNaN(value)) parts.push(`CLIP score ${value.toFixed(1)}`);
    if (verdict(cell, place) === true) parts.push("all right by the judge");
    if (verdict(cell, place) === false) parts.push(`wrong by the judge: ${wrongs(cell, place).join(", ")}`);
    return parts.join(" · ");
  }

  const promptsShown = data.shown ?? data.prompts.map((_, prompt) => prompt);
  const short = (text, most = 160) => (text.length > most ? `${text.slice(0, most).trimEnd()}…` : text);

  window.reportPictures = {
    data, cells, cellOf, promptOf, promptsShown, score, verdict, small, large, film, lack, seed, note, short,
    hasScores: Boolean(clip),
    // Address of a cell's picture of the first shown prompt, or null.
    thumb(key) {
      const cell = cellOf(key);
      return cell < 0 || !promptsShown.length ? null : small(cell, promptsShown[0] * data.draws);
    },
  };
})();
