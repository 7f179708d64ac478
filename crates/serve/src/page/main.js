// Views, language, theme and links.

import { $ } from "./dom.js";
import { initBatch } from "./batch.js";
import { compare, fromHash, initCompare, openCompare } from "./compare.js";
import { chosenLanguage, lang, setLanguage, t } from "./i18n.js";
import { remembered, restore, setTheme, setWeights } from "./state.js";
import { initSearch, openSearch } from "./search.js";
import { initStatus, setVisible } from "./status.js";
import { initWhy } from "./why.js";

const VIEWS = ["compare", "search", "batch", "status"];

function show(view) {
  for (const name of VIEWS) $(`view-${name}`).hidden = name !== view;
  for (const link of document.querySelectorAll("nav a[data-view]")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = view === "compare" ? "trivec" : `${t(view)} · trivec`;
  setVisible(view === "status");
  if (view === "search") openSearch();
  if (view === "compare") openCompare();
}

/** Follows the address: a view's name, or a comparison. */
function route() {
  const linked = fromHash(location.hash);
  if (linked) {
    show("compare");
    if (linked.weights) setWeights(linked.weights);
    compare(linked.a, linked.b);
    return;
  }
  const view = location.hash.slice(1);
  show(VIEWS.includes(view) ? view : "compare");
}

restore();
setLanguage(chosenLanguage());
$("lang").value = lang();
$("lang").addEventListener("change", (event) => {
  remembered.set("lang", event.target.value);
  setLanguage(event.target.value);
});
$("theme").value = remembered.get("theme") ?? "auto";
$("theme").addEventListener("change", (event) => setTheme(event.target.value));
initWhy();
initCompare();
const open = (a, b) => {
  show("compare");
  window.scrollTo(0, 0);
  compare(a, b);
  $("a").focus({ preventScroll: true });
};
initBatch(open);
initSearch(open);
initStatus();
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); $("main").focus(); });
window.addEventListener("hashchange", route);
route();
document.documentElement.dataset.ready = "true";
