"""Hospitals that are not as they should be: a clock that is off, a worker that lies.

``hurt`` makes a folder which, first on PYTHONPATH, changes every Python process of one hospital as it starts. All
else of that hospital is the real thing: its keys, its audit, its relay.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sarco_models.parameters import Manifest, Parameters
from sarco_models.wire import Train, Trained
from tests.deployment.started import ROOT

_PLAN = "plan.json"

_SITECUSTOMIZE = '''\
"""Changes this process as plan.json beside this file says."""
import datetime, importlib.abc, importlib.machinery, json, pathlib, sys, time

PLAN = pathlib.Path(__file__).with_name("plan.json")
plan = json.loads(PLAN.read_text())
off = plan.get("clock_s", 0)

if off:
    real, true_time = datetime.datetime, time.time

    class Kind(type):
        def __instancecheck__(cls, value):
            return isinstance(value, real)

    class Shifted(real, metaclass=Kind):
        @classmethod
        def now(cls, tz=None):
            return real.now(tz) + datetime.timedelta(seconds=off)

        @classmethod
        def utcnow(cls):
            return real.utcnow() + datetime.timedelta(seconds=off)

    datetime.datetime = Shifted
    time.time = lambda: true_time() + off


class After(importlib.abc.MetaPathFinder):
    """Changes a module once it is imported."""

    def find_spec(self, name, path, target=None):
        if name != "client.tasks" and not (name == "client.training_round" and plan.get("instant")):
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            import tests.deployment.hurt as hurt

            if plan.get("instant"):
                hurt.at_once(module)
            else:
                module.train = hurt.lying(module.train, PLAN)

        spec.loader.exec_module = exec_module
        return spec


if plan.get("lies") or plan.get("instant"):
    sys.meta_path.insert(0, After())
'''


def hurt(
    folder: Path, *, clock_s: float = 0, lies: Mapping[int, str] | None = None, instant: bool = False
) -> dict[str, str]:
    """Environment of a hospital that is not as it should be.

    Args:
        folder: made; one for each hospital.
        clock_s: how far its clock is ahead.
        lies: round -> the lie that it answers with.
        instant: it does not train at all: a fixed small change is made to every weight, at once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE)
    (folder / _PLAN).write_text(json.dumps({"clock_s": clock_s, "lies": dict(lies or {}), "instant": instant}))
    return {"PYTHONPATH": f"{folder}:{ROOT}"}


def lying(train: Any, plan: Path) -> Any:
    """``train`` that lies as the plan says at that moment."""

    def trained(site: Any, request: Train) -> Trained:
        reply: Trained = train(site, request)
        how = json.loads(plan.read_text())["lies"].get(str(request.round))
        return LIES[how](reply, request.parameters) if how else reply

    return trained


def at_once(module: Any) -> None:
    """Take the training out of :mod:`client.training_round`; whatever else a round costs is left."""
    change: list[Any] = []

    def fit(work: Any, *, seed: int) -> list[float]:
        import torch

        weights = [p for p in work.net.parameters() if p.requires_grad]
        if not change:
            generator = torch.Generator().manual_seed(1)
            change.extend(1e-3 * torch.randn(p.shape, generator=generator) for p in weights)
        with torch.no_grad():
            torch._foreach_add_(weights, change)
        return [0.5]

    module.fit = fit
    module.validation_metrics = lambda *_: {"loss": 0.7, "auc": 0.5}


def _spoiled(reply: Trained, value: float) -> Trained:
    vector = reply.parameters.vector.copy()
    vector[len(vector) // 2] = value
    return replace(reply, parameters=Parameters(reply.parameters.manifest, vector))


def _other_name(reply: Trained, _: Parameters) -> Trained:
    manifest = reply.parameters.manifest
    other = Manifest((f"{manifest.names[0]}_", *manifest.names[1:]), manifest.shapes)
    return replace(reply, parameters=Parameters(other, reply.parameters.vector))


def _other_shape(reply: Trained, _: Parameters) -> Trained:
    manifest = reply.parameters.manifest
    other = Manifest(manifest.names, tuple((*shape, 1) for shape in manifest.shapes))
    return replace(reply, parameters=Parameters(other, reply.parameters.vector))


def _huge(reply: Trained, received: Parameters) -> Trained:
    update = reply.parameters.vector - received.vector
    return replace(reply, parameters=Parameters(received.manifest, received.vector + np.float32(1e4) * update))


LIES: dict[str, Any] = {
    "nan": lambda reply, _: _spoiled(reply, np.nan),
    "infinite": lambda reply, _: _spoiled(reply, np.inf),
    "huge norm": _huge,
    "wrong name": _other_name,
    "wrong shape": _other_shape,
    "stale round": lambda reply, _: replace(reply, round=reply.round - 1),
    "other site": lambda reply, _: replace(reply, site="alpha"),
    "zero weight": lambda reply, _: replace(reply, participants=0),
    "missing metric": lambda reply, _: replace(reply, metrics={}),
    "unknown metric": lambda reply, _: replace(reply, metrics={**reply.metrics, "luck": 1.0}),
    "metric is not finite": lambda reply, _: replace(reply, metrics=dict.fromkeys(reply.metrics, float("nan"))),
}
