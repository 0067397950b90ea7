"""What a report says in sentences: the finding, what is missing, how to read the tables.

Every sentence is built from what the run holds; a number never stands without its interval.
"""

from sarco_models.heterogeneity import Pooled
from server.arms import CENTRAL, NESTED, ArmName, place_name
from server.comparison_tables import family
from server.forest import SITES_TO_FORETELL, pooled_over_sites
from server.results import OverSeeds, Results
from server.tables import interval, number

# --- the main finding -------------------------------------------------------------------------------------------------


def finding(results: Results) -> list[str]:
    """The result in plain sentences, each number with its interval."""
    if results.cross_validated:
        return _cross_validation(results)
    lead = results.over_seeds(results.lead, "auc", results.home)
    if lead is None:
        return ["This run holds no final result of federated training on the central test people."]
    if results.lead != "federated":
        return _of_many(results, lead)
    hospitals = len(results.sites)
    people = f"{lead.n} people whom no hospital had trained on" if lead.n else "people nobody had trained on"
    sentences = [
        f"Trained together without exchanging a single {'image or ' if results.images else ''}patient record, "
        f"{_hospitals(hospitals)} reached an AUC of {number(lead.mean, 2)} ({limits(lead)}) on {people}.",
        f"That means: given one person with {results.condition} and one without, the model gives the higher "
        f"probability to the one who has it about {100 * lead.mean:.0f} times in 100.{_over_seeds_words(lead)}",
    ]
    return [
        *sentences,
        *_against(results),
        *_variants(results),
        *_tuned(results),
        *_left_out(results),
        *_at_threshold(results),
    ]


def _hospitals(count: int) -> str:
    words = {1: "one hospital", 2: "two hospitals", 3: "three hospitals", 4: "four hospitals", 5: "five hospitals"}
    return words.get(count, f"{count} hospitals")


def limits(found: OverSeeds, *, signed: bool = False) -> str:
    """The 95 % interval in words."""
    ends = interval(found, 2, signed=signed)
    return f"95 % interval {ends}" if ends else "no interval given"


def _over_seeds_words(found: OverSeeds) -> str:
    if found.sd is None:
        return " This is one training run; another seed would give a somewhat different number."
    return f" Over {found.seeds} training runs it lay between {number(found.least, 2)} and {number(found.most, 2)}."


def _of_many(results: Results, lead: OverSeeds) -> list[str]:
    """A run of variants only: nobody was singled out beforehand."""
    trained = {
        arm: found
        for arm in results.compared
        if not ArmName.parse(arm).control and (found := results.over_seeds(arm, "auc", results.home))
    }
    best, worst = (pick(trained, key=lambda arm: trained[arm].mean) for pick in (max, min))
    if len(trained) == 1:
        return [f"{results.arm_name(best)} reached an AUC of {number(lead.mean, 2)} ({limits(lead)})."]
    return [
        f"Of {len(trained)} ways of training, {results.arm_name(best)} has the highest AUC, "
        f"{number(trained[best].mean, 2)} ({limits(trained[best])}), and {results.arm_name(worst)} the lowest, "
        f"{number(trained[worst].mean, 2)} ({limits(trained[worst])}).",
        f"The best of {len(trained)} looks better than it is: part of its lead is luck. The table of differences tells "
        f"which differ from {results.arm_name(results.lead)} by more than chance.",
    ]


def best_alone(results: Results) -> str | None:
    """The hospital whose own model does best on the central test people."""
    alone = {
        arm: f.mean
        for arm in results.arms
        if arm.startswith("local:") and "@" not in arm and (f := results.over_seeds(arm, "auc"))
    }
    return max(alone, key=lambda arm: alone[arm]) if alone else None


def _against(results: Results) -> list[str]:
    sentences = []
    best = best_alone(results)
    if best and (auc := results.over_seeds(best, "auc")):
        named = f"{results.arm_name(best)}, {limits(auc)}"
        start = f"The best that one hospital reached alone was {number(auc.mean, 2)} ({named})"
        sentences.append(start + _verdict(results.difference("federated", best), "federated training was"))
    if pooled := results.over_seeds("pooled", "auc"):
        start = (
            "Putting all data in one place, which the federation avoids, gave "
            f"{number(pooled.mean, 2)} ({limits(pooled)})"
        )
        sentences.append(start + _verdict(results.difference("federated", "pooled"), "federated training was"))
    return sentences


