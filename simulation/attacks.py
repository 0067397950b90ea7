"""``sarco-lab attack``: how well the models of a run, or of an experiment's arms, betray whom they were trained on.

Each study is run again on random halves of its training participants (:mod:`simulation.shadows`) and attacked. Written:
``attack.json`` (everything, with the study's digest), ``attack.csv`` (one line for each study and attack) and
``attack.png`` (ROC curves with logarithmic axes: what counts is the lower left). Beside every measurement stands what
no attack at all can pass under the study's epsilon.
"""

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table
from scipy.stats import norm

from client.workspace import open_site
from sarco_models.accounting import plan
from sarco_models.cohort import Split
from sarco_models.config import PrivacyConfig, StudyConfig
from sarco_models.errors import RunError
from sarco_models.membership import FPR, Bound, bound, gaussian_bound
from server.drawing import MUTED, STYLE, VARIANT_COLOURS, WARNING, WIDTH
from server.leakage import LEAKAGE
from server.release import is_synthetic
from server.runs import Run, write_json, write_text
from simulation.shadows import SHADOWS, Attacked, attacks, trials

TITLES = {"loss": "loss threshold", "lira": "likelihood ratio", "lira_offline": "likelihood ratio, offline"}
SHOWN = ("loss", "lira")
"""Attacks in the figure."""

_NUMBERS = ("auc", "auc_low", "auc_high", "tpr", "tpr_low", "tpr_high")
_DOTTED = (0, (1, 1.5))
Watch = Callable[[str, int, int], None]


@dataclass(eq=False)
class Target:
    """A study that was run, and its hospitals' participants.

    Attributes:
        name: of the arm; of a run, its folder's.
        study: as it was run.
        splits: of each hospital, by name.
        synthetic: whether the participants say that they do not exist.
    """

    name: str
    study: StudyConfig
    splits: dict[str, Split]
    synthetic: bool


@dataclass(frozen=True, eq=False)
class Finding:
    """What was found of one study."""

    target: Target
    found: dict[str, Attacked]
    participants: int
    trained_on: float
    shadows: int
    seed: int


def attack(folder: Path, out: Path, *, shadows: int = SHADOWS, seed: int = 1, watch: Watch) -> Table:
    """Attack everything that a folder holds; returns the table for the terminal.

    Args:
        folder: a run directory whose hospitals are on this machine, or an experiment's folder: of the latter all
            federated arms.
        out: gets the three files.
        shadows: shadow models of each attack.
        seed: of the halves, of the draws for intervals, and of the noise in private arms.
        watch: told the name of the study, models done, and models in all.

    Raises:
        RunError: the folder holds no run with its hospitals, or one that finds muscles.
    """
    findings = []
    for target in _targets(folder):
        told = partial(watch, target.name)
        made = trials(target.study, target.splits, shadows=shadows, seed=seed, watch=told)
        found = attacks(made, np.random.default_rng([seed, 59]))
        findings.append(Finding(target, found, made.inside.shape[1], made.trained_on, shadows, seed))
    out.mkdir(parents=True, exist_ok=True)
    rows = [row for finding in findings for row in _rows(finding)]
    synthetic = all(f.target.synthetic for f in findings)
    write_json(out / "attack.json", {"synthetic": synthetic, "fpr": FPR, "rows": rows, "curves": _curves(findings)})
    write_text(out / "attack.csv", _csv(rows))
    _draw(findings, out / "attack.png")
    return _table(rows, synthetic=synthetic)


def _runs(folder: Path) -> list[Path]:
    places = [folder] if (folder / "run.json").is_file() else []
    places += sorted(path.parent for path in folder.glob("arms/*/federated*/run.json"))
    places = [place for place in places if any(place.glob("sites/*/site.toml"))]
    if not places:
        raise RunError(
            f"{folder}: holds no run whose hospitals are on this machine: name a run directory with sites/*/site.toml, "
            "or the folder of an experiment with a federated arm (sarco-lab run)"
        )
    return places


