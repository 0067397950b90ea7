"""The tables of a comparison that finds muscles; every number with its interval, and what cannot be said as a dash."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sarco_models.intervals import Estimate
from server.arms import CENTRAL, place_name
from server.measured import Agreed, agreed
from server.muscle_run import MuscleRun
from server.muscle_scores import EVERYWHERE
from server.muscle_table import Joined, joined
from server.tables import ABSENT, Cell, Table, TableRow, count, number, p_value, summary, texts

MEASURED = {
    "dice": ("Dice", 3, False),
    "iou": ("IoU", 3, False),
    "hd95_mm": ("HD95, mm", 1, False),
    "assd_mm": ("ASSD, mm", 2, False),
    "thickness_error_mm": ("Thickness error, mm", 2, True),
    "area_error_cm2": ("Area error, cm²", 2, True),
}
"""Heading, decimals, and whether it has a sign (found minus drawn)."""

SIZES = {
    "thickness_mm": ("Thickness, mm", 2),
    "csa_cm2": ("Area, cm²", 2),
    "echo_intensity": ("Echo intensity, grey levels", 1),
}
OUTCOMES = {
    "age_years": ("Age, years", 0),
    "male": ("Men, share", 2),
    "fat_free_mass_kg": ("Fat-free mass, kg", 1),
    "muscle_mass_kg": ("Muscle mass, kg", 1),
    "sit_to_stand_s": ("Five chair stands, s", 1),
}
NOT_DRAWN = "nobody drew it there"


def place(site: str) -> str:
    """A place in words."""
    return "All who were held out" if site == EVERYWHERE else place_name(site)


def dice(run: MuscleRun, site: str) -> Table:
    """Each arm and muscle at one place."""
    rows = []
    for arm in run.arms:
        cells = [run.dice(arm, muscle, site) for muscle in run.titles]
        if not any(cells):
            continue
        shown = [
            Cell(found.main, (*found.below, NOT_DRAWN)) if run.untrained(arm, muscle) else found
            for muscle, found in zip(run.titles, (summary(cell, 3) for cell in cells), strict=True)
        ]
        mean = [summary(run.dice(arm, "", site), 3)] if len(run.titles) > 1 else []
        rows.append(TableRow((Cell(run.results.arm_name(arm)), *mean, *shown), lead=arm == run.lead))
    people = next((f.n for arm in run.arms if (f := run.dice(arm, "", site)) and f.n), None)
    of = f", {people} participants" if people else ""
    caption = f"Dice, mean over participants with its 95 % interval. {place(site)}{of}.{_over_seeds(run)}"
    return Table(caption, ("Way of training", *_mean_head(run), *run.titles.values()), tuple(rows))


def differences(run: MuscleRun, measure: str = "dice") -> Table:
    """The lead minus every other arm, the same people."""
    name, digits, _ = MEASURED[measure]
    rows = []
    for arm in run.others():
        groups = ([""] if len(run.titles) > 1 else []) + list(run.titles)
        found = [run.difference(run.lead, arm, muscle, measure, run.home) for muscle in groups]
        if any(found):
            words = f"{run.results.arm_name(run.lead)} minus {run.results.arm_name(arm)}"
            rows.append(TableRow((Cell(words), *(summary(one, digits, signed=True) for one in found))))
    caption = f"{name}: differences between ways of training on the same participants, with their 95 % intervals. "
    caption += f"{place(run.home)}.{_over_seeds(run)}"
    return Table(caption, ("", *_mean_head(run), *run.titles.values()), tuple(rows))


def measures(run: MuscleRun) -> Table:
    """All measures of the lead's muscles where arms are compared."""
    said = run.analysis(site=run.home)[0]
    seen = {(row["muscle"], row["measure"]): row for row in said if row.get("statistic") == "images"}
    rows = []
    for muscle, title in run.titles.items():
        found = [run.value(run.lead, name, muscle, run.home) for name in MEASURED]
        if not any(found):
            continue
        cells = [summary(one, d, signed=s) for one, (_, d, s) in zip(found, MEASURED.values(), strict=True)]
        marks = [_count(seen.get((muscle, word))) for word in ("missed", "invented")]
        images = _count(seen.get((muscle, "missed")), "images")
        people = next((one.n for one in found if one), None)
        rows.append(
            TableRow((Cell(title, (f"{count(people)} participants, {images} images",)), *cells, *texts(*marks)))
        )
    caption = (
        f"{run.results.arm_name(run.lead)}, all measures. {place(run.home)}. Errors: found minus drawn. Missed: images "
        f"on which it is drawn and nothing was found; invented: the other way round.{_over_seeds(run)}"
    )
    head = ("Muscle", *(name for name, _, _ in MEASURED.values()), "Missed", "Invented")
    return Table(caption, head, tuple(rows))


