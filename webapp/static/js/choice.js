// The choice of filters on a finished run: k as a handle, filters switched on and off, figures of *select* at once.
// Every prefix's figures come in one answer; any other set is asked of a worker, who answers it once for everybody.
const form = document.getElementById("choosing");
const find = (selector, within = form) => within.querySelector(selector);
const all = (selector, within = form) => [...within.querySelectorAll(selector)];
const slider = document.getElementById("choice-k");
const MOST_GROUPS = 16, PAUSE = 350, POLL = 700;

const tenths = (value) => {  // a tie goes to the even digit, as the server rounds
  const tie = Math.abs(4 * value) % 2 === 1, below = Math.floor(10 * value);
  return (tie ? (below + Math.abs(below % 2)) / 10 : value).toFixed(1);
};
const percent = (share) => `${tenths(100 * share)}%`.replace("-", "−");
const points = (change) => {
  const text = tenths(100 * change);
  return Number(text) === 0 ? "0.0" : (change > 0 ? "+" : "") + text.replace("-", "−");
};
const count = (n, one) => `${n.toLocaleString("en")} ${one}${n === 1 ? "" : "s"}`;

let known, at, chart, asked = 0, later, typed;

const walk = () => known.orders[at];
const boxes = () => all(".units input");
const ticked = () => boxes().filter((box) => box.checked).map((box) => box.value);

/** The number of the order's first filters that are ticked and no others, or null. */
function prefix(units) {
  const first = new Set(walk().units.slice(0, units.length));
  return units.every((name) => first.has(name)) && first.size === units.length ? units.length : null;
}

/** The card of a unit ticks the same choice: its box stands for the one in the list. */
function mirror() {
  const card = document.querySelector("[data-tick]");
  if (!card || !known) return;
  card.hidden = false;
  find("input", card).checked = ticked().includes(card.dataset.tick);
  find("[data-tick-said]", card).textContent = find("[data-said]").textContent;
}

/** Switched on its card; a unit that is not in the order comes after it, as on a page that names it. */
function put(name, on) {
  const listed = boxes().find((box) => box.value === name);
  if (listed) listed.checked = on;
  else if (on) find(".units ol").append(item(name, boxes().length, true));
  choose();
}

function tell(words, share = null) {
  find("[data-status]").textContent = words;
  const bar = find("progress");
  bar.hidden = share === null;
  if (share !== null) bar.value = share;
  document.getElementById("choice-now").setAttribute("aria-busy", share !== null);
  mirror();
}

function cell(tag, text, strong = false) {
  const made = document.createElement(tag);
  if (tag === "th") made.scope = "row"; else made.className = "num";
  const inner = strong ? made.appendChild(document.createElement("b")) : tag === "th" ? made.appendChild(document.createElement("bdi")) : made;
  inner.textContent = text;
  return made;
}

function groups(step) {
  const body = document.getElementById("choice-groups");
  if (!body) return;
  const base = walk().steps[0], rows = [];
  for (const key of ["subgroups", "classes"]) {
    const these = known[key].map((group, i) => ({ group, before: base[key][i] / group.n, now: step[key][i] / group.n }))
      .filter((row) => row.group.n);
    const most = new Set([...these].sort((a, b) => Math.abs(b.now - b.before) - Math.abs(a.now - a.before)).slice(0, MOST_GROUPS));
    rows.push(...these.filter((row) => most.has(row)));
  }
  body.replaceChildren(...rows.map(({ group, before, now }) => {
    const line = document.createElement("tr"), change = cell("td", points(now - before));
    if (Math.abs(now - before) > 0.0005) change.classList.add(now > before ? "gain" : "loss");
    line.append(cell("th", group.name), cell("td", group.n.toLocaleString("en")), cell("td", percent(before)), cell("td", percent(now), true), change);
    return line;
  }));
}

function show(step, words) {
  const base = walk().steps[0];
  find("[data-said]").textContent = words;
  for (const line of all("[data-figure]")) {
    const key = line.dataset.figure, [, before, now, change] = line.children;
    before.textContent = percent(base[key]);
    now.firstChild.textContent = percent(step[key]);
    change.textContent = points(step[key] - base[key]);
  }
  find("[data-swaps]").textContent = `${count(step.won, "clean image")} newly right, ${step.lost.toLocaleString("en")} newly wrong.`;
  const keeps = find("[data-keeps]");
  keeps.dataset.keeps = step.broken.length ? "no" : "yes";
  keeps.textContent = step.broken.length ? `Breaks a limit: ${step.broken.join("; ")}.` : "Keeps all limits.";
  groups(step);
  const change = points(step.objective - base.objective);
  find("[data-brief]").textContent = `${words}: ${percent(step.objective)} (${change}), ${step.broken.length ? "✕ breaks a limit" : "✓ keeps all limits"}`;
  tell("");
}

function move(k) {
  for (const handle of all(".handle", chart)) {
    const from = Number(handle.dataset.from), to = Number(handle.dataset.to), last = walk().units.length;
    handle.setAttribute("transform", `translate(${last ? ((to - from) * k) / last : 0} 0)`);
  }
}

/** The address names the choice: a reload shows it again, and it can be passed on. */
function remember(units, k) {
  const query = new URLSearchParams(location.search); // which images are shown stays
  ["k", "pick", "order"].forEach((key) => query.delete(key));
  if (k === null) units.forEach((name) => query.append("pick", name));
  else query.set("k", k);
  if (at) query.set("order", at);
  clearTimeout(later);
  const part = document.activeElement?.id === "unit-tick" ? "unit" : "choice"; // where one ticks
  later = setTimeout(() => history.replaceState(history.state, "", `?${query}#${part}`), PAUSE);
  const picks = new URLSearchParams(units.map((name) => ["pick", name]));
  const table = find("[data-all]");
  if (table) table.search = `?${picks}`;
}

