// The map of all units of a run: one cell each, drawn on a canvas. Shape says what is known of the sign, colour how
// much. Pointer and keyboard move one cell, which is a real element: it takes the focus and is read aloud.
const [OPEN, HURTS, HELPS] = [1, 2, 3]; // states, in the two lowest bits of a unit's flags; 0: not sampled
const [ABLATED, RANKED, FRESH] = [4, 8, 16];
const LEVELS = 12; // shades of a colour
const KINDS = { filter: "filter", hidden: "hidden unit", head: "attention head" };

class Units {
  constructor(buffer) {
    const length = new DataView(buffer).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    Object.assign(this, header);
    this.n = this.sites.reduce((sum, site) => sum + site.count, 0);
    this.flags = new Uint8Array(buffer, buffer.byteLength - this.n);
    this.shade = new Float32Array(buffer, 4 + length, this.n);
    const sampled = new Int32Array(this.n).fill(-1);
    let m = 0;
    this.flags.forEach((flag, i) => { if (flag & 3) sampled[i] = m++; });
    this.sampled = sampled;
    this.figures = new Float32Array(buffer, 4 + length + 4 * this.n, 3 * m);
    let first = 0;
    for (const site of this.sites) { site.first = first; first += site.count; }
  }

  site(i) {
    let low = 0, high = this.sites.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.sites[middle].first <= i) low = middle; else high = middle - 1;
    }
    return this.sites[low];
  }

  name(i) {
    const site = this.site(i), place = i - site.first;
    return `${site.name}:${site.kind === "head" ? "head" : ""}${site.channels ? site.channels[place] : place}`;
  }

  number(name) {
    for (const site of this.sites) {
      if (!name.startsWith(`${site.name}:`)) continue;
      for (let i = site.first; i < site.first + site.count; i++) if (this.name(i) === name) return i;
    }
    return -1;
  }

  // What is known of a unit, in words.
  words(i) {
    const flag = this.flags[i], state = flag & 3, at = 3 * this.sampled[i];
    const said = [KINDS[this.site(i).kind] ?? this.site(i).kind];
    if (state) {
      const [value, lower, upper] = this.figures.subarray(at, at + 3);
      const interval = Number.isNaN(lower) ? "no interval" : `interval ${figure(lower)} to ${figure(upper)}`;
      said.push(`${flag & FRESH ? "fresh value" : "value"} ${figure(value)}, ${interval}`);
      said.push({ [OPEN]: "sign not known", [HURTS]: "its presence hurts", [HELPS]: "its presence helps" }[state]);
    } else {
      said.push("not sampled");
      if (!Number.isNaN(this.shade[i])) said.push(`the search took it for ${figure(this.shade[i])}`);
    }
    if (flag & ABLATED) said.push("ablated");
    else if (flag & RANKED) said.push("ranked as a culprit");
    return said.join("; ");
  }
}

// Five digits, as elsewhere on the page; of what would then be nothing, two that count.
function figure(value) {
  const digits = value ? Math.min(9, Math.max(5, 1 - Math.floor(Math.log10(Math.abs(value))))) : 5;
  return value.toFixed(digits).replace("-", "\u2212");
}

// Where each cell lies: bands from top to bottom, in them site after site, in rows from left to right.
class Layout {
  constructor(units, width) {
    const narrow = width < 560;
    this.cell = cellSize(units.n, narrow);
    this.left = narrow ? 0 : Math.min(168, width / 4);
    this.x = new Float32Array(units.n);
    this.y = new Float32Array(units.n);
    this.rows = []; // { y, first, end }: the units that stand in one line
    this.labels = [];
    const shared = sharedStart(units.bands.map((band) => band.name));
    let y = 2, site = 0;
    units.bands.forEach((band, b) => {
      const end = units.bands[b + 1]?.first ?? units.sites.length;
      this.labels.push({ text: band.name.slice(shared), y });
      if (narrow) y += 17;
      const top = y;
      let x = this.left + 2, row = null;
      for (; site < end; site++) {
        const { first, count } = units.sites[site];
        if (row) x += this.cell; // a gap between sites
        for (let i = first; i < first + count; i++) {
          if (!row || x + this.cell > width - 2) {
            if (row) y += this.cell;
            x = this.left + 2;
            row = { y, first: i, end: i };
            this.rows.push(row);
          }
          this.x[i] = x;
          this.y[i] = y;
          x += this.cell;
          row.end = i + 1;
        }
      }
      y = Math.max(y + this.cell, narrow ? 0 : top + 13) + (units.bands.length > 12 ? 5 : 8);
    });
    this.width = width;
    this.height = Math.ceil(y);
  }

