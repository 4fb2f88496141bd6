// Tells of runs that have ended, where the person and the browser allow it. One tab of a browser asks for all.
(() => {
  const url = document.currentScript.dataset.url;
  const EVERY = 15000; // ms
  const KEY = "ended.since";
  const ASKED = "ended.asked";
  if (!("Notification" in window)) return;

  async function look() {
    if (Notification.permission !== "granted") return;
    const now = Date.now();
    if (now - Number(localStorage.getItem(ASKED) || 0) < EVERY - 1000) return;
    localStorage.setItem(ASKED, String(now));
    const since = localStorage.getItem(KEY) || "";
    const answer = await fetch(`${url}?since=${encodeURIComponent(since)}`, { credentials: "same-origin" });
    if (!answer.ok || answer.redirected) return;
    const found = await answer.json();
    if (localStorage.getItem(KEY) !== (since || null)) return; // another tab was faster
    localStorage.setItem(KEY, String(found.now));
    for (const run of found.ended) {
      const note = new Notification(`${run.title}: ${run.how}`, { tag: run.id });
      note.addEventListener("click", () => { window.focus(); location.assign(run.url); });
    }
  }

  const quietly = () => look().catch(() => {}); // offline: it is asked again
  quietly();
  setInterval(quietly, EVERY);
})();
