// A chosen or dropped file is sent at once, by tus, while the rest of the form is filled in; it goes on after a broken
// line, and when the same file is chosen again after the page was closed. The form then names it in the place of its
// bytes. Without this script, or where it cannot send, the form sends the file as forms do.
(() => {
  const PIECE = 8 << 20; // bytes of one request: a server that dies loses one at most
  const PAUSES = [500, 1000, 2000, 4000, 8000, ...Array(40).fill(15000)]; // ms, until a minute's trouble has become ten
  const area = document.querySelector(".sending");
  const input = area?.querySelector('input[type="file"][name="file"]');
  if (!input || !window.tus?.isSupported || !window.Worker) return;
  const form = input.form;
  const secret = form.querySelector('[name="csrfmiddlewaretoken"]').value;

  const panel = document.createElement("div");
  panel.className = "under-way";
  panel.hidden = true;
  panel.innerHTML =
    '<progress max="100"></progress><p class="said"></p><p class="unseen" role="status"></p>' +
    '<div class="buttons"><button type="button" class="pause">Pause</button><button type="button" class="stop">Remove</button></div>';
  const hint = document.createElement("p");
  hint.className = "drop";
  hint.textContent = "Or drop it here. It is sent while you fill in the rest, and goes on after a broken line.";
  input.after(hint, panel);
  area.classList.add("can");
  const [bar, said, status, pause, stop] = ["progress", ".said", "[role=status]", ".pause", ".stop"].map(
    (what) => panel.querySelector(what),
  );

  let now = null; // what is under way: {file, sha256, upload, worker, state, waits}

  const size = (bytes) => {
    const units = ["bytes", "KB", "MB", "GB"]; // as the page has them
    const step = bytes < 1024 ? 0 : Math.min(3, Math.floor(Math.log2(bytes) / 10));
    return `${(bytes / 1024 ** step).toFixed(step ? 1 : 0)} ${units[step]}`;
  };

  // What is seen changes with every piece; what is read aloud only when it is news.
  function show(text, { part = null, news = text, bad = false } = {}) {
    said.textContent = text;
    if (news && status.textContent !== news) status.textContent = news;
    panel.hidden = false;
    panel.classList.toggle("bad", bad);
    if (part !== null) bar.value = Math.min(100, 100 * part);
  }

  function state(name) {
    now.state = name;
    panel.dataset.state = name;
    pause.hidden = !["sending", "paused", "failed"].includes(name);
    pause.textContent = name === "sending" ? "Pause" : name === "failed" ? "Try again" : "Go on";
  }

  function hidden(values) {
    for (const old of area.querySelectorAll("input[data-sent]")) old.remove();
    for (const [name, value] of Object.entries(values)) {
      const field = Object.assign(document.createElement("input"), { type: "hidden", name, value });
      field.dataset.sent = "";
      area.append(field);
    }
    const there = Object.keys(values).length > 0;
    for (const other of form.querySelectorAll("input[data-kept]")) other.disabled = there; // of a file before it
    input.toggleAttribute("name", !there); // what is there already is not sent with the form
    if (!there) input.name = "file";
  }

  function end() {
    if (!now) return;
    now.worker?.terminate();
    now.upload?.abort();
    now.over = true;
    now = null;
    hidden({});
    panel.hidden = true;
    status.textContent = "";
  }

  function done(text, values) {
    state("done");
    hidden(values);
    show(text, { part: 1 });
    if (now.waits) form.requestSubmit(now.waits === true ? undefined : now.waits);
  }

  function failed(text) {
    state("failed");
    now.waits = null;
    show(text, { bad: true });
  }

  function begin(file) {
    end();
    if (!file) return;
    now = { file, waits: null };
    bar.setAttribute("aria-label", `Sending ${file.name}`);
    read(now);
  }

  // The file's hash says what it is, whatever its name: by it the server knows what it has, all or part of it.
  function read(mine) {
    state("reading");
    show(`Reading ${mine.file.name}`, { part: 0 });
    const worker = new Worker(area.dataset.worker);
    mine.worker = worker;
    worker.onmessage = ({ data }) => {
      if (mine.over) return;
      if (data.read) show(`Reading ${mine.file.name}: ${Math.floor(100 * data.read / mine.file.size)}%`, { news: "" });
      if (data.error) failed(`${mine.file.name} cannot be read: ${data.error}`);
      if (data.sha256) ask(mine, data.sha256);
      if (data.sha256 || data.error) worker.terminate();
    };
    worker.onerror = () => mine.over || failed(`${mine.file.name} cannot be read.`);
    worker.postMessage({ file: mine.file, library: new URL(area.dataset.sha256, location.href).href });
  }

  async function ask(mine, sha256) {
    mine.sha256 = sha256;
    let begun;
    try {
      const team = form.elements.team?.value || null; // one's own files are known, and those of the team it is for
      const known = (await list(area.dataset.known, sha256)).results;
      if (known.some((one) => one.team === null || String(one.team) === team)) {
        if (!mine.over) done(`${mine.file.name} is here already: nothing is sent.`, { sha256, file_name: mine.file.name });
        return;
      }
      begun = (await list(area.dataset.uploads, sha256)).results.find((one) => one.size === mine.file.size);
    } catch {
      begun = null; // creating it will tell what is wrong, and try again
    }
    if (!mine.over) send(mine, begun ? `${area.dataset.uploads}${begun.id}/` : null);
  }

  async function list(address, sha256) {
    const answer = await fetch(`${address}?sha256=${sha256}`, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(answer.status);
    return answer.json();
  }

  function send(mine, address) {
    const { file, sha256 } = mine;
    const upload = new tus.Upload(file, {
      endpoint: area.dataset.uploads,
      uploadUrl: address,
      chunkSize: PIECE,
      retryDelays: PAUSES,
      storeFingerprintForResuming: false, // the server finds it by its hash, in any browser
      headers: { "X-CSRFToken": secret },
      metadata: { filename: file.name, kind: area.dataset.kind, sha256 },
      onShouldRetry(error) {
        const code = error.originalResponse?.getStatus() ?? 0;
        const again = code === 0 || [408, 409, 423, 429].includes(code) || (code >= 500 && code !== 507);
        if (again && !mine.over) {
          const why = code ? "The server cannot take it just now." : "The line is broken.";
          show(`${why} What was sent stays there; trying again.`, { news: `${why} Trying again.` });
        }
        return again;
      },
      onProgress(sent, all) {
        if (mine.over || mine.state !== "sending") return;
        const share = Math.floor(100 * sent / all);
        const news = `${file.name}: ${share - (share % 25)}% sent`;
        show(`${size(sent)} of ${size(all)} sent (${share}%)`, { part: sent / all, news: share < 100 ? news : "" });
      },
      onSuccess() {
        if (mine.over) return;
        done(`${file.name}, ${size(file.size)}, is there.`, { upload: upload.url.replace(/\/$/, "").split("/").pop() });
      },
      onError: (error) => mine.over || failed(reason(error)),
    });
    mine.upload = upload;
    state("sending");
    show(`Sending ${file.name}`, { part: 0 });
    upload.start();
  }

  // The server's own words, where it has said some.
  function reason(error) {
    if (!error.originalRequest) return "It cannot be read any more: was it changed? Choose it again.";
    try {
      const problem = JSON.parse(error.originalResponse.getBody());
      return [problem.detail, problem.mend].filter(Boolean).join(" ");
    } catch {
      const code = error.originalResponse?.getStatus();
      return code ? `The server refused it (${code}).` : "The server cannot be reached. What was sent stays there.";
    }
  }

  function toggle() {
    if (now.state === "sending") {
      now.upload.abort();
      state("paused");
      show("Paused. What was sent stays there.");
    } else if (now.state === "paused") {
      state("sending");
      show(`Sending ${now.file.name}`);
      now.upload.start();
    } else {
      begin(now.file); // the server tells what it has of it
    }
  }

  async function remove() {
    const { upload } = now;
    end();
    input.value = "";
    input.focus();
    if (upload?.url) {
      await fetch(upload.url, { method: "DELETE", headers: { "X-CSRFToken": secret, "Tus-Resumable": "1.0.0" } }).catch(() => {});
    }
  }

  pause.addEventListener("click", toggle);
  stop.addEventListener("click", remove);
  input.addEventListener("change", () => begin(input.files[0]));
  window.addEventListener("online", () => now?.state === "failed" && toggle());

  for (const kind of ["dragenter", "dragover"]) {
    area.addEventListener(kind, (event) => {
      if (![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault();
      area.classList.add("over");
    });
  }
  for (const kind of ["dragleave", "drop"]) area.addEventListener(kind, () => area.classList.remove("over"));
  area.addEventListener("drop", (event) => {
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    const one = new DataTransfer();
    one.items.add(event.dataTransfer.files[0]);
    input.files = one.files;
    begin(input.files[0]);
  });

  form.addEventListener("submit", (event) => {
    if (!now || ["done", "failed"].includes(now.state)) return; // a form sends what could not be sent otherwise
    event.preventDefault();
    now.waits = event.submitter || true;
    if (now.state === "paused") toggle();
    status.textContent = "The form is sent as soon as the file is there.";
    said.textContent = status.textContent;
  });
  // A page that the browser kept as it was, after the form had been sent.
  window.addEventListener("pageshow", (event) => event.persisted && end());
})();
