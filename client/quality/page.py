"""The page of a data check: the verdict first, then what to mend and how, then everything that the site has.

One self-contained file that names nobody: places are rows, names of files are shown only when they are safe, and of the
values of a participant nothing is written but what a finding says.
"""

import base64
import hashlib
import importlib.metadata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from client.quality import inventory
from client.quality.groups import Group, groups
from client.quality.layout import HTML
from client.quality.pictures import CLASSES, FEWEST, MAP_COLUMNS, Album, percent
from client.quality.records import QualityReport
from client.quality.style import CSS, SCRIPT
from client.quality.titles import check_name, rule_name
from sarco_models.errors import Severity

GROUP_BYTES = 900_000
"""Characters of thumbnails in the groups of findings, all together."""

SHEET_BYTES = 500_000
"""Characters of thumbnails on the contact sheet."""

_FEW_GROUPS = 3  # no more are seen at a glance without a table of them, and need no filter
_SEVERITIES: dict[Severity, str] = {"error": "Error", "warning": "Warning", "note": "Note"}
_SECTIONS: dict[Severity, str] = {
    "error": "Errors: must be mended before joining",
    "warning": "Warnings: left out of training, or probably wrong",
    "note": "Notes: worth knowing",
}
_KINDS = {"File": "place", "Row": "row", "Column": "place", "Seen": "words", "Expected": "words", "What to do": "words"}
_PARTS = {
    "findings": "Findings",
    "muscles": "Muscles",
    "values": "Values",
    "missing": "Missing values",
    "devices": "Devices",
    "sheet": "Contact sheet",
    "labels": "Label rules",
    "checks": "What was checked",
    "about": "About this page",
}


@dataclass(frozen=True)
class Verdict:
    """What is read first: may this hospital join, and what is the next step."""

    kind: str
    icon: str
    title: str
    why: str
    next: str


@dataclass(frozen=True)
class Count:
    """A key number, of how many, and the smaller lines beneath it."""

    what: str
    number: str
    of: str = ""
    below: tuple[str, ...] = ()


