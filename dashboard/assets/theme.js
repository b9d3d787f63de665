// Runs before the first paint, so that a theme that was chosen does not come after a flash of the other one.
(() => {
  const chosen = () => {
    try {
      const theme = localStorage.getItem("network-system-dashboard.theme");
      return theme === "light" || theme === "dark" ? theme : "auto";
    } catch {
      return "auto"; // Storage is switched off.
    }
  };
  document.documentElement.dataset.theme = chosen();
})();
