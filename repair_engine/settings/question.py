"""What is asked: the metric, the splits, the adversary. In groups; `verbs` puts them together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from repair_engine.errors import BadInput
from repair_engine.settings.fields import Settings, meant, option, options

ATTACK, TRIGGER, HIDDEN, CORRUPTED = "attack-success", "trigger-success", "hidden-trigger", "corrupted-accuracy"
FORGET = "forget"
METRICS = (
    *("accuracy", "recall:CLASS", "subgroup-recall:COLUMN[,COLUMN…]"),
    *(ATTACK, f"{TRIGGER}:CLASS", HIDDEN, f"{HIDDEN}:CLASS"),
    *(CORRUPTED, f"{CORRUPTED}:KIND[,KIND…]"),
    *(f"{FORGET}:CLASS", f"{FORGET}:COLUMN=VALUE"),
)
CORRUPTIONS = ("gaussian_noise", "gaussian_blur", "jpeg_compression", "brightness", "contrast")
SEVERITIES = (1, 5)  # the least and the most
EVERYTHING = ("classes", "subgroups", "all")  # several further objectives at once
GREY_LEVEL = 1 / 255  # one level of one pixel
_ARGUMENTS = {
    "recall": "a class: recall:CLASS",
    "subgroup-recall": "a column or several: subgroup-recall:COLUMN,COLUMN",
    TRIGGER: "the class that the trigger gives: trigger-success:CLASS",
    FORGET: "a class or a group: forget:CLASS or forget:COLUMN=VALUE",
}


def attacks(metric: str) -> bool:
    """The metric is how often an adversary wins."""
    return metric == ATTACK


def triggers(metric: str) -> bool:
    """The metric is about a trigger that gives a class: one that is known, or one that is sought."""
    return metric.partition(":")[0] in (TRIGGER, HIDDEN)


def hidden(metric: str) -> bool:
    """Its trigger is not known."""
    return metric.partition(":")[0] == HIDDEN


def corrupts(metric: str) -> bool:
    """The metric is accuracy on images that are corrupted."""
    return metric.partition(":")[0] == CORRUPTED


def forgets(metric: str) -> bool:
    """The metric is accuracy on images that are to be forgotten."""
    return metric.partition(":")[0] == FORGET


def apart(metric: str) -> bool:
    """The metric is of images of its own, that somebody changed."""
    return attacks(metric) or triggers(metric) or corrupts(metric)


def corruptions_of(argument: str) -> tuple[str, ...]:
    """The kinds that `corrupted-accuracy:KIND[,KIND…]` names, in the order of `CORRUPTIONS`; without an argument all.

    Raises:
        BadInput: there is no such kind, or one is named twice.
    """
    named = [kind.strip() for kind in argument.split(",")] if argument else list(CORRUPTIONS)
    for kind in named:
        if kind not in CORRUPTIONS:
            raise BadInput(f"There is no corruption {kind!r}.", meant(kind, CORRUPTIONS), "metric")
        if named.count(kind) > 1:
            raise BadInput(f"{CORRUPTED} names {kind} twice.", "Name each kind once.", "metric")
    return tuple(kind for kind in CORRUPTIONS if kind in named)


def check_metric(name: str, metric: str, others: tuple[str, ...] = ()) -> tuple[str, str]:
    """The parts of a metric before and after its colon.

    Raises:
        BadInput: of the option `name`: no such metric, or an argument that is missing or not wanted.
    """
    kind, colon, argument = metric.partition(":")
    if kind not in {known.partition(":")[0] for known in METRICS}:
        raise BadInput(
            f"{metric!r} is not one of {', '.join((*METRICS, *others))}.",
            "subgroup-recall:COLUMN takes one or several columns of metadata.csv: COLUMN1,COLUMN2.",
            name,
        )
    if kind in _ARGUMENTS and not argument.strip():
        raise BadInput(f"{kind} needs {_ARGUMENTS[kind]}.", "", name)
    if kind == HIDDEN and colon and not argument.strip():
        raise BadInput(f"{HIDDEN}: there is no class after the colon.", f"Name it, or ask for {HIDDEN} alone.", name)
    if kind == CORRUPTED and colon and not argument.strip():
        none = f"{CORRUPTED}: there is no kind after the colon."
        raise BadInput(none, f"Name kinds, or ask for {CORRUPTED} alone: all of {', '.join(CORRUPTIONS)}.", name)
    if kind == CORRUPTED:
        corruptions_of(argument)
    if kind not in (*_ARGUMENTS, HIDDEN, CORRUPTED) and colon:
        raise BadInput(f"{kind} takes nothing after a colon.", "", name)
    return kind, argument


@dataclass(frozen=True, kw_only=True)
class Question(Settings):
    """The behaviour that is asked about."""

    metric: str = option(
        "accuracy", required=True, kept=True, length=1000,
        help="accuracy, recall:CLASS, subgroup-recall:COLUMN, attack-success, trigger-success:CLASS (a "
        "backdoor's trigger that gives the class), hidden-trigger or hidden-trigger:CLASS (a trigger that nobody "
        "knows: one is reconstructed from clean images), corrupted-accuracy or corrupted-accuracy:KIND (of "
        f"{', '.join(CORRUPTIONS)}; of several KIND,KIND; without one all), forget:CLASS or forget:COLUMN=VALUE "
        "(accuracy on the images of a class or a group, to be lowered; limits hold on all others). Of several columns "
        "(subgroup-recall:COLUMN,COLUMN) the subgroups are the combinations of values that occur; a name with a "
        "comma in it stands in double quotes.",
    )  # fmt: skip

    def rules(self) -> None:
        check_metric("metric", self.metric)


@dataclass(frozen=True, kw_only=True)
class Further(Settings):
    """What is valued beside the metric."""

    also: tuple[str, ...] = option(
        (), label="Value these, too", metavar="METRIC", length=1000,
        help="Value this, too, on the same evaluations, at the price of one; may be repeated. A metric, "
        "subgroup:COLUMN=VALUE, classes, subgroups, or all. Not beside attack-success, trigger-success, "
        "hidden-trigger or corrupted-accuracy; forget is no further objective.",
    )  # fmt: skip

    def rules(self) -> None:
        others = [name for name in (getattr(self, "metric", ""), *self.also) if apart(name)]
        if self.also and others:
            raise self.wrong("also", f"{others[0]} is valued on images of its own, which no other metric shares.")
        for text in self.also:
            column, equals, _ = text.removeprefix("subgroup:").partition("=")
            if text.startswith("subgroup:"):
                if not column or not equals:
                    raise self.wrong("also", f"{text!r}: it is subgroup:COLUMN=VALUE.")
            elif text not in EVERYTHING:
                check_metric("also", text, (*EVERYTHING, "subgroup:COLUMN=VALUE"))
                if forgets(text):
                    raise self.wrong(
                        "also",
                        f"{text}: {FORGET} is to be lowered, and goes beside no other metric.",
                        "Ask for it as the metric, or for recall:CLASS or subgroup:COLUMN=VALUE.",
                    )


@dataclass(frozen=True, kw_only=True)
class Splits(Settings):
    """What decides which images value filters, choose their number, and are reported on."""

    group: str | None = option(
        None, label="Keep together", blank="nothing but identical images", metavar="COLUMN", length=100,
        help="A column of metadata.csv whose values (patient, writer, identity) must not be in two of the three "
        "splits.",
    )  # fmt: skip
    seed: int = option(
        0, label="Seed", low=0, high=2**32 - 1, kept=True,
        help="Fixes the splits and every random choice: the same seed and budget give the same result.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Players(Settings):
    """What can be ablated."""

    units: Literal["all", "filters", "hidden", "heads"] = option(
        "all",
        "Which units are valued: filters of convolutions, hidden units of linear layers, attention heads, or all that "
        "the network has.",
        label="Units",
        words={
            "all": "all that the network has",
            "filters": "filters of convolutions",
            "hidden": "hidden units of linear layers",
            "heads": "attention heads",
        },
    )


@dataclass(frozen=True, kw_only=True)
class Ablation(Players):
    """What is ablated, and what replaces its output."""

    constant: Literal["mean", "bn_beta"] = option(
        "mean", label="An ablated filter gives",
        words={
            "mean": "its mean over the score images, as in the paper",
            "bn_beta": "what its batch norm's β gives, as in the authors' code",
        },
        help="What an ablated filter's output becomes. Filters without a batch norm of their own give their mean "
        "either way.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Trigger(Settings):
    """How a trigger is put on the images, where it is given as a patch."""

    trigger_at: str = option(
        "bottom-right", label="Where the patch lies", metavar="PLACE", length=40,
        pattern=(
            r"(top|bottom)-(left|right)|center|\d{1,5},\d{1,5}",
            "It is top-left, top-right, bottom-left, bottom-right, center, or X,Y: how many pixels the patch's left "
            "and upper edge lie from the image's.",
        ),
        help="Where the patch lies: top-left, top-right, bottom-left, bottom-right, center, or X,Y, pixels from the "
        "left and from the top. In pixels of the network's input, after resizing and cropping.",
    )  # fmt: skip
    trigger_opacity: float = option(
        1.0, label="Opacity of the patch", low=0, high=1, metavar="X",
        help="Share of the patch in the pixels under it; 1 replaces them. Where the patch has an alpha channel, in "
        "addition to that.",
    )  # fmt: skip

    def rules(self) -> None:
        if self.trigger_opacity == 0:
            raise self.wrong("trigger_opacity", "A patch of opacity 0 changes nothing.")


def check_trigger(metric: str, trigger: bool, triggered: bool, asked: Settings | None = None) -> None:
    """Whether the trigger is given as the metric needs it.

    Args:
        trigger, triggered: a patch is given, and images that carry it.
        asked: with the patch's place and opacity, where these are known.

    Raises:
        BadInput: it is given in two ways, in none, or for a metric that has none; or images have a patch's place.
    """
    if trigger and triggered:
        raise BadInput(
            "The trigger is given twice: as a patch and as images that carry it.",
            "Leave one of them out.",
            "triggered",
        )
    if triggered and isinstance(asked, Trigger) and asked.part(Trigger) != Trigger():
        raise BadInput(
            "The place and the opacity are a patch's; these images carry it.", "Leave them out.", "trigger_at"
        )
    if triggers(metric) and not hidden(metric) and not trigger and not triggered:
        raise BadInput(
            f"{metric}: there is no trigger.",
            "Give the patch that is pasted on the images (trigger), or images that carry it, with their true labels "
            f"(triggered); or ask for {HIDDEN}:CLASS, which reconstructs one from clean images.",
            "metric",
        )
    if (trigger or triggered) and not triggers(metric):
        named = "trigger" if trigger else "triggered"
        raise BadInput(
            f"A trigger belongs to the metrics {TRIGGER}:CLASS and {HIDDEN}.",
            f"Ask for it, or leave {named} out.",
            named,
        )


@dataclass(frozen=True, kw_only=True)
class Pgd(Settings):
    """The adversary of attack-success: PGD on pixels in [0, 1]. What is left out is the preset's."""

    zero: ClassVar[bool] = False  # ε = 0 may be asked for

    attack: Literal["paper", "standard"] = option(
        "paper", label="Preset",
        words={
            "paper": "paper: targeted, 30 steps, no random start",
            "standard": "standard: untargeted, 20 steps, random start",
        },
        help="Preset of PGD: who the adversary is.",
    )  # fmt: skip
    norm: Literal["linf", "l2"] | None = option(
        None, label="Norm", words={"linf": "ℓ∞: any pixel", "l2": "ℓ2: the whole image"}, blank="ℓ∞: any pixel",
        help="What ε measures: linf (default), or l2, the Euclidean length of the whole change, with an ε.",
    )  # fmt: skip
    epsilon: float | None = option(
        None, label="ε", low=0, unit="levels",
        help="How far a pixel may be moved; in l2 the whole image. Default: the preset's (paper: 16/255, standard: "
        "8/255).",
    )  # fmt: skip
    steps: int | None = option(
        None, label="Steps", low=1, served=(1, 1000), metavar="N",
        help="Gradient steps per image. Default: the preset's.",
    )  # fmt: skip
    step_size: float | None = option(
        None, label="Step size", low=0, open=True, served=(1e-6, 1000), unit="levels",
        help="Length of one gradient step. By default all steps together keep the preset's ratio to ε.",
    )  # fmt: skip
    restarts: int | None = option(
        None, label="Restarts", low=1, served=(1, 1000), metavar="N",
        help="Random starts, of which any may succeed.",
    )  # fmt: skip
    targeted: bool | None = option(
        None, label="Aim", off="--untargeted", words={"yes": "a random other class", "no": "anything but the label"},
        blank="the preset's",
        help="The adversary wants a random other class; untargeted: anything but the label. Default: the preset's.",
    )  # fmt: skip
    random_start: bool | None = option(
        None, label="Random start", off="--no-random-start", words={"yes": "yes", "no": "no"}, blank="the preset's",
        help="Starts within the ε-ball. Default: the preset's.",
    )  # fmt: skip

    def rules(self) -> None:
        if self.epsilon == 0 and not self.zero:
            raise self.wrong("epsilon", "With ε = 0 no attack can succeed: it changes nothing.")
        usual = (
            "ℓ2 counts the Euclidean length over all pixels, in units of [0, 1]: 0.5 is usual for 32×32 images, 3 for "
        )
        usual += "224×224."
        if self.norm == "l2" and self.epsilon is None:
            raise self.wrong("epsilon", "In l2 an ε is needed: the presets' are of l∞.", usual)
        if self.norm == "l2" and self.epsilon and self.epsilon < GREY_LEVEL:
            said = f"{self.epsilon:g} is less than one grey level of one pixel ({GREY_LEVEL:.4f})."
            raise self.wrong("epsilon", said, usual)
        if self.norm != "l2" and self.epsilon is not None and self.epsilon > 1:
            said = f"{self.epsilon:g} is not between 0 and 1, the range of pixels."
            raise self.wrong("epsilon", said, "8 of 255 levels are 0.03137.")
        at_random = self.attack == "standard" if self.random_start is None else self.random_start
        if (self.restarts or 1) > 1 and not at_random:
            said = "Without a random start every restart is the same."
            raise self.wrong("restarts", said, "Ask for a random start, or for the preset standard.")


