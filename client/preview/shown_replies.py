"""Every reply of a preview, piece by piece: its value, its bytes, its hash, and one sentence on what it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from markupsafe import Markup, escape

from client.preview.drawings import histogram
from client.preview.look import Preview
from client.preview.one_round import Answer, Piece
from client.preview.tables import Row, Table, size
from client.preview.words import PARAMETERS, WHEN, meaning, what
from client.update_words import form
from sarco_models.messages import Updated
from sarco_models.schema import design_columns

_SHOWN = 9
"""Tensors of a reply that are seen at once; of more, the first and a line that unfolds the rest."""

_YES, _NO = Markup('<span class="yes">leaves</span>'), Markup('<span class="no">refused</span>')


def replies(found: Preview) -> Table:
    """One line for each request."""
    rows = []
    for a in found.answers:
        today = _NO if a.refused else _today(a, found)
        sizes = size(a.num_bytes), size(a.num_bytes * a.times)
        rows.append(Row((a.request, WHEN[a.request], what(a.request, found.study), *sizes, today)))
    rows.append(Row(("Together", "", "", size(found.bytes_a_round) + " a round", size(found.bytes_in_all), "")))
    head = ("Request", "name"), ("When", "when"), ("What it is", "means"), ("Once", "num"), ("Whole study", "num")
    return Table((*head, ("Today", "")), tuple(rows))


def detail(answer: Answer, found: Preview) -> dict[str, Any]:
    """A reply, piece by piece."""
    rows = [(p, _piece_row(answer, p, found)) for p in answer.pieces]
    vectors = [r for p, r in rows if p.part.kind == "parameter"]
    others = _of_other_muscles(answer, found)
    plain = [r for p, r in rows if p.part.kind != "parameter" and p not in others]
    sums = answer.request == "Describe" and bool(found.study.inputs)
    extra, extra_words = _sums(found) if sums else (_table(()), "")
    drawing, drawing_words = _drawn(answer, found)
    total = sum(p.part.bytes for p in answer.pieces if p.part.kind == "parameter")
    return {
        "request": answer.request,
        "title": f"{answer.request} → {type(answer.reply).__name__}",
        "size": f"{size(answer.num_bytes)}, {WHEN[answer.request]}",
        "open": answer.request in ("Describe", "Train", "Evaluate"),
        "what": _what(answer, found, bool(vectors)),
        "pieces": _table((*plain, *vectors) if len(vectors) <= _SHOWN else (*plain, *vectors[:3])),
        "folded": _table([r for p, r in rows if p in others] or (vectors[3:] if len(vectors) > _SHOWN else ())),
        "folded_words": "the same of the other muscles"
        if others
        else f"the other {len(vectors) - 3} tensors (all {len(vectors)}: {size(total)})",
        "drawing": drawing,
        "drawing_words": drawing_words,
        "extra": extra,
        "extra_words": extra_words,
        "absent": answer.absent,
        "digest": answer.digest,
    }


def _of_other_muscles(answer: Answer, found: Preview) -> list[Piece]:
    """Figures of all muscles but the one of which most is told: the same again, and many."""
    cfg = found.study.segmentation
    of = (
        {name: [p for p in answer.pieces if p.part.name.startswith(f"metrics.{name}.")] for name in cfg.names}
        if cfg
        else {}
    )
    told = [pieces for pieces in of.values() if pieces]
    most = max(told, key=len, default=[])
    return [p for pieces in told if pieces is not most for p in pieces]


def _today(answer: Answer, found: Preview) -> Markup:
    """Rounds that the ledger lets through leave, the others do not."""
    if answer.times > 1 and found.rounds_left < answer.times:
        return Markup('<span class="no">until round {}</span>').format(found.rounds_left)
    return _YES


def _what(answer: Answer, found: Preview, parameters: bool) -> str:
    words = what(answer.request, found.study) + (f" {PARAMETERS}" if parameters else "")
    if isinstance(answer.reply, Updated):
        words += f" {form(found.study.federation)}"
    own = answer.refused and answer.refused != found.answers[0].refused  # what holds for all is said once, above
    return words + (f" Refused today: {answer.refused}." if own else "")


def _table(rows: Iterable[Row]) -> Table:
    head = ("Piece", "name"), ("Value", "value"), ("What it is", "means"), ("Shape", "tech"), ("Type", "tech")
    return Table((*head, ("Bytes", "num tech"), ("SHA-256", "hash tech")), tuple(rows), "pieces")


def _piece_row(answer: Answer, piece: Piece, found: Preview) -> Row:
    part = piece.part
    words = meaning(answer.request, part.name, found.study, found.config.policy.min_cell)
    shape = " × ".join(str(n) for n in part.shape) or "–"
    stays = f"STAYS ({piece.stays}). " if piece.stays else ""
    value = piece.value if len(piece.value) <= 24 else piece.value[:16] + "…"
    cells = (piece_name(part.name), value, stays + words, shape, part.dtype, f"{part.bytes:,}", part.sha256[:10])
    return Row(cells, bool(piece.stays))


def piece_name(name: str) -> Markup:
    """A piece's name without what all of its kind have in common; a long one breaks after its dots."""
    short = escape(name.removeprefix("parameters.").removeprefix("update.").removeprefix("evaluation."))
    return Markup(".<wbr>").join(short.split("."))


def _sums(found: Preview) -> tuple[Table, str]:
    """What the coordinator can compute from the sums."""
    columns, moments = design_columns(found.study.features), found.described.moments
    mean, deviation = moments.mean(columns), moments.standard_deviation(columns)
    rows = tuple(
        Row((c.name, f"{int(n):,}", f"{m:.4g}", f"{sd:.4g}"))
        for c, n, m, sd in zip(columns, moments.count, mean, deviation, strict=True)
        if n
    )
    private = found.study.privacy is not None and found.study.privacy.statistics == "private"
    noise = "noise included" if private else "exact: two runs that differ by one person differ by that person's row"
    words = f"What the coordinator can compute from these sums, column by column ({noise})"
    return Table((("Column", "name"), ("People", "num"), ("Mean", "num"), ("SD", "num")), rows), words


def _drawn(answer: Answer, found: Preview) -> tuple[Markup, str]:
    shown = found.evaluated.histogram
    if answer.request != "Evaluate" or shown is None:
        return Markup(), ""
    if found.study.segments:
        words = (
            f"The counts as they leave: {int(shown.positives.sum())} validation participants found well above the "
            f"line, {int(shown.negatives.sum())} found badly below it, by quality score. Neighbouring bins are merged "
            f"until no count is of fewer than {found.config.policy.min_cell}."
        )
        return histogram(shown, "quality score"), words
    words = (
        f"The histogram as it leaves: {int(shown.positives.sum())} training participants with "
        f"{found.study.label.condition} above the line, {int(shown.negatives.sum())} without below it, by predicted "
        f"probability. Neighbouring bins are merged until no count is of fewer than {found.config.policy.min_cell}."
    )
    return histogram(shown), words