  row(i) {
    let low = 0, high = this.rows.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.rows[middle].first <= i) low = middle; else high = middle - 1;
    }
    return low;
  }

  // The unit of a row that lies next to x.
  inRow(row, x) {
    const { first, end } = this.rows[row];
    let best = first;
    for (let i = first; i < end; i++) if (Math.abs(this.x[i] - x) < Math.abs(this.x[best] - x)) best = i;
    return best;
  }

  at(x, y) {
    const row = this.rows.findIndex((one) => y >= one.y && y < one.y + this.cell);
    if (row < 0) return -1;
    const i = this.inRow(row, x - this.cell / 2);
    return x >= this.x[i] && x < this.x[i] + this.cell ? i : -1;
  }
}

// How much all names begin with, up to a dot: left out where it is long.
function sharedStart(names) {
  let length = 0;
  while (length < names[0].length && names.every((name) => name[length] === names[0][length])) length++;
  const end = names.length > 1 ? names[0].lastIndexOf(".", length - 1) + 1 : 0;
  return end > 10 ? end : 0;
}

function cellSize(n, narrow) {
  for (const [most, size] of [[400, 18], [1500, 14], [4000, 11], [9000, 8], [20000, 6]]) {
    if (n <= most) return narrow ? Math.max(5, size - 2) : size;
  }
  return narrow ? 4 : 5;
}

function colours(element) {
  const style = getComputedStyle(element);
  const mixed = (name) => {
    const [from, to] = ["--paper", name].map((one) => rgb(style.getPropertyValue(one).trim()));
    return Array.from({ length: LEVELS }, (_, level) => {
      const share = 0.16 + (0.84 * level) / (LEVELS - 1);
      return `rgb(${from.map((part, i) => Math.round(part + share * (to[i] - part))).join(" ")})`;
    });
  };
  return { hurts: mixed("--map-hurts"), helps: mixed("--map-helps"), ink: style.getPropertyValue("--ink"),
    muted: style.getPropertyValue("--muted"), font: style.fontFamily };
}

