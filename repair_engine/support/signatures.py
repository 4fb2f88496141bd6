"""Signed receipts: ed25519 over the exact text of a receipt. Private keys are PEM files (PKCS 8); public ones, by their
ids, a JSON document `{"keys": [{"id", "algorithm", "public"}]}` or PEM."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from repair_engine.errors import BadInput

ALGORITHM = "ed25519"


@dataclass(frozen=True)
class Signed:
    """A receipt as it is passed on.

    Attributes:
        receipt: its text, JSON; what is signed are these characters as UTF-8.
        key: the id of the key that it says it was signed with.
        signature: 64 bytes.
    """

    receipt: str
    key: str
    signature: bytes

    @classmethod
    def read(cls, content: str) -> Signed:
        """Raises ValueError: it is no signed receipt."""
        try:
            found = json.loads(content)
            if found["algorithm"] != ALGORITHM:
                raise ValueError(f"its algorithm is {found['algorithm']!r}, not {ALGORITHM}")
            dict(json.loads(found["receipt"]))
            signature = base64.b64decode(found["signature"], validate=True)
            return cls(str(found["receipt"]), str(found["key"]), signature)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None

    def to_json(self) -> dict[str, str]:
        signature = base64.b64encode(self.signature).decode()
        return {"algorithm": ALGORITHM, "key": self.key, "signature": signature, "receipt": self.receipt}

    @property
    def says(self) -> Mapping[str, Any]:
        return json.loads(self.receipt)


def new_private() -> bytes:
    """PEM."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def sign(receipt: str, private: bytes) -> Signed:
    """Raises ValueError: `private` is no private key of ed25519 in PEM."""
    key = _private(private)
    return Signed(receipt, id_of(key.public_key().public_bytes_raw()), key.sign(receipt.encode()))


def public_of(private: bytes) -> bytes:
    """32 bytes. Raises ValueError, as `sign`."""
    return _private(private).public_key().public_bytes_raw()


def _private(pem: bytes) -> Ed25519PrivateKey:
    key = load_pem_private_key(pem, None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"a private key of another kind ({type(key).__name__})")
    return key


def id_of(public: bytes) -> str:
    """By which a public key is named: the beginning of its SHA-256."""
    return hashlib.sha256(public).hexdigest()[:16]


def document_of(publics: Mapping[str, bytes]) -> dict[str, Any]:
    """Public keys by id, as a server tells them."""
    rows = [
        {"id": name, "algorithm": ALGORITHM, "public": base64.b64encode(key).decode()} for name, key in publics.items()
    ]
    return {"keys": rows}


def read_keys(content: bytes) -> dict[str, bytes]:
    """The public keys of a document, or of PEM, by their ids, which are computed here.

    Raises:
        BadInput: there is none.
    """
    try:
        if b"-----BEGIN" in content:
            key = load_pem_public_key(content)
            if not isinstance(key, Ed25519PublicKey):
                raise ValueError(f"it is of another kind ({type(key).__name__})")
            keys = [key.public_bytes_raw()]
        else:
            rows = json.loads(content)["keys"]
            keys = [base64.b64decode(row["public"], validate=True) for row in rows if row["algorithm"] == ALGORITHM]
        for one in keys:
            Ed25519PublicKey.from_public_bytes(one)
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"The key cannot be read ({type(error).__name__}: {error}).", _MEND, "key") from None
    if not keys:
        raise BadInput("The file of keys holds none.", _MEND, "key")
    return {id_of(one): one for one in keys}


_MEND = "Take it from the server: curl https://SERVER/.well-known/neuron-repair-keys.json; or a public key in PEM."


def signer_of(signed: Signed, keys: Mapping[str, bytes]) -> str | None:
    """The id of the one of these keys that signed this text; None: none of them did."""
    for name, public in keys.items():
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signed.signature, signed.receipt.encode())
        except InvalidSignature:
            continue
        return name
    return None
