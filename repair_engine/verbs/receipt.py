"""Whether a repair is what a server signed: by its receipt, and the server's public keys as somebody got them."""

from __future__ import annotations

from pathlib import Path

from repair_engine.errors import BadInput
from repair_engine.support.outputs import sha256
from repair_engine.support.signatures import Signed, read_keys, signer_of
from repair_engine.verbs.checks import Unchecked, Wrong

RECEIPT = "receipt.json"


def check_receipt(folder: Path, key: str | None) -> str:
    """One of four: signed by this key; by another key; not signed; changed after signing.

    Args:
        folder: of the repair; its receipt lies in it as RECEIPT.
        key: a file of public keys, or None.

    Raises:
        BadInput: `key` cannot be read.
    """
    path = folder / RECEIPT
    if key is None:
        raise Unchecked("give --key, the server's public keys, to check who signed it")
    try:
        keys = read_keys(Path(key).read_bytes())
    except OSError as error:
        raise BadInput(f"The key {key} cannot be read: {error}.", "", "key") from None
    if not path.is_file():
        raise Wrong(f"not signed: there is no {RECEIPT}")
    try:
        signed = Signed.read(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Wrong(f"not signed: {RECEIPT} is no signed receipt ({error})") from None
    signer = signer_of(signed, keys)
    if signer is None and signed.key not in keys:
        raise Wrong(f"signed by another key: {signed.key}; given were {', '.join(keys)}")
    if signer is None:
        raise Wrong(f"changed after signing: the signature of {signed.key} is not of this receipt")
    for name, known in signed.says["files"].items():
        file = folder / name
        if not file.resolve().is_relative_to(folder.resolve()):
            raise Wrong(f"The receipt names {name}, which lies outside of the folder.")
        if file.is_file() and (found := sha256(file)) != known:
            raise Wrong(f"changed after signing: {name} has the SHA-256 {found}; the receipt says {known}")
    if not (folder / "report.json").is_file() or "report.json" not in signed.says["files"]:
        raise Wrong("the receipt is of other files: it names no report.json")
    says = signed.says
    return f"signed by this key: {signer}, of {says['server']}, at {says['times']['finished']}, run {says['run']}"
