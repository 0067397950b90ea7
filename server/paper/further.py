"""What stands beside the four tables: the image networks, the shares, the heat maps, and training across hospitals."""

from collections.abc import Iterator, Mapping

from server.arms import NESTED, ArmName, place_name
from server.paper.entries import (
    Entry,
    PaperTable,
    Part,
    inside_text,
    limits_text,
    ours_text,
    over_seeds,
    p_range,
    paper_text,
    seeds_text,
    warnings_of,
)
from server.paper.finished import BEYOND, NOT_RUN, Finished
from server.paper.heat_maps import checks_part, verdicts
from server.paper.published import NETWORK_AUC, NETWORK_P
from server.paper.shares import shares_part, without_part
from server.results import OverSeeds
from server.tables import Cell, Table, TableRow, number

DELONG = "participants; interval: DeLong"
FAMILIES = {"convnext": "ConvNeXt", "swin": "Swin", "efficientnet": "EfficientNet"}
FEDERATED_KINDS = ("federated", "pooled", "local", "without", "pooled_without")


# --- image networks ---------------------------------------------------------------------------------------------------


def networks(runs: Mapping[str, Finished]) -> PaperTable:
    """ConvNeXt, Swin and EfficientNet on ultrasound alone."""
    title = "Image networks, ultrasound alone"
    run = runs.get("architectures") or runs.get("paper")
    arms = _networks(run) if run else {}
    if run is None or (len(arms) < 2 and "architectures" not in runs):
        return PaperTable("networks", title, (NOT_RUN["architectures"],))
    entries: list[Entry] = []
    rows = []
    for family, name in FAMILIES.items():
        arm = arms.get(family)
        ours = run.results.over_seeds(arm, "auc", run.results.home) if arm else None
        label = f"{name} ({_backbone(run, arm)})" if arm else name
        entry = Entry(label, "AUC", DELONG, paper=NETWORK_AUC[family], ours=ours)
        entries.append(entry)
        limits = limits_text(ours.low if ours else None, ours.high if ours else None, 3)
        texts = label, paper_text(entry), ours_text(entry), limits, number(entry.difference, 3, signed=True)
        rows.append(TableRow(tuple(map(Cell, (*texts, inside_text(entry))))))
    p_values = _p_values(run, arms)
    p = Entry("ConvNeXt against Swin", "P", "DeLong, paired", paper=NETWORK_P, ours=_over(p_values), p_value=True)
    entries.append(p)
    note = (
        f"ConvNeXt against Swin: P of the paper {paper_text(p)}, ours {p_range(p_values.values())} (DeLong, lowest to "
        "highest of the seeds). The paper's EfficientNet stands in an appendix that was not at hand."
    )
    head = ("Network", "Paper", "Ours", "95 % interval", "Difference", "Paper inside")
    part = Part(Table("AUC of each network.", head, tuple(rows)), tuple(entries), note)
    return PaperTable("networks", title, (f"Ours: {seeds_text(run.results)}.",), warnings_of(run.results), (part,))


def _networks(run: Finished) -> dict[str, str]:
    """The first arm of each family that sees ultrasound; none is guessed."""
    found: dict[str, str] = {}
    for arm in run.results.compared:
        parts = ArmName.parse(arm)
        candidate = run.results.meta.protocol.candidates.get(parts.variant)
        images_alone = candidate is None or set(candidate.modalities) == {"image"}
        if parts.kind not in ("cv", "federated", "pooled") or parts.variant == NESTED or not images_alone:
            continue
        name = _backbone(run, arm).lower()
        if family := next((family for family in FAMILIES if family in name), None):
            found.setdefault(family, arm)
    return found


def _backbone(run: Finished, arm: str) -> str:
    """A candidate's network, else what the variant is called, else the study's own."""
    variant = ArmName.parse(arm).variant
    candidate = run.results.meta.protocol.candidates.get(variant)
    own = str((run.results.meta.study.get("model") or {}).get("backbone") or "")
    if candidate is not None:
        return candidate.backbone or own
    named = f"{variant} {run.results.meta.titles.get(variant, '')}".strip()
    return named if any(family in named.lower() for family in FAMILIES) else own


def _p_values(run: Finished, arms: Mapping[str, str]) -> dict[int, float]:
    return run.results.p_values(arms["convnext"], arms["swin"]) if {"convnext", "swin"} <= set(arms) else {}


def _over(values: Mapping[int, float]) -> OverSeeds | None:
    return over_seeds({str(seed): value for seed, value in values.items()})


# --- what a decision rests on -----------------------------------------------------------------------------------------


