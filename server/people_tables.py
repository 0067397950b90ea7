"""The tables of who the people are: the hospitals, Table 1 of each, and how a model does in kinds of people."""

from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

from server.arms import CENTRAL, place_name
from server.results import Results
from server.tables import ABSENT, Cell, Table, TableRow, count, number, p_range, p_value, rule_name, share, texts

HIDDEN = "hidden"
TOO_FEW = "too few"
MOST_COHORTS = 4
TESTS = {"t": "Welch", "mann_whitney": "Mann-Whitney", "chi_square": "χ²", "fisher": "Fisher"}
SPELT = {"bmi": "BMI", "hdl": "HDL", "ldl": "LDL", "hba1c": "HbA1c", "tsh": "TSH", "vitd 25oh": "25-OH vitamin D"}
SPELT |= {name: name.upper() for name in ("ft3", "ft4", "tt3", "tt4", "crp")}
UNITS = {"/": "_per_", "%": "percent", "°": "deg"}


def sites(results: Results) -> Table:
    """Each hospital's participants, images, devices and reference standard; without images, nothing of these."""
    rows = []
    people = dict(results.meta.sites) | ({CENTRAL: results.meta.central} if results.meta.central else {})
    pictures = bool(results.images) or any(facts.images for facts in people.values())
    for name, facts in people.items():
        each = f"{facts.images / facts.participants:.1f}" if facts.images and facts.participants else ABSENT
        split = " / ".join(count(part) for part in (facts.train, facts.validation, facts.test))
        split = split if name != CENTRAL else "test only"
        counts = count(facts.participants), share(facts.positives, facts.participants)
        seen = (count(facts.images), each) if pictures else ()
        devices = (", ".join(facts.devices) or ABSENT,) if pictures else ()
        words = _missing(facts.missing), *devices, rule_name(facts.label_rule)
        rows.append(TableRow(texts(place_name(name), *counts, *seen, split, *words)))
    head = ("Place", "Partici­pants", f"With {results.condition}", *(("Images", "Images each") if pictures else ()))
    words_head = ("Train / valid. / test", "Missing values", *(("Devices",) if pictures else ()), "Reference standard")
    caption = "The people and their images." if pictures else "The people."
    return Table(caption, head + words_head, tuple(rows), text=(7, 8) if pictures else (5,))


def _missing(value: Any) -> str:
    if isinstance(value, Mapping):
        return count(sum(part for part in value.values() if isinstance(part, int | float)))
    return count(value) if isinstance(value, int | float) else str(value or ABSENT)


def variable_name(results: Results, name: str) -> str:
    """A feature's name for people, with its unit."""
    features = results.meta.study.get("features") or ()
    unit = next((str(f.get("unit") or "") for f in features if isinstance(f, dict) and f.get("name") == name), "")
    suffix = unit.lower()
    for sign, word in UNITS.items():
        suffix = suffix.replace(sign, word)
    words = name.removesuffix(f"_{suffix}").replace("_", " ") if suffix else name.replace("_", " ")
    return SPELT.get(words, words.capitalize()) + (f", {unit}" if unit else "")


# --- baseline ---------------------------------------------------------------------------------------------------------


def baseline(results: Results) -> Table:
    """Table 1 of the hospitals side by side, of the run's first seed: positives, negatives, P."""
    by_seed = results.tables.get("baseline") or {}
    seed = min(by_seed, key=_as_number, default="")
    cohorts = {site: found for site, found in (by_seed.get(seed) or {}).items() if found}
    shown = dict(list(cohorts.items())[:MOST_COHORTS])
    lines = dict.fromkeys((row["variable"], row["level"]) for found in shown.values() for row in found)
    named = {site: {(row["variable"], row["level"]): row for row in found} for site, found in shown.items()}
    rows = []
    for variable, level in lines:
        name = variable_name(results, variable) + (f": {level}" if level not in ("", "yes") else "")
        cells = [cell for site in shown for cell in _baseline_cells(named[site].get((variable, level)))]
        rows.append(TableRow((Cell(name), *cells)))
    head = [part for site in shown for part in (f"{place_name(site)}, with", f"{place_name(site)}, without", "P")]
    of_seed = f" Seed {seed}." if len(by_seed) > 1 else ""
    rest = f" {len(shown)} of {len(cohorts)} cohorts." if len(cohorts) > MOST_COHORTS else ""
    caption = (
        f"Those with {results.condition} beside those without.{of_seed}{rest} Mean (SD) with Welch's test "
        "where both groups look normal, else median [quartiles] with Mann-Whitney; n (%) with χ² or Fisher's exact "
        "test."
    )
    return Table(caption, ("", *head), tuple(rows))