def _verdict(difference: OverSeeds | None, subject: str) -> str:
    if difference is None or difference.low is None or difference.high is None:
        return "."
    gap = f"{number(abs(difference.mean), 2)} {'better' if difference.mean > 0 else 'worse'}"
    how = f"difference {number(difference.mean, 2, signed=True)}, {limits(difference, signed=True)}"
    if difference.low > 0 or difference.high < 0:
        return f"; {subject} {gap} ({how}, which leaves out no difference)."
    return f"; with this many people the two cannot be told apart ({how})."


def _variants(results: Results) -> list[str]:
    """Whether other ways of federated training differ from the study's own."""
    tested = {arm: by_seed for arm, by_seed in family(results).items() if arm.startswith("federated@")}
    if not tested:
        return []
    apart = [
        results.arm_name(arm)
        for arm, by_seed in tested.items()
        if all(c.p_holm is not None and c.p_holm < 0.05 for c in by_seed.values())
    ]
    tried = f"{len(tested)} other {'way' if len(tested) == 1 else 'ways'} of federated training"
    if not apart:
        return [f"Of {tried}, none differs from it in AUC by more than chance in every seed (P after Holm)."]
    return [f"Of {tried}, {len(apart)} differ from it in AUC in every seed (P after Holm < 0.05): {'; '.join(apart)}."]


def _tuned(results: Results) -> list[str]:
    """What a hospital gains by training the federated model further for itself."""
    gains = []
    for arm in results.arms:
        parts = ArmName.parse(arm)
        if parts.kind == "tuned" and not parts.variant:
            sides = [results.over_seeds(a, "auc", parts.site) for a in ("federated", arm)]
            if sides[0] and sides[1]:
                gains.append(f"from {number(sides[0].mean, 2)} to {_at_place(parts.site, sides[1])}")
    if not gains:
        return []
    return [f"Trained further by one hospital, the federated model's AUC there went {_listed(gains)}."]


def _left_out(results: Results) -> list[str]:
    """How a hospital's people fare with a model that was trained without it."""
    pairs = []
    for arm in results.arms:
        parts = ArmName.parse(arm)
        without = results.over_seeds(arm, "auc", parts.site) if parts.kind == "without" and not parts.variant else None
        if without:
            pairs.append(_at_place(parts.site, without))
    if not pairs:
        return []
    return [f"A model that was trained without a hospital reached there an AUC of {_listed(pairs)}."]


def _at_place(site: str, found: OverSeeds) -> str:
    return f"{number(found.mean, 2)} at {place_name(site)} ({limits(found)})"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _at_threshold(results: Results) -> list[str]:
    found, spared = (
        results.over_seeds(results.lead, metric, results.home) for metric in ("sensitivity", "specificity")
    )
    if not found or not spared:
        return []
    model = "federated model" if results.lead == "federated" else "chosen model"
    frozen = "on out-of-fold scores" if results.cross_validated else "beforehand on training participants"
    return [
        f"At the threshold frozen {frozen}, the {model} found "
        f"{_of_100(found)} of 100 people with {results.condition} and correctly cleared {_of_100(spared)} of 100 "
        "without it."
    ]


def _of_100(share: OverSeeds) -> str:
    ends = (
        f" ({100 * share.low:.0f} to {100 * share.high:.0f})"
        if share.low is not None and share.high is not None
        else ""
    )
    return f"{100 * share.mean:.0f}{ends}"


# --- a cross-validation -----------------------------------------------------------------------------------------------


def _cross_validation(results: Results) -> list[str]:
    lead = results.over_seeds(results.lead, "auc", results.home)
    protocol = results.meta.protocol
    if lead is None:
        return [f"This run holds no final result of the cross-validation at {place_name(protocol.site)}."]
    people = f"{lead.n} people" if lead.n else "everybody"
    sentences = [
        f"Cross-validated at {place_name(results.home)} ({protocol.folds or '?'} folds by participant), {people} were "
        f"each scored by models that had not seen them. The chosen model, {results.arm_name(results.lead)}, reached an "
        f"AUC of {number(lead.mean, 2)} ({limits(lead)}).{_over_seeds_words(lead)}",
        *_nested(results, lead),
    ]
    elsewhere = [
        _at_place(site, found)
        for site in results.sites
        if site != results.home and (found := results.over_seeds(results.lead, "auc", site))
    ]
    if elsewhere:
        sentences.append(f"In hospitals that took no part the frozen ensemble reached an AUC of {_listed(elsewhere)}.")
    return [*sentences, *_at_threshold(results)]


def _nested(results: Results, lead: OverSeeds) -> list[str]:
    nested = results.over_seeds(f"cv:{results.home}@{NESTED}", "auc", results.home)
    if not nested:
        return ["It was chosen on these very people, so that its number is somewhat too good."]
    return [
        f"It was chosen on these very people. With the choice made anew in each fold the AUC is "
        f"{number(nested.mean, 2)} ({limits(nested)}); {number(lead.mean - nested.mean, 2, signed=True)} comes of "
        "choosing.",
    ]


