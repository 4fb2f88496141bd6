#!/usr/bin/env python3
"""Repair an image classifier from CI: one file, no dependencies, Python 3.9 or later.

    neuron_repair.py repair --server https://repair.example --model net.pth --architecture resnet18
        --num-classes 10 --data images.zip --metric subgroup-recall:background --out repair/
        --gate 'gain.lower>0'

Verbs: repair, explain and score upload what is not there yet and run; attack does so with a model or with a finished
repair; follow goes on from a finished run (other filters, or another objective that it valued); compare sets two
finished runs side by side; wait takes up a run by its id.

The token comes from the environment variable NR_TOKEN (or --token-file). Run it again with the same arguments
and it goes on where it was: uploads and the run itself are found again, nothing is started twice.

Exit codes
    0  repaired (explained, valued, attacked, compared), and every gate passed
    1  the same, but a gate failed
    2  bad input: the server refuses a file or an option, or the input made the run fail
    3  server or job error
    4  timeout: the run goes on; run the same command again to wait for it
    5  no repair meets the constraints

Written to --out, whatever the exit code: metrics.json, junit.xml and summary.md; and the result files (report.json,
report.html, predictions.csv, and the repaired checkpoint if there is one; of the other verbs their own), each checked
against its SHA-256.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import json
import mimetypes
import operator
import os
import re
import ssl
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit
from xml.sax.saxutils import escape, quoteattr

PASS, GATE_FAILED, BAD_INPUT, SERVER_ERROR, TIMEOUT, NO_REPAIR = range(6)
CHUNK = 1 << 18
POLL = 2.0  # longest pause between two looks at a run, in seconds
RETRIES = 6
OPERATORS = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


class Failure(Exception):
    """Ends the program with an exit code and a message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Refused(Failure):
    """The server answered with an error."""

    def __init__(self, status: int, problem: dict) -> None:
        code = BAD_INPUT if 400 <= status < 500 and status not in (408, 429) else SERVER_ERROR
        text = problem.get("detail") or problem.get("title") or "no explanation"
        if problem.get("mend"):
            text += "\n" + str(problem["mend"])
        super().__init__(code, f"The server refused ({status}): {text}")
        self.status = status


