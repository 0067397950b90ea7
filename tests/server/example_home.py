"""An invented coordinator's home, as the real programs write it, for looking at: nothing in it was ever computed.

``write_home`` makes one in the middle of a private run; ``grow`` lets a round pass; ``finish`` releases the model.
"""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sarco_models.config import StudyConfig, read_toml
from server.dashboard.files import HomeFiles
from server.dashboard.roster import Roster, Seen
from server.dashboard.state import Picture, Watcher

SITES = {"shanghai": (89, 53), "sichuan": (36, 21), "zhongshan": (21, 12)}
SKILL = {"shanghai": 0.83, "sichuan": 0.78, "zhongshan": 0.74, "central": 0.81}
ROUNDS = 20
PRIVACY = {"epsilon": 8.0, "delta": 1e-3, "statistics": "exact", "sample_rate": 0.3, "accountant": "rdp"}
FAILURES: dict[int, dict[str, str]] = {
    3: {"zhongshan": "no answer before the deadline"},
    4: {"zhongshan": "away"},
    6: {"sichuan": "parameters are not finite"},
    7: {"sichuan": "refused: too_late"},
}
CONFIG = Path(__file__).parents[2] / "configs" / "study.toml"


def study(*, private: bool = True, rounds: int = ROUNDS) -> StudyConfig:
    """The shipped study, private or not."""
    tree = read_toml(CONFIG)
    tree["federation"] = {**tree.get("federation", {}), "rounds": rounds, "min_sites": 2, "round_deadline_s": 300.0}
    if private:
        tree["privacy"] = PRIVACY
        tree["training"] = {**tree["training"], "balance_classes": False, "local_steps": 4}
    return StudyConfig.model_validate_json(json.dumps(tree))


def look_at(folder: Path, seen: Mapping[str, Seen] | None = None, run: str = "") -> Picture:
    """One picture, of somebody who has asked Flower before."""
    roster = Roster(None)
    roster._seen, roster._asked = seen, time.time()
    watcher = Watcher(HomeFiles(folder), roster)
    try:
        return watcher.look(run)
    finally:
        watcher.close()


def write(path: Path, content: Any) -> None:
    """JSON, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content), encoding="utf-8")
    part.replace(path)


def write_home(folder: Path, *, rounds: int = 8, private: bool = True, name: str = "muscle") -> Path:
    """A home with one run in which ``rounds`` rounds are complete and the next is under way."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "coordinator.toml").write_text('address = "fl.example.org:8443"\n', encoding="utf-8")
    since = "2026-09-01T08:00:00+00:00"
    keys = [{"name": site, "node_key": "ecdsa-sha2-nistp384 AAAA", "identity": "", "enrolled": since} for site in SITES]
    gone = {"name": "nanjing", "node_key": "ecdsa-sha2-nistp384 BBBB", "identity": "", "enrolled": since}
    write(folder / "sites.json", {"version": 1, "sites": [*keys, {**gone, "revoked": "2026-10-02T08:00:00+00:00"}]})
    write_processes(folder)
    refusals = [
        refusal("203.0.113.7", "", "came without a node key", "if it is a hospital: start it with sarco-site join"),
        refusal("198.51.100.4", "nanjing", "was revoked", "nothing, if that is meant"),
    ]
    (folder / "refusals.jsonl").write_text("".join(json.dumps(r) + "\n" for r in refusals), encoding="utf-8")
    write_run(folder / "runs" / name, rounds=rounds, private=private)
    return folder


def refusal(address: str, site: str, reason: str, fix: str) -> dict[str, Any]:
    """A line of refusals.jsonl."""
    return {"time": "2026-11-20T08:00:00+00:00", "last": "2026-11-20T09:00:00+00:00", "address": address, "site": site,
            "code": "no-key", "reason": reason, "fix": fix, "count": 3}  # fmt: skip


def write_processes(folder: Path, **changed: dict[str, Any]) -> None:
    """run/state.json of a supervisor; the processes are this one."""
    one = {"pid": os.getpid(), "state": "running", "ready": True, "restarts": 0, "since": time.time(), "said": ""}
    write(folder / "run" / "state.json", {n: one | changed.get(n, {}) for n in ("superlink", "superexec", "gate")})


