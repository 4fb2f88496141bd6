// Says whether this browser may notify, and asks it once that is wanted: browsers let pages ask on a click alone.
(() => {
  const said = document.getElementById("may-notify");
  const tick = document.getElementById("id_notes_in_browser");
  if (!said || !tick) return;
  const say = () => { said.textContent = said.dataset["Notification" in window ? Notification.permission : "none"] || ""; };
  say();
  tick.addEventListener("change", async () => {
    if (tick.checked && "Notification" in window && Notification.permission === "default") {
      await Notification.requestPermission();
      say();
    }
  });
})();
