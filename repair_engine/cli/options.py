"""Options that the verbs share, and the request they make."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from repair_engine.case.explain_settings import Explain
from repair_engine.case.request import (
    CHOICES,
    DEFAULT_ESTIMATOR,
    DEFAULT_QUERIES,
    ESTIMATORS,
    ORDERS,
    Limits,
    RepairRequest,
    preprocessing_from,
)
from repair_engine.errors import BadInput
from repair_engine.models import hf_models
from repair_engine.models.architectures import Architecture, parse_options, parse_register
from repair_engine.models.preprocessing import Preprocessing
from repair_engine.network import CONSTANTS
from repair_engine.question.attacks import NORMS, AttackSettings
from repair_engine.question.objectives import Metric
from repair_engine.question.surrogates import parse_surrogate
from repair_engine.support.archive import check_not_folder
from repair_engine.support.memory import parse_memory
from repair_engine.support.precision import PRECISIONS
from repair_engine.verbs import opening
from repair_engine.verbs.asking import device_of


def add_model(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", required=True, metavar="FILE", help="safetensors, .pt/.pth, .onnx, or a Hugging Face folder"
    )
    group.add_argument(
        "--architecture",
        metavar="NAME",
        help="torchvision's name, timm:NAME, or a registered one; ONNX brings its own",
    )
    group.add_argument("--num-classes", type=int, metavar="N", help="needed unless the model is ONNX")
    group.add_argument("--arch-option", action="append", default=[], metavar="KEY=VALUE", help="for the factory")
    group.add_argument("--register", action="append", default=[], metavar="NAME=MODULE:FACTORY")
    group.add_argument("--weights", choices=("model", "ema"), help="which, where the file holds both")
    group.add_argument("--key", default="", metavar="NAME", help="the entry that holds the state dict, of several")
    group.add_argument("--strip-prefix", default="", metavar="PREFIX", help="of the keys that are the network's")
    group.add_argument("--classes", metavar="FILE", help="class names in index order, or JSON {folder: [index, name]}")
    group.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    group.add_argument("--json", action="store_true", help="one JSON document on stdout and nothing else")
    group.add_argument("--resize", metavar="PIXELS", help="shorter side (or H,W), none = no resizing")
    group.add_argument("--crop", metavar="PIXELS", help="central square (or H,W), none = no crop")
    group.add_argument("--mean", nargs="+", metavar="X", help="per channel, of pixels in [0, 1]")
    group.add_argument("--std", nargs="+", metavar="X")
    group.add_argument("--interpolation", default=None, help="of --resize: bilinear (default), bicubic, nearest")


def add_data(parser: argparse.ArgumentParser) -> None:
    group = add_images(parser)
    group.add_argument(
        "--metric", required=True, help="accuracy | recall:CLASS | subgroup-recall:COLUMN[,COLUMN…] | attack-success"
    )
    group.add_argument("--constants", metavar="FILE", help="mean constants of several parties (`constants merge`)")
    group.add_argument("--guard", metavar="ZIP", help="a second set on which the clean-drop limit must hold too")
    add_split_folder(group, "guard-")
    add_attack(parser)


def add_further(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="METRIC",
        help="value this too, on the same evaluations; may be repeated: a metric, subgroup:COLUMN=VALUE, classes, "
        "subgroups, or all",
    )


def add_attacked_data(parser: argparse.ArgumentParser) -> None:
    """Images and adversaries of the attack verb, whose metric is given."""
    group = add_images(parser)
    group.add_argument("--all-images", action="store_true", help="attack all of them, not the report split")
    group.add_argument("--repaired", metavar="FILE", help="the checkpoint that repair wrote: the rows before and after")
    add_attack(parser)
    add_adversaries(parser)


def add_images(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Images, their splits, and what replaces a filter's output."""
    group = parser.add_argument_group("data")
    group.add_argument("--data", required=True, metavar="ZIP", help="class/image.png, optionally metadata.csv")
    add_split_folder(group)
    group.add_argument("--group", metavar="COLUMN", help="its values do not cross the splits (patient, writer)")
    group.add_argument("--seed", type=int, default=0)
    group.add_argument("--constant", default="mean", choices=CONSTANTS, help="what an ablated filter's output becomes")
    return group


def add_split_folder(group: argparse._ActionsContainer, of: str = "") -> None:
    """Which part of the zip is read, where it holds splits."""
    group.add_argument(
        f"--{of}split-folder",
        default="",
        metavar="NAME",
        help=f"read this top folder of the {of.rstrip('-') or 'data'} alone (train, test, fold1); none: the top "
        "folders are the classes",
    )


