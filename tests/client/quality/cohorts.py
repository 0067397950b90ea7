"""Clean synthetic tables of the three centres, and how a test changes and reads them."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from sarco_models.config import StudyConfig, load_study
from sarco_models.errors import Finding
from sarco_models.schema import ParticipantTable, examine_participants
from simulation.centers import CENTERS, PRESETS, counts_at
from simulation.tables import DECIMALS, draw_people

STUDY: StudyConfig = load_study(Path(__file__).parents[3] / "configs/study.toml")
RULE = {"shanghai": "awgs2019", "sichuan": "awgs2019", "zhongshan": "ct_l3_smi"}


def clean(center: str = "shanghai", scale: str = "small", seed: int = 11) -> pd.DataFrame:
    """A centre's table as the synthetic hospitals have it, without files or images."""
    preset = PRESETS["paper_matched"]
    counts = counts_at(CENTERS[center], scale, preset).participants
    return draw_people(CENTERS[center], counts, preset, np.random.default_rng(seed)).table


def examined(folder: Path, table: pd.DataFrame, study: StudyConfig = STUDY) -> ParticipantTable:
    """The table written as participants.csv and read back; row 2 is the first person."""
    path = folder / "participants.csv"
    texts = {c: [_text(v, DECIMALS.get(str(c))) for v in table[c]] for c in table.columns}
    frame = pd.DataFrame({"participant_id": [f"P{k:04d}" for k in range(len(table))], **texts})
    frame.to_csv(path, index=False)
    return examine_participants(path, study)


def _text(value: str | float | None, decimals: int | None) -> str:
    if value is None or isinstance(value, str) or np.isnan(value):
        return value if isinstance(value, str) else ""
    shown = f"{value:.{decimals or 0}f}"
    return shown if decimals is not None and np.isclose(float(shown), value, rtol=1e-9) else f"{value:.6g}"


def rules(findings: Iterable[Finding]) -> Counter[tuple[str, str, str]]:
    """How often each (severity, rule, column) was found."""
    return Counter((f.severity, f.rule, f.field) for f in findings)