# --- what is missing --------------------------------------------------------------------------------------------------


def absent(results: Results) -> list[str]:
    """Arms, seeds and files that a whole run would hold and this one does not."""
    seeds_of: dict[str, set[int]] = {}
    for row in results.rows:
        if row.metric == "auc" and row.round is None and row.value is not None:
            seeds_of.setdefault(row.arm, set()).add(row.seed)
    gaps = []
    for arm in _expected(results):
        seeds = seeds_of.get(arm, set())
        lost = [str(seed) for seed in results.meta.seeds if seed not in seeds]
        if not seeds:
            gaps.append(f"no final result for {results.arm_name(arm)}")
        elif lost:
            gaps.append(f"{results.arm_name(arm)} lacks seed {', '.join(lost)}")
    if not results.scores:
        gaps.append("no scores.csv, so no ROC and calibration curves")
    return gaps


def _expected(results: Results) -> list[str]:
    """Arms that the run says it ran; of a plain comparison the three kinds that belong together."""
    protocol = results.meta.protocol
    if results.cross_validated:
        return [protocol.arm(name) for name in protocol.candidates]
    said = [arm for arm in results.meta.arms if arm not in ("federated", "pooled")]
    if results.meta.variants or any(ArmName.parse(arm).kind != "local" for arm in said):
        return list(results.meta.arms)
    return ["federated", "pooled", *(f"local:{site}" for site in results.sites)]


# --- beneath the tables -----------------------------------------------------------------------------------------------


def comparison_note(results: Results) -> str:
    """How to read the cells of the comparison."""
    several = len(results.seeds) > 1
    first = (
        f"Mean of {len(results.seeds)} seeds; beneath it the 95 % interval (mean of the seeds' limits) and the "
        "standard deviation between seeds; every seed's own interval stands under Each seed. "
        if several
        else "One seed; beneath each number its 95 % interval. "
    )
    return first + (
        f"Every number counts participants{', never images' * bool(results.images)}. AUC: DeLong interval on the logit "
        "scale. Sensitivity, specificity, accuracy: Wilson, exact below 40 people, at the frozen threshold. F1, MCC, "
        "balanced accuracy, AUPRC, Brier, ICI: participants resampled. A dash: the run holds no such number, or it has "
        "no meaning for that row."
    )


def difference_note(results: Results) -> str:
    """How to read the differences."""
    seeds = " P values: lowest to highest of the seeds." if len(results.seeds) > 1 else ""
    others = len(family(results))
    return (
        f"Above 0: {results.arm_name(results.lead)} is better. Paired DeLong test on the same people. Holm's "
        f"adjustment covers the {others} comparisons of this table.{seeds} No difference found is not proof of "
        "equality: look at the interval."
    )


def heterogeneity(results: Results) -> str:
    """Whether the hospitals differ more than chance."""
    if results.cross_validated:
        return (
            "The hospitals are not pooled: at the first one the models were trained and chosen, so that its AUC is of "
            "another kind than the others'."
        )
    pooled = pooled_over_sites(results)
    if pooled is None:
        return (
            "Fewer than three hospitals have an AUC that can be pooled (two people of each class must be held out, and "
            "not all be ranked rightly), so the hospitals are neither pooled nor compared."
        )
    random, fixed = pooled.random, pooled.fixed
    model = "the federated model" if results.lead == "federated" else results.arm_name(results.lead)
    low, high = (f"{100 * limit:.0f}" for limit in pooled.i2_limits)
    text = (
        f"Pooled over {pooled.sites} hospitals {model} has an AUC of {random.value:.2f} ({random.low:.2f} to "
        f"{random.high:.2f}) if hospitals differ (random effects, Hartung-Knapp), and {fixed.value:.2f} "
        f"({fixed.low:.2f} to {fixed.high:.2f}) if all measure one value (fixed effect). Heterogeneity: I² "
        f"{100 * pooled.i2:.0f} % (95 % limits {low} to {high} %), Q {pooled.q:.2f}, P {pooled.p:.2f}."
    )
    return text + _caution(pooled)


def _caution(pooled: Pooled) -> str:
    words = f" {pooled.caution.replace('I2', 'I²')}." if pooled.caution else ""
    few = " How a further hospital would fare is open." if pooled.sites < SITES_TO_FORETELL else ""
    return words + few


def home_words(results: Results) -> str:
    """Whom the figures are drawn of."""
    if results.home == CENTRAL:
        return "the central test people"
    return f"the people of {place_name(results.home)}, out of fold"