def add_attack(parser: argparse.ArgumentParser) -> None:
    attack = parser.add_argument_group("attack-success")
    attack.add_argument("--attack", default="paper", choices=("paper", "standard"), help="PGD preset")
    attack.add_argument("--norm", choices=NORMS, help="linf (default), or l2: the Euclidean length of the change")
    attack.add_argument("--epsilon", type=float, help="in pixels of [0, 1]; the preset's by default")
    attack.add_argument("--steps", type=int, help="the preset's by default")
    attack.add_argument("--step-size", type=float, metavar="X", help="in pixels of [0, 1]; by default in ratio to ε")
    attack.add_argument("--restarts", type=int, metavar="N", help="random starts, of which any may succeed")
    aim = attack.add_mutually_exclusive_group()
    aim.add_argument("--targeted", action="store_const", const=True, help="at a random other class")
    aim.add_argument("--untargeted", dest="targeted", action="store_const", const=False, help="away from the label")
    attack.add_argument("--random-start", action=argparse.BooleanOptionalAction, help="of PGD; the preset's by default")
    attack.add_argument("--attack-images", type=int, metavar="N", help="most images attacked per split")


def add_adversaries(parser: argparse.ArgumentParser) -> None:
    """What the rows after a repair need beside the attack itself."""
    group = parser.add_argument_group("other adversaries")
    group.add_argument(
        "--surrogate",
        action="append",
        default=[],
        metavar="FILE:ARCHITECTURE[:NUM_CLASSES]",
        help="a model to make transfer attacks on; ,mean=M/M/M,std=S/S/S where its normalization differs",
    )
    group.add_argument(
        "--queries",
        type=int,
        default=DEFAULT_QUERIES,
        metavar="N",
        help=f"of the black-box attack, per image (default: {DEFAULT_QUERIES}; 0 = none)",
    )
    group.add_argument("--subset", type=int, metavar="N", help="most images for what is costly: queries, curves")


def add_estimation(parser: argparse.ArgumentParser, repair: bool) -> None:
    group = parser.add_argument_group("estimation")
    group.add_argument("--estimator", choices=ESTIMATORS, default=DEFAULT_ESTIMATOR)
    group.add_argument("--top-k", type=int, default=20, metavar="K", help="what tmab tells from the rest")
    group.add_argument("--side", choices=("top", "bottom", "both"), help="default: the end where culprits are")
    group.add_argument(
        "--budget", type=int, metavar="EVALUATIONS", help="images × coalitions; default: about 5 minutes"
    )
    group.add_argument("--minutes", type=float, metavar="M", help="in the place of a budget: one that ends within M")
    group.add_argument(
        "--quality",
        metavar="K,OVERLAP",
        help="fast: stop when it expects this share of the true top (bottom) K found, at the latest at the budget",
    )
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="of the search: bfloat16 is faster where the processor has it, and is given up where predictions differ",
    )
    group.add_argument(
        "--memory",
        metavar="SIZE",
        help="that the run may take, such as 2G (the default on a CPU) or 1500M; changes no figure",
    )
    group.add_argument("--batch-size", type=int, metavar="IMAGES", help="images per draw; default: by the budget")
    group.add_argument("--depth", type=int, metavar="N", help="most filters removed in a draw; default: learned")
    if repair:
        limits = Limits()
        group = parser.add_argument_group("limits")
        group.add_argument("--max-clean-drop", type=float, default=limits.max_clean_drop, metavar="X")
        group.add_argument("--max-subgroup-drop", type=float, default=limits.max_subgroup_drop, metavar="X")
        group.add_argument("--max-filters", type=int, default=limits.max_filters, metavar="N")
        group.add_argument(
            "--order",
            choices=ORDERS,
            default=limits.order,
            help="of removal: by value only, or also stepwise, whichever does better on the select images (auto)",
        )
        group.add_argument(
            "--choose",
            choices=CHOICES,
            default=limits.choose,
            help="how many filters: the best on the select images, or the fewest within one standard error of it",
        )


def add_explanation(parser: argparse.ArgumentParser) -> None:
    """What `explain` shows beside the values."""
    default = Explain()
    group = parser.add_argument_group("explanation")
    group.add_argument(
        "--remove", type=int, default=default.remove, metavar="N", help="filters removed from the most critical end"
    )
    group.add_argument("--random-draws", type=int, default=default.draws, metavar="N", help="random orders of removal")
    group.add_argument(
        "--curve-images", type=int, metavar="N", help="most report images for the curves; default: by the budget"
    )
    group.add_argument(
        "--pictures", type=int, default=default.pictures, metavar="N",
        help="filters from each end that are shown by their most extreme score images (0 = none)",
    )  # fmt: skip
    group.add_argument(
        "--visualize", type=int, default=default.visualize, metavar="N",
        help="filters from each end for which an image is optimized (0 = none)",
    )  # fmt: skip


def _quality_of(text: str | None) -> tuple[int, float] | None:
    """K and the overlap of `--quality K,OVERLAP`. Raises BadInput."""
    if text is None:
        return None
    try:
        k, overlap = text.split(",")
        found = int(k), float(overlap)
    except ValueError:
        raise BadInput(f"--quality {text!r}: it is K,OVERLAP.", "For example --quality 50,0.9.") from None
    if found[0] < 1:
        raise BadInput(f"--quality {text!r}: K counts filters, at least one.", "For example --quality 50,0.9.")
    return found