def plan(run: MuscleRun) -> Table:
    """Networks that the hospitals planned before training: each number, and the statistic and rule it follows from."""
    rows = []
    for variant, by_seed in run.table.get("plans", {}).items():
        name = run.results.meta.titles.get(variant) or variant or "The study"
        for seed, made in by_seed.items():
            sites = ", ".join(place(site) for site in made["sites"])
            rows.append(TableRow(divider=f"{name}, seed {seed}: from the sums of {sites}"))
            rows += [TableRow(texts(why["what"], str(why["value"]), why["because"])) for why in made["why"]]
            rows += [TableRow(texts("To be looked at", "", warning)) for warning in made["warnings"]]
    caption = "What the hospitals planned of nnU-Net's network before they trained it, by five sums each."
    return Table(caption, ("", "Value", "Because"), tuple(rows), text=(0, 1, 2))


def by_hospital(run: MuscleRun, measure: str = "dice") -> Table:
    """The lead at every place."""
    name, digits, signed = MEASURED[measure]
    rows = []
    for site in [*run.results.sites, CENTRAL, EVERYWHERE]:
        found = [run.value(run.lead, measure, muscle, site) for muscle in run.titles]
        if any(found):
            cells = [
                Cell(one.main, (*one.below, f"n = {count(value.n)}")) if value else one
                for one, value in ((summary(value, digits, signed=signed), value) for value in found)
            ]
            rows.append(TableRow((Cell(place(site)), *cells), lead=site == EVERYWHERE))
    caption = (
        f"{run.results.arm_name(run.lead)}, {name}, place by place; n participants. A dash: the hospital did not draw "
        f"the muscle.{_over_seeds(run)}"
    )
    return Table(caption, ("Held-out people of", *run.titles.values()), tuple(rows))


def people(run: MuscleRun) -> Table:
    """Who the hospitals' people are, and which muscles were drawn."""
    meta, rows = run.results.meta, []
    places: dict[str, Any] = {**meta.sites, **({CENTRAL: meta.central} if meta.central else {})}
    described = run.table.get("people", {})
    known = [c for c in OUTCOMES if any(d.get(c, {}).get("mean") is not None for d in described.values())]
    for site, facts in places.items():
        drawn = run.table.get("drawn", {}).get(site, {})
        named = "; ".join(f"{run.titles.get(m, m)} {n}" for m, n in drawn.items() if n)
        parts = "–" if site == CENTRAL else f"{count(facts.train)} / {count(facts.validation)} / {count(facts.test)}"
        cells = [_spread(described.get(site, {}).get(c), OUTCOMES[c][1]) for c in known]
        words = "all muscles, nobody trains on them" if site == CENTRAL else named or ABSENT
        machines = ", ".join(facts.devices) or "not said by the images" if site != CENTRAL else ABSENT
        head = Cell(place(site), (f"{count(facts.participants)} participants", f"{count(facts.images)} images"))
        rows.append(TableRow((head, *texts(parts, *cells, words, machines))))
    head_ = (
        "",
        "Train / validate / test",
        *(OUTCOMES[c][0] for c in known),
        "Drawn (training participants)",
        "Machines",
    )
    caption = "Who is in it: mean (standard deviation); numbers are participants."
    return Table(caption, head_, tuple(rows), text=(len(head_) - 2, len(head_) - 1))