async function ask(units, ticket) {
  const address = `${form.dataset.set}?${new URLSearchParams(units.map((name) => ["pick", name]))}`;
  for (;;) {
    let answer, said;
    try {
      answer = await fetch(address, { headers: { Accept: "application/json" } });
      if (answer.redirected) throw new Error("signed out");
      said = await answer.json();
    } catch {
      if (ticket === asked) tell(gone(answer));
      return;
    }
    if (ticket !== asked) return; // something else is ticked by now
    if (said.error) return tell(said.error);
    if (said.figures) return show(said.figures, `${count(units.length, "filter")}, another set`);
    tell(`A worker looks at this set${said.note ? `: ${said.note}` : ""}.`, said.share);
    await new Promise((done) => setTimeout(done, POLL));
    if (ticket !== asked) return;
  }
}

const gone = (answer) => {
  if (answer && (answer.status === 404 || answer.status === 410)) return "This run was deleted meanwhile.";
  if (answer && answer.redirected) return "You are signed out. Sign in again, and reload this page.";
  return "The server could not be reached; tick again to ask again.";
};

function choose() {
  const units = ticked(), k = prefix(units), ticket = ++asked;
  find("[data-export]").disabled = !units.length;
  remember(units, k);
  move(k ?? units.length);
  slider.value = k ?? units.length;
  clearTimeout(typed);
  if (k === null) {
    find("[data-said]").textContent = `${count(units.length, "filter")}, another set`;
    tell("A worker looks at this set.", 0);
    typed = setTimeout(() => ask(units, ticket), PAUSE);
    return;
  }
  const said = `k = ${k} of ${walk().units.length}${!at && k === known.k ? ", as the run chose" : ""}`;
  slider.setAttribute("aria-valuetext", said);
  show(walk().steps[k], said);
}

function take(k) {
  const first = new Set(walk().units.slice(0, k));
  boxes().forEach((box) => { box.checked = first.has(box.value); });
  choose();
}

function item(name, place, on = false) {
  const line = document.createElement("li"), box = document.createElement("input"), label = document.createElement("label");
  Object.assign(box, { type: "checkbox", name: "pick", value: name, id: `unit-${place + 1}`, autocomplete: "off", checked: on });
  label.htmlFor = box.id;
  label.appendChild(document.createElement("code")).textContent = name;
  line.append(box, label);
  return line;
}

/** Another order: its curve, its filters in its own sequence. */
function order(i) {
  at = i;
  all("a[data-order]", document).forEach((link) => {
    if (Number(link.dataset.order) === i) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  });
  all("[data-walk]").forEach((one) => { one.hidden = Number(one.dataset.walk) !== i; });
  chart = find(`[data-walk="${i}"]`);
  find(".units ol").replaceChildren(...walk().units.map((name, place) => item(name, place)));
  slider.max = walk().units.length;
  fit();
}

/** The slider is as wide as the curve's axis. */
function fit() {
  const drawn = all("svg", chart).find((one) => one.getBoundingClientRect().width);
  const handle = drawn && find(".handle", drawn);
  if (!handle) return;
  const box = drawn.getBoundingClientRect(), scale = box.width / drawn.viewBox.baseVal.width, thumb = 8;
  slider.style.marginLeft = `${Number(handle.dataset.from) * scale - thumb}px`;
  slider.style.width = `${(Number(handle.dataset.to) - Number(handle.dataset.from)) * scale + 2 * thumb}px`;
}

function dragged(event) {
  const drawn = event.target.closest("svg"), handle = drawn && find(".handle", drawn);
  if (!handle || (event.type === "pointermove" && !event.buttons)) return;
  const box = drawn.getBoundingClientRect(), x = ((event.clientX - box.left) * drawn.viewBox.baseVal.width) / box.width;
  const from = Number(handle.dataset.from), to = Number(handle.dataset.to), last = walk().units.length;
  const k = Math.min(Math.max(Math.round(((x - from) / (to - from)) * last), 0), last);
  if (k !== Number(slider.value) || prefix(ticked()) === null) take(k);
}

async function begin() {
  const answer = await fetch(form.dataset.choice, { headers: { Accept: "application/json" } });
  if (!answer.ok || answer.redirected) return tell(gone(answer));
  known = await answer.json();
  at = all("[data-walk]").findIndex((one) => !one.hidden);
  chart = find(`[data-walk="${at}"]`);
  find(".slide").hidden = !walk().units.length;
  find("[data-look]").hidden = true;
  find("[data-brief]").hidden = false;
  fit();
  new ResizeObserver(fit).observe(find(".curves"));
  slider.addEventListener("input", () => take(Number(slider.value)));
  form.addEventListener("change", (event) => { if (event.target.name === "pick") choose(); });
  find(".curves").addEventListener("pointerdown", dragged);
  find(".curves").addEventListener("pointermove", dragged);
  document.addEventListener("change", (event) => {
    if (event.target.id === "unit-tick") put(event.target.closest("[data-tick]").dataset.tick, event.target.checked);
  });
  document.addEventListener("htmx:afterSwap", mirror); // another unit's card
  document.querySelector(".orders:has([data-order])")?.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-order]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const before = ticked(), i = Number(link.dataset.order);
    order(i);
    take(Math.min(before.length, walk().units.length));
  });
  const units = ticked(), k = prefix(units);
  find("[data-export]").disabled = !units.length;
  if (k !== null) show(walk().steps[k], find("[data-said]").textContent);
  else choose();
}

if (form) begin().catch(() => tell("The figures of the other numbers of filters could not be read; reload the page."));
