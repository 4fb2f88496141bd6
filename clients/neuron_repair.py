#!/usr/bin/env python3
"""Repair an image classifier from CI: one file, no dependencies, Python 3.9 or later.

    neuron_repair.py repair --server https://repair.example --model net.pth --architecture resnet18
        --num-classes 10 --data images.zip --metric subgroup-recall:background --out repair/
        --gate 'gain.lower>0'

Verbs: repair, explain and score upload what is not there yet and run; attack does so with a model or with a finished
repair; follow goes on from a finished run (other filters, or another objective that it valued); compare sets two
finished runs side by side; wait takes up a run by its id. pause, resume and prioritize (low, normal, high among your
own) say it of a run under way by its id, write nothing and end at once.

The token comes from the environment variable NR_TOKEN (or --token-file). Run it again with the same arguments
and it goes on where it was: uploads, also half-sent ones, and the run itself are found again, nothing is started twice.

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
import base64
import contextlib
import hashlib
import http.client
import json
import operator
import os
import re
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlencode, urljoin, urlsplit
from xml.sax.saxutils import escape, quoteattr

PASS, GATE_FAILED, BAD_INPUT, SERVER_ERROR, TIMEOUT, NO_REPAIR = range(6)
CHUNK = 1 << 18
PIECE = 1 << 23  # bytes of one request of an upload: a server that dies has lost one at most
TUS = {"Tus-Resumable": "1.0.0"}
POLL = 2.0  # longest pause between two looks at a run, in seconds, where the server cannot hold a request
WAIT = 25  # seconds for which it is asked to hold one until the run has changed
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

    def look(self, path: str, tag: str, seconds: int) -> tuple[dict | None, str, bool]:
        """What is there (None: the same as under `tag`), its tag, and whether the server waits for a change: up to so
        many seconds."""
        head = {"Prefer": f"wait={seconds}", **({"If-None-Match": tag} if tag else {})}
        status, answer, found = self._retry("GET", path, lambda: (None, head))
        held = "wait=" in found.get("Preference-Applied", "")
        return (None if status == 304 else _document(answer)), found.get("ETag", ""), held

    def upload(self, path: str, file: Path, fields: dict[str, Any]) -> dict:
        """Ask by SHA-256 whether the server has the file from an earlier run; send it if not."""
        sha256, size = sha256_of(file), file.stat().st_size
        for last in (False, False, True):
            try:
                return self.json("POST", path, {"sha256": sha256, "file_name": file.name, **fields})
            except Refused as refused:
                if refused.status != 404:
                    raise
            try:
                what = file, size, sha256, "model" if path.startswith("models") else "dataset"
                arrived = self._send_straight(*what) or self._send_file(*what)
                return self.json("POST", path, {"upload": arrived, "file_name": file.name, **fields})
            except Refused as refused:  # 404: it was used, and the answer lost; or its time was over. Then ask again
                if refused.status != 404 or last:
                    raise
        raise AssertionError("unreachable")

    def _send_straight(self, file: Path, size: int, sha256: str, kind: str) -> str:
        """To the object store behind the server, part by part, from where an earlier run left off. Returns the
        upload's id; "": the server does not offer it, or the store cannot be reached from here."""
        try:
            begun = self.json("GET", f"direct-uploads/?{urlencode({'sha256': sha256})}")["results"]
            asked = {"file_name": file.name, "kind": kind, "size": size, "sha256": sha256}
            same = [one for one in begun if one["size"] == size]
            upload = same[0] if same else self.json("POST", "direct-uploads/", asked)
            path = f"direct-uploads/{upload['id']}/"
            left = self.json("POST", path + "parts/")
        except Refused as refused:
            if refused.status in (404, 409):  # an older server; a store that signs no addresses, or not any more
                return ""
            raise
        say(f"sending {file.name}: {size:,} bytes straight to the store, of which {left['there']:,} are there")
        there, idle, pause = left["there"], 0, 1.0
        while left["parts"]:
            if left["there"] > there:
                there, idle, pause = left["there"], 0, 1.0
            if file.stat().st_size != size:
                raise Failure(BAD_INPUT, f"{file} was changed while it was sent. Run it again.")
            try:
                for part in left["parts"]:
                    self._put(part["url"], part["size"], self._piece(file, part["start"], part["size"], size))
            except (OSError, http.client.HTTPException) as error:
                if idle == (RETRIES if there else 1):
                    say(f"The store cannot be used from here ({error}): by way of the server, then.")
                    self.json("DELETE", path)
                    return ""
                self._pause(f"The store: {error}", pause)
                idle, pause = idle + 1, min(2 * pause, 20)
            left = self.json("POST", path + "parts/")
        show(f"{file.name}: the server reads it")
        while True:
            try:
                self.json("POST", path + "complete/")
                return upload["id"]
            except Refused as refused:
                if refused.status != 423:
                    raise
                self._pause(str(refused), POLL)

    def _put(self, url: str, size: int, body: Iterator[bytes]) -> None:
        """To an address that is signed: the token is not for it. Raises OSError: it was not taken."""
        where = urlsplit(url)
        connection = _connection(where, 20)
        try:
            connection.connect()
            connection.sock.settimeout(120)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request("PUT", f"{where.path}?{where.query}", body, {"Content-Length": str(size)})
            answer = connection.getresponse()
            if answer.status != 200:
                raise OSError(f"{answer.status} {answer.reason}")
        finally:
            connection.close()

    def _send_file(self, file: Path, size: int, sha256: str, kind: str) -> str:
        """By tus 1.0, from where an earlier run or a broken connection left off. Returns the upload's id."""
        begun = self.json("GET", f"uploads/?{urlencode({'sha256': sha256})}")["results"]
        there = max((one for one in begun if one["size"] == size), key=lambda one: one["offset"], default=None)
        upload = there["id"] if there else self._announce(file, size, sha256, kind)
        offset = there["offset"] if there else 0
        say(f"sending {file.name}: {size:,} bytes" + (f", of which {offset:,} are there already" if offset else ""))
        idle, pause = 0, 1.0
        while offset < size:
            before = offset
            if file.stat().st_size != size:
                raise Failure(BAD_INPUT, f"{file} was changed while it was sent. Run it again.")
            try:
                status, answer, head = self._send(
                    "PATCH",
                    f"uploads/{upload}/",
                    self._piece(file, offset, min(PIECE, size - offset), size),
                    {
                        **TUS,
                        "Upload-Offset": str(offset),
                        "Content-Type": "application/offset+octet-stream",
                        "Content-Length": str(min(PIECE, size - offset)),
                    },
                )
            except (OSError, http.client.HTTPException) as error:
                problem: Failure = Failure(SERVER_ERROR, f"The connection broke: {error}")
            else:
                if status == 204:
                    offset, idle, pause = int(head["Upload-Offset"]), 0, 1.0
                    continue
                problem = Refused(status, _problem(answer))
                if problem.code == BAD_INPUT and status not in (409, 423):  # what others were adding, too
                    raise problem
            if idle == RETRIES:
                raise problem
            self._pause(str(problem), pause)
            offset = self.json("GET", f"uploads/{upload}/")["offset"]
            idle, pause = (0, 1.0) if offset > before else (idle + 1, min(2 * pause, 20))
        show("")
        return upload

    def _announce(self, file: Path, size: int, sha256: str, kind: str) -> str:
        said = {"filename": file.name, "kind": kind, "sha256": sha256}
        told = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in said.items())
        headers = {**TUS, "Upload-Length": str(size), "Upload-Metadata": told}
        _, _, head = self._retry("POST", "uploads/", lambda: (None, headers))
        return head["Location"].rstrip("/").rpartition("/")[2]

    def _piece(self, file: Path, offset: int, length: int, size: int) -> Iterator[bytes]:
        """So many bytes from there; memory stays flat."""
        end = offset + length
        with file.open("rb") as content:
            content.seek(offset)
            while offset < end and (chunk := content.read(min(CHUNK, end - offset))):
                yield chunk
                offset += len(chunk)
                show(f"{file.name}: {100 * offset / size:5.1f} % of {size / 1e6:,.1f} MB")

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
            if answer.status == 302:  # to a store that sends files itself; the token is not for it
                connection.close()
                where = urlsplit(urljoin(url, answer.headers["Location"]))
                connection, target = _connection(where), f"{where.path}?{where.query}"
                connection.request("GET", target, headers={k: v for k, v in headers.items() if k == "Range"})
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

    def _retry(self, method: str, path: str, make: Any) -> tuple[int, bytes, Any]:
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

    def _send(self, method: str, path: str, body: Any, headers: dict) -> tuple[int, bytes, Any]:
        connection, target = self._connect(urljoin(self.base, path))
        try:
            # The server may answer before it has read everything: then the answer is what counts.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, target, body=body, headers={**self._headers(), **headers})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers
        finally:
            connection.close()

    def _connect(self, url: str) -> tuple[http.client.HTTPConnection, str]:
        parts, home = urlsplit(url), urlsplit(self.base)
        if (parts.scheme, parts.netloc) != (home.scheme, home.netloc):
            # Behind a proxy a server may not know its name: the path is right, the token goes nowhere else.
            parts = parts._replace(scheme=home.scheme, netloc=home.netloc)
        return _connection(parts), parts.path + (f"?{parts.query}" if parts.query else "")

    def _headers(self) -> dict:
        return {"Authorization": f"Bearer {self.token}", "Accept": "application/json"}