class Api:
    """The REST API, with retries for what can be sent twice without harm (everything here can)."""

    def __init__(self, server: str, token: str, deadline: float) -> None:
        self.base = server.rstrip("/") + "/api/v1/"
        self.token = token
        self.deadline = deadline

    def json(self, method: str, path: str, body: Any = None, headers: dict | None = None) -> dict:
        data = None if body is None else json.dumps(body).encode()
        head = {"Content-Type": "application/json"} if data is not None else {}
        _, answer, _ = self._retry(method, path, lambda: (data, {**head, **(headers or {})}))
        return _document(answer) if answer else {}

    def upload(self, path: str, file: Path, fields: dict[str, Any]) -> dict:
        """Ask by SHA-256 whether the server has the file from an earlier run; send it if not."""
        try:
            return self.json("POST", path, {"sha256": sha256_of(file), "file_name": file.name, **fields})
        except Refused as refused:
            if refused.status not in (404, 415):  # 415: a server of an older version, which takes forms only
                raise
        return self._send_file(path, file, {name: as_text(value) for name, value in fields.items()})

    def _send_file(self, path: str, file: Path, fields: dict[str, str]) -> dict:
        """A multipart form, streamed: memory stays flat whatever the size."""
        say(f"sending {file.name}: {file.stat().st_size:,} bytes")
        boundary = uuid.uuid4().hex
        before = b"".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in fields.items()
        )
        name = file.name.replace('"', "_").replace("\r", "_").replace("\n", "_")
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        before += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
            f"Content-Type: {kind}\r\n\r\n"
        ).encode()
        after = f"\r\n--{boundary}--\r\n".encode()

        def body() -> Iterator[bytes]:
            yield before
            with file.open("rb") as content:
                while chunk := content.read(CHUNK):
                    yield chunk
            yield after

        head = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(before) + file.stat().st_size + len(after)),
        }
        _, answer, _ = self._retry("POST", path, lambda: (body(), head))
        return _document(answer)

    def download(self, url: str, target: Path, sha256: str) -> None:
        """Resumes a part that is there; refuses a file with another hash than the server said."""
        part = target.with_name(target.name + ".part")
        for _ in range(RETRIES):
            have = part.stat().st_size if part.exists() else 0
            head = {"Range": f"bytes={have}-", "If-Range": f'"{sha256}"'} if have else {}
            try:
                self._fetch(url, part, head)
            except (OSError, http.client.HTTPException) as error:
                self._pause(f"{target.name}: {error}", 2.0)
                continue
            if sha256_of(part) == sha256:
                part.replace(target)
                return
            part.unlink()
        raise Failure(SERVER_ERROR, f"{target.name} could not be downloaded undamaged.")

    def _fetch(self, url: str, part: Path, headers: dict) -> None:
        connection, target = self._connect(url)
        try:
            connection.request("GET", target, headers={**self._headers(), **headers})
            answer = connection.getresponse()
            if answer.status == 416:
                part.unlink()
                return
            if answer.status not in (200, 206):
                raise Refused(answer.status, _problem(answer.read()))
            with part.open("ab" if answer.status == 206 else "wb") as file:
                while chunk := answer.read(CHUNK):
                    file.write(chunk)
        finally:
            connection.close()

    def _retry(self, method: str, path: str, make: Any) -> tuple[int, bytes, dict]:
        pause = 1.0
        for attempt in range(RETRIES):
            body, headers = make()
            try:
                status, answer, head = self._send(method, path, body, headers)
            except (OSError, http.client.HTTPException) as error:
                problem: Failure = Failure(SERVER_ERROR, f"The server cannot be reached: {error}")
            else:
                if status < 400:
                    return status, answer, head
                problem = Refused(status, _problem(answer))
                if problem.code == BAD_INPUT:
                    raise problem
            if attempt == RETRIES - 1:
                raise problem
            self._pause(str(problem), pause)
            pause = min(2 * pause, 20)
        raise AssertionError("unreachable")

    def _pause(self, why: str, seconds: float) -> None:
        if time.monotonic() + seconds > self.deadline:
            raise Failure(TIMEOUT, f"Out of time. Last: {why}")
        say(f"{why} - trying again in {seconds:g} s")
        time.sleep(seconds)

    def _send(self, method: str, path: str, body: Any, headers: dict) -> tuple[int, bytes, dict]:
        connection, target = self._connect(urljoin(self.base, path))
        try:
            # The server may answer before it has read everything: then the answer is what counts.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, target, body=body, headers={**self._headers(), **headers})
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.headers)
        finally:
            connection.close()

    def _connect(self, url: str) -> tuple[http.client.HTTPConnection, str]:
        parts, home = urlsplit(url), urlsplit(self.base)
        if (parts.scheme, parts.netloc) != (home.scheme, home.netloc):
            # Behind a proxy a server may not know its name: the path is right, the token goes nowhere else.
            parts = parts._replace(scheme=home.scheme, netloc=home.netloc)
        host, port = parts.hostname or "", parts.port
        connection: http.client.HTTPConnection = (
            http.client.HTTPSConnection(host, port, timeout=120, context=ssl.create_default_context())
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=120)
        )
        return connection, parts.path + (f"?{parts.query}" if parts.query else "")

    def _headers(self) -> dict:
        return {"Authorization": f"Bearer {self.token}", "Accept": "application/json"}


def _document(body: bytes) -> dict:
    try:
        return json.loads(body)
    except ValueError:
        text = body[:200].decode(errors="replace")
        raise Failure(SERVER_ERROR, f"The answer is not of the API (is --server right?): {text}") from None


def as_text(value: Any) -> str:
    """Of a form's field."""
    return value if isinstance(value, str) else json.dumps(value)


def _problem(body: bytes) -> dict:
    try:
        found = json.loads(body)
        return found if isinstance(found, dict) else {}
    except ValueError:
        return {"detail": body[:300].decode(errors="replace")}


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def pauses() -> Iterator[float]:
    """Seconds between two looks: short at first, so that little is added to what is soon over."""
    pause = POLL / 16
    while True:
        yield pause
        pause = min(2 * pause, POLL)