def architecture_of(args: argparse.Namespace) -> Architecture:
    """What the options say (`opening.architecture_of`); from then on `args.model` is the weights in a folder."""
    if getattr(args, "made_by", None) is None:
        args.made_by, file = opening.architecture_of(
            args.model,
            args.architecture,
            args.num_classes,
            parse_options(args.arch_option),
            parse_register(args.register),
            args.key,
            args.strip_prefix,
        )
        args.model = str(file)
    return args.made_by


def preprocessing_of(args: argparse.Namespace) -> Preprocessing | None:
    """What was given, over the torchvision weights' own where only a part was; None where nothing was."""
    given = {
        "resize": None if args.resize is None else _size("--resize", args.resize),
        "crop": None if args.crop is None else _size("--crop", args.crop),
        "mean": _numbers("--mean", args.mean),
        "std": _numbers("--std", args.std),
        "interpolation": args.interpolation,
    }
    architecture = architecture_of(args)
    asked = {key: value for key, value in given.items() if getattr(args, key) is not None}
    whole = {"resize", "crop", "mean", "std"} <= asked.keys()
    in_folder = architecture.config is not None and not whole
    base = hf_models.preprocessing_of(Path(args.model).parent) if in_folder else None
    return preprocessing_from(architecture, asked, base)


def request_of(args: argparse.Namespace) -> RepairRequest:
    """The request that the options describe; the attack verb's metric is attack-success. Raises BadInput."""
    for role in ("model", "data", "guard", "classes", "repaired", "constants"):
        path = getattr(args, role, None)
        if path and role in ("data", "guard"):
            check_not_folder(Path(path), f"--{role}: {path}")
        if path and not Path(path).is_file() and not (role == "model" and Path(path).is_dir()):
            raise BadInput(f"--{role}: there is no file {path}.")
    architecture = architecture_of(args)
    surrogates = [
        parse_surrogate(text, architecture.num_classes, architecture.register)
        for text in getattr(args, "surrogate", [])
    ]
    quality = _quality_of(getattr(args, "quality", None))
    limits = {name: getattr(args, name) for name in vars(Limits()) if hasattr(args, name)}
    return RepairRequest(
        model=args.model,
        data=args.data,
        architecture=architecture,
        metric=Metric.parse(getattr(args, "metric", "attack-success")),
        also=tuple(getattr(args, "also", ())),
        classes=args.classes,
        guard=getattr(args, "guard", None),
        split_folder=getattr(args, "split_folder", ""),
        guard_split_folder=getattr(args, "guard_split_folder", ""),
        group=args.group,
        preprocessing=preprocessing_of(args),
        estimator=getattr(args, "estimator", DEFAULT_ESTIMATOR),
        top_k=quality[0] if quality else getattr(args, "top_k", 20),
        side=getattr(args, "side", None),
        budget=getattr(args, "budget", None),
        minutes=getattr(args, "minutes", None),
        overlap=quality[1] if quality else None,
        precision=getattr(args, "precision", "float32"),
        memory=None if getattr(args, "memory", None) is None else parse_memory(args.memory),
        batch_size=getattr(args, "batch_size", None),
        constant=args.constant,
        by_hand=tuple(part.strip() for part in (getattr(args, "filters", None) or "").split(",") if part.strip()),
        constants=getattr(args, "constants", None),
        compact=getattr(args, "compact", False),
        depth=getattr(args, "depth", None),
        limits=Limits(**limits),
        attack=_attack_of(args),
        attack_images=getattr(args, "attack_images", None),
        surrogates=tuple(surrogates),
        queries=getattr(args, "queries", DEFAULT_QUERIES),
        subset=getattr(args, "subset", None),
        seed=args.seed,
        weights=args.weights,
        device=device_of(args.device),
    )


def _attack_of(args: argparse.Namespace) -> AttackSettings:
    if not hasattr(args, "attack"):  # a verb that attacks nothing
        return AttackSettings.of("paper")
    return AttackSettings.of(
        args.attack,
        args.epsilon,
        args.steps,
        norm=args.norm,
        step=args.step_size,
        restarts=args.restarts,
        targeted=args.targeted,
        random_start=args.random_start,
        zero=args.verb == "attack",
    )


def _numbers(option: str, values: Sequence[str] | None) -> tuple[float, ...]:
    if values is None:
        return ()
    try:
        found = tuple(float(v) for text in values for v in text.replace(",", " ").split())
        if not found:
            raise ValueError
        return found
    except ValueError:
        raise BadInput(f"{option} takes one number per channel, such as 0.485 0.456 0.406; got {values}.") from None


def _size(option: str, text: str) -> int | tuple[int, int] | None:
    if text.lower() in ("none", "0"):
        return None
    parts = text.replace("x", ",").split(",")
    if not all(p.strip().isdecimal() for p in parts) or len(parts) > 2:
        raise BadInput(f"{option} takes pixels, such as 224 or 224,224, or none; got {text!r}.")
    sizes = [int(p) for p in parts]
    return sizes[0] if len(sizes) == 1 else (sizes[0], sizes[1])
