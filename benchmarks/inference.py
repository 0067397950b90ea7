"""What the statistics can be trusted with: bins and small counts, coverage, the calibration index, folds on one scale.

    python benchmarks/inference.py [--cohorts 400]

Cohorts are SYNTHETIC (binormal scores of a known AUC), of the sizes of the paper's three centres. A 95 % interval is
right when it holds the truth in 95 of 100 cohorts; each cohort's number of positives is drawn, as in a hospital.
"""

import argparse

import numpy as np
from numpy.polynomial import Polynomial
from scipy.special import expit, logit
from scipy.stats import norm

from sarco_models.calibration import brier, calibration, recalibrate
from sarco_models.calibration_curve import ici_by_chance, integrated_calibration_index
from sarco_models.cross_validation import Fold, over_folds, pooled
from sarco_models.decisions import confusion, figures_of_merit
from sarco_models.disclosure import small
from sarco_models.histograms import MergedHistogram, ScoreHistogram, auc_range, binned_participants, binned_roc
from sarco_models.intervals import Estimate, WeightedStatistic, bootstrap, everybody_alike
from sarco_models.metrics import area_under_roc, auc, auc_interval, average_precision
from sarco_models.scores import Labels, ParticipantScores, Scores

SITES = {"A": (101, 256, 0.827), "B": (68, 77, 0.801), "C": (19, 63, 0.757)}
Sample = tuple[Scores, Labels]


def true_probabilities(num_positive: int, num_negative: int, area: float, rng: np.random.Generator) -> Sample:
    labels = np.arange(num_positive + num_negative) < num_positive
    apart = np.sqrt(2.0) * norm.ppf(area)
    scores = rng.normal(size=labels.size) + labels * apart
    return expit(apart * (scores - apart / 2.0) + np.log(num_positive / num_negative)), labels


# --- bins and small counts --------------------------------------------------------------------------------------------


def bins(cohorts: int, rng: np.random.Generator) -> None:
    print("\nAUC from bins: error (bias) and certain half-range; in brackets: small counts left out instead of merged")
    print("site  bins  " + "".join(f"min_cell {k}".rjust(34) for k in (1, 3, 5, 10)))
    for site, sizes in SITES.items():
        for num_bins in (20, 50, 100, 200):
            cells = [_bins(sizes, num_bins, min_cell, cohorts, rng) for min_cell in (1, 3, 5, 10)]
            print(f"{site}     {num_bins:4d}  " + "".join(cell.rjust(34) for cell in cells))


def _bins(sizes: tuple[int, int, float], num_bins: int, min_cell: int, cohorts: int, rng: np.random.Generator) -> str:
    errors, ranges, omitted = [], [], []
    for _ in range(cohorts):
        people = true_probabilities(*sizes, rng)
        histogram = ScoreHistogram.of(*people, num_bins=num_bins)
        found, exact = auc_range([MergedHistogram.of(histogram, min_cell)]), auc(*people)
        assert found.low <= exact <= found.high
        errors.append(found.value - exact)
        ranges.append((found.high - found.low) / 2)
        kept = [np.where(small(c, min_cell), 0, c) for c in (histogram.positives, histogram.negatives)]
        if kept[0].any() and kept[1].any():
            omitted.append(abs(auc(*ScoreHistogram(*kept).participants()) - exact))
    without = f"{np.mean(omitted):.3f}" if len(omitted) == cohorts else "none"
    return f"{np.mean(np.abs(errors)):.4f} ({np.mean(errors):+.4f}) {np.mean(ranges):.3f} [{without}]"


