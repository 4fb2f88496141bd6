// Marks in the navigation of a result which of its parts is being read; the address names it, for a reload or to pass on.
const links = new Map([...document.querySelectorAll(".parts a")].map((link) => [link.hash.slice(1), link]));
let named, moved = false; // by a person: a page that grows while it loads scrolls, too
for (const kind of ["wheel", "touchmove", "keydown", "pointerdown"]) addEventListener(kind, () => (moved = true), { passive: true });
const name = (id) => {
  clearTimeout(named);
  named = setTimeout(() => {
    const asked = location.hash.slice(1), within = document.getElementById(asked)?.closest(".part, section.part");
    if (id === asked || (within && within.id === id)) return; // it names something in this part
    history.replaceState(history.state, "", `#${id}`);
  }, 400);
};
const mark = (scrolled) => {
  let now = "";
  for (const id of links.keys()) {
    const part = document.getElementById(id);
    if (part && part.getBoundingClientRect().top < innerHeight / 3) now = id;
  }
  if (innerHeight + scrollY >= document.documentElement.scrollHeight - 2) now = [...links.keys()].pop();
  for (const [id, link] of links) {
    if (id === now && link.getAttribute("aria-current") !== "true") {
      link.setAttribute("aria-current", "true");
      const list = link.closest("ul");
      list.scrollLeft = link.offsetLeft - list.offsetLeft - (list.clientWidth - link.offsetWidth) / 2;
    }
    if (id !== now) link.removeAttribute("aria-current");
  }
  if (scrolled && moved && now) name(now);
};
let waiting = false;
addEventListener("scroll", () => {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => ((waiting = false), mark(true)));
}, { passive: true });
mark(false);
// What stands above a part may grow after the page has gone there: it stays where it was asked for until somebody moves.
const wanted = location.hash && document.getElementById(location.hash.slice(1));
if (wanted) {
  const held = new ResizeObserver(() => (moved ? held.disconnect() : wanted.scrollIntoView()));
  held.observe(document.querySelector("main"));
  setTimeout(() => held.disconnect(), 8000);
}