const rgb = (hex) => {
  const full = hex.length === 4 ? hex.replace(/[^#]/g, "$&$&") : hex;
  return [1, 3, 5].map((at) => parseInt(full.slice(at, at + 2), 16));
};

// Every shape in every shade is drawn once, and its pixels are copied to each of its cells: that takes no time.
function draw(canvas, units, layout) {
  const dense = Math.min(devicePixelRatio || 1, Math.sqrt(12e6 / (layout.width * layout.height)));
  canvas.width = Math.round(layout.width * dense);
  canvas.height = Math.round(layout.height * dense);
  canvas.style.height = `${layout.height}px`;
  const ctx = canvas.getContext("2d"), paint = colours(canvas), side = layout.cell - 1;
  const pixels = Math.max(1, Math.floor(side * dense)), shapes = sheet(paint, pixels), across = LEVELS * pixels;
  const image = ctx.createImageData(canvas.width, canvas.height), target = new Uint32Array(image.data.buffer);
  for (let i = 0; i < units.n; i++) {
    const value = units.shade[i];
    if (Number.isNaN(value)) continue;
    const level = Math.min(LEVELS - 1, Math.floor(LEVELS * Math.sqrt(Math.abs(value) / (units.most || 1))));
    const row = 2 * (units.flags[i] & 3) + (value * units.culprit_sign > 0 ? 1 : 0);
    let to = Math.round(layout.y[i] * dense) * canvas.width + Math.round(layout.x[i] * dense);
    for (let from = row * pixels * across + level * pixels, line = 0; line < pixels; line++) {
      target.set(shapes.subarray(from, from + pixels), to);
      from += across;
      to += canvas.width;
    }
  }
  ctx.putImageData(image, 0, 0);
  ctx.scale(dense, dense);
  ctx.strokeStyle = paint.ink;
  for (let i = 0; i < units.n; i++) {
    if (!(units.flags[i] & (ABLATED | RANKED))) continue;
    const thick = units.flags[i] & ABLATED ? 2 : 1;
    ctx.lineWidth = thick;
    ctx.strokeRect(layout.x[i] - thick / 2, layout.y[i] - thick / 2, side + thick, side + thick);
  }
  label(ctx, layout, paint);
}

// The pixels of all shapes: a row for each state and sign, a column for each shade.
function sheet(paint, pixels) {
  const drawn = make("canvas", { width: LEVELS * pixels, height: 8 * pixels });
  const ctx = drawn.getContext("2d", { willReadFrequently: true });
  for (let row = 0; row < 8; row++) {
    for (let level = 0; level < LEVELS; level++) {
      ctx.fillStyle = paint[row % 2 ? "hurts" : "helps"][level];
      ctx.beginPath();
      shape(ctx, level * pixels, row * pixels, pixels, row >> 1, row % 2 === 1);
      ctx.fill();
    }
  }
  return new Uint32Array(ctx.getImageData(0, 0, drawn.width, drawn.height).data.buffer);
}

// A known sign fills the cell: a square hurts, a disc helps. Else half a cell, the upper half hurts and the lower one
// helps; of what was not sampled a smaller one.
function shape(ctx, x, y, side, state, hurts) {
  if (state === HURTS) return ctx.rect(x, y, side, side);
  if (state === HELPS) {
    ctx.moveTo(x + side, y + side / 2);
    return ctx.arc(x + side / 2, y + side / 2, side / 2, 0, 7);
  }
  const leg = state === OPEN ? side : Math.max(2, side * 0.62);
  const [cornerX, cornerY, way] = hurts ? [x, y, 1] : [x + side, y + side, -1];
  ctx.moveTo(cornerX, cornerY);
  ctx.lineTo(cornerX + way * leg, cornerY);
  ctx.lineTo(cornerX, cornerY + way * leg);
  return ctx.closePath();
}

function label(ctx, layout, paint) {
  ctx.font = `12px ${paint.font}`;
  ctx.fillStyle = paint.muted;
  ctx.textBaseline = "top";
  ctx.textAlign = layout.left ? "right" : "left";
  const room = layout.left ? layout.left - 12 : layout.width - 4;
  for (const { text, y } of layout.labels) {
    let shown = text;
    while (shown.length > 2 && ctx.measureText(shown).width > room) shown = `\u2026${shown.replace(/^\u2026?./, "")}`;
    ctx.fillText(shown, layout.left ? layout.left - 8 : 2, y);
  }
}

class UnitMap {
  constructor(root, units) {
    this.root = root;
    this.units = units;
    this.now = Math.max(0, units.flags.findIndex((flag) => flag & ABLATED));
    this.canvas = make("canvas", { "aria-hidden": "true" });
    this.cell = make("div", { role: "gridcell", class: "cell" });
    this.tip = make("div", { class: "tip", "aria-hidden": "true", hidden: "" });
    const row = make("div", { role: "row" });
    row.append(this.cell);
    this.grid = make("div", { role: "grid", tabindex: "0", class: "grid", "aria-label": root.dataset.label,
      "aria-describedby": root.dataset.describedby });
    this.grid.append(this.canvas, row);
    root.replaceChildren(this.grid, this.tip);
    this.grid.addEventListener("pointermove", (event) => this.hover(event));
    this.grid.addEventListener("pointerleave", () => this.hide());
    this.grid.addEventListener("click", (event) => this.press(event));
    this.grid.addEventListener("keydown", (event) => this.key(event));
    this.grid.addEventListener("focus", () => this.grid.matches(":focus-visible") && this.show(this.now));
    this.grid.addEventListener("blur", () => this.hide());
    new ResizeObserver(() => this.lay()).observe(root);
    const again = () => this.layout && draw(this.canvas, units, this.layout); // paper is light whatever the screen is
    for (const media of ["(prefers-color-scheme: dark)", "print"]) matchMedia(media).addEventListener("change", again);
    this.follow();
  }

  lay() {
    const width = Math.floor(this.root.clientWidth);
    if (!width || width === this.layout?.width) return;
    this.layout = new Layout(this.units, width);
    this.grid.setAttribute("aria-rowcount", this.layout.rows.length);
    draw(this.canvas, this.units, this.layout);
    this.place();
  }

  // The one cell that exists goes to the unit that is looked at. A new id makes screen readers speak again.
  place() {
    const { layout, units, now } = this, row = layout.row(now);
    this.cell.id = `unit-cell-${now}`;
    this.cell.setAttribute("aria-label", `${units.name(now)}; ${units.words(now)}`);
    this.cell.setAttribute("aria-colindex", now - layout.rows[row].first + 1);
    this.cell.parentElement.setAttribute("aria-rowindex", row + 1);
    Object.assign(this.cell.style, { left: `${layout.x[now] - 3}px`, top: `${layout.y[now] - 3}px`,
      width: `${layout.cell + 5}px`, height: `${layout.cell + 5}px` });
    this.grid.setAttribute("aria-activedescendant", this.cell.id);
  }

  show(i) {
    const { layout, units, tip } = this;
    const name = make("b");
    name.textContent = units.name(i);
    tip.replaceChildren(name, ...units.words(i).split("; ").map((words) => {
      const line = make("span");
      line.textContent = words;
      return line;
    }));
    tip.hidden = false;
    const left = Math.min(Math.max(0, layout.x[i] - 20), layout.width - tip.offsetWidth);
    tip.style.left = `${left}px`;
    tip.style.top = `${layout.y[i] + layout.cell + 8}px`;
  }

  hide() {
    this.tip.hidden = true;
    this.grid.classList.remove("over");
  }

  under(event) {
    const { left, top } = this.grid.getBoundingClientRect();
    return this.layout.at(event.clientX - left, event.clientY - top);
  }

  hover(event) {
    const i = this.under(event);
    this.grid.classList.toggle("over", i >= 0);
    if (i < 0) return this.hide();
    this.now = i;
    this.place();
    return this.show(i);
  }

  press(event) {
    const i = this.under(event);
    if (i >= 0) this.open(i, false);
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const { layout, units, now } = this, row = layout.row(now), site = units.site(now);
    const last = units.n - 1, other = units.sites[units.sites.indexOf(site) + (event.key === "PageUp" ? -1 : 1)];
    const above = row > 0 ? layout.inRow(row - 1, layout.x[now]) : now;
    const below = row < layout.rows.length - 1 ? layout.inRow(row + 1, layout.x[now]) : now;
    const to = {
      ArrowLeft: Math.max(0, now - 1), ArrowRight: Math.min(last, now + 1), ArrowUp: above, ArrowDown: below,
      Home: event.shiftKey ? 0 : site.first, End: event.shiftKey ? last : site.first + site.count - 1,
      PageUp: other?.first ?? now, PageDown: other?.first ?? now,
    }[event.key];
    if (event.key === "Enter" || event.key === " ") this.open(now, true);
    else if (event.key === "Escape") this.hide();
    else if (to === undefined) return;
    else this.go(to);
    event.preventDefault();
  }

  go(i) {
    this.now = i;
    this.place();
    this.show(i);
    this.cell.scrollIntoView({ block: "nearest" });
  }

  open(i, byKey) {
    this.now = i;
    this.place();
    const url = new URL(this.root.dataset.card, location.href);
    url.searchParams.set("unit", this.units.name(i));
    window.htmx.ajax("GET", url.pathname + url.search, { target: "#unit", swap: "outerHTML" }).then(() => {
      const card = document.getElementById("unit"), heading = card?.querySelector("h4");
      if (byKey) heading?.focus();
    });
  }

  // The map shows whose card is open, also where that was chosen elsewhere; from the card, Escape leads back.
  follow() {
    const look = () => {
      const name = document.getElementById("unit")?.dataset.unit;
      const i = name ? this.units.number(name) : -1;
      if (i < 0) return;
      this.now = i;
      if (this.layout) this.place();
      this.cell.classList.add("opened");
    };
    look();
    document.addEventListener("htmx:afterSwap", (event) => {
      if (event.detail.target?.id !== "unit") return;
      look();
      const card = document.getElementById("unit");
      if (!beside(this.root, card) && !seen(card)) card.scrollIntoView();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && event.target.closest?.("#unit")) this.grid.focus();
    });
  }
}

const seen = (card) => card.getBoundingClientRect().top >= 0 && card.getBoundingClientRect().top < innerHeight / 2;
const beside = (one, other) => other && other.getBoundingClientRect().left > one.getBoundingClientRect().right - 1;

function make(tag, attributes = {}) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined) element.setAttribute(name, value);
  return element;
}

for (const root of document.querySelectorAll("[data-map]")) {
  const failed = (error) => {
    console.error(error);
    root.textContent = "The map could not be drawn. Reload the page, or use the table of all units.";
  };
  fetch(root.dataset.map, { credentials: "same-origin" })
    .then((answer) => (answer.ok ? answer.arrayBuffer() : Promise.reject(new Error(answer.status))))
    .then((buffer) => new UnitMap(root, new Units(buffer)))
    .catch(failed);
}