def three_sites(cohorts: int, rng: np.random.Generator) -> None:
    print("\nA, B and C together, 200 bins: AUC error, largest; worst point of the ROC; calibration slope, E/O, error")
    for min_cell in (1, 3, 5, 10):
        areas, points, fits = [], [], []
        for _ in range(cohorts):
            sites = [true_probabilities(*sizes, rng) for sizes in SITES.values()]
            merged = [MergedHistogram.of(ScoreHistogram.of(*site, num_bins=200), min_cell) for site in sites]
            p, y = np.concatenate([p for p, _ in sites]), np.concatenate([y for _, y in sites])
            areas.append(abs(auc_range(merged).value - auc(p, y)))
            roc = binned_roc(merged)
            exact = [((p[y] >= t).mean(), (p[~y] < t).mean()) for t in roc.thresholds]
            points.append(np.abs(np.transpose(exact) - [roc.sensitivity, roc.specificity]).max())
            binned, own = calibration(*binned_participants(merged)), calibration(p, y)
            assert binned.slope
            assert own.slope
            ratio = binned.expected_over_observed.value - own.expected_over_observed.value
            fits.append(np.abs([binned.slope.value - own.slope.value, ratio]))
        slope, ratio = np.mean(fits, axis=0)
        worst = f"worst point {np.mean(points):.3f}, largest {np.max(points):.3f}"
        print(
            f"min_cell {min_cell:2d}: AUC {np.mean(areas):.4f}, {np.max(areas):.4f}; {worst}; {slope:.3f}, {ratio:.3f}"
        )


# --- coverage ---------------------------------------------------------------------------------------------------------


def coverage(cohorts: int, rng: np.random.Generator) -> None:
    print("\ncoverage of 95 % intervals; classes: positives fixed, alike: their number varies (what summarize does)")
    for site in ("A", "C"):
        sizes = SITES[site]
        big = true_probabilities(50 * sizes[0] * 20, 50 * sizes[1] * 20, sizes[2], rng)
        for threshold in (0.15, 0.30):
            _coverage(site, big, (sum(sizes[:2]), threshold), cohorts, rng)


def statistics_of(p: Scores, y: Labels, threshold: float) -> dict[str, WeightedStatistic]:
    ranked = {"auc": area_under_roc(p, y), "auprc": average_precision(p, y), "brier": brier(p, y)}
    return ranked | figures_of_merit(p, y, threshold)


def _coverage(site: str, big: Sample, at: tuple[int, float], cohorts: int, rng: np.random.Generator) -> None:
    n, threshold = at
    everybody = np.ones((1, big[1].size))
    truth = {name: float(of(everybody)[0]) for name, of in statistics_of(*big, threshold).items()}
    truth |= {"calibration_intercept": 0.0, "calibration_slope": 1.0, "expected_over_observed": 1.0}
    held: dict[str, dict[str, list[bool]]] = {}

    def count(kind: str, found: dict[str, Estimate]) -> None:
        for name, e in found.items():
            held.setdefault(name, {}).setdefault(kind, []).append(e.low <= truth[name] <= e.high)

    for _ in range(cohorts):
        chosen = rng.choice(big[1].size, n, replace=False)
        p, y = big[0][chosen], big[1][chosen]
        for strata_name, strata in (("alike", everybody_alike(y)), ("classes", y)):
            for method in ("percentile", "bca"):
                found = bootstrap(statistics_of(p, y, threshold), strata, rng, repeats=500, method=method)
                count(f"{strata_name} {method}", found)
        fit = calibration(p, y)
        count("closed form", {"auc": auc_interval(p, y), "calibration_intercept": fit.intercept})
        assert fit.slope
        ratio = fit.expected_over_observed
        count("closed form", {"calibration_slope": fit.slope, "expected_over_observed": ratio})
    table = confusion(*big, threshold)
    sensitivity = table.true_positives / big[1].sum()
    specificity = table.true_negatives / (~big[1]).sum()
    print(f"site {site}, n = {n}, threshold {threshold}: sensitivity {sensitivity:.2f}, specificity {specificity:.2f}")
    for name, kinds in held.items():
        shares = ", ".join(f"{kind} {100 * np.mean(values):.1f} %" for kind, values in kinds.items())
        print(f"  {name}: {shares}")


