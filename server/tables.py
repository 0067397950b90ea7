"""The tables of a report: every number with its interval, and over several seeds its spread."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from sarco_models.metrics import holm
from server.figures import arm_name, place_name
from server.results import CENTRAL, ArmFacts, OverSeeds, Results, Row

ABSENT = "–"
RULES = {"awgs2019": "AWGS 2019", "awgs2025": "AWGS 2025", "ewgsop2": "EWGSOP2", "ct_l3_smi": "CT, L3 muscle index"}
COLUMNS = {
    "auc": ("AUC", 3),
    "sensitivity": ("Sensi­tivity", 2),
    "specificity": ("Speci­ficity", 2),
    "accuracy": ("Accuracy", 2),
    "f1_positive": ("F1 positive", 2),
    "f1_macro": ("F1 macro", 2),
    "brier": ("Brier", 3),
    "calibration_intercept": ("Calibration intercept", 2),
    "calibration_slope": ("Calibration slope", 2),
}


@dataclass(frozen=True)
class Cell:
    """What is read first, and the smaller lines beneath it."""

    main: str
    below: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableRow:
    """One line; ``lead`` is set apart, ``divider`` is a heading across all columns instead of cells."""

    cells: tuple[Cell, ...] = ()
    lead: bool = False
    divider: str = ""


@dataclass(frozen=True)
class Table:
    """A table as it is shown; ``text`` names the columns that hold words."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[TableRow, ...]
    text: tuple[int, ...] = ()

    def lines(self) -> list[list[str]]:
        """The table as shown, for a CSV file: what stands beneath a number follows it after a semicolon."""
        head = [name.replace("\N{SOFT HYPHEN}", "") for name in self.head]
        body = [["; ".join((c.main, *c.below)) for c in row.cells] for row in self.rows if row.cells]
        return [head, *body]


def number(value: float | None, digits: int, *, signed: bool = False) -> str:
    """A number with a true minus sign; absent is a dash."""
    if value is None:
        return ABSENT
    rounded = round(value, digits) + 0.0  # no "−0.00"
    return f"{rounded:{'+' if signed and rounded else ''}.{digits}f}".replace("-", "−")


def interval(found: OverSeeds, digits: int, *, signed: bool = False) -> str:
    """The 95 % limits; empty when the run gave none, or when the number has no width (a constant score)."""
    if found.low is None or found.high is None or found.low == found.high:
        return ""
    return f"{number(found.low, digits, signed=signed)} to {number(found.high, digits, signed=signed)}"


def size(num_bytes: float | None) -> str:
    """Bytes in the unit that a person would choose (powers of 1000)."""
    if num_bytes is None:
        return ABSENT
    for unit in ("bytes", "kB", "MB"):
        if abs(num_bytes) < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} GB"


def rule_name(rule: str | None) -> str:
    """A reference standard's name for people."""
    return RULES.get(rule or "", rule or ABSENT)


def _summary(found: OverSeeds | None, digits: int, *, signed: bool = False) -> Cell:
    if found is None:
        return Cell(ABSENT)
    spread = f"SD {found.sd:.{digits}f}" if found.sd is not None else ""
    limits = interval(found, digits, signed=signed)
    return Cell(number(found.mean, digits, signed=signed), tuple(line for line in (limits, spread) if line))


def _texts(*values: str) -> tuple[Cell, ...]:
    return tuple(Cell(value) for value in values)


def _count(value: float | None) -> str:
    return ABSENT if value is None else f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _share(part: int | None, whole: int | None) -> str:
    return _count(part) + (f" ({100 * part / whole:.0f} %)" if part is not None and whole else "")


# --- results ----------------------------------------------------------------------------------------------------------


def comparison(results: Results) -> Table:
    """Every arm on the central test people, the negative controls beneath."""
    rows: list[TableRow] = []
    for arm in results.arms:
        cells = [_summary(results.over_seeds(arm, metric), digits) for metric, (_, digits) in COLUMNS.items()]
        if all(cell.main == ABSENT for cell in cells):
            continue
        if arm.startswith("control") and not any(row.divider for row in rows):
            rows.append(TableRow(divider="Negative controls: simple guesses that a useful model must beat"))
        rows.append(TableRow((Cell(arm_name(arm)), *cells), lead=arm == "federated"))
    found = next((f for arm in results.arms if (f := results.over_seeds(arm, "auc"))), None)
    people = f" ({found.n} participants, {found.n_positive} with sarcopenia)" if found and found.n else ""
    head = ("Way of training", *(name for name, _ in COLUMNS.values()))
    return Table(f"Table 1. The same central test people{people} for every way of training.", head, tuple(rows))