def agreement(run: MuscleRun) -> Table:
    """Sizes in found against drawn masks: bias, limits of agreement, ICC."""
    rows: list[TableRow] = []
    said = [r for r in run.analysis()[0] if r["about"] == "agreement"]
    for size, (title, digits) in SIZES.items():
        rows.append(TableRow(divider=title))
        for muscle, name in run.titles.items():
            own = {r["statistic"]: r for r in said if (r["muscle"], r["measure"]) == (muscle, size)}
            if "bias" in own:
                limits = [_limits(own.get(s), digits, signed=True) for s in ("bias", "lower limit", "upper limit")]
                trend = own.get("proportional bias")
                grows = (
                    Cell(number(trend["value"], 2, signed=True), (f"P {p_value(trend['p'])}",))
                    if trend
                    else Cell(ABSENT)
                )
                n = f"{own['bias']['participants']} participants, {own['bias']['images']} images"
                rows.append(TableRow((Cell(name, (n,)), *limits, _limits(own.get("ICC(2,1)"), 3), grows)))
    caption = (
        f"{run.results.arm_name(run.lead)}: sizes in found and in drawn masks of the same images, found minus drawn. "
        f"{place(EVERYWHERE)}{_first_seed(run)}; images of one whole muscle only."
    )
    head = ("Muscle", "Bias", "Lower limit", "Upper limit", "ICC(2,1)", "Bias per unit of size")
    return Table(caption, head, tuple(row for k, row in enumerate(rows) if row.cells or _followed(rows, k)))


def correlations(run: MuscleRun) -> Table:
    """What the paper correlates: ours of found and of drawn sizes, on held-out people, and the paper's."""
    rows = run.analysis()[0]
    found = _by_pair(rows, "correlation")
    drawn = _by_pair(rows, "correlation, drawn")
    lines = []
    for key, own in found.items():
        muscle, size, outcome = key
        plain = own.get("Pearson")
        if plain is None:
            continue
        partial = next((r for s, r in own.items() if s.startswith("Pearson given")), None)
        words = f"{SIZES[size][0].partition(',')[0]} and {OUTCOMES[outcome][0].partition(',')[0].lower()}"
        n = f"{plain['participants']} participants"
        cells = [
            _limits(r, 2, signed=True) for r in (plain, drawn.get(key, {}).get("Pearson"), own.get("Spearman"), partial)
        ]
        lines.append(
            TableRow((Cell(run.titles.get(muscle, muscle), (words, n)), *cells, *texts(plain["paper"] or ABSENT)))
        )
    caption = (
        f"Correlations on held-out participants only{_first_seed(run)}, {run.results.arm_name(run.lead)}; each "
        "person's mean over images; 95 % intervals (Fisher). Given: age and sex held constant. The paper's are of "
        "thickness for the rectus femoris, and of a measure that it does not name for the others."
    )
    head = ("", "Pearson, found", "Pearson, drawn", "Spearman, found", "Given age and sex", "The paper, as printed")
    return Table(caption, head, tuple(lines))


# --- what hospitals may send ------------------------------------------------------------------------------------------


def told(measured: Mapping[str, Mapping[str, float]], titles: Mapping[str, str], site: str = "") -> Table:
    """Each muscle over all hospitals, from the means that they sent; or of one, ``site``."""
    rows = []
    for muscle, title in titles.items():
        own = [found for found in measured.values() if f"{muscle}.dice.n" in found]
        if own:
            each = {name: joined(own, f"{muscle}.{name}") for name in MEASURED}
            dice_ = each["dice"]
            sites = "1 hospital" if len(own) == 1 else f"{len(own)} hospitals"
            head = Cell(title, (f"{count(dice_.n if dice_ else None)} participants of {sites}",))
            rows.append(TableRow((head, *(_told(one, name) for name, one in each.items()))))
    caption = f"{place(site)}, as it told." if site else (
        "Mean and standard deviation over test participants, from each hospital's own mean: no person's number left."
    )  # fmt: skip
    return Table(caption, ("Muscle", *(name for name, _, _ in MEASURED.values())), tuple(rows))


