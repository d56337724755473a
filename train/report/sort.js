"use strict";
// Tables of class "sortable": a click on a column's head sorts by it, another one turns it round.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const ascending = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const numeric = head.classList.contains("number");
      const valueOf = (row) => {
        const cell = row.cells[column];
        return numeric ? Number.parseFloat(cell.dataset.value) : cell.textContent;
      };
      const compare = (one, other) => {
        const [a, b] = [valueOf(one), valueOf(other)];
        if (!numeric) return ascending ? a.localeCompare(b) : b.localeCompare(a);
        // What has no value stands at the end either way.
        if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
        return ascending ? a - b : b - a;
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
    });
  });
}