# --- calibration index ------------------------------------------------------------------------------------------------


def calibration_index(cohorts: int, rng: np.random.Generator) -> None:
    print(
        "\ncalibration index: truth; bias and error of straight and of quadratic local regression; expected by chance"
    )
    for n in (82, 145, 357):
        for slope in (1.0, 0.6):
            rows = []
            for _ in range(max(40, cohorts // 4)):
                p = expit(rng.normal(-1.0, 1.2, n))
                true = expit(slope * logit(p) + 0.4 * (slope != 1.0))
                y = rng.random(n) < true
                straight = float(integrated_calibration_index(p, y)(np.ones((1, n)))[0])
                bent = float(np.abs(_quadratic(p, y) - p).mean())
                rows.append((np.abs(true - p).mean(), straight, bent, ici_by_chance(p, rng)))
            truth, straight, bent, chance = np.transpose(rows)
            parts = [f"{np.mean(f - truth):+.3f}, {np.sqrt(np.mean((f - truth) ** 2)):.3f}" for f in (straight, bent)]
            print(f"n = {n}, slope {slope}: {truth.mean():.3f}; {parts[0]}; {parts[1]}; {chance.mean():.3f}")


def _quadratic(x: Scores, labels: Labels, span: float = 0.75) -> Scores:
    fitted = []
    for at in x:
        distance = np.abs(x - at)
        reach = np.sort(distance)[int(span * x.size) - 1]
        weight = np.clip(1.0 - (distance / reach) ** 3, 0.0, 1.0) ** 1.5
        fitted.append(Polynomial.fit(x, labels.astype(float), 2, w=weight)(at))
    return np.clip(np.array(fitted), 0.0, 1.0)


# --- folds ------------------------------------------------------------------------------------------------------------


def folds(cohorts: int, rng: np.random.Generator) -> None:
    print(
        "\nfive folds of site A that speak different scales: AUC if they spoke one; raw; each fold calibrated; pooled()"
    )
    for shift in (0.0, 0.7, 1.5):
        for size in (30, 57):
            rows = [_one_study(shift, size, rng) for _ in range(cohorts)]
            one, raw, each, ours, mean, sd = np.mean(rows, axis=0)
            print(
                f"shift {shift}, {size} reference people: {one:.3f}; {raw:.3f}; {each:.3f}; {ours:.3f}; "
                f"mean of folds {mean:.3f}, SD {sd:.3f}"
            )


def _one_study(shift: float, size: int, rng: np.random.Generator) -> tuple[float, ...]:
    p, labels = true_probabilities(*SITES["A"], rng)
    people = ParticipantScores(tuple(map(str, range(p.size))), logit(p), labels)
    fold_of, parts = rng.permutation(p.size) % 5, []
    for k in range(5):
        level, stretch = rng.normal(0.0, shift), np.exp(rng.normal(0.0, 0.3 * (shift > 0)))
        spoken = people.mapped(lambda s, a=level, b=stretch: a + b * s)
        others = np.isin(np.arange(p.size), rng.choice(np.flatnonzero(fold_of != k), size, replace=False))
        parts.append(Fold(spoken.only(fold_of == k), spoken.only(others)))
    raw = ParticipantScores.joined([f.test for f in parts])
    each = ParticipantScores.joined([f.test.mapped(recalibrate(f.reference.scores, f.reference.labels)) for f in parts])
    summary = over_folds([f.test for f in parts], auc)
    areas = [auc(s.scores, s.labels) for s in (people, raw, each, pooled(parts))]
    return (*areas, summary.mean, summary.sd)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohorts", type=int, default=400)
    cohorts, rng = parser.parse_args().cohorts, np.random.default_rng(2026)
    bins(cohorts // 4, rng)
    three_sites(cohorts // 4, rng)
    coverage(cohorts, rng)
    calibration_index(cohorts, rng)
    folds(cohorts // 2, rng)


if __name__ == "__main__":
    main()
