"""The names in a zip as text: decoded, and normalized to NFC.

A zip marks names as UTF-8 by a flag, or brings them as UTF-8 in an extra field (Info-ZIP's 0x7075). Names without
either are of whatever code page the packing machine had: those can only be guessed.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Collection, Sequence

from charset_normalizer import from_bytes

from repair_engine.errors import BadInput
from repair_engine.support.nfc import normal

_UTF8_FLAG = 0x800
_UNICODE_PATH = 0x7075  # https://libzip.org/specifications/extrafld.txt
# What old packers write, the commonest first: Chinese, Japanese, Korean, Western, Cyrillic, and zip's own.
CODE_PAGES = ("gb18030", "cp932", "big5", "cp949", "cp850", "cp1252", "cp866", "cp1251", "cp437")


def decode_names(entries: Sequence[zipfile.ZipInfo], known: Collection[str] = ()) -> str:
    """Puts the real names into the entries' `filename`, not yet normalized.

    Args:
        known: names of which folders may be (the model's classes): a code page that gives these is right.

    Returns:
        The code page that had to be guessed; "" where none had to.
    """
    raw: dict[int, bytes] = {}
    for i, entry in enumerate(entries):
        if entry.flag_bits & _UTF8_FLAG or entry.orig_filename.isascii():
            continue
        data = entry.orig_filename.encode("cp437")
        told = _unicode_path(entry, data)
        if told is not None:
            entry.filename = told
        else:
            raw[i] = data
    if not raw:
        return ""
    page, guessed = _code_page(list(raw.values()), {normal(name) for name in known})
    for i, data in raw.items():
        entries[i].filename = data.decode(page)
    return page if guessed else ""


def _unicode_path(entry: zipfile.ZipInfo, raw: bytes) -> str | None:
    """The name in Info-ZIP's Unicode Path field, where it belongs to this name."""
    rest = entry.extra
    while len(rest) >= 4:
        kind, size = struct.unpack_from("<HH", rest)
        field, rest = rest[4 : 4 + size], rest[4 + size :]
        if kind == _UNICODE_PATH and len(field) > 5 and field[0] == 1:
            if struct.unpack_from("<I", field, 1)[0] != zlib.crc32(raw):
                return None  # the name was changed afterwards
            try:
                return field[5:].decode("utf-8")
            except UnicodeDecodeError:
                return None
    return None


def _code_page(raw: Sequence[bytes], known: Collection[str]) -> tuple[str, bool]:
    """The names' encoding, and whether it is a guess."""
    together = b"\n".join(raw)
    if _decodes(together, "utf-8") and _surely_utf8(together.decode("utf-8")):
        return "utf-8", False
    possible = [page for page in ("utf-8", *CODE_PAGES) if _decodes(together, page)]
    for page in possible:
        folders = {normal(part) for data in raw for part in data.decode(page).split("/")[:-1]}
        foreign = {name for name in folders if not name.isascii()}
        if foreign and foreign <= set(known):
            return page, True
    found = from_bytes(together, cp_isolation=possible).best() if possible else None
    if found is not None and found.encoding in possible:
        return found.encoding, True
    return (possible[0] if possible else "cp437"), True


def _surely_utf8(text: str) -> bool:
    """Two bytes of UTF-8 may be a Chinese character as well; three such pairs, or one inside a Latin word, are not."""
    odd = {character for character in text if not character.isascii()}
    mixed = any(
        not part.isascii() and any(c.isascii() and c.isalpha() for c in part)
        for line in text.splitlines()
        for part in line.rpartition(".")[0].split("/")
    )
    return len(odd) > 2 or mixed or any(ord(character) >= 0x800 for character in odd)


def _decodes(data: bytes, page: str) -> bool:
    try:
        data.decode(page)
        return True
    except UnicodeDecodeError:
        return False


def settle(
    entries: Sequence[zipfile.ZipInfo], folders: Sequence[str], page: str, name: str
) -> tuple[str, tuple[str, ...]]:
    """What is to be said of decoded names.

    Args:
        folders: the class folders, not normalized; each once or more.
        page: that was guessed, or "".

    Returns:
        Why the order of the folders is not known ("" where it is), and warnings.
    """
    own = sorted(set(folders))
    warnings: list[str] = []
    odd = next((e.filename for e in entries if not e.filename.isascii()), None)
    if page and odd is not None:  # else the guess was about entries that are no images
        warnings.append(
            f"{name}: names are not marked as UTF-8; they were read as {page} by a guess, such as {odd}. "
            "Zip again with a tool that writes UTF-8 names if they are wrong."
        )
        if any(not folder.isascii() for folder in own):
            return (
                f"{name}: the folders' names are not marked as UTF-8 and had to be guessed ({page}: "
                f"{', '.join(own[:8])}), so their order, which numbers the classes, is not known."
            ), tuple(warnings)
    if [normal(folder) for folder in own] != sorted({normal(folder) for folder in own}):
        return (
            f"{name}: the folders' names are decomposed Unicode (as a Mac writes it), in which they sort in another "
            f"order than composed: {', '.join(map(normal, own[:8]))}. Which of the two numbered the classes is not "
            "known."
        ), tuple(warnings)
    return "", tuple(warnings)


def normalize_names(entries: Sequence[zipfile.ZipInfo], name: str) -> None:
    """NFC in the entries' `filename`. Raises BadInput where two become one."""
    seen: set[str] = set()
    for entry in entries:
        entry.filename = normal(entry.filename)
        if entry.filename in seen:
            raise BadInput(f"{name} holds the entry {entry.filename!r} twice.")
        seen.add(entry.filename)
