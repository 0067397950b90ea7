"""The forest plot shows each hospital, and says how little is known of how they differ."""

from pathlib import Path

from sarco_models.metrics import Estimate, pool_sites
from server.forest import forest_arms, forest_figure, pooled_over_sites
from server.results import Meta, Results, Row, read_results


def row(arm: str, site: str, value: float = 0.8, n: int = 40) -> Row:
    return Row(arm=arm, seed=1, site=site, metric="auc", value=value, ci_low=value - 0.1, ci_high=value + 0.1, n=n)


def texts(results: Results) -> str:
    figure = forest_figure(results)
    assert figure is not None
    return "\n".join(text.get_text() for text in figure.axes[0].texts)


def test_pooling_is_that_of_the_hospitals_own_intervals(run: Path) -> None:
    results = read_results(run)
    found = [results.over_seeds("federated", "auc", site) for site in results.sites]
    expected = pool_sites([Estimate(f.mean, f.low or 0, f.high or 0) for f in found if f])
    assert pooled_over_sites(results) == expected


def test_both_effects_and_the_limits_of_i2_are_printed(run: Path) -> None:
    results = read_results(run)
    pooled = pooled_over_sites(results)
    assert pooled is not None
    text = texts(results)
    for estimate in (pooled.fixed, pooled.random):
        assert f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})" in text
    assert f"({100 * pooled.i2_limits[0]:.0f} to {100 * pooled.i2_limits[1]:.0f} %)" in text
    assert "A further hospital" not in text


def test_five_hospitals_foretell_a_sixth() -> None:
    results = Results(Meta(), tuple(row("federated", f"h{k}", 0.7 + k / 50) for k in range(5)))
    assert "A further hospital" in texts(results)


def test_two_hospitals_are_not_pooled() -> None:
    results = Results(Meta(), (row("federated", "a"), row("federated", "b")))
    assert pooled_over_sites(results) is None
    assert "All hospitals" not in texts(results)


def test_a_hospital_is_shown_with_its_own_arms_and_other_people_are_counted() -> None:
    rows = (row("federated", "a"), row("local:a", "a"), row("tuned:a", "a"), row("without:a", "a", n=89))
    results = Results(Meta(), (*rows, row("local:b", "a"), row("federated", "central")))
    assert forest_arms(results, "a") == ["federated", "local:a", "tuned:a", "without:a"]
    assert "Federated without A (n = 89)" in texts(results)
