// Marks in the navigation of a result which of its parts is being read.
const links = new Map([...document.querySelectorAll(".parts a")].map((link) => [link.hash.slice(1), link]));
const mark = () => {
  let now = "";
  for (const id of links.keys()) {
    const part = document.getElementById(id);
    if (part && part.getBoundingClientRect().top < innerHeight / 3) now = id;
  }
  if (innerHeight + scrollY >= document.documentElement.scrollHeight - 2) now = [...links.keys()].pop();
  for (const [id, link] of links) {
    if (id === now) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
};
let waiting = false;
addEventListener("scroll", () => {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => ((waiting = false), mark()));
}, { passive: true });
mark();
