"use strict";
(() => {
  const page = document.body, all = (selector, within = document) => [...within.querySelectorAll(selector)];
  // Open details, sorting and scroll positions are kept over a reload of the page.
  const key = "kgrec " + location.pathname;
  const kept = (() => { try { return JSON.parse(sessionStorage.getItem(key)) || {}; } catch { return {}; } })();
  const keep = () => {
    const open = {}, scrolled = {};
    all("details[id]").forEach((d) => { open[d.id] = d.open; });
    all("[data-keep]").forEach((d) => { scrolled[d.dataset.keep] = [d.scrollLeft, d.scrollTop]; });
    const hold = document.getElementById("hold");
    const seen = { open, scrolled, sorted: kept.sorted || {}, hold: hold && hold.checked, x: scrollX, y: scrollY };
    try { sessionStorage.setItem(key, JSON.stringify(seen)); } catch { /* private mode */ }
  };

  const sort = (table, column, down) => {
    const value = (row) => {
      const cell = row.cells[column], text = cell.dataset.order ?? cell.textContent.trim();
      return text === "" ? null : isNaN(text) ? text : Number(text);
    };
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
      return down ? -order : order;
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
    all("th", table).forEach((th, i) => {
      if (i === column) th.setAttribute("aria-sort", down ? "descending" : "ascending");
      else th.removeAttribute("aria-sort");
    });
  };
  all("table.sortable").forEach((table) => {
    const name = table.dataset.key;
    all("th", table).forEach((th, column) => th.addEventListener("click", () => {
      const down = th.getAttribute("aria-sort") === "ascending";
      sort(table, column, down);
      (kept.sorted ??= {})[name] = [column, down];
      keep();
    }));
    const before = (kept.sorted || {})[name];
    if (before) sort(table, ...before);
  });

  const ink = () => getComputedStyle(page).getPropertyValue("--soft").trim();
  const charts = all(".chart").map((div) => {
    const figure = JSON.parse(div.nextElementSibling.textContent);
    figure.layout.font.color = ink();
    Plotly.newPlot(div, figure.data, figure.layout, { responsive: true, displayModeBar: false });
    return div;
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    charts.forEach((div) => Plotly.relayout(div, { "font.color": ink() }));
  });

  const reveal = () => {
    const found = location.hash && document.getElementById(location.hash.slice(1));
    if (found && found.tagName === "DETAILS") { found.open = true; found.scrollIntoView(); }
  };
  addEventListener("hashchange", reveal);
  Object.entries(kept.open || {}).forEach(([id, open]) => {
    const found = document.getElementById(id);
    if (found) found.open = open;
  });
  all("[data-keep]").forEach((d) => { [d.scrollLeft, d.scrollTop] = (kept.scrolled || {})[d.dataset.keep] || [0, 0]; });
  history.scrollRestoration = "manual";
  if (kept.y === undefined) reveal(); else scrollTo(kept.x, kept.y);

  const written = new Date(page.dataset.written), ago = document.getElementById("ago");
  all("time").forEach((time) => { time.textContent = written.toLocaleString(); });
  const every = Number(page.dataset.reload);
  if (!every) return;
  const hold = document.getElementById("hold");
  hold.checked = Boolean(kept.hold);
  const showAge = () => { ago.textContent = ", " + Math.max(0, Math.round((Date.now() - written) / 1000)) + " s ago"; };
  showAge();
  setInterval(showAge, 1000);
  let pressed = false; // while text is selected or a chart is zoomed
  addEventListener("pointerdown", () => { pressed = true; });
  ["pointerup", "pointercancel"].forEach((name) => addEventListener(name, () => { pressed = false; }));
  addEventListener("pagehide", keep);
  setInterval(() => { if (!pressed && !hold.checked && !document.hidden) { keep(); location.reload(); } }, every);
})();
