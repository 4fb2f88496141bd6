"""Sums of the filters' outputs over one party's score images, and what they give together: common mean constants.

The mean of a filter over all parties' images is the sum of their sums over the sum of their counts, so the sums are all
that has to leave a party.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from repair_engine.errors import BadInput

_KIND = "neuron-repair channel sums"
_MAX_BYTES = 64 << 20  # of all arrays, unpacked: the largest torchvision network has under 100,000 units
_MADE_BY = "Such files are made by `neuron-repair constants`."


@dataclass(frozen=True)
class Party:
    """One party's part in a file of sums.

    Attributes:
        data: sha256 of its zip of images.
        split: sha256 that says which of them were its score images (`split_fingerprint`).
        images: how many they were.
    """

    data: str
    split: str
    images: int


@dataclass(frozen=True)
class ChannelSums:
    """Sums of outputs per filter, of one party or of several.

    Attributes:
        sums: float64 [n], of each output over score images and positions, after the activation.
        counts: int64 [n], images × positions.
        filters: id of each output's unit, [n]; a head's stands there once for each of its features.
        model: sha256 of the checkpoint's file.
        preprocessing: of the images, as JSON.
        parties: whose score images they are of.
    """

    sums: np.ndarray
    counts: np.ndarray
    filters: tuple[str, ...]
    model: str
    preprocessing: Mapping[str, Any]
    parties: tuple[Party, ...]

    @property
    def means(self) -> np.ndarray:
        """Mean output of each filter, float64 [n]."""
        return self.sums / self.counts

    @property
    def images(self) -> int:
        return sum(party.images for party in self.parties)

    @cached_property
    def sha256(self) -> str:
        """Of the means, so that two runs can say that they had the same ones."""
        return means_sha256(self.means)

    def check_fits(
        self, path: str, model: str, filters: Sequence[str], preprocessing: Mapping[str, Any], own: Party
    ) -> None:
        """Raises BadInput where constants from this file are not for this model and these images.

        Args:
            path: the file, for messages.
            own: the score images of the run that asks.
        """
        if self.model != model:
            raise BadInput(
                f"--constants {path} is of another model (sha256 {self.model[:12]}…, not {model[:12]}…).",
                "All parties need the same model file, bit for bit.",
            )
        if self.filters != tuple(filters):
            raise BadInput(
                f"--constants {path} has {len(self.filters)} filters, other than this network's {len(filters)}.",
                "Use the same options of the architecture and the same version of this program everywhere.",
            )
        if dict(self.preprocessing) != dict(preprocessing):
            different = _differences(self.preprocessing, preprocessing)
            raise BadInput(
                f"--constants {path} was made with other preprocessing: {different}.",
                "Give the same --resize, --crop, --mean, --std and --interpolation everywhere.",
            )
        for party in self.parties:
            if party.data == own.data and party.split != own.split:
                raise BadInput(
                    f"--constants {path} was made from these images, but from another score split of them: images of "
                    "the report would have had a part in the constants.",
                    "Give `constants` and this run the same --seed, --group and --metric.",
                )


def means_sha256(means: np.ndarray) -> str:
    """Names a set of mean constants."""
    return hashlib.sha256(np.ascontiguousarray(means, dtype="<f8").tobytes()).hexdigest()


def split_fingerprint(score: np.ndarray) -> str:
    """Names the score split of an image set, by the images' places in it (int64 [m])."""
    return hashlib.sha256(np.ascontiguousarray(score, dtype="<i8").tobytes()).hexdigest()


def merge_sums(given: Sequence[tuple[str, ChannelSums]]) -> ChannelSums:
    """The sums of all parties.

    Args:
        given: (file, its sums), for messages.

    Raises:
        BadInput: they are not of the same model, filters and preprocessing, or one image set comes twice.
    """
    if len(given) < 2:
        raise BadInput("constants merge takes two files of sums or more.", _MADE_BY)
    first_path, first = given[0]
    seen: dict[str, str] = {}
    for path, one in given:
        for what, mine, other in (
            ("another model", one.model, first.model),
            ("other filters", one.filters, first.filters),
            ("other preprocessing", dict(one.preprocessing), dict(first.preprocessing)),
        ):
            if mine != other:
                raise BadInput(
                    f"{path} is of {what} than {first_path}.",
                    "All parties need the same model file, options and preprocessing.",
                )
        for party in one.parties:
            if party.data in seen:
                raise BadInput(
                    f"{path} and {seen[party.data]} are of the same image set (sha256 {party.data[:12]}…).",
                    "Each image must count once: leave one of them out.",
                )
            seen[party.data] = path
    return ChannelSums(
        np.sum([s.sums for _, s in given], axis=0),
        np.sum([s.counts for _, s in given], axis=0),
        first.filters,
        first.model,
        first.preprocessing,
        tuple(party for _, s in given for party in s.parties),
    )


def write_sums(sums: ChannelSums, path: str | Path) -> None:
    about = {
        "kind": _KIND,
        "schema": 1,
        "model": sums.model,
        "preprocessing": dict(sums.preprocessing),
        "parties": [asdict(party) for party in sums.parties],
    }
    path = Path(path)
    part = path.with_name(f".{path.name}.part")  # whole under its name, or not there
    try:
        with part.open("wb") as file:
            np.savez(file, sums=sums.sums, counts=sums.counts, filters=np.array(sums.filters), about=json.dumps(about))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_sums(path: str | Path) -> ChannelSums:
    """Raises BadInput for whatever `write_sums` has not written."""
    if not Path(path).is_file():
        raise BadInput(f"There is no file {path}.", _MADE_BY)
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MAX_BYTES:
                raise ValueError("it is too large")
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
            if about["kind"] != _KIND or about["schema"] != 1:
                raise ValueError(f"it is of kind {about['kind']!r}, schema {about['schema']}")
            filters = tuple(str(name) for name in arrays["filters"])
            sums, counts = arrays["sums"].astype(np.float64), arrays["counts"].astype(np.int64)
        if not sums.shape == counts.shape == (len(filters),) or not filters:
            raise ValueError("its arrays differ in length")
        if not np.isfinite(sums).all() or (counts < 1).any():
            raise ValueError("it holds sums that are not finite, or of no image")
        parties = tuple(Party(str(p["data"]), str(p["split"]), int(p["images"])) for p in about["parties"])
        return ChannelSums(sums, counts, filters, str(about["model"]), _plain(about["preprocessing"]), parties)
    except (
        OSError, ValueError, KeyError, TypeError, EOFError, NotImplementedError, zlib.error, zipfile.BadZipFile
    ) as error:  # fmt: skip
        raise BadInput(f"{path} is not a file of channel sums ({error}).", _MADE_BY) from error


def _plain(preprocessing: Any) -> dict[str, Any]:
    """As it is after a round trip through JSON."""
    return dict(json.loads(json.dumps(preprocessing)))


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    return ", ".join(f"{key} {one.get(key)} there and {other.get(key)} here" for key in keys)