def _as_number(seed: str) -> int:
    return int(seed) if seed.isdigit() else 0


def _baseline_cells(row: dict[str, Any] | None) -> Iterator[Cell]:
    if row is None:
        yield from texts(ABSENT, ABSENT, ABSENT)
        return
    for group, missing in zip(("positive", "negative"), row.get("missing") or (0, 0), strict=True):
        words, below = _baseline_words(row.get(group))
        yield Cell(words, tuple(line for line in (below, f"{missing} missing" if missing else "") if line))
    p, test = row.get("p"), TESTS.get(row.get("test") or "", "")
    yield Cell(p_value(p), (test,)) if p is not None else Cell("")


def _baseline_words(found: dict[str, Any] | None) -> tuple[str, str]:
    """What is read first, and the line beneath it."""
    if found is None:
        return HIDDEN, ""
    if "mean" in found:
        return f"{_short(found['mean'])} ({_short(found['sd'])})", ""
    if "median" in found:
        return _short(found["median"]), f"[{_short(found['q1'])}, {_short(found['q3'])}]"
    return (HIDDEN if found.get("count") is None else share(found["count"], found.get("known"))), ""


def _short(value: float | None) -> str:
    """Three digits that matter."""
    if value is None:
        return ABSENT
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return number(value, digits)


# --- kinds of people --------------------------------------------------------------------------------------------------


def subgroups(results: Results) -> Table:
    """AUC in each kind of people, and the difference from the kind with most people; means over seeds."""
    of_arm = results.tables.get("subgroups") or {}
    arm = results.lead if results.lead in of_arm else next(iter(of_arm), "")
    by_seed = list((of_arm.get(arm) or {}).values())
    rows: list[TableRow] = []
    silent = []
    for variable in dict.fromkeys(found["variable"] for of_seed in by_seed for found in of_seed):
        each = [found for of_seed in by_seed for found in of_seed if found["variable"] == variable]
        if not any(level.get("auc") for found in each for level in found["levels"]):
            silent.append(variable_name(results, variable))
            continue
        rows.append(TableRow(divider=variable_name(results, variable)))
        levels = dict.fromkeys(level["level"] for found in each for level in found["levels"])
        rows += [_subgroup_row(level, each) for level in levels]
    head = (
        "Kind of people",
        "Partici­pants",
        f"With {results.condition}",
        "AUC",
        "Difference from reference",
        "P (Holm)",
    )
    caption = (
        f"{results.arm_name(arm)}, by kind of people. A kind with fewer than ten people of either class has "
        "no AUC; the reference is the kind with most people. All differences are one family."
        + f" Too few people of every kind: {'; '.join(silent)}."
        * bool(silent)
    )
    return Table(caption, head, tuple(rows))


def _subgroup_row(level: str, each: list[dict[str, Any]]) -> TableRow:
    kinds = [kind for found in each for kind in found["levels"] if kind["level"] == level]
    aucs = [kind["auc"] for kind in kinds if kind.get("auc")]
    first = kinds[0]
    sizes = [HIDDEN if first.get(key) is None else count(first[key]) for key in ("participants", "events")]
    tested = [found["interactions"][level] for found in each if level in (found.get("interactions") or {})]
    reference = any(found.get("reference") == level for found in each)
    apart = _mean_cell([c["difference"] for c in tested], signed=True) or Cell("reference" if reference else ABSENT)
    p = p_range(c["p_holm"] for c in tested if c.get("p_holm") is not None)
    auc = _mean_cell(aucs) or Cell(TOO_FEW)
    return TableRow((Cell(level), *texts(*sizes), auc, apart, Cell(p)))


def _mean_cell(estimates: list[dict[str, float]], *, signed: bool = False) -> Cell | None:
    if not estimates:
        return None
    value, low, high = (fmean(e[end] for e in estimates) for end in ("value", "low", "high"))
    limits = f"{number(low, 3, signed=signed)} to {number(high, 3, signed=signed)}"
    return Cell(number(value, 3, signed=signed), (limits,))
