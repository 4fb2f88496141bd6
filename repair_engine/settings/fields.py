"""The mechanism: an option is a field of a frozen record, and the record checks itself.

What the command line, the API, the forms, the client and the docs say of an option is derived from `options(record)`.
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from repair_engine.errors import BadInput

Kind = Literal["flag", "whole", "real", "text", "texts", "reals", "size", "pairs"]
_WHAT = {
    "flag": "true or false",
    "whole": "a whole number",
    "real": "a number",
    "text": "a text",
    "texts": "a list of texts",
    "reals": "a list of numbers",
    "size": "pixels from 1 to 10,000: one number, a height and a width, or none",
    "pairs": "a mapping of names to numbers, texts, true or false",
}
MOST_PIXELS = 10_000  # of a side
NONE = "none"  # of a size: no resizing, no crop, whatever the model's own preprocessing says


@dataclass(frozen=True)
class Option:
    """What is known of an option.

    Attributes:
        name: of the field: in Python, the API and the forms. Its flag on the command line is derived from it.
        kind: what its values are; `optional`: None, too: left to the engine.
        help: one or two sentences, for all ways in.
        label: of the form's field, and of the row that says what was asked.
        low, high: bounds, themselves included unless `open`.
        served: the bounds of a server, where they are narrower: one job must not take it all.
        unit: "share" (forms ask for percentage points) or "levels" (of pixels in [0, 1]; forms ask for 255ths).
        words: the choices with what forms call them; empty: anything of the kind.
        blank: what a form says of a field that is left blank.
        metavar, flag, off: on the command line: the value's name, another flag, the flag that says False.
        pattern: a regular expression of the whole text, with what is said of other texts.
        length: most characters of a text; `required`: must be given wherever a record is asked for from outside.
        kept: stands in records as JSON also where it has its default.
        here: why it is of the command line and Python alone: the docs say it. Empty: of every way in.
        commas: its texts are one text on the command line, with commas between them; else the flag is repeated.
        positional: on the command line it has no flag.
    """

    name: str
    kind: Kind
    optional: bool
    default: Any
    help: str
    label: str = ""
    low: float | None = None
    high: float | None = None
    open: bool = False
    served: tuple[float, float] | None = None
    unit: str = ""
    words: Mapping[str, str] = field(default_factory=dict)
    blank: str = ""
    metavar: str = ""
    flag: str = ""
    off: str = ""
    pattern: tuple[str, str] | None = None
    length: int | None = None
    required: bool = False
    kept: bool = False
    here: str = ""
    commas: bool = False
    positional: bool = False

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Of a server."""
        return self.served or (self.low, self.high)

    @property
    def title(self) -> str:
        return self.label or self.name.replace("_", " ").capitalize()

    def check(self, value: Any, served: bool = False) -> Any:
        """The value, as the record keeps it. Raises BadInput with the option's name."""
        if value is None and self.optional:
            return None
        found = _of_kind(self.kind, value)
        if found is None:
            raise self.wrong(f"{value!r} is not {_WHAT[self.kind]}.")
        if self.words and self.kind == "text" and found not in self.words:
            near = get_close_matches(str(found), self.words, n=1)
            raise self.wrong(
                f"{found!r} is not one of {', '.join(self.words)}.", f"Is {near[0]} meant?" if near else ""
            )
        for text in (found,) if self.kind == "text" else found if self.kind == "texts" else ():
            if self.pattern and not re.fullmatch(self.pattern[0], text):
                raise self.wrong(f"{text!r} cannot be. {self.pattern[1]}")
            if self.length is not None and len(text) > self.length:
                raise self.wrong(f"It has {len(text):,} characters; at most {self.length:,} are read.")
        if self.kind in ("whole", "real", "reals"):
            for number in found if self.kind == "reals" else (found,):
                self._check_bounds(number, *(self.bounds if served else (self.low, self.high)))
        return found

    def _check_bounds(self, value: float, low: float | None, high: float | None) -> None:
        outside = not math.isfinite(value) or (low is not None and value < low) or (high is not None and value > high)
        if not outside and not (self.open and value in (low, high)):
            return
        if low is not None and high is not None:
            said = f"is not between {_said(low)} and {_said(high)}" + (" (both excluded)" if self.open else "")
        elif not math.isfinite(value):
            said = "is no finite number"
        elif low is not None:
            said = f"is not above {_said(low)}" if self.open else f"is less than {_said(low)}"
        else:
            said = f"is more than {_said(high or 0)}"
        raise self.wrong(f"{_said(value)} {said}.", self.help)

    def wrong(self, problem: str, mend: str = "") -> BadInput:
        return BadInput(problem, mend, self.name)


def _said(value: float) -> str:
    return str(int(value)) if value == value and abs(value) < 1e15 and value == int(value) else f"{value:g}"


def _of_kind(kind: Kind, value: Any) -> Any:
    """The value in the record's own type; None: it is of another kind."""
    if kind == "flag":
        return value if isinstance(value, bool) else None
    if isinstance(value, bool):
        return None
    if kind == "whole":
        whole = isinstance(value, Integral) or (isinstance(value, float) and value.is_integer())
        return int(value) if whole else None
    if kind == "real":
        return float(value) if isinstance(value, Real) else None
    if kind == "text":
        return value if isinstance(value, str) else None
    if kind == "pairs":
        plain = isinstance(value, Mapping) and all(isinstance(v, bool | int | float | str) for v in value.values())
        return dict(value) if plain and all(isinstance(k, str) for k in value) else None
    if kind == "size":
        sides = (value,) if isinstance(value, Integral) else value
        if value == NONE or value == 0:
            return NONE
        if not isinstance(sides, list | tuple) or not 1 <= len(sides) <= 2 or not all(_is_side(s) for s in sides):
            return None
        return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))
    if isinstance(value, str) or not isinstance(value, Sequence):
        return None
    return _each(value, str) if kind == "texts" else _each(value, Real)