def told_agreement(measured: Mapping[str, Mapping[str, float]], titles: Mapping[str, str]) -> Table:
    """Agreement of sizes over all hospitals, from the sums that they sent."""
    rows = []
    for one in agreed(measured, list(titles)):
        title, digits = SIZES[one.size]
        n = f"{one.participants} participants of {', '.join(place_name(site) for site in one.sites)}"
        head = Cell(f"{titles[one.muscle]}: {title.lower()}", (n,))
        rows.append(TableRow((head, *_estimates(one, digits))))
    caption = (
        "Found against drawn, participants' means, from sums that the hospitals added: the same numbers as if all "
        "people had been in one place."
    )
    return Table(caption, ("Size", "Bias", "Lower limit", "Upper limit", "ICC(2,1)"), tuple(rows))


def _told(one: Joined | None, measure: str) -> Cell:
    _, digits, signed = MEASURED[measure]
    return Cell(number(one.mean, digits, signed=signed), (f"SD {one.sd:.{digits}f}",)) if one else Cell(ABSENT)


def _estimates(one: Agreed, digits: int) -> Iterator[Cell]:
    for estimate in (one.bias, one.lower, one.upper):
        yield _estimate(estimate, digits, signed=True)
    yield _estimate(one.icc, 3) if one.icc else Cell(ABSENT)


# --- cells ------------------------------------------------------------------------------------------------------------


def _mean_head(run: MuscleRun) -> tuple[str, ...]:
    return ("Mean over muscles",) if len(run.titles) > 1 else ()


def _over_seeds(run: MuscleRun) -> str:
    """What SD is, where there are several seeds."""
    return f" Mean of {len(run.results.seeds)} seeds; SD: between them." if len(run.results.seeds) > 1 else ""


def _first_seed(run: MuscleRun) -> str:
    """Of which people numbers are that no mean over seeds is taken of."""
    return f" of seed {run.results.seeds[0]}" if len(run.results.seeds) > 1 else ""


def _estimate(found: Estimate, digits: int, *, signed: bool = False) -> Cell:
    limits = f"{number(found.low, digits, signed=signed)} to {number(found.high, digits, signed=signed)}"
    return Cell(number(found.value, digits, signed=signed), (limits,))


def _limits(row: Mapping[str, Any] | None, digits: int, *, signed: bool = False) -> Cell:
    if row is None or row.get("value") is None:
        return Cell(ABSENT)
    if row.get("low") is None or row.get("high") is None:
        return Cell(number(row["value"], digits, signed=signed))
    return _estimate(Estimate(row["value"], row["low"], row["high"]), digits, signed=signed)


def _count(row: Mapping[str, Any] | None, name: str = "value") -> str:
    return count(row[name]) if row else ABSENT


def _spread(found: Mapping[str, float | None] | None, digits: int) -> str:
    if not found or found.get("mean") is None:
        return ABSENT
    mean, sd = number(found["mean"], digits), found.get("sd")
    return mean if sd is None or found["mean"] is None or found["mean"] < 1 else f"{mean} ({number(sd, digits)})"


def _by_pair(rows: Sequence[Mapping[str, Any]], about: str) -> dict[tuple[str, str, str], dict[str, Mapping[str, Any]]]:
    found: dict[tuple[str, str, str], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        if row["about"] == about:
            found.setdefault((row["muscle"], row["measure"], row["with"]), {})[row["statistic"]] = row
    return found


def _followed(rows: Sequence[TableRow], k: int) -> bool:
    """Whether a heading has any line beneath it."""
    return k + 1 < len(rows) and bool(rows[k + 1].cells)
