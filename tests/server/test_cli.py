"""What the coordinator's commands print is whole: no reason is cut short, and no traffic is nothing."""

from pathlib import Path

from typer.testing import CliRunner

from server.cli import app
from server.runs import Run
from tests.sites import tables_study

REASON = "refused: task_not_allowed, which is a sentence of some length so that no column of a narrow terminal holds it"


def test_show_prints_every_failure_whole_and_small_traffic_in_kb(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", tables_study())
    for k, (down, up) in enumerate(((2_500_000, 3_412), (900_000, 12))):
        failures = {"gamma": REASON, "delta": "no answer before the deadline"} if k else {}
        sites = {"alpha": {"participants": 60, "training": 36}}
        moved = {"bytes_down": down, "bytes_up": up, "seconds": 1.0}
        run.record(k, {"sites": sites, "central": {}, "failures": failures, **moved}, None)
    told = CliRunner().invoke(app, ["show", str(run.folder)])
    assert told.exit_code == 0, told.output
    for words in ("2.5 MB", "3.41 kB", "900 kB", "12 bytes"):
        assert words in told.output, words
    assert f"round 1, gamma: {REASON}\n" in told.output
    assert "round 1, delta: no answer before the deadline: the site is slow" in told.output
    assert "0.00 MB" not in told.output