def _is_side(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and 1 <= int(value) <= MOST_PIXELS


def _each(values: Sequence[Any], of: Any) -> tuple[Any, ...] | None:
    good = all(isinstance(value, of) and not isinstance(value, bool) for value in values)
    return (tuple(values) if of is str else tuple(map(float, values))) if good else None


def option(default: Any, help: str, **more: Any) -> Any:
    """A field of a record that is an option; `more` as in `Option`. Without a default it is `required`."""
    more = {"required": default is MISSING, **more}
    default = None if default is MISSING else default
    return field(default=default, metadata={"option": {"help": help, **more}})


_KNOWN: dict[type, Mapping[str, Option]] = {}


def options(record: type) -> Mapping[str, Option]:
    """The options of a record: those of its groups in their order, then its own."""
    if record not in _KNOWN:
        _KNOWN[record] = types.MappingProxyType(_options(record))
    return _KNOWN[record]


def _options(record: Any) -> dict[str, Option]:
    hints, found = get_type_hints(record), {}
    known = {one.name: one for one in fields(record)}
    for one in (known[name] for name in declared_by(record)):
        if "option" not in one.metadata:
            continue
        kind, optional, choices = _kind_of(hints[one.name])
        more = dict(one.metadata["option"])
        words = more.pop("words", {})
        if choices and set(choices) != set(words or choices):
            raise TypeError(f"{record.__name__}.{one.name}: its words are not those of its type")
        more["words"] = {name: words.get(name, name) for name in choices} if choices else words
        kind = more.pop("kind", kind)
        found[one.name] = Option(one.name, kind, optional, one.default, **more)
    return found


def declared_by(record: Any) -> Mapping[str, type]:
    """The class that declares each field, which is its group: the record's bases in their order, then the record."""
    own = {one.name for one in fields(record)}
    found: dict[str, type] = {}
    for kind in [*(kind for kind in record.__mro__[1:] if issubclass(kind, Settings)), record]:
        names = [name for name in vars(kind).get("__annotations__", {}) if name in own]
        found = {name: owner for name, owner in found.items() if kind is not record or name not in names}
        found |= {name: kind for name in names if name not in found}
    return found


def _kind_of(hint: Any) -> tuple[Kind, bool, tuple[str, ...]]:
    optional = False
    if get_origin(hint) in (Union, types.UnionType):
        parts = [part for part in get_args(hint) if part is not type(None)]
        optional = len(parts) < len(get_args(hint))
        hint = parts[0] if len(parts) == 1 else object
    if get_origin(hint) is Literal:
        return "text", optional, get_args(hint)
    if get_origin(hint) is tuple:
        return ("texts" if get_args(hint)[0] is str else "reals"), optional, ()
    if get_origin(hint) is not None:
        return "pairs", optional, ()
    kinds: dict[Any, Kind] = {bool: "flag", int: "whole", float: "real", str: "text", object: "size"}
    return kinds[hint], optional, ()


Record = TypeVar("Record", bound="Settings")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of all records: options are checked by what they declare, then by `rules` of each class.

    Raises (when made): BadInput, whose `field` is the option's name.
    """

    verb: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for name, one in options(type(self)).items():
            object.__setattr__(self, name, one.check(getattr(self, name)))
        for kind in reversed(type(self).__mro__):
            if "rules" in vars(kind):
                vars(kind)["rules"](self)

    def rules(self) -> None:
        """What concerns several options, or the form of a text. Raises BadInput."""

    def check_served(self) -> None:
        """Raises BadInput where a server takes less."""
        for name, one in options(type(self)).items():
            one.check(getattr(self, name), served=True)

    def wrong(self, name: str, problem: str, mend: str = "") -> BadInput:
        return BadInput(problem, mend, name)

    def to_record(self) -> dict[str, Any]:
        """Without what has its default, but for `kept`, as JSON; `from_record` reads it."""
        given = {name: getattr(self, name) for name in options(type(self))}
        said = options(type(self))
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in given.items()
            if value != said[name].default or said[name].kept
        }

    @classmethod
    def from_record(cls: type[Record], values: Mapping[str, Any]) -> Record:
        """What is known of `values`; None and empty lists say nothing. Raises BadInput."""
        return cls(**{name: values[name] for name in options(cls) if values.get(name) not in (None, [])})

    def part(self, group: type[Record]) -> Record:
        """Those of its options that are `group`'s, as a record of their own."""
        return group(**{name: getattr(self, name) for name in options(group)})


def keywords(record: type[Settings]) -> dict[str, Any]:
    """Keywords of the Python API with their defaults, in order; MISSING where one must be given."""
    return {name: MISSING if one.required else one.default for name, one in options(record).items()}


def meant(name: str, known: Iterable[str]) -> str:
    """What a name that is not known might be, or what there is."""
    near = get_close_matches(name, known, n=3)
    return f"Is {' or '.join(near)} meant?" if near else f"There are: {', '.join(known)}."


def from_keywords(record: type[Record], /, **given: Any) -> Record:
    """A record from keywords.

    Raises:
        BadInput: one is not known (the nearest are named) or is missing; or has no such value.
    """
    known = keywords(record)
    for name in given:
        if name not in known:
            raise BadInput(f"There is no option {name!r}.", meant(name, known), name)
    for name, default in known.items():
        if default is MISSING and given.get(name) is None:
            raise BadInput("It must be given.", options(record)[name].help, name)
    return record(**given)
