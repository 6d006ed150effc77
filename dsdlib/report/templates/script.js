"use strict";
// The report works without this script. It opens what a link leads to, filters the matrix, unfolds what is printed, and
// reloads a page while its report is being made.

function reveal() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  target.scrollIntoView();
}

function filterMatrix(form) {
  const rows = document.querySelectorAll("table.matrix tbody tr[id]");
  const apply = () => {
    const { paper, verdict, column } = Object.fromEntries(new FormData(form));
    for (const cell of document.querySelectorAll("[data-column]"))
      cell.hidden = Boolean(column) && cell.dataset.column !== column;
    for (const row of rows) {
      const verdicts = [...row.querySelectorAll("td:not([hidden])")].flatMap((cell) => cell.dataset.verdict.split("|"));
      row.hidden = Boolean((paper && row.dataset.paper !== paper) || (verdict && !verdicts.includes(verdict)));
    }
    for (const group of document.querySelectorAll("table.matrix tbody"))
      group.hidden = ![...group.querySelectorAll("tr[id]")].some((row) => !row.hidden);
    const shown = [...rows].filter((row) => !row.hidden).length;
    form.querySelector("output").textContent = shown === rows.length ? "" : `${shown} of ${rows.length} statements`;
  };
  form.hidden = false;
  form.addEventListener("change", apply);
  apply();
}

// A page is written anew after each section. It keeps its place and what is unfolded when it reloads.
const PLACE = `place of ${location.pathname}`;
const folds = () => [...document.querySelectorAll("details")];

function savePlace() {
  const open = folds().flatMap((fold, n) => (fold.open ? [fold.id || n] : []));
  sessionStorage.setItem(PLACE, JSON.stringify({ scroll: scrollY, open }));
}

function restorePlace() {
  const kept = JSON.parse(sessionStorage.getItem(PLACE));
  sessionStorage.removeItem(PLACE);
  if (!kept) return reveal();
  folds().forEach((fold, n) => { fold.open = kept.open.includes(fold.id || n); });
  scrollTo(0, kept.scroll);
}

function keepUpToDate() {
  if (!("running" in document.body.dataset)) return;
  history.scrollRestoration = "manual";
  setTimeout(() => { savePlace(); location.reload(); }, 5000);
}

// The forest plot and our own hypotheses are printed unfolded.
const printed = "#effects, #ours";
let unfolded = [];
addEventListener("beforeprint", () => {
  unfolded = [...document.querySelectorAll(printed)].filter((fold) => !fold.open);
  for (const fold of unfolded) fold.open = true;
});
addEventListener("afterprint", () => { for (const fold of unfolded) fold.open = false; });

restorePlace();
keepUpToDate();
addEventListener("hashchange", reveal);
document.querySelectorAll("form.filters").forEach(filterMatrix);
