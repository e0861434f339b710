// Reading works without this. With it the list keeps itself up to date, and keys move through it.
"use strict";
const { base, chosen } = document.body.dataset;
let { token } = document.body.dataset;
const list = document.getElementById("list");
const search = document.querySelector("input[type=search]");
const rows = () => [...list.querySelectorAll(".row")];

async function refresh(force) {
  const query = new URLSearchParams({ q: search.value, chosen });
  if (!force) query.set("since", token);
  const answer = await fetch(`${base}api/messages?${query}`);
  if (!answer.ok) return;
  const data = await answer.json();
  if (!data.changed) return;
  if (!force) document.getElementById("status").textContent = `${data.total} messages`;
  token = data.token;
  const focused = document.activeElement.getAttribute("href");
  list.innerHTML = data.html; // Escaped by the server, and scripts are not run under this policy.
  rows().find((row) => row.getAttribute("href") === focused)?.focus();
  document.getElementById("total").textContent = data.total;
  document.querySelector(".bar button").disabled = !data.total;
}

async function keepUp() {
  try {
    if (!document.hidden) await refresh(false);
  } catch {
    // The server is being restarted; it is asked again.
  }
  setTimeout(keepUp, 1500);
}

let pause;
search.addEventListener("input", () => {
  clearTimeout(pause);
  pause = setTimeout(() => refresh(true).catch(() => {}), 150);
});
document.querySelectorAll("form[data-confirm]").forEach((form) =>
  form.addEventListener("submit", (event) => {
    if (!confirm(form.dataset.confirm)) event.preventDefault();
  }));
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    event.preventDefault();
    search.focus();
  }
  const step = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
  const inList = list.contains(document.activeElement);
  if (!step || (event.key.startsWith("Arrow") && !inList)) return;
  const all = rows();
  const at = all.indexOf(inList ? document.activeElement : list.querySelector("[aria-current]"));
  event.preventDefault();
  all[Math.max(0, Math.min(all.length - 1, at + step))]?.focus();
});
const language = document.querySelector("select[name=lang]");
language?.addEventListener("change", () => language.form.requestSubmit());
keepUp();