def differences(results: Results) -> Table:
    """Paired differences in AUC: the federated model against each other way first, adjusted as one family."""
    adjusted = primary_p_values(results)
    rows: list[TableRow] = []
    for first, second in _pairs(results):
        found = results.difference(first, second)
        if found is None:
            continue
        primary = first == "federated" and second in adjusted
        if not primary and not any(row.divider for row in rows):
            rows.append(TableRow(divider="Further comparisons, P not adjusted"))
        numbers = number(found.mean, 3, signed=True), interval(found, 3, signed=True) or ABSENT, number(found.sd, 3)
        p = _p_range(results.p_values(first, second).values())
        holms = _p_range(adjusted[second].values()) if primary else ABSENT
        rows.append(TableRow(_texts(f"{arm_name(first)} against {arm_name(second)}", *numbers, p, holms)))
    head = ("Comparison", "Difference in AUC", "95 % interval", "SD over seeds", "P (DeLong)", "P (Holm)")
    return Table("Table 2. Differences between ways of training, on the same people.", head, tuple(rows))


def _pairs(results: Results) -> Iterator[tuple[str, str]]:
    """The federated model against everything, then the trained models against each other."""
    arms = [arm for arm in results.arms if results.over_seeds(arm, "auc")]
    for index, first in enumerate(arms):
        for second in arms[index + 1 :]:
            if first == "federated" or not second.startswith("control"):
                yield first, second


def primary_p_values(results: Results) -> dict[str, dict[int, float]]:
    """P of the federated model against pooled and against each hospital alone, by arm and seed, after Holm."""
    family = [arm for arm in results.arms if arm.split(":")[0] in ("pooled", "local")]
    raw = {arm: p for arm in family if (p := results.p_values("federated", arm))}
    adjusted: dict[str, dict[int, float]] = {arm: {} for arm in raw}
    for seed in results.seeds:
        tested = [arm for arm in raw if seed in raw[arm]]
        for arm, value in zip(tested, holm([raw[arm][seed] for arm in tested]), strict=True):
            adjusted[arm][seed] = value
    return adjusted


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _p_range(values: Iterable[float]) -> str:
    shown = sorted(values)
    if not shown:
        return ABSENT
    least, most = _p(shown[0]), _p(shown[-1])
    return least if least == most else f"{least} to {most}"


def each_seed(results: Results) -> Table:
    """Every seed's own numbers with its own intervals."""
    rows = []
    for arm in results.arms:
        for row in results.final(arm, "auc"):
            threshold = next((r for r in results.final(arm, "threshold") if r.seed == row.seed), None)
            cells = [_own(results, arm, metric, row.seed) for metric in ("auc", "sensitivity", "specificity", "brier")]
            at = number(threshold.value if threshold else None, 3)
            rows.append(TableRow((*_texts(arm_name(arm), str(row.seed)), *cells, *_texts(at))))
    head = ("Way of training", "Seed", "AUC", "Sensitivity", "Specificity", "Brier", "Frozen threshold")
    return Table("Table 6. Central test people, seed by seed, each with its own 95 % interval.", head, tuple(rows))


def _own(results: Results, arm: str, metric: str, seed: int) -> Cell:
    row: Row | None = next((r for r in results.final(arm, metric) if r.seed == seed), None)
    if row is None:
        return Cell(ABSENT)
    known = row.ci_low is not None and row.ci_high is not None and row.ci_low < row.ci_high
    limits = f" ({number(row.ci_low, 3)} to {number(row.ci_high, 3)})" if known else ""
    return Cell(number(row.value, 3) + limits)


# --- who learned from whom --------------------------------------------------------------------------------------------


