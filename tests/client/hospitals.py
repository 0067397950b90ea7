"""One small hospital that answers requests in this process, and every request that a study makes of it."""

import json
from pathlib import Path
from typing import Any

import client.tasks
from client.policy import Policy
from client.workspace import Site, open_site
from sarco_models.config import StudyConfig, merged
from sarco_models.fusion import fixed_tensors
from sarco_models.parameters import Parameters, trained_tensors
from sarco_models.schema import design_columns
from sarco_models.summaries import Moments
from sarco_models.wire import Assess, Describe, Evaluate, Keys, Masking, Probe, Request, Reveal, Setup, Train
from server.runs import start_model
from simulation.harness import affordable, permitting
from tests.sites import tables_site, tables_study

PRIVACY = {
    "privacy": {"epsilon": 8.0, "delta": 1e-3},
    "training": {"local_steps": 2, "balance_classes": False},
}
SECURE = {"federation": {"secure_aggregation": True, "min_sites": 3}}


def hospital(folder: Path, study: StudyConfig | None = None, *, people: int = 60, **policy: Any) -> Site:
    """A hospital of ``people`` people, a third of them cases, that permits what the study needs but for ``policy``.

    None takes a key out of site.toml.
    """
    study = study or tables_study(federation={"min_sites": 3})
    tables_site(folder / "data", people, seed=3)
    (folder / "study.json").write_text(study.model_dump_json())
    write_site_toml(folder, study, **policy)
    return open_site(folder / "site.toml")


def write_site_toml(folder: Path, study: StudyConfig, *, name: str = "alpha", **policy: Any) -> Path:
    keys = merged(permitting(study).model_dump(), policy)
    lines = [f'name = "{name}"', 'data = "data"', 'study = "study.json"', 'label_rule = "invented2026"', "[policy]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items() if value is not None]
    lines += ["[budget]", *(f"{key} = {json.dumps(value)}" for key, value in affordable(study).model_dump().items())]
    path = folder / "site.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def requests(site: Site, study: StudyConfig | None = None) -> dict[str, Request]:
    """Every request of a study, in the order in which a run makes them."""
    study = study or site.study
    start = start_model(study)
    moments = Moments.of(site.split.train, design_columns(study.features), extremes=False)
    setup = Setup(study.digest, Parameters.pack(fixed_tensors(start)), moments)
    weights, last = Parameters.pack(trained_tensors(start.net)), study.federation.rounds
    about = (study.digest, setup.digest)
    masks = Masking(1, 120, json.dumps([[name, "00", "00"] for name in ("alpha", "beta", "gamma")]))
    return {
        "Describe": Describe(study.digest),
        "Setup": setup,
        "Train": Train(*about, 1, weights, masks if study.federation.secure_aggregation else None),
        "Evaluate": Evaluate(*about, last, 0.3, weights),
        "Assess": Assess(*about, last, 0.3, 0.5, weights),
        "Probe": Probe(*about, last, weights),
        "Keys": Keys(*about, 1, 1),
        "Reveal": Reveal(*about, 1, 1),
    }


def policy_without(site: Site, key: str) -> Policy:
    """The site's policy as it is when a key is absent from site.toml."""
    return Policy.model_validate({k: v for k, v in site.policy.model_dump().items() if k != key})


def answer(site: Site, request: Request) -> Any:
    return client.tasks.handle(site, request)