def wait_for_upload(api: Api, kind: str, upload: dict) -> dict:
    """Until it has been checked."""
    pause = pauses()
    while upload["state"] == "validating":
        if time.monotonic() > api.deadline:
            raise Failure(TIMEOUT, f"{upload['file_name']} is still being checked.")
        time.sleep(next(pause))
        upload = api.json("GET", f"{kind}/{upload['id']}/")
    if upload["state"] == "rejected":
        raise Failure(BAD_INPUT, f"{upload['file_name']} was rejected: {upload['error']}\n{upload['mend']}".rstrip())
    for warning in upload["warnings"]:
        say(f"warning: {upload['file_name']}: {warning}")
    return upload


# Options that the API takes under the same name, by the verbs that have them.
ADVERSARY = ("attack", "norm", "epsilon", "steps", "step_size", "restarts", "targeted", "random_start")
ADVERSARY += ("attack_images", "queries", "subset")
LIMITS = ("max_clean_drop", "max_subgroup_drop", "max_filters", "choose", "order")
SEARCH = (
    "metric",
    "estimator",
    "constant",
    "precision",
    "memory",
    "top_k",
    "side",
    "budget",
    "batch_size",
    "compact",
    "also",
)
RUN = ("name", "group", "seed", "device")
BODIES = {
    "repair": (*RUN, *SEARCH, *LIMITS, *ADVERSARY),
    "follow": ("name", "metric", "filters", "budget", *LIMITS, "queries", "subset"),
    "attack": (*RUN, *ADVERSARY, "repair", "all_images"),
}


def start(api: Api, options: argparse.Namespace) -> dict:
    """Upload what is not there yet and start the run, or find the one that was started before."""
    verb = options.command
    kept = BODIES.get(verb, BODIES["repair"])
    body = {name: value for name in kept if (value := getattr(options, name, None)) not in (None, [])}
    if verb == "follow":
        body["from"] = options.id
    else:
        body |= upload_all(api, options)
    if body.get("repair"):  # on the images that it was reported on, unless others are asked for
        asked = api.json("GET", f"repairs/{body['repair']}/")["request"]
        body = {key: asked[key] for key in ("seed", "group") if key in asked} | body
    if verb in ("explain", "score"):
        body["kind"] = verb
    return post(api, "attacks/" if verb == "attack" else "repairs/", body, options.run_id)


def upload_all(api: Api, options: argparse.Namespace) -> dict:
    """The ids of the model, the dataset and all else that is named by a file."""
    surrogates = [parse_surrogate(text) for text in options.surrogate]
    files = {"model": options.model, "dataset": options.data, "guard": getattr(options, "guard", None)}
    for path in filter(None, (*files.values(), options.classes, *(path for path, _ in surrogates))):
        if not path.is_file():
            raise Failure(BAD_INPUT, f"There is no file {path}.")
    there = {role: path for role, path in files.items() if path}
    sent = {}
    for role, path in there.items():
        kind = "models" if role == "model" else "datasets"
        sent[role] = kind, api.upload(f"{kind}/", path, model_fields(options) if role == "model" else {})
    others = [api.upload("models/", path, fields) for path, fields in surrogates]
    ids: dict[str, Any] = {role: wait_for_upload(api, kind, upload)["id"] for role, (kind, upload) in sent.items()}
    if others:
        ids["surrogates"] = [wait_for_upload(api, "models", upload)["id"] for upload in others]
    return ids


def model_fields(options: argparse.Namespace) -> dict[str, Any]:
    fields: dict[str, Any] = {}  # an ONNX model brings its architecture and classes
    if options.architecture:
        fields["architecture"] = options.architecture
    if options.num_classes is not None:
        fields["num_classes"] = options.num_classes
    if options.arch_option:
        fields["options"] = dict(parse_option(item) for item in options.arch_option)
    if options.weights:
        fields["weights"] = options.weights
    if options.key:
        fields["key"] = options.key
    if options.strip_prefix:
        fields["strip_prefix"] = options.strip_prefix
    if options.classes:
        fields["classes"] = options.classes.read_text(encoding="utf-8-sig")
    if preprocessing := parse_preprocessing(options):
        fields["preprocessing"] = preprocessing
    return fields


def parse_surrogate(text: str) -> tuple[Path, dict[str, Any]]:
    """FILE, or FILE:ARCHITECTURE:NUM_CLASSES."""
    name, _, rest = text.partition(":")
    architecture, _, classes = rest.partition(":")
    if rest and not (architecture and classes.isdigit()):
        raise Failure(BAD_INPUT, f"--surrogate {text!r} is neither FILE nor FILE:ARCHITECTURE:NUM_CLASSES.")
    return Path(name), {"architecture": architecture, "num_classes": int(classes)} if rest else {}