def _targets(folder: Path) -> list[Target]:
    """Everything that has one model for all, the least private first; of several seeds each has its own name."""
    found = [_target(place) for place in _runs(folder)]
    found = [target for target in found if not target.study.model.local_norms]
    if not found:
        raise RunError(f'{folder}: with model.norm = "local" every hospital has a model of its own: name another run')
    names = [target.name for target in found]
    for target in found:
        if names.count(target.name) > 1:
            target.name += f", seed {target.study.training.seed}"
    return sorted(found, key=_most_open_first)


def _target(place: Path) -> Target:
    run = Run.open(place)
    if run.study.segments:  # before anybody's images are read, and before models of another arm are trained for hours
        raise RunError(
            f"{place}: its model finds muscles, and these attacks are on models of a diagnosis: name a run of a "
            f"diagnosis; how well this model tells its people from others its hospitals measure themselves ({LEAKAGE})"
        )
    sites = [open_site(path) for path in sorted(place.glob("sites/*/site.toml"))]
    return Target(place.name, run.study, {site.name: site.split for site in sites}, bool(is_synthetic(run)))


def _most_open_first(target: Target) -> float:
    return -target.study.privacy.epsilon if target.study.privacy else -math.inf


# ---- numbers ---------------------------------------------------------------------------------------------------------


def limits(privacy: PrivacyConfig) -> tuple[Bound, Bound | None]:
    """What no attack passes: by epsilon and delta alone, and by Gaussian noise where everybody is in every step.

    It is about one participant who is there or not, all others staying. Halves of a fixed size have another instead,
    for which the limit is strictly that of twice the epsilon; what is measured lies far below either.
    """
    general = bound(privacy.epsilon, privacy.delta)
    everybody = privacy.sample_rate == 1
    return general, gaussian_bound(privacy.epsilon, privacy.delta) if everybody else None


def _rows(finding: Finding) -> list[dict[str, Any]]:
    """One for each attack; numbers that do not exist are None."""
    study = finding.target.study
    about: dict[str, Any] = {
        "arm": finding.target.name,
        "study": study.digest,
        "study_seed": study.training.seed,
        "epsilon": study.privacy.epsilon if study.privacy else None,
        "delta": study.privacy.delta if study.privacy else None,
        "noise_multiplier": plan(study).training.noise_multiplier if study.privacy else None,
    }
    general, gaussian = limits(study.privacy) if study.privacy else (None, None)
    beside = {
        "participants": finding.participants,
        "trained_on": finding.trained_on,
        "models": finding.shadows + 2,
        "shadows": finding.shadows,
        "seed": finding.seed,
        "bound_auc": general.auc if general else None,
        "bound_tpr": general.tpr if general else None,
        "gaussian_auc": gaussian.auc if gaussian else None,
        "gaussian_tpr": gaussian.tpr if gaussian else None,
    }
    rows = []
    for name, result in finding.found.items():
        numbers = [getattr(value, part) for value in (result.auc, result.tpr) for part in ("value", "low", "high")]
        rows.append({**about, "attack": name, **dict(zip(_NUMBERS, numbers, strict=True)), **beside})
    return rows


def _curves(findings: Sequence[Finding]) -> dict[str, dict[str, list[list[float]]]]:
    """ROC curves by arm and attack, at up to 200 false-positive rates."""
    return {f.target.name: {name: _thinned(a.curve).tolist() for name, a in f.found.items()} for f in findings}


def _thinned(curve: np.typing.NDArray[np.float64]) -> np.typing.NDArray[np.float64]:
    """Points at which a logarithmic axis still shows a difference."""
    wanted = np.geomspace(max(curve[curve[:, 0] > 0, 0].min(), 1e-5), 1, 200)
    index = np.searchsorted(curve[:, 0], wanted, side="right") - 1
    return np.asarray(curve[np.unique(np.maximum(index, 0))])


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


# ---- shown -----------------------------------------------------------------------------------------------------------


