// A result is read part by part: one is shown, and the address names it or something in it, for a reload or to pass on.
// The others are `until-found`: the browser's own search opens them. Without this script, and on paper, all are there.
const links = new Map([...document.querySelectorAll(".parts a")].map((link) => [link.hash.slice(1), link]));
const bar = document.querySelector(".parts");
const parts = () => [...document.querySelectorAll(".part")].filter((one) => links.has(one.id));
const asked = () => document.getElementById(decodeURIComponent(location.hash.slice(1)));

const show = () => {
  const all = parts(), now = asked()?.closest(".part") ?? all[0];
  for (const one of all) {
    if (one === now) one.removeAttribute("hidden");
    else if (!one.hasAttribute("hidden")) one.setAttribute("hidden", "until-found");
  }
  for (const [id, link] of links) {
    if (id !== now?.id) link.removeAttribute("aria-current");
    else if (!link.hasAttribute("aria-current")) {
      link.setAttribute("aria-current", "true");
      const list = link.closest("ul");
      list.scrollLeft = link.offsetLeft - list.offsetLeft - (list.clientWidth - link.offsetWidth) / 2;
    }
  }
  return now;
};

// To what the address names; where that is a part, its start, the title of the page above it if that was in sight.
const go = () => {
  const part = show(), target = asked() ?? part;
  if (target !== part) return target.scrollIntoView();
  scrollTo(0, Math.min(scrollY, bar.previousElementSibling.getBoundingClientRect().bottom + scrollY));
  part.tabIndex = -1;
  part.focus({ preventScroll: true });
};

if (bar) {
  bar.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    if (link.hash !== location.hash) history.pushState(null, "", link.hash);
    go();
  });
  addEventListener("hashchange", go);
  addEventListener("popstate", show);
  addEventListener("beforematch", (event) => {
    if (!links.has(event.target.id)) return;
    history.replaceState(history.state, "", `#${event.target.id}`);
    show();
  }, { capture: true });
  document.addEventListener("htmx:afterSwap", show); // what is exchanged comes without its attribute
  const part = show(), target = asked();
  if (target && target !== part) { // it stays in sight while what stands above it grows, until somebody moves
    target.scrollIntoView();
    const held = new ResizeObserver(() => target.scrollIntoView());
    const done = () => held.disconnect();
    held.observe(part);
    setTimeout(done, 8000);
    for (const kind of ["wheel", "touchmove", "keydown", "pointerdown"]) addEventListener(kind, done, { passive: true, once: true });
  }
}
