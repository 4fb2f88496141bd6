"""The verbs for several parties: constants, constants merge, merge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from repair_engine.case.preparing import own_sums
from repair_engine.cli import options
from repair_engine.cli.emit import emit
from repair_engine.documents.estimates import read_estimate
from repair_engine.errors import BadInput
from repair_engine.network.channel_sums import ChannelSums, merge_sums, read_sums, write_sums
from repair_engine.parties.documents import merged_document, merged_text, write_merged
from repair_engine.parties.merging import merge_estimates, need_two
from repair_engine.settings import Constants, ConstantsMerge, Merge
from repair_engine.support.bars import Bars
from repair_engine.support.outputs import claimed, results
from repair_engine.support.scratch import scratch

CONSTANTS_MERGE = "constants merge"


def constants(here: Constants, to: TextIO) -> int:
    """Sums of the filters' outputs over the score images of one party."""
    request, bars = options.request_of(here), Bars(here.json)
    out = _file(here.out, [path for path in (request.model, request.data, request.classes) if path])
    with scratch("constants") as folder:
        sums = own_sums(request, folder, bars.stage)
    bars.close()
    write_sums(sums, out)
    emit(here, to, _document("constants", sums, out), _text)
    return 0


def constants_merge(here: ConstantsMerge, to: TextIO) -> int:
    """Common constants."""
    out = _file(here.out, here.sums)
    sums = merge_sums([(path, read_sums(path)) for path in here.sums])
    write_sums(sums, out)
    emit(here, to, _document(CONSTANTS_MERGE, sums, out), _text)
    return 0


def merge(here: Merge, to: TextIO) -> int:
    """Estimates of several parties as one."""
    need_two(here.estimates)
    merged = merge_estimates([read_estimate(path) for path in here.estimates])
    document = merged_document(merged)
    if here.out:
        out = Path(here.out)
        with claimed(out, "merged.json"), results(out) as made:
            write_merged(merged, document, made)
    emit(here, to, document, merged_text)
    return 0


def _file(path: str, inputs: Sequence[str]) -> Path:
    """Raises BadInput where no such file can be written, or would replace an input or a file of another kind."""
    out = Path(path)
    if out.is_dir() or not out.parent.is_dir():
        raise BadInput(f"--out: {out} is no file that can be written.", "Name a file in a folder that exists.")
    if not out.exists():
        return out
    if any(Path(given).exists() and out.samefile(given) for given in inputs):
        raise BadInput(f"--out: {out} is an input of this command, which it would replace.", "Name another file.")
    try:
        read_sums(out)
    except BadInput:
        raise BadInput(f"--out: {out} exists, and is no file of sums.", "Name another file.") from None
    return out


def _document(verb: str, sums: ChannelSums, out: Path) -> dict[str, Any]:
    return {
        "schema": 1,
        "verb": verb,
        "model": sums.model,
        "filters": len(sums.filters),
        "parties": len(sums.parties),
        "images": sums.images,
        "constants_sha256": sums.sha256,
        "out": str(out),
    }


def _text(document: dict[str, Any]) -> str:
    parties = "1 party" if document["parties"] == 1 else f"{document['parties']} parties"
    return (
        f"{document['out']}: sums of {document['filters']:,} filters over {document['images']:,} score images of "
        f"{parties} (constants sha256 {document['constants_sha256'][:12]}…)"
    )
