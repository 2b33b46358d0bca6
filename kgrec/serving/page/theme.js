// Sets the chosen theme before the page is drawn. Without a choice the system's theme holds.
{
  let chosen = null;
  try {
    chosen = localStorage.getItem("kgrec-theme");
  } catch {
    // storage is forbidden: the system's theme holds
  }
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
}
