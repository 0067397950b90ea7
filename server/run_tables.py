"""The tables of a run itself: what each arm was given and moved, where the numbers come from, the study file."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from server.arms import place_name
from server.results import ArmFacts, Results
from server.tables import ABSENT, Table, TableRow, count, number, size, texts


def arms(results: Results) -> Table:
    """What each way of training was given."""
    rows = []
    muscles = bool(results.meta.study.get("segmentation"))  # nobody is positive there
    pictures = bool(results.images) or any(f.images for arm in _described(results) for f in results.arm_facts(arm))
    counted = ("participants", "images", "rounds") if pictures else ("participants", "rounds")
    for arm in _described(results):
        facts = results.arm_facts(arm)
        trained_on = ", ".join(place_name(site) for site in facts[0].trained_on) or ABSENT
        counts = [count(_mean(facts, key)) for key in counted]
        seconds, threshold, prevalence = (_mean(facts, key) for key in ("seconds", "threshold", "training_prevalence"))
        prevalence_text = ABSENT if prevalence is None else f"{100 * prevalence:.0f} %"
        labelled = () if muscles else (number(threshold, 2), prevalence_text)
        measured = count(seconds), *labelled
        name = results.arm_name(arm) + (" (scored there only)" if results.personal(arm) else "")
        rows.append(TableRow(texts(name, trained_on, *counts, *measured), lead=arm == results.lead))
    head = ("Way of training", "Trained on", "Training participants", *(("Images",) if pictures else ()))
    more = ("Rounds", "Seconds", *(() if muscles else ("Frozen threshold", "Training prevalence")))
    caption = "What each way of training was given (means over seeds)."
    return Table(caption, head + more, tuple(rows), text=(1,))


def _described(results: Results) -> list[str]:
    """Arms of which the run says what they did, in the report's order."""
    known = [arm for arm in results.meta.arms if results.arm_facts(arm)]
    return [arm for arm in results.arms if arm in known] + [arm for arm in known if arm not in results.arms]


def _mean(facts: list[ArmFacts], key: str) -> float | None:
    values = [value for fact in facts if (value := getattr(fact, key)) is not None]
    return fmean(values) if values else None


def traffic(results: Results) -> Table:
    """Bytes that moved between the coordinator and the hospitals: of one in a round, and of all over the run."""
    rows = []
    for arm in _described(results):
        facts = results.arm_facts(arm)
        down, up, rounds = (_mean(facts, key) for key in ("bytes_down", "bytes_up", "rounds"))
        if not down and not up:
            continue
        form = facts[0].update_form or ABSENT
        one = [size(_mean(facts, key)) for key in ("round_down", "round_up")]
        total = size((down or 0) + (up or 0))
        rows.append(TableRow(texts(results.arm_name(arm), form, count(rounds), *one, size(down), size(up), total)))
    each = "each round and hospital"
    head = ("Way of training", "Updates as", "Rounds", f"Down, {each}", f"Up, {each}", "Down", "Up", "In all")
    caption = (
        "Bytes moved (down: to the hospitals; up: to the coordinator; mean of seeds). What is sent once, such as "
        "frozen layers, is in the sums and not in the rounds."
    )
    return Table(caption, head, tuple(rows), text=(1,))


def provenance(results: Results) -> Table:
    """How to get this report again."""
    meta = results.meta
    memory = size(meta.peak_memory_bytes)
    seconds = ABSENT if meta.seconds is None else f"{meta.seconds:,.0f} s".replace(",", "\N{NARROW NO-BREAK SPACE}")
    facts = {
        "Command": meta.command,
        "Created": meta.created,
        "Seeds": ", ".join(str(seed) for seed in meta.seeds or results.seeds),
        "Study digest (SHA-256)": meta.study_digest,
        "Engine": meta.engine,
        "Cohort": " ".join(part for part in (meta.preset, meta.scale) if part),
        "Took": f"{seconds}, at most {memory} of memory",
        "Versions": ", ".join(f"{package} {version}" for package, version in meta.versions.items()),
    }
    rows = tuple(TableRow(texts(name, value or ABSENT)) for name, value in facts.items())
    return Table("Where the numbers come from.", ("", ""), rows, text=(0, 1))


def settings(results: Results) -> Table:
    """The whole study file."""
    rows = tuple(TableRow(texts(key, value)) for key, value in flat(results.meta.study).items())
    return Table("The study file.", ("Setting", "Value"), rows, text=(0, 1))


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A study's settings in words, by their dotted names."""
    lines: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            lines |= flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            items = [str(item.get("name", item)) if isinstance(item, Mapping) else str(item) for item in value]
            lines[prefix + key] = ", ".join(items) or ABSENT
        else:
            lines[prefix + key] = ABSENT if value is None else str(value)
    return lines
