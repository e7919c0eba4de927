// A classic script, so that it runs before the first paint and no page flashes in the wrong colours.
(() => {
  "use strict";
  const KEY = "theme";
  const known = ["auto", "light", "dark"];

  function stored() {
    try {
      const value = localStorage.getItem(KEY);
      return known.includes(value) ? value : "auto";
    } catch {
      return "auto"; // storage may be forbidden; the system's wish is good enough
    }
  }

  function apply(theme) {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  }

  let theme = stored();
  apply(theme);

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const show = () => { button.textContent = `Theme: ${theme}`; };
    show();
    button.addEventListener("click", () => {
      theme = known[(known.indexOf(theme) + 1) % known.length];
      try { localStorage.setItem(KEY, theme); } catch { /* lasts for this page only */ }
      apply(theme);
      show();
    });
  });
})();