def post(api: Api, path: str, body: dict, run_id: str) -> dict:
    """The same request has the same key: sent again, it finds the run that it started.

    One that was cancelled, or that the server failed, is not what was asked for: then the next key's turn comes.
    """
    for attempt in range(100):
        text = json.dumps([run_id, attempt, body], sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()
        found = api.json("POST", path, body, {"Idempotency-Key": f"cli-{key}"})
        if found["state"] != "canceled" and not (found["state"] == "failed" and found["fault"] == "server"):
            return found
    raise Failure(SERVER_ERROR, "This run failed a hundred times.")


def compare(api: Api, options: argparse.Namespace) -> dict:
    """Two finished runs side by side, as a run that has ended: what is written of it is the same."""
    query = urlencode({"a": options.id, "b": options.other})
    document = api.json("GET", f"compare/?{query}")
    text = json.dumps(document, indent=1) + "\n"
    (options.out / "compare.json").write_text(text, encoding="utf-8")
    sides = document.pop("results")
    document["results"] = sides  # their histograms last: the summary begins with what was found
    first, second = (side["path"] for side in sides)
    return {
        "id": f"{options.id}..{options.other}", "name": f"{first} and {second}",
        "url": urljoin(api.base, f"/compare/?{query}"), "state": "succeeded", "outcome": "compared",
        "error": "", "mend": "", "fault": "", "request": {"a": options.id, "b": options.other},
        "warnings": document["warnings"], "result": document, "results": [], "progress": {"elapsed_seconds": 0},
    }  # fmt: skip


def parse_option(item: str) -> tuple[str, Any]:
    key, equals, value = item.partition("=")
    if not equals:
        raise Failure(BAD_INPUT, f"--arch-option {item!r} is not KEY=VALUE.")
    try:
        return key, json.loads(value.lower() if value.lower() in ("true", "false") else value)
    except ValueError:
        return key, value


def pixels(text: str) -> int | str:
    """Of --resize and --crop: a number, or none to have no resizing where the architecture's own would be taken."""
    return "none" if text == "none" else int(text)


def parse_preprocessing(options: argparse.Namespace) -> dict:
    found: dict[str, Any] = {}
    for name in ("resize", "crop"):
        if (size := getattr(options, name)) is not None:
            found[name] = None if size == "none" else size
    for name in ("mean", "std"):
        if getattr(options, name):
            try:
                found[name] = [float(part) for part in getattr(options, name).split(",")]
            except ValueError:
                raise Failure(BAD_INPUT, f"--{name}: numbers separated by commas.") from None
    return found


def wait(api: Api, repair: dict) -> dict:
    """Until it has ended."""
    shown = ""
    say(f"run {repair['id']}")
    pause = pauses()
    while repair["state"] in ("starting", "processing"):
        progress = repair["progress"]
        line = f"{progress['percent']:5.1f} %  {progress['phase']}"
        if progress["note"]:
            line += f": {progress['note']}"
        if progress["evaluations_total"]:
            line += f"  {progress['evaluations']:,} of {progress['evaluations_total']:,} evaluations"
        if not progress["worker_alive"]:
            line += "  (no worker is running)"
        if line != shown:
            say(line)
            shown = line
        seconds = next(pause)
        if time.monotonic() + seconds > api.deadline:
            message = f"Out of time; run {repair['id']} goes on. Run the same command again."
            raise Failure(TIMEOUT, message)
        time.sleep(seconds)
        repair = api.json("GET", f"repairs/{repair['id']}/")
    return repair


def fetch(api: Api, repair: dict, out: Path) -> list[str]:
    names = []
    for item in repair["results"]:
        name = Path(item["name"]).name
        api.download(urljoin(api.base, item["url"]), out / name, item["sha256"])
        names.append(name)
    return names


def lookup(values: Any, path: str) -> float:
    """`gain.lower` in {"gain": {"lower": 0.01}}; items of a list by their number."""
    for part in path.split("."):
        if isinstance(values, list) and part.isdigit() and int(part) < len(values):
            values = values[int(part)]
        elif isinstance(values, dict) and part in values:
            values = values[part]
        else:
            known = ", ".join(sorted(values)) if isinstance(values, dict) else type(values).__name__
            raise Failure(BAD_INPUT, f"--gate: there is no {path!r} in the result ({part!r} is not among: {known}).")
    if isinstance(values, bool) or not isinstance(values, (int, float)):
        raise Failure(BAD_INPUT, f"--gate: {path!r} is no number but {values!r}.")
    return float(values)


def judge(gates: list[str], result: dict) -> list[dict]:
    """Each gate with what was measured and whether it passed; or with the problem it cannot be judged for."""
    judged = []
    for gate in gates:
        name, sign, limit = parse_gate(gate)
        try:
            value = lookup(result, name)
        except Failure as failure:
            judged.append({**unjudged(gate), "passed": False, "problem": str(failure)})
        else:
            judged.append({"gate": gate, "value": value, "passed": OPERATORS[sign](value, limit), "problem": ""})
    return judged


def unjudged(gate: str) -> dict:
    """Of a run that measured nothing."""
    return {"gate": gate, "value": None, "passed": None, "problem": ""}


def parse_gate(gate: str) -> tuple[str, str, float]:
    match = re.fullmatch(r"\s*([\w.:-]+?)\s*(>=|<=|==|!=|>|<)\s*(-?[\d.]+(?:e-?\d+)?)\s*", gate)
    if not match:
        raise Failure(BAD_INPUT, f"--gate {gate!r} is not NAME>=NUMBER (operators: {' '.join(OPERATORS)}).")
    return match[1], match[2], float(match[3])


def verdict(repair: dict, gates: list[dict]) -> tuple[int, str]:
    state, error = repair["state"], " ".join(filter(None, (repair["error"], repair["mend"])))
    if state == "canceled":
        return SERVER_ERROR, "The run was canceled."
    if state == "failed":
        return (BAD_INPUT if repair["fault"] == "input" else SERVER_ERROR), error
    if repair["outcome"] == "no_repair_found":
        return NO_REPAIR, "No repair meets the constraints. That is an answer: see report.html."
    done = str(repair["outcome"]).capitalize()  # repaired, explained, scored, attacked, compared
    if problems := [gate["problem"] for gate in gates if gate["problem"]]:
        return BAD_INPUT, "\n".join(problems)
    failed = [gate for gate in gates if not gate["passed"]]
    if failed:
        return GATE_FAILED, "; ".join(f"{gate['gate']} fails: {gate['value']:g}" for gate in failed)
    return PASS, done + (f", and {len(gates)} gate(s) passed." if gates else ".")


def write_reports(out: Path, repair: dict, gates: list[dict], code: int, message: str, files: list[str]) -> None:
    metrics = {
        "exit_code": code,
        "message": message,
        "repair": repair["id"],
        "url": repair["url"],
        "state": repair["state"],
        "outcome": repair["outcome"],
        "request": repair["request"],
        "warnings": repair["warnings"],
        "result": repair["result"],
        "gates": gates,
        "files": files,
    }
    text = markdown(repair, gates, code, message)
    numbers = json.dumps(metrics, indent=2, sort_keys=True) + "\n"
    for name, content in (
        ("metrics.json", numbers),
        ("junit.xml", junit(repair, gates, code, message)),
        ("summary.md", text),
    ):
        (out / name).write_text(content, encoding="utf-8")
    if page := os.environ.get("GITHUB_STEP_SUMMARY"):
        with open(page, "a", encoding="utf-8") as file:
            file.write(text)


def without_run() -> dict:
    """In the place of a run that never started."""
    return {
        "id": "", "name": "", "url": "", "state": "", "outcome": "", "request": {}, "warnings": [], "result": {},
        "progress": {"elapsed_seconds": 0},
    }  # fmt: skip


def junit(repair: dict, gates: list[dict], code: int, message: str) -> str:
    """A case for the run itself and one for each gate; a gate that nothing was measured for is skipped."""
    kind = {PASS: "", GATE_FAILED: "", SERVER_ERROR: "error", TIMEOUT: "error"}.get(code, "failure")
    ran = repair["outcome"] not in ("", "no_repair_found")
    cases = [("repair", "" if ran and any(g["problem"] for g in gates) else kind, message)]
    for gate in gates:
        if gate["passed"] is None:
            cases.append((gate["gate"], "skipped", f"not judged: {message}"))
        elif gate["passed"]:
            cases.append((gate["gate"], "", ""))
        else:
            cases.append((gate["gate"], "failure", gate["problem"] or f"measured {gate['value']:g}"))
    lines = []
    for name, kind, text in cases:
        said = clean(text)
        inner = f"<{kind} message={quoteattr(said)}>{escape(said)}</{kind}>" if kind else ""
        lines.append(f'  <testcase classname="neuron_repair" name={quoteattr(clean(name))}>{inner}</testcase>')
    count = {kind: sum(1 for _, found, _ in cases if found == kind) for kind in ("failure", "error", "skipped")}
    seconds = repair["progress"]["elapsed_seconds"] or 0
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<testsuite name="neuron_repair" tests="{len(cases)}" failures="{count["failure"]}" '
        f'errors="{count["error"]}" skipped="{count["skipped"]}" time="{seconds}">\n'
        + "\n".join(lines)
        + "\n</testsuite>\n"
    )