def sites(results: Results) -> Table:
    """Each hospital's participants, images, devices and reference standard."""
    rows = []
    people = dict(results.meta.sites) | ({CENTRAL: results.meta.central} if results.meta.central else {})
    for name, facts in people.items():
        each = f"{facts.images / facts.participants:.1f}" if facts.images and facts.participants else ABSENT
        split = " / ".join(_count(part) for part in (facts.train, facts.validation, facts.test))
        split = split if name != CENTRAL else "test only"
        counts = _count(facts.participants), _share(facts.positives, facts.participants), _count(facts.images), each
        words = _missing(facts.missing), ", ".join(facts.devices) or ABSENT, rule_name(facts.label_rule)
        rows.append(TableRow(_texts(place_name(name), *counts, split, *words)))
    head = ("Place", "Partici­pants", "With sarcopenia", "Images", "Images each", "Train / valid. / test")
    words_head = ("Missing values", "Devices", "Reference standard")
    return Table("Table 3. The people and their images.", head + words_head, tuple(rows), text=(7, 8))


def _missing(value: Any) -> str:
    if isinstance(value, Mapping):
        numbers = [part for part in value.values() if isinstance(part, int | float)]
        return _count(sum(numbers))
    return _count(value) if isinstance(value, int | float) else str(value or ABSENT)


def arms(results: Results) -> Table:
    """What each way of training was given."""
    rows = []
    for arm in results.meta.arms:
        facts = results.arm_facts(arm)
        if not facts:
            continue
        trained_on = ", ".join(place_name(site) for site in facts[0].trained_on) or ABSENT
        counts = [_count(_mean(facts, key)) for key in ("participants", "images", "rounds")]
        seconds, threshold, prevalence = (_mean(facts, key) for key in ("seconds", "threshold", "training_prevalence"))
        prevalence_text = ABSENT if prevalence is None else f"{100 * prevalence:.0f} %"
        measured = _count(seconds), number(threshold, 2), prevalence_text
        rows.append(TableRow(_texts(arm_name(arm), trained_on, *counts, *measured), lead=arm == "federated"))
    head = ("Way of training", "Trained on", "Training participants", "Images", "Rounds", "Seconds")
    more = ("Frozen threshold", "Training prevalence")
    return Table(
        "Table 4. What each way of training was given (means over seeds).", head + more, tuple(rows), text=(1,)
    )


def _mean(facts: list[ArmFacts], key: str) -> float | None:
    values = [value for fact in facts if (value := getattr(fact, key)) is not None]
    return fmean(values) if values else None


def traffic(results: Results) -> Table:
    """Bytes that moved between the coordinator and all hospitals, per round and in all."""
    rows = []
    for arm in results.meta.arms:
        facts = results.arm_facts(arm)
        down, up, rounds = (_mean(facts, key) for key in ("bytes_down", "bytes_up", "rounds"))
        if not down and not up:
            continue
        per_round = [size(total / rounds) if total is not None and rounds else ABSENT for total in (down, up)]
        total = size((down or 0) + (up or 0))
        rows.append(TableRow(_texts(arm_name(arm), _count(rounds), *per_round, size(down), size(up), total)))
    head = ("Way of training", "Rounds", "Down, each round", "Up, each round", "Down", "Up", "In all")
    caption = (
        "Table 5. Bytes moved, all hospitals together (down: to the hospitals; up: to the coordinator; mean of seeds)."
    )
    return Table(caption, head, tuple(rows))


# --- versions and settings --------------------------------------------------------------------------------------------


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
    rows = tuple(TableRow(_texts(name, value or ABSENT)) for name, value in facts.items())
    return Table("Table 7. Where the numbers come from.", ("", ""), rows, text=(0, 1))


def settings(results: Results) -> Table:
    """The whole study file."""
    rows = tuple(TableRow(_texts(key, value)) for key, value in _flat(results.meta.study))
    return Table("Table 8. The study file.", ("Setting", "Value"), rows, text=(0, 1))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            lines += _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            items = [str(item.get("name", item)) if isinstance(item, Mapping) else str(item) for item in value]
            lines.append((prefix + key, ", ".join(items) or ABSENT))
        else:
            lines.append((prefix + key, ABSENT if value is None else str(value)))
    return lines
