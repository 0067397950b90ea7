"""What a hospital would tell of its images so that a network can be planned: the one answer, made here and not sent.

A study without a plan trains nothing, so there is no round to run and no model to attack: the page shows the sums, what
can be computed from them, and what the hospital's policy says of them today.
"""

from __future__ import annotations

import base64
import hashlib
import tempfile
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from client.approval import FILE as APPROVALS
from client.approval import Approvals
from client.planning_words import WORDS, planning
from client.preview.layout import CSS, HEAD
from client.preview.look import preview
from client.preview.one_round import Answer, asker, scratch_site
from client.preview.page import page
from client.preview.permission import keys_to_change, no_approval
from client.preview.tables import Row, Table, size
from client.preview.words import meaning
from client.quality.check import says_synthetic
from client.quality.page import version
from client.site_config import SiteConfig
from sarco_models.config import StudyConfig, load_config, load_study
from sarco_models.fingerprint_facts import FINGERPRINT
from sarco_models.image_cache import Progress
from sarco_models.messages import Describe, Described
from sarco_models.parameters import Manifest

_SUMMED = {
    "training": "How many of them are in training: they alone are measured. Exact; no epsilon covers it.",
    "moments.count": "For each of the numbers below, how many training participants have it.",
    "moments.total": "For each, the sum over them: with the count it is the mean.",
    "moments.squares": "For each, the sum of squares: it gives the standard deviation.",
    "moments.smallest": "Empty in this study.",
    "moments.largest": "Empty in this study.",
}
_HTML = (
    HEAD
    + """\
<div class="keep"><b>Keep this page inside the hospital.</b> It holds your own numbers, and nobody's image.</div>
<main><h1>Preview of what would leave {{ site }} <span>for the plan of: {{ title }}</span></h1>
<section class="verdict {{ "cannot-check" if refused else "may-join" }}" aria-label="Verdict"><div>
<p class="large">{{ "Nothing of this study would leave today" if refused else bytes ~ " would leave, once" }}</p>
<p>{{ refused or "Sums over your images' sizes and grey levels. Nothing is trained, and no model comes or goes." }}</p>
<p class="next"><b>Next:</b> {{ next }}</p></div></section>
{% for heading, sentences in sections %}<h2>{{ heading }}</h2>
<ul class="steps">{% for line in sentences %}<li>{{ line }}</li>{% endfor %}</ul>{% endfor %}
<h2>What your policy says today</h2>
{% if keys.rows %}{{ table(keys) }}{% else %}<p>Your site.toml allows every request of this study.</p>{% endif %}
<h2>The answer, piece by piece</h2>
{{ table(pieces) }}
{% for line in absent %}<p class="meta">Not in it: {{ line }}.</p>{% endfor %}
<h2>What the coordinator can compute from it</h2>
{% if sums.rows %}{{ table(sums) }}{% else %}<p>Nothing: no sum leaves.</p>{% endif %}
<p class="meta">SHA-256 of the answer as it was made: <code>{{ digest }}</code>. Digest of the study file:
 <code>{{ study }}</code>. Written by <code>sarco-site preview</code>, {{ version }}. It loads nothing and sends
 nothing.</p></main></body></html>
"""
)


def page_of(study_file: Path, site_file: Path, *, image: bool = True, progress: Progress | None = None) -> str:
    """The page of any study: of one round, or of the one answer that a study without a plan asks for.

    Args:
        study_file: of the study.
        site_file: the hospital's site.toml.
        image: whether one participant's image and row are attacked and shown.
        progress: of reading images.

    Raises:
        SarcoError: see :func:`client.preview.look.preview` and :func:`planning_page`.
    """
    if load_study(study_file).unplanned:
        return planning_page(study_file, site_file, progress)
    return page(preview(study_file, site_file, image=image, progress=progress))


def planning_page(study_file: Path, site_file: Path, progress: Progress | None = None) -> str:
    """The page, made by the code that answers the coordinator, on a scratch folder.

    Args:
        study_file: of a study without a plan.
        site_file: the hospital's site.toml.
        progress: of reading images.

    Raises:
        ConfigError: a file is wrong, or the study cannot be answered here whatever the policy says.
        DataError: the hospital's tables are wrong.
    """
    config, study, root = load_config(site_file, SiteConfig), load_study(study_file), site_file.resolve().parent
    lacking = no_approval(Approvals(root / APPROVALS), study, config.policy)
    with tempfile.TemporaryDirectory(prefix="sarco-preview-") as folder:
        site = scratch_site(config, study, root, Path(folder), progress)
        answer = asker(site, config.policy, lacking)(Describe(study.digest))
        keys = keys_to_change(site, Manifest.of({}), config, lacking)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    style = base64.b64encode(hashlib.sha256(CSS.encode()).digest()).decode()
    return environment.from_string(
        _HTML
    ).render(
        policy=f"default-src 'none'; style-src 'sha256-{style}'",
        css=Markup(CSS),  # noqa: S704 - our own constant
        site=config.name,
        title=study.title,
        synthetic=says_synthetic(root / config.data),
        keys=Table(
            (("Key", "name"), ("Write", "value"), ("Because", "means")),
            tuple(Row((k.key, k.write, k.why)) for k in keys),
        ),
        sections=planning(study, config.policy),
        next="read what would leave, change the keys that you agree with, then run this again."
        if answer.refused
        else "sarco-site approve; sarco-site audit show tells later what really left.",
        **_answered(answer, study, config),
        version=version(),
        study=study.digest[:12],
    )


def _answered(answer: Answer, study: StudyConfig, config: SiteConfig) -> dict[str, Any]:
    """What is shown of the answer."""
    head = (
        ("Piece", "name"),
        ("Value", "value"),
        ("What it is", "means"),
        ("Bytes", "num tech"),
        ("SHA-256", "hash tech"),
    )
    rows = []
    for piece in answer.pieces:
        name = piece.part.name
        words = _SUMMED.get(name) or meaning(answer.request, name, study, config.policy.min_cell)
        stays = f"STAYS ({piece.stays}). " if piece.stays else ""
        cells = (name, piece.value, stays + words, f"{piece.part.bytes:,}", piece.part.sha256[:10])
        rows.append(Row(cells, bool(piece.stays)))
    return {
        "refused": answer.refused,
        "bytes": size(answer.num_bytes),
        "pieces": Table(head, tuple(rows), "pieces"),
        "sums": _sums(answer, withheld="sums" not in config.policy.statistics),
        "absent": answer.absent,
        "digest": answer.digest,
    }


def _sums(answer: Answer, *, withheld: bool) -> Table:
    """Column by column, of those that somebody has."""
    head = ("Column", "name"), ("What it is", "means"), ("People", "num"), ("Mean", "num"), ("SD", "num")
    if withheld or not isinstance(answer.reply, Described):
        return Table(head, ())
    moments = answer.reply.moments
    mean, deviation = moments.mean(FINGERPRINT), moments.standard_deviation(FINGERPRINT)
    found = zip(FINGERPRINT, moments.count, mean, deviation, strict=True)
    return Table(
        head, tuple(Row((c.name, WORDS[c.name], f"{int(n):,}", f"{m:.4g}", f"{sd:.4g}")) for c, n, m, sd in found if n)
    )