def clean(text: str) -> str:
    """Without what XML cannot hold."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)


WORDS = ("passed", "a gate failed", "bad input", "server or job error", "timeout", "no repair meets the constraints")


def markdown(repair: dict, gates: list[dict], code: int, message: str) -> str:
    """Verdict, gates, before and after; then what stands behind them."""
    mark = {PASS: "✅", NO_REPAIR: "➖"}.get(code, "❌")
    lines = [f"## {mark} Neuron repair: {WORDS[code]}", "", message, ""]
    if gates:
        lines += ["| gate | measured | |", "|---|---|---|"]
        for gate in gates:
            measured = "" if gate["value"] is None else f"{gate['value']:g}"
            passed = {True: "passed", False: "**failed**", None: "not judged"}[gate["passed"]]
            lines.append(f"| {code_cell(gate['gate'])} | {measured} | {passed} |")
        lines.append("")
    if rows := before_and_after(repair["result"]):
        lines += ["| | before | after | change |", "|---|---|---|---|"]
        lines += [f"| {cell(name)} | {old:.4g} | {new:.4g} | {new - old:+.4g} |" for name, old, new in rows]
        lines.append("")
    if repair["url"]:
        lines += [f"[{cell(repair['name'] or repair['id'])}]({repair['url']})", ""]
    lines += [f"- {warning}" for warning in repair["warnings"]] + [""] * bool(repair["warnings"])
    numbers = list(flatten(repair["result"]))
    if numbers:
        lines += ["<details><summary>Numbers</summary>", "", "| name | value |", "|---|---|"]
        lines += [f"| {cell(name)} | {value:.6g} |" for name, value in numbers[:200]]
        lines += ["", "</details>", ""]
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def code_cell(text: str) -> str:
    return "`" + cell(text).replace("`", "'") + "`"


def before_and_after(result: dict) -> list[tuple[str, float, float]]:
    """What has a figure on both sides, those of the report images: the metric first."""
    sides = []
    for name in ("before", "after"):
        side = result.get(name, result.get(f"clean_{name}"))
        side = side.get("report", side) if isinstance(side, dict) else {}
        sides.append({key: value for key, value in flatten(side) if value == value})
    before, after = sides
    names = sorted((name for name in before if name in after), key=lambda name: name != "metric")
    return [(name, before[name], after[name]) for name in names[:20]]


def flatten(values: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Every number of the result with its dotted name: what --gate can use."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from flatten(value, f"{path}.{key}" if path else str(key))
    elif isinstance(values, list):
        for index, value in enumerate(values):
            yield from flatten(value, f"{path}.{index}")
    elif isinstance(values, (int, float)) and not isinstance(values, bool):
        yield path, values


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--server", default=os.environ.get("NR_SERVER", "http://localhost:8000"))
    common.add_argument("--token-file", type=Path, help="default: the environment variable NR_TOKEN")
    common.add_argument("--out", type=Path, default=Path("repair"))
    common.add_argument("--timeout", type=float, default=3600, help="seconds (default 3600)")
    common.add_argument("--gate", action="append", default=[], help="NAME>=NUMBER over the result; may be repeated")
    for verb, what in VERBS.items():
        command = commands.add_parser(verb, parents=[common], help=what)
        if verb in ("follow", "compare", "wait"):
            command.add_argument("id", help="of the run" if verb != "compare" else "of one run")
        if verb == "compare":
            command.add_argument("other", help="of the other run")
        if verb not in ("compare", "wait"):
            OPTIONS[verb](command)
            command.add_argument("--name")
            command.add_argument("--run-id", default="", help="a new id starts a new run of the same input")
    return top


VERBS = {
    "repair": "upload, repair, fetch, judge",
    "explain": "upload, explain, fetch: which filters is it made of?",
    "score": "upload, value all filters for several objectives, fetch",
    "attack": "upload, or take a finished repair, attack, fetch, judge",
    "follow": "go on from a finished run with other filters or another objective, fetch, judge",
    "compare": "do two finished runs hold the same filters responsible?",
    "wait": "wait for a run by its id, fetch, judge",
}


def add_search(run: argparse.ArgumentParser) -> None:
    """Of a repair, and of an explanation and a score, which the server tells what they do not take."""
    add_inputs(run)
    run.add_argument("--guard", type=Path)
    run.add_argument("--metric", required=True)
    run.add_argument("--also", action="append", default=[], help="of score: value this, too; may be repeated")
    run.add_argument("--estimator", choices=["fast", "tmab", "monte_carlo", "cmcs", "exact"])
    run.add_argument("--precision", choices=["float32", "bfloat16"], help="of the search")
    run.add_argument("--memory", help="that a worker may take for it, such as 2G; changes no figure")
    run.add_argument("--constant", choices=["mean", "bn_beta"], help="what an ablated filter's output becomes")
    run.add_argument("--top-k", type=int)
    run.add_argument("--side", choices=["top", "bottom", "both"])
    run.add_argument("--budget", type=int, help="evaluations")
    run.add_argument("--batch-size", type=int, help="images per draw")
    run.add_argument("--compact", action="store_const", const=True, help="also without the culprits' channels")
    add_limits(run)
    add_adversary(run)


def add_attack(run: argparse.ArgumentParser) -> None:
    """Of a model with images, or of a finished repair, whose they are then."""
    add_inputs(run, required=False)
    run.set_defaults(seed=None)
    run.add_argument("--repair", help="id of a finished repair, for figures before and after it (its seed and group)")
    run.add_argument("--all-images", action="store_const", const=True, help="not those of the report split alone")
    add_adversary(run)


def add_follow(run: argparse.ArgumentParser) -> None:
    """Of what may differ from the run that is gone on from."""
    run.add_argument("--filters", type=lambda text: text.split(","), help="ablate these: SITE:CHANNEL,SITE:CHANNEL")
    run.add_argument("--metric", help="one that the run valued")
    run.add_argument("--budget", type=int, help="evaluations")
    add_limits(run)
    add_queries(run)


OPTIONS = {"repair": add_search, "explain": add_search, "score": add_search, "attack": add_attack, "follow": add_follow}


def add_inputs(run: argparse.ArgumentParser, required: bool = True) -> None:
    run.add_argument("--model", type=Path, required=required)
    run.add_argument("--architecture", help="needed unless the model is ONNX or a Hugging Face zip")
    run.add_argument("--num-classes", type=int, help="needed unless the model is ONNX or a Hugging Face zip")
    run.add_argument("--arch-option", action="append", default=[], metavar="KEY=VALUE")
    run.add_argument("--weights", choices=["model", "ema"])
    run.add_argument("--key", metavar="NAME", help="the entry of the file that holds the state dict")
    run.add_argument("--strip-prefix", metavar="PREFIX", help="of the keys that are the network's")
    run.add_argument("--classes", type=Path)
    run.add_argument("--data", type=Path, required=required)
    for name, kind in (("resize", pixels), ("crop", pixels), ("mean", str), ("std", str)):
        run.add_argument(f"--{name}", type=kind)
    run.add_argument("--group", help="a column whose values never cross the splits")
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")


def add_limits(run: argparse.ArgumentParser) -> None:
    run.add_argument("--max-clean-drop", type=float)
    run.add_argument("--max-subgroup-drop", type=float)
    run.add_argument("--max-filters", type=int)
    run.add_argument("--choose", choices=["best", "one-se"], help="how many filters, of those within the limits")
    run.add_argument("--order", choices=["auto", "value"], help="of removal: also stepwise, or by value alone")


def add_adversary(run: argparse.ArgumentParser) -> None:
    run.add_argument("--attack", choices=["paper", "standard"], help="PGD preset")
    run.add_argument("--norm", choices=["linf", "l2"], help="what epsilon measures")
    run.add_argument("--epsilon", type=float, help="in pixels of [0, 1]")
    run.add_argument("--steps", type=int)
    run.add_argument("--step-size", type=float)
    run.add_argument("--restarts", type=int)
    aim = run.add_mutually_exclusive_group()
    aim.add_argument("--targeted", action="store_const", const=True)
    aim.add_argument("--untargeted", dest="targeted", action="store_const", const=False)
    run.add_argument("--random-start", action=argparse.BooleanOptionalAction)
    run.add_argument("--attack-images", type=int)
    surrogate = "FILE[:ARCHITECTURE:NUM_CLASSES]"
    run.add_argument("--surrogate", action="append", default=[], metavar=surrogate, help="transfer attacks from it")
    add_queries(run)


def add_queries(run: argparse.ArgumentParser) -> None:
    run.add_argument("--queries", type=int, help="of the black-box attack, per image")
    run.add_argument("--subset", type=int, help="images that are queried, at most")


def run(options: argparse.Namespace, known: dict) -> int:
    """`known` gets the run as soon as there is one: what is written of a failure names it."""
    for gate in options.gate:
        parse_gate(gate)  # before an hour's work, not after
    api = Api(options.server, read_token(options.token_file), time.monotonic() + options.timeout)
    if options.command == "compare":
        repair, files = compare(api, options), ["compare.json"]
    else:
        waiting = options.command == "wait"
        known.update(api.json("GET", f"repairs/{options.id}/") if waiting else start(api, options))
        repair = wait(api, dict(known))
        files = fetch(api, repair, options.out)
    known.update(repair)
    measured = repair["outcome"] not in ("", "no_repair_found")
    gates = judge(options.gate, repair["result"]) if measured else [unjudged(gate) for gate in options.gate]
    code, message = verdict(repair, gates)
    write_reports(options.out, repair, gates, code, message, files)
    say(message)
    say(f"written to {options.out}: {', '.join([*files, 'metrics.json', 'junit.xml', 'summary.md'])}")
    return code


def read_token(path: Path | None) -> str:
    try:
        token = path.read_text().strip() if path else os.environ.get("NR_TOKEN", "").strip()
    except (OSError, ValueError) as error:
        raise Failure(BAD_INPUT, f"--token-file: {error}") from None
    if not token:
        raise Failure(BAD_INPUT, "Set NR_TOKEN, or give --token-file. Tokens are made on the tokens page.")
    if not re.fullmatch(r"[!-~]+", token):
        raise Failure(BAD_INPUT, "The token holds characters that no token has: is it cut or quoted?")
    return token


def asked_for(arguments: list[str] | None) -> argparse.Namespace:
    """Of a command that was not understood: where its reports belong, and its gates."""
    few = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    few.add_argument("--out", type=Path)
    few.add_argument("--gate", action="append", default=[])
    try:
        return few.parse_known_args(arguments)[0]
    except (argparse.ArgumentError, SystemExit):
        return argparse.Namespace(out=None, gate=[])


def main(arguments: list[str] | None = None) -> int:
    try:
        options = parser().parse_args(arguments)
    except SystemExit as end:
        if end.code:
            give_up(asked_for(arguments), BAD_INPUT, "The command was not understood; see its output.", {})
        raise
    known: dict[str, Any] = {}
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        return run(options, known)
    except Failure as failure:
        code, message = failure.code, str(failure)
    except KeyboardInterrupt:
        code, message = TIMEOUT, "Interrupted; the run goes on. Run the same command to wait for it."
    except Exception as error:  # a full disk, or our mistake: exit code 1 would say that a gate failed
        code, message = SERVER_ERROR, f"{type(error).__name__}: {error}"
    say(message)
    give_up(options, code, message, known)
    return code


def give_up(options: argparse.Namespace, code: int, message: str, known: dict) -> None:
    """Reports of what went wrong, where they were asked for: a CI page shows them and not the log."""
    if options.out is None:
        return
    gates = [unjudged(gate) for gate in options.gate]
    for gate in gates:
        try:
            parse_gate(gate["gate"])
        except Failure as failure:
            gate.update(passed=False, problem=str(failure))
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        write_reports(options.out, {**without_run(), **known}, gates, code, message, [])
    except OSError as error:
        say(f"Nothing could be written to {options.out}: {error}")


if __name__ == "__main__":
    sys.exit(main())
