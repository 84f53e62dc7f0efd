"use strict";

// What holds for the whole page: code is copied, and whatever scrolls sideways can be scrolled with the keyboard.
(() => {
  async function copy(button) {
    const text = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(text.textContent);
    } catch {
      // Without leave to write the clipboard the text is selected, and copied the old way.
      getSelection().selectAllChildren(text);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }

  document.addEventListener("click", ({ target }) => target.closest?.(".copy") && copy(target.closest(".copy")));
  document.querySelectorAll(".scroll:not([tabindex])").forEach((area) => { area.tabIndex = 0; });
})();