def page(report: QualityReport) -> str:
    """The report as one HTML page: no request to anywhere, no identifier, equal reports give equal pages."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found = groups(report, Album(GROUP_BYTES))
    tables, images = _tables(report), _images(report)
    checks = [(check_name(name), ran) for name, ran in report.checked.items()]
    rules = _label_rules(report)
    filled = {
        "values": tables["distributions"], "missing": tables["gaps"], "devices": images["devices"],
        "sheet": images["sheets"], "labels": rules, "checks": checks, "muscles": report.muscles,
    }  # fmt: skip
    text = environment.from_string(
        HTML
    ).render(
        report=report,
        policy=_policy(CSS, SCRIPT),
        css=Markup(CSS),  # noqa: S704 - our own constant
        script=Markup(SCRIPT),  # noqa: S704 - our own constant
        verdict=_verdict(report, found),
        counts=_counts(report),
        parts={anchor: words for anchor, words in _PARTS.items() if filled.get(anchor, True)},
        groups=found,
        grades={g.severity for g in found},
        severities=_SEVERITIES,
        sections=_SECTIONS,
        kinds=_KINDS,
        few=_FEW_GROUPS,
        counted=_counted,
        sentence=_sentence,
        rules=rules,
        checks=checks,
        version=version(),
        digest=report.study_digest[:12],
        **tables,
        **images,
    )
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _tables(report: QualityReport) -> dict[str, Any]:
    labelled = len(report.labels) == report.participants
    return {
        "distributions": inventory.distributions(report),
        "fewest": FEWEST,
        "shares": inventory.shares(report),
        "gaps": inventory.gaps(report),
        "gap_labels": ["Positive", "Negative"] if labelled and not report.muscles else [],
        "map_column": _map_column(report.participants),
        "emptiest": inventory.emptiest(report),
    }


def _images(report: QualityReport) -> dict[str, Any]:
    devices, more_devices = inventory.devices(report)
    sheets, not_shown = inventory.contact_sheet(report, Album(SHEET_BYTES))
    return {
        "devices": devices,
        "more_devices": more_devices,
        "sizes": inventory.muscles(report),
        "sheets": sheets,
        "not_shown": not_shown,
    }


# ---- above the findings ----------------------------------------------------------------------------------------------


def _verdict(report: QualityReport, found: Sequence[Group]) -> Verdict:
    errors = [g for g in found if g.severity == "error"]
    places = sum(g.places for g in errors)
    if report.verdict == "cannot check":
        return Verdict(
            "cannot-check",
            "idle",
            "The data could not be checked",
            "Something that every check needs could not be read; the rest was not looked at.",
            "mend what is listed below, and run sarco-site check-data again.",
        )
    if errors:
        things = f"{len(errors)} {'thing' if len(errors) == 1 else 'things'} must be mended first"
        why = f"Found in {_places(places)}. {_rest(found)}".rstrip()
        again = "mend the errors below in your own files, save them, and run sarco-site check-data again."
        return Verdict("errors", "error", things, why, again)
    why = f"Nothing has to be mended. {_rest(found)}".rstrip()
    warned = any(g.severity == "warning" for g in found)
    step = "go through the warnings with someone who knows the data, then join." if warned else "join the federation."
    return Verdict("may-join", "good", "This hospital may join", why, step)


def _rest(found: Sequence[Group]) -> str:
    """How many warnings there are beside the errors, and what they mean."""
    warned = [g for g in found if g.severity == "warning"]
    if not warned:
        return ""
    kinds = "1 kind of warning says" if len(warned) == 1 else f"{len(warned)} kinds of warning say"
    return f"{kinds} what a training run would do without, or what is probably wrong."


def _places(count: int) -> str:
    return f"{_counted(count)} {'place' if count == 1 else 'places'}"


def _counts(report: QualityReport) -> list[Count]:
    if not report.participants:
        return []
    negative, positive = report.usable
    usable = Count("participants usable", _counted(positive + negative), _counted(report.participants))
    if report.muscles:
        return [Count("participants", _counted(report.participants)), usable, *_image_counts(report)]
    classes = [f"{_counted(int((report.labels == k).sum()))} {name}" for name, k in CLASSES.items()]
    unlabelled = int((report.labels < 0).sum())
    below = (" · ".join(classes), *([f"{_counted(unlabelled)} without a label"] if unlabelled else []))
    seen = (f"{_counted(positive)} positive · {_counted(negative)} negative",)
    counts = [Count("participants", _counted(report.participants), below=below), replace(usable, below=seen)]
    return counts + (_image_counts(report) if report.records else [])


def _image_counts(report: QualityReport) -> list[Count]:
    usable = sum(r.usable for r in report.records)
    left = len(report.records) - usable
    masks = sum(bool(r.row.mask) for r in report.records)
    read = usable if report.muscles else sum(r.measures is not None for r in report.records)
    named = len({r.device for r in report.records if r.device})
    unnamed = sum(not r.device for r in report.records if r.facts)
    return [
        Count("images usable", _counted(usable), _counted(len(report.records)),
              (f"{_counted(left)} left out" if left else "none left out",)),
        Count("masks usable", _counted(read), _counted(masks),
              _about_masks(report, len(report.records) - masks)),
        Count("devices named", _counted(named), "", (f"{_counted(unnamed)} images unnamed",) if unnamed else ()),
    ]  # fmt: skip


def _about_masks(report: QualityReport, unnamed: int) -> tuple[str, ...]:
    """How many images name no mask; of a study that finds masks also what became of them."""
    count = Counter(record.origin.source for record in report.records if record.origin)
    told = {
        "images name no mask": unnamed,
        "found by the model": count["found"],
        "shown whole, for want of a good one": count["tissue"],
    }
    return tuple(f"{_counted(number)} {said}" for said, number in told.items() if number)


# ---- what else the page says -----------------------------------------------------------------------------------------


def _label_rules(report: QualityReport) -> list[tuple[str, str, str, str]]:
    return [
        (rule_name(rule), _counted(compared), _counted(agreeing), percent(agreeing, compared))
        for rule, (agreeing, compared) in report.label_rules.items()
    ]


def _map_column(participants: int) -> str:
    if participants <= MAP_COLUMNS:
        return "one participant"
    return f"about {round(participants / MAP_COLUMNS):,} participants, the darker the more of them miss the value"


def _counted(number: int) -> str:
    return f"{number:,}"


def _sentence(words: str) -> str:
    """With a capital and a full stop, unless it begins with the name of a column or a file."""
    first = words.partition(" ")[0].strip(",;:")
    start = words[:1].upper() if first.isalpha() and first.islower() else words[:1]
    return start + words[1:] + ("" if words.endswith((".", "!", "?")) else ".")


def _policy(style: str, script: str) -> str:
    """What a browser may load: the page's own style, script and pictures."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_fingerprint(style)}'; script-src '{_fingerprint(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _fingerprint(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def version() -> str:
    """Which SARCO-FL wrote a page."""
    try:
        return f"SARCO-FL {importlib.metadata.version('sarco-fl')}"
    except importlib.metadata.PackageNotFoundError:
        return "SARCO-FL, run from its source"