def write_run(run: Path, *, rounds: int, private: bool = True, synthetic: bool = True) -> Path:
    """A run directory with so many complete rounds."""
    cfg = study(private=private)
    write(run / "study.json", json.loads(cfg.model_dump_json()))
    write(run / "run.json", {"study": cfg.digest, "seed": 1, "versions": {}})
    central = run.parent / "central"
    write(central / "manifest.json", {"synthetic": synthetic})
    (run / "coordinator.toml").write_text('central = "../central"\n', encoding="utf-8")
    sites = {site: {"participants": people, "training": training} for site, (people, training) in SITES.items()}
    start = {"central": {"loss": 0.71, "auc": 0.5}, "prevalence": 0.3, "setup": "a" * 64, "failures": {}}
    write(run / "rounds" / "0000.json", {"round": 0, "sites": sites, **start, "bytes_down": 4.1e6, "bytes_up": 2.1e3,
                                         "seconds": 0.0})  # fmt: skip
    for round_ in range(1, rounds + 1):
        write_round(run, round_)
    write_live(run, "round", rounds + 1, {"shanghai": "answered", "sichuan": "asked", "zhongshan": "asked"})
    return run


def write_round(run: Path, round_: int, failures: dict[str, str] | None = None) -> None:
    """One complete round."""
    failures = FAILURES.get(round_, {}) if failures is None else failures
    rng = np.random.default_rng(round_)
    sites = {
        site: {"participants": training, "train_loss": curve(0.69, 0.30, round_), **numbers(site, round_ - 1, rng)}
        for site, (_, training) in SITES.items()
        if site not in failures
    }
    record = {"round": round_, "sites": sites, "central": numbers("central", round_, rng), "failures": failures,
              "attempts": [], "late": {}, "bytes_down": 1.2e6 * 3, "bytes_up": 0.31e6 * len(sites),
              "seconds": 41.0 + float(rng.normal())}  # fmt: skip
    write(run / "rounds" / f"{round_:04d}.json", record)


def curve(start: float, end: float, round_: int) -> float:
    """A number that is learned."""
    return end + (start - end) * float(np.exp(-round_ / 5))


def numbers(site: str, round_: int, rng: np.random.Generator) -> dict[str, float]:
    """Loss and AUC of a site after a round."""
    spread = 0.004 if site == "central" else 0.02
    auc = curve(0.5, SKILL[site], round_) + spread * float(rng.normal())
    return {"loss": curve(0.71, 1.15 - 0.8 * SKILL[site], round_) + spread * float(rng.normal()), "auc": min(auc, 1.0)}


def write_live(run: Path, phase: str, round_: int, states: dict[str, str], **changed: Any) -> None:
    """live.json as server/live.py writes it, of a run that this process is."""
    now = time.time()
    why = {"refused": "refused: the hospital's privacy budget is spent: it raises site.toml [budget]"}
    sites = {name: {"state": state, "why": why.get(state, ""), "seconds": 12.5} for name, state in states.items()}
    state = {"phase": phase, "round": round_, "rounds": ROUNDS, "attempt": 1, "started": now - 20, "needed": 2,
             "deadline": now + 275, "sites": sites, "failure": "", "pid": os.getpid(), "time": now}  # fmt: skip
    write(run / "live.json", state | changed)


def grow(run: Path, round_: int) -> None:
    """Complete a round, and begin the next."""
    write_round(run, round_)
    write_live(run, "round", round_ + 1, dict.fromkeys(SITES, "asked"))


def finish(run: Path, *, leaks: bool = False) -> None:
    """Complete every round, release the model, let it be assessed and probed."""
    for round_ in range(1, ROUNDS + 1):
        write_round(run, round_)
    rng = np.random.default_rng(0)
    sites = {site: {"participants": training, **numbers(site, ROUNDS, rng)} for site, (_, training) in SITES.items()}
    write(run / "model.json", {"study": "", "threshold": 0.314, "prevalence": 0.31, "sites": sites, "failures": {}})
    told = {"participants": 24, "positives": 8, "auc": 0.812, "auc_variance": 0.004, "threshold": 0.314,
            "found": {"right": 6, "wrong": 2}, "spared": {"right": 12, "wrong": 4}, "histogram": None}  # fmt: skip
    hidden = {**told, "participants": 5, "positives": None, "auc": None, "found": None, "spared": None}
    write(run / "assessments.json", {"shanghai": told, "sichuan": hidden})
    write(run / "assessing.json", {"failures": {"zhongshan": "refused: already_assessed"}})
    probed = {"members": 53, "others": 24, "auc": 0.75 if leaks else 0.53, "auc_low": 0.41, "auc_high": 0.65,
              "tpr": 0.02, "tpr_low": 0.0, "tpr_high": 0.1, "fpr": 0.0417}  # fmt: skip
    write(run / "leakage.json", {"sites": {"shanghai": probed}, "failures": {"sichuan": "refused: task_not_allowed"}})
    write_live(run, "done", ROUNDS, {}, deadline=None)
