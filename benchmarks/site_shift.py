"""What a site shift does to the information in images, and what making the machines alike gives back.

    python benchmarks/site_shift.py --scale full --seeds 1 2 3 --shifts 0 1 2 3

Muscles of the three synthetic hospitals are drawn from their plans, without files. Seven plain features of the square
that the network sees (grey levels, texture, size) and a logistic model stand in for the network: it is trained at
centre A and applied to B and C at A's frozen Youden threshold, with and without ``intensity.standardize = "device"``.
The calibration share of B and C (a fifth) is never scored. ``hospital`` is how well the same features tell, among
participants without the condition, A's muscles from the others' (AUC; .5 = not at all). All data are SYNTHETIC.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sarco_models.config import ImageConfig, IntensityConfig
from sarco_models.images import Frame
from sarco_models.intensity import calibration_people, grey_tables
from sarco_models.metrics import auc
from sarco_models.preprocess import model_input
from simulation.phantom import render
from simulation.plan import Parameters, PlannedSite, plan_sites

SHARE = 0.2
FOLDS = 5
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Hospital:
    """Drawn images of one hospital, what its files would say of their device, and its participants."""

    name: str
    pixels: NDArray[np.uint8]
    devices: tuple[str, ...]
    owner: NDArray[np.int64]
    ids: tuple[str, ...]
    labels: NDArray[np.bool_]


def drawn(site: PlannedSite, cfg: ImageConfig, named: bool) -> Hospital:
    """Every image of a site as the network sees it; JPG says nothing of its device unless the hospital ``named`` it.

    A hospital does so in the column ``device`` of calibration.csv.
    """
    ids = tuple(site.table["participant_id"])
    position = {name: k for k, name in enumerate(ids)}
    squares = []
    for planned in site.images:
        rng = np.random.default_rng(planned.seeds)
        image = render(planned.exam.subject, rng, device=planned.machine, width_px=planned.width_px)
        frame = Frame(image.pixels, (image.mm_per_pixel, image.mm_per_pixel), "", (0, 0), image.pixels.shape)
        squares.append(model_input(frame, image.mask, cfg))
    return Hospital(
        name=site.name,
        pixels=np.array(squares),
        devices=tuple("" if i.exam.jpg and not named else i.exam.device for i in site.images),
        owner=np.array([position[i.participant_id] for i in site.images]),
        ids=ids,
        labels=site.table["sarcopenia"].to_numpy() == 1,
    )


def alike(site: Hospital, people: NDArray[np.int64], cfg: IntensityConfig) -> NDArray[np.uint8]:
    """Pixels through the tables of their devices, measured on these people."""
    everything = np.arange(len(site.owner))
    tables, _ = grey_tables(site, site.owner, np.flatnonzero(np.isin(site.owner, people)), cfg)
    return tables(site.pixels, everything)


def features(pixels: NDArray[np.uint8], owner: NDArray[np.int64]) -> Array:
    """(participants, 7) mean over each participant's images."""
    rows = np.array([_of_image(p) for p in pixels])
    return np.array([rows[owner == person].mean(axis=0) for person in range(owner.max() + 1)])


def _of_image(pixels: NDArray[np.uint8]) -> list[float]:
    inside = pixels > 0
    grey = pixels[inside].astype(float)
    step = np.abs(np.diff(pixels.astype(float), axis=0))[inside[1:] & inside[:-1]]
    low, high = np.quantile(grey, (0.1, 0.9))
    return [grey.mean(), grey.std(), low, high, step.mean() / grey.std(), inside.sum(), inside.sum(axis=0).max()]


def logistic() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000))


def out_of_fold(x: Array, y: NDArray[np.bool_], seed: int) -> Array:
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    scores: Array = cross_val_predict(logistic(), x, y, cv=folds, method="decision_function")
    return scores


def youden(scores: Array, labels: NDArray[np.bool_]) -> float:
    cuts = np.unique(scores)
    index = [(scores[labels] >= c).mean() + (scores[~labels] < c).mean() for c in cuts]
    return float(cuts[int(np.argmax(index))])


def measured(hospitals: list[Hospital], standardize: bool, seed: int) -> Iterator[tuple[str, float]]:
    """Names and values of one seed at one shift; A's tables are measured on everybody there, labels unseen."""
    intensity = IntensityConfig()
    found: dict[str, tuple[Array, NDArray[np.bool_]]] = {}
    for k, site in enumerate(hospitals):
        everybody = np.arange(len(site.ids))
        chosen = calibration_people((site.name,) * len(site.ids), site.ids, SHARE) if k else everybody[:0]
        pixels = alike(site, chosen if k else everybody, intensity) if standardize else site.pixels
        scored = np.setdiff1d(everybody, chosen)
        found["ABC"[k]] = features(pixels, site.owner)[scored], site.labels[scored]
    x, y = found["A"]
    inner = out_of_fold(x, y, seed)
    cut, model = youden(inner, y), logistic().fit(x, y)
    yield "A AUC (CV)", auc(inner, y)
    for name in "BC":
        scores = model.decision_function(found[name][0])
        yield f"{name} AUC", auc(scores, found[name][1])
        yield f"{name} called positive", float((scores >= cut).mean())
        yield f"{name} prevalence", float(found[name][1].mean())
    for name in "ABC":
        yield f"mean grey AUC {name}", auc(found[name][0][:, 0], found[name][1])
    for name in "BC":
        healthy = [found[k][0][~found[k][1]] for k in ("A", name)]
        here = np.repeat([False, True], [len(h) for h in healthy])
        yield f"hospital A/{name}", auc(out_of_fold(np.concatenate(healthy), here, seed), here)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="full", choices=["tiny", "small", "full"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--shifts", type=float, nargs="+", default=[0.0, 1.0, 2.0, 3.0])
    parser.add_argument("--width", type=int, default=96, help="of the drawn picture, in pixels")
    parser.add_argument("--size", type=int, default=64, help="of the square that is looked at, in pixels")
    parser.add_argument("--named", action="store_true", help="the hospital says which machine its JPG are of")
    asked = parser.parse_args()
    rows: dict[tuple[float, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for shift in asked.shifts:
        for seed in asked.seeds:
            parameters = Parameters(asked.scale, seed, "paper_matched", 6, asked.width, device_shift=shift)
            hospitals = [drawn(site, ImageConfig(size=asked.size), asked.named) for site in plan_sites(parameters)[:3]]
            for standardize in (False, True):
                for name, value in measured(hospitals, standardize, seed):
                    rows[shift, "device" if standardize else "none"][name].append(value)
    names = list(next(iter(rows.values())))
    known = "" if asked.named else ", device of JPG unknown"
    print(f"SYNTHETIC, scale {asked.scale}, seeds {asked.seeds}{known}: mean (SD over seeds)\n")
    print("| device_shift | standardize | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 2) + "|")
    for (shift, how), values in rows.items():
        cells = [f"{np.mean(v):.3f}" + (f" ({np.std(v, ddof=1):.3f})" if len(v) > 1 else "") for v in values.values()]
        print(f"| {shift:g} | {how} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
