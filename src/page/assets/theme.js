// Runs before the first paint, so that a dark screen does not flash white: the choice of an earlier visit, if any.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("acequia.theme");
  } catch {
    // Storage may be forbidden; then the system's setting holds.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
