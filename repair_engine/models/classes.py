"""Ordered class names, and how a dataset's folders and labels map onto them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repair_engine.errors import BadInput
from repair_engine.support.nfc import normal

if TYPE_CHECKING:
    from repair_engine.models.architectures import Architecture

_MAX_FILE_BYTES = 16 << 20
_SHOWN = 12  # names of each list that an error shows


@dataclass(frozen=True)
class ClassNames:
    """A model's classes in index order.

    Attributes:
        num_classes: how many there are.
        names: one per class; empty = not given, they are then taken from the dataset's folders.
        folders: the dataset's folder of each class (such as ImageNet's wnid), where the file gives it.
        source: where the names come from, for the report.
    """

    num_classes: int
    names: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    source: str = "the dataset's folders in sorted order"


@dataclass(frozen=True)
class LabelMap:
    """Result of `map_labels`: label -> class index, the class names [num_classes], notes and warnings."""

    index: dict[str, int]
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def class_names(architecture: Architecture, path: str | Path | None = None) -> ClassNames:
    """The names in a file, else a Hugging Face folder's, else those of torchvision's weights, else none yet.

    Raises:
        BadInput: the file cannot be read or has another number of classes.
    """
    from repair_engine.models.weights_metadata import weights_metadata  # torchvision: slow, and not always needed

    count = architecture.num_classes
    if path is not None:
        return read_class_names(path, count)
    if architecture.config is not None:
        from repair_engine.models.hf_models import known_names

        names = tuple(map(normal, known_names(architecture.config)))
        return ClassNames(count, names, source="id2label in config.json") if names else ClassNames(count)
    metadata = None if architecture.registered else weights_metadata(architecture.name)
    if metadata is not None and len(metadata.categories) == count:
        return ClassNames(count, metadata.categories, source=f"torchvision's {metadata.variant} weights")
    return ClassNames(count)


def read_class_names(path: str | Path, num_classes: int) -> ClassNames:
    """Names from a file: text (one per line in index order) or JSON.

    JSON may be a list of names, {folder: [index, name]}, {index: [folder, name]}, {index: name} or
    {name: index}.

    Raises:
        BadInput: unreadable, empty names, indices that are not 0 to num_classes - 1, another count.
    """
    path = Path(path)
    if not path.is_file():
        raise BadInput(f"There is no classes file {path}.")
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise BadInput(f"The classes file {path.name} has {path.stat().st_size:,} bytes; it should be a short list.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"The classes file {path.name} is not UTF-8 text.", "Save it as UTF-8.") from error
    return parse_class_names(text, num_classes, path.name)


def parse_class_names(text: str, num_classes: int, name: str = "the classes file") -> ClassNames:
    """See `read_class_names`."""
    folders: list[str] = []
    text = normal(text)
    if text.lstrip()[:1] in ("{", "["):
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{name} is not valid JSON: {error}") from error
        names, folders = _from_json(data, name)
    else:
        names = [line.strip() for line in text.rstrip().splitlines()]
    if any(not isinstance(n, str) or not n.strip() for n in names):
        line = next(i for i, n in enumerate(names) if not isinstance(n, str) or not n.strip())
        raise BadInput(f"{name}: the name of class {line} is empty or not text.")
    if len(names) != num_classes:
        raise BadInput(
            f"{name} has {len(names)} class names; the model has {num_classes} classes.",
            "Give one name per class, in the order of the model's outputs.",
        )
    return ClassNames(num_classes, tuple(names), tuple(folders), source=name)


def map_labels(labels: Iterable[str], classes: ClassNames, column: bool = False) -> LabelMap:
    """Map folder names or a label column's values to class indices.

    Tried in this order, for all labels alike: the class's name or folder exactly; the same without regard
    to case where that is unambiguous; the integer index.

    Args:
        column: they are a label column's: there numbers from 0 on are indices.

    Raises:
        BadInput: labels that do not map (with both lists), or that map to the same or to several classes, or numbers
            of which it is not known what they count.
    """
    found = sorted(set(labels))
    if not classes.names:
        return _by_order(found, classes.num_classes, column)
    exact, folded = _tables(classes)
    index: dict[str, int] = {}
    lost: list[str] = []
    for label in found:
        matches = exact.get(_normal(label)) or folded.get(_normal(label).casefold()) or set()
        if len(matches) > 1:
            raise BadInput(
                f"The label {label!r} is the name of {len(matches)} classes: {sorted(matches)}.",
                "Give the classes as JSON {folder: [index, name]}, or name the folders by index.",
            )
        if matches:
            (index[label],) = matches
        else:
            lost.append(label)
    if lost and len(lost) == len(found):
        numbers = {label: number for label in found if (number := _integer(label)) is not None}
        if len(numbers) == len(found) and max(numbers.values()) < classes.num_classes + (0 not in numbers.values()):
            index, lost = _by_number(numbers, classes), []
    if lost:
        raise BadInput(
            f"{len(lost)} of the dataset's {len(found)} labels are no class of the model: {_shorten(lost)}.\n"
            f"The dataset's labels: {_shorten(found)}.\n"
            f"The model's classes, from {classes.source}: {_shorten(_described(classes))}.",
            "Rename the folders, or give a classes file that names them.",
        )
    _check_distinct(index, classes.names)
    return LabelMap(index, classes.names)


def _by_number(numbers: dict[str, int], classes: ClassNames) -> dict[str, int]:
    """Labels that are indices. Raises BadInput where they count from 1, or may."""
    ordered = sorted(numbers, key=lambda label: numbers[label])
    first = numbers[ordered[0]]
    if first == 0:
        return numbers
    whole = numbers[ordered[-1]] == classes.num_classes
    one, zero = (
        json.dumps({ordered[0]: [i, classes.names[i]]}, ensure_ascii=False)
        for i in (first - 1, first % classes.num_classes)
    )
    raise BadInput(
        f"The labels are numbers without a 0 ({_shorten(ordered)}), and the model's {classes.num_classes} classes have "
        f"names: the numbers {'count from 1' if whole else 'may count from 0 or from 1'}.",
        f"Say it by a classes file of JSON, {{folder: [index, name]}}: {one[:-1]}, …}} where they count from 1"
        + ("." if whole else f", {zero[:-1]}, …}} where they count from 0."),
    )


def _by_order(found: Sequence[str], num_classes: int, column: bool) -> LabelMap:
    what = "values in its label column" if column else "class folders"
    if len(found) != num_classes:
        raise BadInput(
            f"The dataset has {len(found)} {what} and the model has {num_classes} classes, "
            f"and no class names were given to map them.\nThe dataset's: {_shorten(found)}.",
            "Give a classes file: the names of all the model's classes, one per line, in the model's order.",
        )
    numbers = [number for name in found if (number := _integer(name)) is not None]
    if len(numbers) == len(found) and numbers != sorted(numbers):
        if not column or sorted(numbers) != list(range(num_classes)):
            raise BadInput(
                f"The {what} are numbers, and sorted as text, which is how torchvision's ImageFolder numbers them, "
                f"they are in another order than by size: {_shorten(found)}. Which of the two the model counts by is "
                "not known.",
                "Give a classes file: these names, one per line, in the order of the model's outputs.",
            )
        found = sorted(found, key=int)
    names = tuple(found)
    notes = (f"No class names were given: the {what.replace('class ', '')} in sorted order are classes 0 to "
             f"{num_classes - 1}.",)  # fmt: skip
    return LabelMap({name: i for i, name in enumerate(names)}, names, notes)


def _tables(classes: ClassNames) -> tuple[dict[str, set[int]], dict[str, set[int]]]:
    exact: dict[str, set[int]] = defaultdict(set)
    folded: dict[str, set[int]] = defaultdict(set)
    for names in (classes.names, classes.folders):
        for i, name in enumerate(names):
            exact[_normal(name)].add(i)
            folded[_normal(name).casefold()].add(i)
    return exact, folded


def _normal(name: str) -> str:
    return normal(name).strip()


def _integer(label: str) -> int | None:
    return int(label) if label.isascii() and label.isdecimal() else None


def _check_distinct(index: dict[str, int], names: Sequence[str]) -> None:
    by_class: dict[int, list[str]] = defaultdict(list)
    for label, i in index.items():
        by_class[i].append(label)
    for i, same in by_class.items():
        if len(same) > 1:
            raise BadInput(
                f"The labels {', '.join(map(repr, same))} all mean class {i} ({names[i]}).",
                "Use one of them.",
            )


def _described(classes: ClassNames) -> list[str]:
    if not classes.folders:
        return list(classes.names)
    return [f"{folder} ({name})" for folder, name in zip(classes.folders, classes.names, strict=True)]


def _shorten(names: Sequence[str]) -> str:
    if len(names) <= _SHOWN + 2:
        return ", ".join(names)
    return f"{', '.join(names[:_SHOWN])}, … ({len(names)} in all), {names[-1]}"


def _from_json(data: Any, name: str) -> tuple[list[Any], list[str]]:
    """Names in index order, and folders where the file has them."""
    if isinstance(data, list):
        return data, []
    problem = BadInput(
        f"{name}: the JSON is neither a list of names nor an object that gives each class's index.",
        'Use ["cat", "dog"], or {"folder": [0, "cat"], …}.',
    )
    if not isinstance(data, dict) or not data:
        raise problem
    rows: list[tuple[int, str, str]] = []  # index, name, folder
    for key, value in data.items():
        pair = value if isinstance(value, list) else [value]
        if len(pair) == 2 and type(pair[0]) is int:
            rows.append((pair[0], pair[1], key))
        elif len(pair) == 2 and _integer(key) is not None:
            rows.append((int(key), pair[1], pair[0]))
        elif len(pair) == 1 and type(pair[0]) is int:
            rows.append((pair[0], key, ""))
        elif len(pair) == 1 and _integer(key) is not None:
            rows.append((int(key), pair[0], ""))
        else:
            raise problem
    rows.sort(key=lambda row: row[0])
    if [row[0] for row in rows] != list(range(len(rows))):
        raise BadInput(f"{name}: the indices of its {len(rows)} classes are not 0 to {len(rows) - 1}, each once.")
    folders = [row[2] for row in rows]
    return [row[1] for row in rows], folders if all(isinstance(f, str) and f for f in folders) else []