def _table(rows: Sequence[dict[str, Any]], *, synthetic: bool) -> Table:
    first = rows[0]
    title = (
        f"{'SYNTHETIC ' if synthetic else ''}membership inference: {first['participants']} participants, "
        f"{first['models']} models\non halves of them, seed {first['seed']}; 95 % intervals over participants"
    )
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    table.add_column("attack", no_wrap=True, min_width=32)
    for heading in ("AUC", f"found at {100 * FPR:g} % false"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=20)
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own = [row for row in rows if row["arm"] == arm]
        table.add_row(arm, *_limit(own[0]), style="bold")
        for row in own:
            cells = (f"{row[k]:.3f} ({row[f'{k}_low']:.3f}-{row[f'{k}_high']:.3f})" for k in ("auc", "tpr"))
            table.add_row(f"  {TITLES[row['attack']]}", *cells)
    return table


def _limit(row: dict[str, Any]) -> tuple[str, str]:
    """Beside an arm's name: its epsilon, and what no attack passes there."""
    if row["epsilon"] is None:
        return "no privacy:", "no limit"
    kind = "gaussian" if row["gaussian_auc"] is not None else "bound"
    return f"epsilon {row['epsilon']:g}: <= {row[f'{kind}_auc']:.3f}", f"<= {row[f'{kind}_tpr']:.3f}"


def _draw(findings: Sequence[Finding], path: Path) -> None:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
        panels = figure.subplots(1, len(SHOWN), sharey=True)
        for axes, name in zip(panels, SHOWN, strict=True):
            _panel(axes, name, findings)
        panels[0].set_ylabel("members found (true positives)")
        panels[0].plot([], [], color=MUTED, linewidth=0.8, linestyle=_DOTTED, label="no attack passes at that epsilon")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(3, len(labels)))
        if all(f.target.synthetic for f in findings):
            figure.suptitle("SYNTHETIC DATA", x=0.005, ha="left", fontsize=8.5, color=WARNING, weight="bold")
        figure.savefig(path, dpi=200, facecolor="white")


def line_of(k: int, curves: int) -> tuple[float, str | tuple[float, tuple[float, float]]]:
    """Width and dashes of one of several curves: where they lie on each other each shows beside or through the next.

    Each is thinner than those beneath it, and leaves them room: along the line each of them is on top in its turn.
    """
    width = 1.6 if curves == 1 else 2.6 - 1.2 * k / (curves - 1)
    if k == 0:
        return width, "-"
    turn = 4.0 / width  # matplotlib counts dashes in widths; the turns of thick and thin lines must be as long
    return width, ((curves - k) * turn, ((curves - k) * turn, k * turn))


def _panel(axes: Axes, name: str, findings: Sequence[Finding]) -> None:
    rates = np.geomspace(1e-3, 1, 300)
    axes.plot(rates, rates, color=MUTED, linewidth=0.8, label="guessing")
    for k, finding in enumerate(findings):
        colour, privacy = VARIANT_COLOURS[k % len(VARIANT_COLOURS)], finding.target.study.privacy
        result = finding.found[name]
        words = finding.target.name + (f", epsilon {privacy.epsilon:g}" if privacy else ", no privacy")
        width, dashes = line_of(k, len(findings))
        axes.plot(*result.curve.T, color=colour, linewidth=width, linestyle=dashes)
        axes.plot([], [], color=colour, linewidth=width, label=words)  # whole in the legend, which is short
        gaussian = limits(privacy)[1] if privacy else None
        if gaussian:
            mu = math.sqrt(2) * float(norm.ppf(gaussian.auc))
            axes.plot(rates, norm.cdf(norm.ppf(rates) + mu), color=colour, linewidth=0.8, linestyle=_DOTTED)
    axes.axvline(FPR, color=MUTED, linewidth=0.6, linestyle=(0, (4, 2)))
    axes.set(xscale="log", yscale="log", xlim=(1e-3, 1), ylim=(1e-3, 1.05), xlabel="others accused (false positives)")
    axes.set_title(TITLES[name])
