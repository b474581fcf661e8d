"use strict";
// Tables whose headings sort them, and sections that open before the page is printed. All can be read without.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (head.classList.contains("track") || !head.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const rising = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const isEmpty = (text) => text === "" || text === "-" || text === "\u2013";
      const compared = (a, b) => {
        const [left, right] = [key(a), key(b)];
        if (isEmpty(left) || isEmpty(right)) return isEmpty(left) - isEmpty(right);
        const numbers = parseFloat(left) - parseFloat(right);
        return (Number.isNaN(numbers) ? left.localeCompare(right) : numbers) * (rising ? 1 : -1);
      };
      body.append(...[...body.rows].sort(compared));
    });
  });
}
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
});
