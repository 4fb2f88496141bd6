// The table of runs: how many are ticked, and all of the page at once. Without it every tick still counts.
(() => {
  const boxes = () => [...document.querySelectorAll('input[name="run"]')];

  function count() {
    const form = document.getElementById("selected");
    if (!form) return;
    const ticked = boxes().filter((box) => box.checked).length;
    form.querySelector("[data-count]").textContent = `${ticked} selected`;
    const all = document.getElementById("all");
    if (all) {
      all.checked = ticked > 0 && ticked === boxes().length;
      all.indeterminate = ticked > 0 && !all.checked;
    }
  }

  function begin() {
    const head = document.querySelector("table.runs th.pick");
    if (head && !document.getElementById("all")) {
      head.innerHTML = '<input type="checkbox" id="all"><label class="unseen" for="all">Select all on this page</label>';
    }
    count();
  }

  document.addEventListener("change", (event) => {
    if (event.target.id === "all") boxes().forEach((box) => { box.checked = event.target.checked; });
    if (event.target.id === "all" || event.target.name === "run") count();
  });
  document.addEventListener("htmx:afterSettle", begin);
  begin();
})();