@dataclass(frozen=True, kw_only=True)
class Attacked(Settings):
    """How many images are attacked."""

    attack_images: int | None = option(
        None, label="Images attacked, at most", low=1, served=(1, 10**6), metavar="N",
        help="Images attacked per split, at most. Default: 500, or fewer where the budget is calibrated.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Rows(Settings):
    """Other adversaries, before and after a repair."""

    queries: int = option(
        500, label="Black-box queries per image", low=0, served=(0, 100_000), metavar="N",
        help="Of the black-box attack, per image of the subset; 0: no such attack.",
    )  # fmt: skip
    subset: int | None = option(
        None, label="Subset, images", low=1, served=(1, 10_000), metavar="N",
        help="Most images for what is costly: queries, curves, self-tests. Default: 100; of a repair 10 to 100, by "
        "the budget.",
    )  # fmt: skip

    def rules(self) -> None:
        if self.queries == 1:
            raise self.wrong("queries", "One query asks for the clean image only; 0 makes no black-box attack.")


@dataclass(frozen=True, kw_only=True)
class Corruption(Settings):
    """How strongly images are corrupted."""

    severity: int = option(
        3, label="Severity", low=SEVERITIES[0], high=SEVERITIES[1], metavar="1…5",
        help="Of corrupted-accuracy: how strong the corruptions are that units are valued and chosen on, 1 to 5, with "
        "the parameters of the published sets CIFAR-10-C, Tiny-ImageNet-C or ImageNet-C, by the images' size. The "
        "report of a repair shows all five.",
    )  # fmt: skip

    def rules(self) -> None:
        metric = getattr(self, "metric", None)
        if metric is None:
            return
        if not corrupts(str(metric)):
            if self.severity != options(Corruption)["severity"].default:
                raise self.wrong("severity", f"It belongs to the metric {CORRUPTED}; this one is {metric}.")
            return
        for group, whose in ((Pgd, ATTACK), (Attacked, ATTACK), (Rows, ATTACK), (Trigger, TRIGGER)):
            if not isinstance(self, group):
                continue
            for name, one in options(group).items():
                if getattr(self, name) != one.default:
                    raise self.wrong(name, f"It belongs to {whose}; the metric is {metric}.", "Leave it out.")
        if getattr(self, "surrogate", ()):
            raise self.wrong("surrogate", f"It belongs to {ATTACK}; the metric is {metric}.", "Leave it out.")


@dataclass(frozen=True, kw_only=True)
class Corrupted(Settings):
    """How many images are shown at each severity."""

    corrupted_images: int | None = option(
        None, label="Images by kind and severity, at most", low=1, served=(1, 10**6), metavar="N",
        help="Of corrupted-accuracy: report images on which every kind is measured at all five severities, at most. "
        "Default: 50 to 1,000, by the budget.",
    )  # fmt: skip

    def rules(self) -> None:
        metric = getattr(self, "metric", None)
        if self.corrupted_images is not None and metric is not None and not corrupts(str(metric)):
            raise self.wrong("corrupted_images", f"It belongs to the metric {CORRUPTED}; this one is {metric}.")
