"""A table as Markdown, CSV and LaTeX. What is SYNTHETIC or calibrated is said in every one of them.

LaTeX is plain ASCII and needs the package booktabs; each file is one or more table environments to input.
"""

import csv
import io
from collections.abc import Iterable

from server.paper.entries import Entry, PaperTable, Part
from server.tables import Cell, Table, TableRow

CSV_COLUMNS = (
    "table", "group", "measure", "definition", "paper", "paper_source", "paper_ci_low", "paper_ci_high", "ours",
    "ci_low", "ci_high", "difference", "paper_inside", "sd_of_seeds", "least", "most", "seeds", "n", "n_positive",
    "fold_mean", "fold_sd", "folds", "data",
)  # fmt: skip
"""Of the files table1.csv to table4.csv: one line for each number; ``ours`` is a mean over seeds, empty = absent."""

LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "±": r"$\pm$",
    "−": r"$-$",
    "–": "--",
    "²": r"$^2$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "’": "'",
    '"': "''",
    "\N{NO-BREAK SPACE}": "~",
    "\N{NARROW NO-BREAK SPACE}": r"\,",
    "\N{SOFT HYPHEN}": r"\-",
}


# --- Markdown ---------------------------------------------------------------------------------------------------------


def as_markdown(table: PaperTable) -> str:
    """The whole table: title, warnings, sources, grids and notes."""
    lines = [f"## {table.title}", ""]
    lines += [f"**{warning}**\n" for warning in table.warnings]
    lines += [f"{source}\n" for source in table.sources]
    for part in table.parts:
        lines += [*markdown_grid(part.shown), "", *([part.note, ""] if part.note else [])]
    lines += [f"- {note}" for note in table.notes]
    return "\n".join(lines).rstrip() + "\n"


def markdown_grid(table: Table) -> list[str]:
    """The lines of one grid, under its caption in bold."""
    align = "|".join(" :-- " if k == 0 or k in table.text else " --: " for k in range(len(table.head)))
    lines = [f"**{_markdown(table.caption)}**", "", _markdown_row(table.head), f"|{align}|"]
    for row in table.rows:
        if row.divider:
            lines.append(_markdown_row([f"**{row.divider}**", *[""] * (len(table.head) - 1)]))
        else:
            lines.append(_markdown_row(["<br>".join((cell.main, *cell.below)) for cell in row.cells]))
    return lines


def _markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(_markdown(cell) for cell in cells) + " |"


def _markdown(text: str) -> str:
    return text.replace("|", "\\|").replace("\N{SOFT HYPHEN}", "")


# --- CSV --------------------------------------------------------------------------------------------------------------


def as_csv(table: PaperTable) -> str:
    """One line for each number, unrounded; see :data:`CSV_COLUMNS`. A P value over several seeds has no mean."""
    ours = "; ".join(warning.partition(":")[0] for warning in table.warnings) or "real"
    data = ours if table.parts else ""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    if not table.parts:
        writer.writerow([table.key, "", "not run", " ".join(table.sources), *[""] * (len(CSV_COLUMNS) - 5), data])
    for entry in table.entries:
        writer.writerow(["" if value is None else value for value in (table.key, *_fields(entry), data)])
    return text.getvalue()


def _fields(entry: Entry) -> list[object]:
    paper, theirs, ours, folds = entry.paper, entry.interval_of_paper, entry.ours, entry.folds
    mean = ours.mean if ours and not (entry.p_value and ours.seeds > 1) else None
    return [
        entry.group,
        entry.measure,
        entry.definition,
        *((("<" if paper.below else "") + f"{paper.value:.10g}", paper.source) if paper else (None, None)),
        *((theirs.low, theirs.high) if theirs else (None, None)),
        mean,
        *((ours.low, ours.high) if ours else (None, None)),
        entry.difference,
        None if entry.inside is None else str(entry.inside).lower(),
        *((ours.sd, ours.least, ours.most, ours.seeds, ours.n, ours.n_positive) if ours else [None] * 6),
        *((folds.mean, folds.sd, folds.folds) if folds else [None] * 3),
    ]


# --- LaTeX ------------------------------------------------------------------------------------------------------------


def as_latex(table: PaperTable) -> str:
    """Table environments with booktabs, one for each grid; the notes stand below the last."""
    lines = [f"% {_one_line(text)}" for text in (table.title, *table.warnings, *table.sources)]
    lines.append(r"% needs \usepackage{booktabs}")
    for number, part in enumerate(table.parts):
        notes = table.notes if number == len(table.parts) - 1 else ()
        lines += _latex_part(table, part, number, notes)
    if not table.parts:
        lines += [r"\begin{table}[htbp]", r"\caption{" + latex_text(table.title) + "}", *_paragraphs(table.sources)]
        lines += [*_paragraphs(table.notes), r"\end{table}"]
    return "\n".join(lines) + "\n"


def _latex_part(table: PaperTable, part: Part, number: int, notes: tuple[str, ...]) -> list[str]:
    marks = " ".join(r"\textbf{" + latex_text(warning.partition(":")[0]) + ".}" for warning in table.warnings)
    caption = " ".join(latex_text(text) for text in (table.title + ":", part.shown.caption, *table.sources))
    columns = "".join("l" if k == 0 or k in part.shown.text else "r" for k in range(len(part.shown.head)))
    lines = [r"\begin{table}[htbp]", r"\centering\scriptsize\setlength{\tabcolsep}{3pt}"]
    lines += [r"\caption{" + f"{marks} {caption}".strip() + "}", r"\label{tab:" + f"{table.key}-{number + 1}" + "}"]
    lines += [r"\begin{tabular}{" + columns + "}", r"\toprule"]
    lines += [" & ".join(latex_text(head) for head in part.shown.head) + r" \\", r"\midrule"]
    lines += [
        line for k, row in enumerate(part.shown.rows) for line in _latex_row(row, len(part.shown.head), first=k == 0)
    ]
    lines += [r"\bottomrule", r"\end{tabular}"]
    return [*lines, *_paragraphs((*table.warnings, part.note, *notes)), r"\end{table}"]


def _latex_row(row: TableRow, columns: int, *, first: bool) -> list[str]:
    if not row.divider:
        return [" & ".join(_latex_cell(cell, column) for column, cell in enumerate(row.cells)) + r" \\"]
    heading = r"\multicolumn{" + str(columns) + r"}{l}{\textbf{" + latex_text(row.divider) + r"}} \\"
    return [heading] if first else [r"\addlinespace", heading]


def _latex_cell(cell: Cell, column: int) -> str:
    if not cell.below:
        return latex_text(cell.main)
    if column == 0:
        return latex_text(f"{cell.main} ({'; '.join(cell.below)})")
    return r"\shortstack[r]{" + r"\\".join(latex_text(text) for text in (cell.main, *cell.below)) + "}"


def _paragraphs(texts: Iterable[str]) -> list[str]:
    return [r"\par\raggedright\scriptsize " + latex_text(text) for text in texts if text]


def _one_line(text: str) -> str:
    """For a comment, which LaTeX does not print: plain ASCII."""
    plain = text.replace("\n", " ").replace("−", "-").replace("–", "-").replace("±", "+-")
    return plain.encode("ascii", "replace").decode("ascii")


def latex_text(text: str) -> str:
    """Text that LaTeX prints as it stands; a character that plain LaTeX lacks becomes "?"."""
    escaped = "".join(LATEX.get(character, character) for character in text)
    return escaped.encode("ascii", "replace").decode("ascii")
