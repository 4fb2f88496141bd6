// A tab that nobody sees does not wait for runs to change: a browser has few connections to one server for all its tabs.
(() => {
  const waits = () => document.querySelectorAll("[hx-headers*='wait=']");
  document.addEventListener("htmx:configRequest", (event) => {
    if (document.hidden) delete event.detail.headers.Prefer;
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) waits().forEach((one) => window.htmx.trigger(one, "htmx:abort"));
  });
})();
