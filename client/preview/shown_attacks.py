"""The attacks of a preview in tables, pictures and sentences."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
from PIL import Image

from client.preview.attacks import INSIDE, LEAVES, PLAIN
from client.preview.inversion import ALONE, Inverted, Reconstruction
from client.preview.look import Preview
from client.preview.tables import Row, Table
from sarco_models.inversion import Picture
from sarco_models.membership import gaussian_bound

RECOGNISABLE = 0.5
"""Correlation of grey values from which on two of these pictures are called alike. Not SSIM: most of a picture is
black, and an empty one would pass.
"""

_SIDE = 240
_TITLES = {
    ALONE: "From an unprotected update of this person alone",
    INSIDE: "From the update before its masks",
    LEAVES: "From the update as it would leave",
}


def attacks(found: Preview) -> dict[str, Any]:
    """What the page says of both attacks."""
    forms = [m.of for m in found.membership]
    protected = found.study.privacy is not None or found.study.federation.secure_aggregation
    words = [
        "Two attacks were run on what this one round would send, by somebody who knows everything but what is looked "
        "for. " + ("Each with and without the study's protections." if protected else "The study has no protections.")
    ]
    return {
        "words": words,
        "membership": _membership(found),
        "membership_words": _membership_words(found, PLAIN in forms),
        "image_words": _image_words(found),
        "pictures": _pictures(found.inverted) if found.inverted else [],
        "row": _row_table(found.inverted) if found.inverted else Table((), ()),
        "row_words": _row_words(found.inverted) if found.inverted else "",
    }


# ---- membership ------------------------------------------------------------------------------------------------------


def _membership(found: Preview) -> Table:
    rows = []
    for m in found.membership:
        if m.found is None:
            rows.append(Row((m.of, "too few people", "", "", "")))
            continue
        f = m.found
        area = f"{f.auc.value:.2f} ({f.auc.low:.2f} to {f.auc.high:.2f})"
        share = f"{100 * f.tpr.value:.0f} % ({100 * f.tpr.low:.0f} to {100 * f.tpr.high:.0f})"
        rows.append(Row((m.of, area, share, f"{100 * f.fpr:.2g} %", f"{f.members} / {f.others}")))
    head = (
        ("Update", "name"), ("AUC (95 %)", "num"), ("Recognised (95 %)", "num"),
        ("False alarms", "num"), ("Members / others", "num"),
    )  # fmt: skip
    return Table(head, tuple(rows))


def _membership_words(found: Preview, compared: bool) -> list[str]:
    lines = [
        "The attacker looks whether the round made the model surer of this very person. With few people the interval "
        "is wide: an interval that holds .5 says that this attack found nothing, not that there is nothing to be found."
    ]
    if math.isfinite(found.cost.whole):
        best = gaussian_bound(found.cost.whole, found.cost.budget.delta)
        lines.append(
            f"Whatever attack somebody invents, after the whole study (epsilon {found.cost.whole:.2f}) its AUC cannot "
            f"be above {best.auc:.2f}, nor can it recognise more than {100 * best.tpr:.0f} % of the members at 1 % "
            "false alarms, where everybody takes part in each step (Dong et al. 2022)."
        )
    elif not compared:
        lines.append("Nothing bounds what a better attack, or more rounds, would find: there is no epsilon.")
    return lines


# ---- inversion -------------------------------------------------------------------------------------------------------


def _image_words(found: Preview) -> list[str]:
    got = found.inverted
    if found.study.segments:
        return [
            "Nobody's image was searched for: this attack is on networks that diagnose. An update of a network that "
            "finds muscles may hold traces of single images all the same; do not take its absence for protection."
        ]
    if got is None:
        return ["Left out of this page (--no-image), or there is nobody to attack."]
    if got.truth is None:
        return [
            "This study looks at no images. What could be computed back is the row of the table: of an update of one "
            "person alone it stands there exactly; in an update of many, only a mixture."
        ]
    return [
        f"The image of one training participant, searched for from the update ({got.steps} candidates each). The first "
        "search is the worst case, an update of this person alone with one image and one step; the others are on the "
        f"update of the round, which {found.described.training} participants are in. Correlation of grey values: 1 is "
        f"the same picture, below {RECOGNISABLE:g} it is called not recognised."
    ]


def _pictures(got: Inverted) -> list[dict[str, str]]:
    if got.truth is None:
        return []
    first = {"title": "The truth", "words": "as the network reads it", "source": _png(got.truth)}
    return [first, *(_picture(f) for f in got.found if f.image is not None)]


def _picture(found: Reconstruction) -> dict[str, str]:
    assert found.image is not None and found.likeness is not None and found.correlation is not None  # noqa: S101, PT018
    verdict = "recognisable" if found.correlation >= RECOGNISABLE else "not recognised"
    words = f"{verdict}: correlation {found.correlation:.2f}, SSIM {found.likeness:.2f}"
    return {"title": _TITLES.get(found.of, found.of), "words": words, "source": _png(found.image)}


def _png(picture: Picture) -> str:
    """An image as an address that holds it, large enough to be looked at."""
    grey = Image.fromarray(np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8))
    side = max(1, _SIDE // max(grey.size))
    content = io.BytesIO()
    grey.resize((grey.width * side, grey.height * side), Image.Resampling.NEAREST).save(content, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode("ascii")


def _row_table(got: Inverted) -> Table:
    shown = [k for k in range(len(got.columns)) if np.isfinite(got.row[k])]
    rows = [Row((got.columns[k], f"{got.row[k]:.4g}", *(_value(f.row[k]) for f in got.found))) for k in shown]
    head = (("Column", "name"), ("Truth", "num"), *((_TITLES.get(f.of, f.of), "num") for f in got.found))
    return Table(head, tuple(rows))


def _off(distance: float) -> str:
    return "exact" if distance < 1e-3 else f"off by {distance:.2f}"


def _value(value: float) -> str:
    return "–" if not np.isfinite(value) else f"{value:.4g}"


def _row_words(got: Inverted) -> str:
    words = [f"{_TITLES.get(f.of, f.of)[5:]}: {_off(f.off)}" for f in got.found if f.off is not None]
    if not words:
        return ""
    return (
        "The same person's table values, computed back without any search (Phong et al. 2018). Median distance from "
        f"the truth, in standard deviations of your training participants: {'; '.join(words)}. "
        "Taking everybody for the average person is off by about .7."
    )