def contributions(runs: Mapping[str, Finished]) -> PaperTable:
    """The numbers of Figure 5: of all participants at A, then of complete cases where they were run."""
    title = "The numbers of Figure 5"
    found = [run for name in ("paper", "complete_cases") if (run := runs.get(name))]
    if not found:
        return PaperTable("figure5", title, (NOT_RUN["paper"],))
    parts = tuple(part for run in found for of in (shares_part, without_part) if (part := of(run)))
    if not parts:
        return PaperTable("figure5", title, ("Not run: the run explains no model of all kinds of data.",))
    results = found[0].results
    return PaperTable("figure5", title, (f"Ours: {seeds_text(results)}.",), warnings_of(results), parts)


def heat_map_checks(run: Finished | None) -> PaperTable:
    """The validity of the heat maps in Figure 6."""
    title = "The heat maps of Figure 6, put to the test"
    if run is None:
        return PaperTable("figure6", title, (NOT_RUN["paper"],))
    part = checks_part(run)
    if part is None:
        return PaperTable("figure6", title, ("Not run: the run holds no heat maps.",))
    return PaperTable("figure6", title, tuple(verdicts(run)), warnings_of(run.results), (part,))


# --- across hospitals -------------------------------------------------------------------------------------------------


def federated(run: Finished | None) -> PaperTable:
    """Federated, pooled and alone; the paper has nothing to stand beside it."""
    title = "Taken further: training across the hospitals"
    if run is None:
        return PaperTable("federated", title, (NOT_RUN["federated"],))
    entries: list[Entry] = []
    rows = []
    for arm, auc, gap in _ways(run):
        entries += [auc, gap]
        limits = (
            limits_text(e.ours.low if e.ours else None, e.ours.high if e.ours else None, 3, signed=signed)
            for e, signed in ((auc, False), (gap, True))
        )
        first, second = limits
        spread = number(auc.ours.sd if auc.ours else None, 3)
        change = number(gap.ours.mean if gap.ours else None, 3, signed=True)
        texts = run.results.arm_name(arm), ours_text(auc), first, spread, change, second
        rows.append(TableRow(tuple(map(Cell, texts)), lead=arm == "federated"))
    head = ("Way of training", "AUC", "95 % interval", "SD of seeds", "Federated minus this", "95 % interval")
    note = "The same held-out people for all ways; the run's own report has all numbers. The paper trains at A alone."
    part = Part(Table("AUC where all ways are compared.", head, tuple(rows)), tuple(entries), note)
    return PaperTable("federated", title, (f"Ours: {seeds_text(run.results)}.",), warnings_of(run.results), (part,))


def _ways(run: Finished) -> Iterator[tuple[str, Entry, Entry]]:
    for arm in run.results.compared:
        if ArmName.parse(arm).kind in FEDERATED_KINDS:
            name = run.results.arm_name(arm)
            found = run.results.over_seeds(arm, "auc", run.results.home)
            gap = None if arm == "federated" else run.results.difference("federated", arm)
            yield (
                arm,
                Entry(name, "AUC", DELONG, ours=found),
                Entry(name, "Federated minus this", "AUC, paired, participants; interval: DeLong", ours=gap),
            )


def beyond(run: Finished) -> PaperTable:
    """The AUCs of an experiment of which the paper has nothing: each way of training at each place."""
    results = run.results
    arms = [arm for arm in results.arms if ArmName.parse(arm).kind != "control"]
    places = [
        place
        for place in dict.fromkeys((results.home, *results.sites))
        if any(results.over_seeds(arm, "auc", place) for arm in arms)
    ]
    entries: list[Entry] = []
    rows = []
    for arm in arms:
        name = results.arm_name(arm)
        found = [
            Entry(f"{name}; {place_name(place)}", "AUC", DELONG, ours=results.over_seeds(arm, "auc", place))
            for place in places
        ]
        rows.append(TableRow((Cell(name), *map(_auc_cell, found))))
        entries += found
    head = ("Way of training", *map(place_name, places))
    note = "AUC with 95 % interval; a dash: this way has no number at this place. The run's own report has the rest."
    part = Part(Table("AUC at each place.", head, tuple(rows)), tuple(entries), note)
    title = f"Taken further: {BEYOND.get(run.protocol, run.protocol)}"
    return PaperTable(run.protocol, title, (f"Ours: {seeds_text(results)}.",), warnings_of(results), (part,))


def _auc_cell(entry: Entry) -> Cell:
    ours = entry.ours
    if ours is None:
        return Cell(ours_text(entry))
    limits = limits_text(ours.low, ours.high, 2)
    spread = f"SD {number(ours.sd, 3)}" if ours.sd is not None else ""
    return Cell(ours_text(entry), tuple(words for words in (limits, spread) if words))