def _connection(parts: SplitResult, timeout: float = 120) -> http.client.HTTPConnection:
    host, port = parts.hostname or "", parts.port
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
    return http.client.HTTPConnection(host, port, timeout=timeout)


def _document(body: bytes) -> dict:
    try:
        return json.loads(body)
    except ValueError:
        text = body[:200].decode(errors="replace")
        raise Failure(SERVER_ERROR, f"The answer is not of the API (is --server right?): {text}") from None


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
    show("")
    print(line, file=sys.stderr, flush=True)


def show(line: str) -> None:
    """In the place of the line before, for who watches: a log keeps none of it."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


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


# What the API takes, by name: flag, flag for false, kind, choices, metavar, help; and who takes it.
# Written by `python -m repair_engine.settings`.
# options: begin
_OPTIONS = """\
metric | --metric |  | text |  |  | accuracy, recall:CLASS, subgroup-recall:COLUMN, attack-success, trigger-success:CLASS (a backdoor's trigger that gives the class), hidden-trigger or hidden-trigger:CLASS (a trigger that nobody knows: one is reconstructed from clean images), corrupted-accuracy or corrupted-accuracy:KIND (of gaussian_noise, gaussian_blur, jpeg_compression, brightness, contrast; of several KIND,KIND; without one all), forget:CLASS or forget:COLUMN=VALUE (accuracy on the images of a class or a group, to be lowered; limits hold on all others). Of several columns (subgroup-recall:COLUMN,COLUMN) the subgroups are the combinations of values that occur; a name with a comma in it stands in double quotes.
group | --group |  | text |  | COLUMN | A column of metadata.csv whose values (patient, writer, identity) must not be in two of the three splits.
seed | --seed |  | whole |  |  | Fixes the splits and every random choice: the same seed and budget give the same result.
max_clean_drop | --max-clean-drop |  | real |  | X | How far clean accuracy may fall, on the select images and on the guard set. Where something is to be forgotten, that is accuracy on all other images. Default: 0.02.
max_subgroup_drop | --max-subgroup-drop |  | real |  | X | How far the recall of any subgroup may fall. Subgroups of fewer than 30 images do not count. Default: 0.1.
max_filters | --max-filters |  | whole |  | N | The longest list of culprits that is tried. Default: 50.
choose | --choose |  | text | best,one-se |  | How many filters, of those within the limits: the best figure on the select images, or the fewest within one standard error of it. Default: best.
goal | --goal |  | text | mean,worst-group,gap,equalized-odds |  | What the repair is chosen by on the select images and judged by on the report images: the metric; or, of subgroup-recall, the recall of the worst subgroup (worst-group), the gap between the best and the worst one (gap), or over all classes the largest difference between subgroups in a true or false positive rate (equalized-odds). Subgroups, and rates, of fewer than 30 images do not count. Filters are valued by the metric in any case. Default: mean.
order | --order |  | text | auto,value |  | Order of removal: by value alone, or also by value over its standard error, stepwise, where candidates are scored again after each removal, and by learned gates, for up to 1.3 times the budget in addition; whichever does best on the select images (auto). Default: auto.
edit | --edit |  | text | ablate,constants,culprits,biases,head,ablate+biases,ablate+head,auto |  | What the repair changes. All but ablate learn from the score images, are chosen on the select images under the same limits, for up to 10% of the budget each in addition, and keep keys, shapes and dtypes. Default: ablate.
quality | --quality |  | text |  | K,OVERLAP | K,OVERLAP such as 50,0.9, of the estimator fast: stop when it expects this share of the true top (bottom) K found, at the latest at the budget.
memory | --memory |  | text |  | SIZE | That the run may take, such as 2G or 1500M. Default: 2G on a CPU, on a GPU a quarter of its memory. Changes no figure.
estimator | --estimator |  | text | fast,tmab,monte_carlo,cmcs,exact |  | How filters are valued. Default: fast.
top_k | --top-k |  | whole |  | K | Filters to tell from the rest; tmab stops when these are clear. Default: 20.
side | --side |  | text | top,bottom,both |  | At which end of the values culprits are looked for. Default: where they are.
budget | --budget |  | whole |  | EVALUATIONS | Evaluations: images × coalitions. Default: a short calibration chooses one that ends in about five minutes.
minutes | --minutes |  | real |  | M | In the place of a budget: one that ends within so many minutes on one worker. A budget repeats a result, minutes do not.
effort | --effort |  | text | quick,thorough,overnight |  | In the place of minutes: quick (5), thorough (30) or overnight (480).
precision | --precision |  | text | float32,bfloat16 |  | Of the search: bfloat16 is faster where the processor has it, and is given up where its predictions differ. What is reported is float32 always. Default: float32.
batch_size | --batch-size |  | whole |  | IMAGES | Images per draw. Default: chosen so that the budget buys enough draws.
depth | --depth |  | whole |  | N | Most filters removed in a draw. Default: learned from the first walks.
constant | --constant |  | text | mean,bn_beta |  | What an ablated filter's output becomes. Filters without a batch norm of their own give their mean either way. Default: mean.
units | --units |  | text | all,filters,hidden,heads |  | Which units are valued: filters of convolutions, hidden units of linear layers, attention heads, or all that the network has. Default: all.
level | --level |  | real |  | SHARE | Of the report's intervals of changes, by a paired bootstrap; that of the gain decides whether it is shown. Intervals of single rates are of 95%. Default: 0.95.
compact | --compact |  | flag |  |  | Also write the network without the culprits' channels, where they can be removed: smaller, not equal to the repaired checkpoint, and measured by itself.
trigger_at | --trigger-at |  | text |  | PLACE | Where the patch lies: top-left, top-right, bottom-left, bottom-right, center, or X,Y, pixels from the left and from the top. In pixels of the network's input, after resizing and cropping. Default: bottom-right.
trigger_opacity | --trigger-opacity |  | real |  | X | Share of the patch in the pixels under it; 1 replaces them. Where the patch has an alpha channel, in addition to that. Default: 1.0.
severity | --severity |  | whole |  | 1…5 | Of corrupted-accuracy: how strong the corruptions are that units are valued and chosen on, 1 to 5, with the parameters of the published sets CIFAR-10-C, Tiny-ImageNet-C or ImageNet-C, by the images' size. The report of a repair shows all five. Default: 3.
corrupted_images | --corrupted-images |  | whole |  | N | Of corrupted-accuracy: report images on which every kind is measured at all five severities, at most. Default: 50 to 1,000, by the budget.
attack | --attack |  | text | paper,standard |  | Preset of PGD: who the adversary is. Default: paper.
norm | --norm |  | text | linf,l2 |  | What ε measures: linf (default), or l2, the Euclidean length of the whole change, with an ε.
epsilon | --epsilon |  | real |  |  | How far a pixel may be moved; in l2 the whole image. Default: the preset's (paper: 16/255, standard: 8/255).
steps | --steps |  | whole |  | N | Gradient steps per image. Default: the preset's.
step_size | --step-size |  | real |  |  | Length of one gradient step. By default all steps together keep the preset's ratio to ε.
restarts | --restarts |  | whole |  | N | Random starts, of which any may succeed.
targeted | --targeted | --untargeted | flag |  |  | The adversary wants a random other class; untargeted: anything but the label. Default: the preset's.
random_start | --random-start | --no-random-start | flag |  |  | Starts within the ε-ball. Default: the preset's.
attack_images | --attack-images |  | whole |  | N | Images attacked per split, at most. Default: 500, or fewer where the budget is calibrated.
queries | --queries |  | whole |  | N | Of the black-box attack, per image of the subset; 0: no such attack. Default: 500.
subset | --subset |  | whole |  | N | Most images for what is costly: queries, curves, self-tests. Default: 100; of a repair 10 to 100, by the budget.
remove | --remove |  | whole |  | N | Filters removed, at most, on the curves from the most critical end; from the other end at least half of all are. Default: 50.
draws | --random-draws |  | whole |  | N | Random orders of removal; a band needs two. Default: 5.
curve_images | --curve-images |  | whole |  | N | Report images on which the curves are measured, at most. Default: by the budget.
pictures | --pictures |  | whole |  | N | Filters from each end that are shown by their most extreme score images; 0: none. Default: 6.
visualize | --visualize |  | whole |  | N | Filters from each end for which an image is optimized; 0: none. Default: 2.
also | --also |  | texts |  | METRIC | Value this, too, on the same evaluations, at the price of one; may be repeated. A metric, subgroup:COLUMN=VALUE, classes, subgroups, or all. Not beside attack-success, trigger-success, hidden-trigger or corrupted-accuracy; forget is no further objective.
all_images | --all-images |  | flag |  |  | Attack all images, not those of the report split alone. A repair has seen the score and the select images: for figures after it leave this out.
device | --device |  | text | auto,cpu,cuda |  | A run stays on one kind of device. Default: auto.
architecture | --architecture |  | text |  | NAME | torchvision's name, timm:NAME where timm is installed, or a registered one. Needed unless the model is ONNX or a Hugging Face folder.
num_classes | --num-classes |  | whole |  | N | 1 is a single logit: yes or no at 0. Needed unless the model is ONNX or a Hugging Face folder.
options | --arch-option |  | pairs |  | KEY=VALUE | Keyword arguments of the architecture, such as transform_input=true. Auxiliary heads and input channels are read from the file.
weights | --weights |  | text | model,ema |  | Which weights, where the file holds both plain ones and their moving average.
key | --key |  | text |  | NAME | The entry of the file that holds the state dict, where several might, such as teacher. Default: found out.
strip_prefix | --strip-prefix |  | text |  | PREFIX | Of the keys that are the network's, where others stand beside them, such as backbone. with its dot. Default: found out.
resize | --resize |  | size |  | PIXELS | Shorter side in pixels, or height,width; none: no resizing. Default: the architecture's.
crop | --crop |  | size |  | PIXELS | Side of the central square in pixels, or height,width; none: no crop. Default: the architecture's.
mean | --mean |  | reals |  | X | Per channel, of pixels in [0, 1], such as 0.485 0.456 0.406.
std | --std |  | reals |  | X | Per channel, such as 0.229 0.224 0.225.
channels | --channels |  | whole |  | N | 1: greyscale, 3: RGB (2 and 4: these with alpha). Default: what the first convolution takes.
interpolation | --interpolation |  | text | nearest,bilinear,bicubic,box,hamming,lanczos |  | How images are resized. Default: the architecture's, else bilinear.
split_folder | --split-folder |  | text |  | NAME | Where the zip holds splits (train, test; fold1, fold2): the top folder that is read. none: the top folders are the classes.
"""  # noqa: E501
_TAKES = """\
repair: metric group seed max_clean_drop max_subgroup_drop max_filters choose goal order edit quality memory estimator top_k side budget minutes effort precision batch_size depth constant units level compact trigger_at trigger_opacity severity corrupted_images attack norm epsilon steps step_size restarts targeted random_start attack_images queries subset
explain: metric group seed constant units quality memory estimator top_k side budget minutes effort precision batch_size depth remove draws curve_images pictures visualize level trigger_at trigger_opacity severity attack norm epsilon steps step_size restarts targeted random_start attack_images
score: metric also group seed constant units quality memory estimator top_k side budget minutes effort precision batch_size depth trigger_at trigger_opacity severity attack norm epsilon steps step_size restarts targeted random_start attack_images
attack: group seed level attack norm epsilon steps step_size restarts targeted random_start attack_images queries subset all_images
run: device
model: architecture num_classes options weights key strip_prefix resize crop mean std channels interpolation
images: split_folder
follow: max_clean_drop max_subgroup_drop max_filters choose goal order edit level queries subset budget
"""  # noqa: E501
# options: end
OPTIONS = {line.split(" | ")[0]: line.split(" | ")[1:] for line in _OPTIONS.splitlines()}
TAKES = {line.split(": ")[0]: line.split(": ")[1].split() for line in _TAKES.splitlines()}


def add_options(run: argparse.ArgumentParser, group: str, required: tuple[str, ...] = ()) -> None:
    """Those of OPTIONS that `group` takes. Left out they are the server's defaults."""
    for name in TAKES[group]:
        flag, off, kind, choices, metavar, text = OPTIONS[name]
        more: dict[str, Any] = {"dest": name, "default": None, "help": text.replace("%", "%%")}
        if kind == "flag":
            run.add_argument(flag, action="store_const", const=True, **more)
            if off:
                run.add_argument(off, action="store_const", const=False, dest=name)
            continue
        more |= {"choices": choices.split(",")} if choices else {}
        more |= {"metavar": metavar} if metavar else {}
        many = {"nargs": "+"} if kind == "reals" else {"action": "append"}
        more |= many if kind in ("reals", "texts", "pairs") else {"type": KINDS[kind]}
        run.add_argument(flag, required=name in required, **more)


def given(options: argparse.Namespace, group: str) -> dict[str, Any]:
    """What was said of a group, as the API takes it."""
    found = {name: getattr(options, name, None) for name in TAKES[group]}
    said = {name: value for name, value in found.items() if value is not None}
    for name, value in said.items():
        if OPTIONS[name][2] == "pairs":
            said[name] = dict(parse_option(item) for item in value)
        elif OPTIONS[name][2] == "reals":
            said[name] = numbers(name, " ".join(value))
    return said


def size(text: str) -> Any:
    """Pixels, or a height and a width, or None: none, where the architecture's own would be taken."""
    if text in ("none", "0"):
        return NO_SIZE
    sides = [int(part) for part in text.replace("x", ",").split(",")]
    return sides[0] if len(sides) == 1 else sides


def numbers(name: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise Failure(BAD_INPUT, f"--{name}: numbers, one per channel, not {text!r}.") from None


NO_SIZE = "none"
KINDS = {"whole": int, "real": float, "text": str, "size": size}


def start(api: Api, options: argparse.Namespace) -> dict:
    """Upload what is not there yet and start the run, or find the one that was started before."""
    verb = options.command
    body = {**given(options, verb), **given(options, "run")}
    if team := team_of(api, options):
        body["team"] = team
    body |= {
        name: value
        for name in ("name", "priority", "repair", "filters", "metric")
        if (value := getattr(options, name, None))
    }
    if verb == "follow":
        body["from"] = options.id
    else:
        body |= upload_all(api, options, team)
    if body.get("repair"):  # on the images that it was reported on, unless others are asked for
        asked = api.json("GET", f"repairs/{body['repair']}/")["request"]
        body = {key: asked[key] for key in ("seed", "group") if key in asked} | body
    if verb in ("explain", "score"):
        body["kind"] = verb
    return post(api, "attacks/" if verb == "attack" else "repairs/", body, options.run_id)


def team_of(api: Api, options: argparse.Namespace) -> int | None:
    """The number of --team, which is one or a name."""
    if options.team is None:
        return None
    teams = api.json("GET", "teams/?page_size=200")["results"]
    found = [one["id"] for one in teams if options.team in (str(one["id"]), one["name"])]
    if len(found) != 1:
        yours = ", ".join(f"{one['id']} ({one['name']})" for one in teams) or "none"
        problem = "there is no such team of yours" if not found else "several teams have this name: say its number"
        raise Failure(BAD_INPUT, f"--team {options.team}: {problem}. Yours: {yours}.")
    return found[0]


def upload_all(api: Api, options: argparse.Namespace, team: int | None) -> dict:
    """The ids of the model, the dataset and all else that is named by a file."""
    surrogates = [parse_surrogate(text) for text in options.surrogate]
    files = {"model": options.model, "dataset": options.data}
    files |= {role: getattr(options, role, None) for role in ("guard", "triggered")}
    patch = getattr(options, "trigger", None)
    for path in filter(None, (*files.values(), patch, options.classes, *(path for path, _ in surrogates))):
        if not path.is_file():
            raise Failure(BAD_INPUT, f"There is no file {path}.")
    there = {role: path for role, path in files.items() if path}
    theirs = {"team": team} if team else {}
    sent = {}
    for role, path in there.items():
        kind = "models" if role == "model" else "datasets"
        sent[role] = kind, api.upload(f"{kind}/", path, {**upload_fields(options, role), **theirs})
    others = [api.upload("models/", path, {**fields, **theirs}) for path, fields in surrogates]
    ids: dict[str, Any] = {role: wait_for_upload(api, kind, upload)["id"] for role, (kind, upload) in sent.items()}
    if patch:
        ids["trigger"] = base64.b64encode(patch.read_bytes()).decode()
    if others:
        ids["surrogates"] = [wait_for_upload(api, "models", upload)["id"] for upload in others]
    return ids


def upload_fields(options: argparse.Namespace, role: str) -> dict[str, Any]:
    """What is said of a file."""
    if role != "model":
        folder = getattr(options, "split_folder" if role == "dataset" else f"{role}_split_folder", None)
        return {"split_folder": folder} if folder else {}
    fields = given(options, "model")  # an ONNX model brings its architecture and classes
    if options.classes:
        fields["classes"] = options.classes.read_text(encoding="utf-8-sig")
    pixels = {name: fields.pop(name) for name in PIXELS if name in fields}
    if pixels:
        fields["preprocessing"] = {name: None if value == NO_SIZE else value for name, value in pixels.items()}
    return fields


PIXELS = ("resize", "crop", "mean", "std", "channels", "interpolation")


def parse_surrogate(text: str) -> tuple[Path, dict[str, Any]]:
    """FILE, or FILE:ARCHITECTURE:NUM_CLASSES."""
    found = re.fullmatch(r"(?P<file>.*?)(:(?P<architecture>(timm:)?[^:]+):(?P<classes>\d+))?", text)
    if found is None or (found["architecture"] is None and ":" in text):
        raise Failure(BAD_INPUT, f"--surrogate {text!r} is neither FILE nor FILE:ARCHITECTURE:NUM_CLASSES.")
    told = {"architecture": found["architecture"], "num_classes": int(found["classes"] or 0)}
    return Path(found["file"]), told if found["architecture"] else {}


def post(api: Api, path: str, body: dict, run_id: str) -> dict:
    """The same request has the same key: sent again, it finds the run that it started.

    One that was cancelled, or that the server failed, is not what was asked for: then the next key's turn comes.
    """
    same = {name: value for name, value in body.items() if name != "priority"}
    for attempt in range(100):
        text = json.dumps([run_id, attempt, same], sort_keys=True)
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


def wait(api: Api, repair: dict) -> dict:
    """Until it has ended. The server says when something has changed; one that cannot is asked again and again."""
    shown, said, tag, held = "", 0.0, "", True
    say(f"run {repair['id']}")
    pause = pauses()
    while repair["state"] in ("starting", "processing"):
        line = line_of(repair["progress"])
        if line != shown and time.monotonic() - said > POLL:
            say(line)
            shown, said = line, time.monotonic()
        seconds = 0.0 if held else next(pause)
        left = api.deadline - time.monotonic() - seconds
        if left <= 0:
            message = f"Out of time; run {repair['id']} goes on. Run the same command again."
            raise Failure(TIMEOUT, message)
        time.sleep(seconds)
        found, tag, held = api.look(f"repairs/{repair['id']}/", tag, max(1, min(WAIT, int(left))))
        repair = found or repair
    return repair


def line_of(progress: dict) -> str:
    line = f"{progress['percent']:5.1f} %  {progress['phase']}"
    if progress["note"]:
        line += f": {progress['note']}"
    if progress["evaluations_total"]:
        line += f"  {progress['evaluations']:,} of {progress['evaluations_total']:,} evaluations"
    if progress.get("paused"):
        return line + "  (paused)"
    if progress.get("behind"):
        return line + f"  (queued behind your own {progress['behind']} running)"
    return line if progress["worker_alive"] else line + "  (no worker is running)"


def fetch(api: Api, repair: dict, out: Path) -> list[str]:
    names = []
    for item in repair["results"]:
        name = Path(item["name"]).name
        api.download(urljoin(api.base, item["url"]), out / name, item["sha256"])
        names.append(name)
    try:
        receipt = api.json("GET", f"repairs/{repair['id']}/receipt/")
    except Refused as refused:  # no repair, or a server that gives none
        if refused.status != 404:
            raise
    else:
        (out / "receipt.json").write_text(json.dumps(receipt, indent=1) + "\n", encoding="utf-8")
        names.append("receipt.json")
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


def judge_file(api: Api, repair: dict, text: str, called: str) -> dict | None:
    """What the server says to a file of gates: its rules are those of `neuron-repair gate`. None: no report yet."""
    try:
        return api.json("POST", f"repairs/{repair['id']}/gates/", {"text": text, "file_name": called[:200]})
    except Refused as refused:
        if refused.status != 409:
            raise
        return None


def rows_of(judged: dict) -> list[dict]:
    """As `judge` gives them."""
    said = {"passed": True, "failed": False, "skipped": None}
    return [
        {"gate": row["text"], "value": row["value"], "passed": said[row["verdict"]], "problem": "", "why": row["why"]}
        for row in judged["gates"]
    ]


def figure_said(gate: dict) -> str:
    value = "" if gate["value"] is None else f"{gate['value']:g}"
    return "; ".join(filter(None, (value, gate.get("why")))) or "nothing was measured"


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
    failed = [gate for gate in gates if gate["passed"] is False]
    if failed:
        return GATE_FAILED, "; ".join(f"{gate['gate']} fails: {figure_said(gate)}" for gate in failed)
    if repair["outcome"] == "not_shown_to_help":
        return NO_REPAIR, "The filters chosen by hand are not shown to help; their checkpoint was written all the same."
    fell = [
        f"{row['what']} by {100 * row['drop']:.1f}" for row in (repair.get("result") or {}).get("beyond_limits", [])
    ]
    result = (repair.get("result") or {}) if repair["outcome"] == "repaired" else {}
    probed = (result.get("forgetting") or {}).get("probe")  # of what was to be forgotten
    if probed is not None:
        done += {
            "same features": ": hidden, not forgotten (the features are as they were)",
            "hidden": ": hidden, not forgotten (a linear probe finds it)",
            "cannot tell": ": perhaps hidden (a linear probe cannot tell)",
            "less": ": forgotten in part (a linear probe finds less of it)",
            "not found": ": forgotten, as far as a linear probe tells",
        }.get(probed["verdict"], ": not probed")
    beyond = f", beyond a limit on the report images ({', '.join(fell)} points)" if fell else ""
    passed = sum(1 for gate in gates if gate["passed"])
    return PASS, done + beyond + (f", and {passed} gate(s) passed." if gates else ".")


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
        "gate_file": {key: repair["judged"][key] for key in ("sha256", "verdict")} if repair.get("judged") else None,
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
    if os.environ.get("GITHUB_ACTIONS") == "true" and code != PASS:
        said = message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
        print(f"::error title=Neuron repair, {WORDS[code]}::{said}", flush=True)
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
            cases.append((gate["gate"], "skipped", f"not judged: {gate.get('why') or message}"))
        elif gate["passed"]:
            cases.append((gate["gate"], "", ""))
        else:
            cases.append((gate["gate"], "failure", gate["problem"] or f"measured {figure_said(gate)}"))
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
    judged = repair.get("judged")
    if own := [gate for gate in gates if "why" not in gate or not judged]:  # others stand in the server's summary
        lines += ["| gate | measured | |", "|---|---|---|"]
        for gate in own:
            value = "" if gate["value"] is None else f"{gate['value']:g}"
            passed = {True: "passed", False: "**failed**", None: "not judged"}[gate["passed"]]
            lines.append(f"| {code_cell(gate['gate'])} | {value} | {passed} |")
        lines.append("")
    if judged:
        lines += [judged["summary"].partition("\n")[2].strip(), ""]  # without its heading
    elif rows := before_and_after(repair["result"]):
        lines += ["| | before | after | change |", "|---|---|---|---|"]
        lines += [f"| {cell(name)} | {old:.4g} | {new:.4g} | {new - old:+.4g} |" for name, old, new in rows]
        lines.append("")
    if repair["url"]:
        lines += [f"[{cell(repair['name'] or repair['id'])}]({repair['url']})", ""]
    warnings = [] if judged else repair["warnings"]
    lines += [f"- {warning}" for warning in warnings] + [""] * bool(warnings)
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
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--server", default=os.environ.get("NR_SERVER", "http://localhost:8000"))
    where.add_argument("--token-file", type=Path, help="default: the environment variable NR_TOKEN")
    where.add_argument("--timeout", type=float, default=3600, help="seconds (default 3600)")
    where.set_defaults(out=None, gate=[], gates=None)
    common = argparse.ArgumentParser(add_help=False, parents=[where])
    common.add_argument("--out", type=Path, default=Path("repair"))
    common.add_argument("--gate", action="append", default=[], help="NAME>=NUMBER over the result; may be repeated")
    gates = "file of gates in YAML or JSON, judged by the server on the run's report"
    common.add_argument("--gates", type=Path, metavar="FILE", help=gates)
    for verb, what in VERBS.items():
        command = commands.add_parser(verb, parents=[where if verb in STEERING else common], help=what)
        if verb in ("follow", "compare", "wait", *STEERING):
            command.add_argument("id", help="of the run" if verb != "compare" else "of one run")
        if verb == "compare":
            command.add_argument("other", help="of the other run")
        if verb == "prioritize":
            command.add_argument("priority", choices=PRIORITIES)
        if verb not in ("compare", "wait", *STEERING):
            ADDED[verb](command, verb)
            command.add_argument("--name")
            command.add_argument("--priority", choices=PRIORITIES, help="among your own runs; default normal")
            team = "its number or name: model, images and run belong to it (default: to you; a follow-up's: as its run)"
            command.add_argument("--team", metavar="TEAM", help=team)
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
    "pause": "let a run's workers go; what is done is kept",
    "resume": "go on with a run that was paused",
    "prioritize": "say which of your own runs comes first",
}
STEERING = ("pause", "resume", "prioritize")  # of a run under way, without waiting for it
PRIORITIES = ("low", "normal", "high")


def add_search(run: argparse.ArgumentParser, verb: str) -> None:
    add_inputs(run)
    run.add_argument("--guard", type=Path, help="a second labelled set on which clean accuracy must hold too")
    run.add_argument("--guard-split-folder", metavar="NAME", help="as --split-folder, of the guard set")
    run.add_argument("--trigger", type=Path, help="of a backdoor: the patch that is pasted on the images")
    run.add_argument("--triggered", type=Path, help="in its place: a zip of images that carry it, with true labels")
    run.add_argument("--triggered-split-folder", metavar="NAME", help="as --split-folder, of the triggered images")
    add_options(run, verb, required=("metric",))


def add_attack(run: argparse.ArgumentParser, verb: str) -> None:
    """Of a model with images, or of a finished repair, whose they are then."""
    add_inputs(run, required=False)
    run.add_argument("--repair", help="id of a finished repair, for figures before and after it (its seed and group)")
    add_options(run, verb)


def add_follow(run: argparse.ArgumentParser, verb: str) -> None:
    """Of what may differ from the run that is gone on from."""
    run.add_argument("--filters", type=lambda text: text.split(","), help="ablate these: SITE:CHANNEL,SITE:CHANNEL")
    run.add_argument("--metric", help="one that the run valued")
    add_options(run, verb)


ADDED = {"repair": add_search, "explain": add_search, "score": add_search, "attack": add_attack, "follow": add_follow}


def add_inputs(run: argparse.ArgumentParser, required: bool = True) -> None:
    run.add_argument("--model", type=Path, required=required)
    run.add_argument("--classes", type=Path, metavar="FILE", help="class names: one per line, or JSON")
    run.add_argument("--data", type=Path, required=required)
    surrogate = "FILE[:ARCHITECTURE:NUM_CLASSES]"
    run.add_argument("--surrogate", action="append", default=[], metavar=surrogate, help="transfer attacks from it")
    for group in ("model", "images", "run"):
        add_options(run, group)


def run(options: argparse.Namespace, known: dict) -> int:
    """`known` gets the run as soon as there is one: what is written of a failure names it."""
    for gate in options.gate:
        parse_gate(gate)  # before an hour's work, not after
    text = read_gates(options)
    api = Api(options.server, read_token(options.token_file), time.monotonic() + options.timeout)
    if options.command in STEERING:
        return steer(api, options)
    if options.command == "compare":
        repair, files = compare(api, options), ["compare.json"]
    else:
        waiting = options.command == "wait"
        known.update(api.json("GET", f"repairs/{options.id}/") if waiting else start(api, options))
        if text:
            judge_file(
                api, known, text, options.gates.name
            )  # before the work: a file that cannot be read is refused at once
        repair = wait(api, dict(known))
        files = fetch(api, repair, options.out)
    known.update(repair)
    measured = repair["outcome"] not in ("", "no_repair_found")
    gates = judge(options.gate, repair["result"]) if measured else [unjudged(gate) for gate in options.gate]
    if text and measured and (judged := judge_file(api, repair, text, options.gates.name)):
        known["judged"] = repair["judged"] = judged
        gates += rows_of(judged)
    code, message = verdict(repair, gates)
    write_reports(options.out, repair, gates, code, message, files)
    say(message)
    say(f"written to {options.out}: {', '.join([*files, 'metrics.json', 'junit.xml', 'summary.md'])}")
    return code


def steer(api: Api, options: argparse.Namespace) -> int:
    """Pause, resume, priority; nothing is waited for or written."""
    if options.command == "prioritize":
        found = api.json("PATCH", f"repairs/{options.id}/", {"priority": options.priority})
    else:
        found = api.json("POST", f"repairs/{options.id}/{options.command}/")
    state = "paused" if found["progress"]["paused"] else found["state"]
    say(f"run {found['id']}: {state}, priority {found['priority']}")
    return PASS


def read_gates(options: argparse.Namespace) -> str:
    if options.gates is None:
        return ""
    if options.command == "compare":
        raise Failure(BAD_INPUT, "--gates judges one run's report; for compare say --gate NAME>=NUMBER.")
    try:
        return options.gates.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise Failure(BAD_INPUT, f"--gates: {error}") from None


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
        if options.out is not None:
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
