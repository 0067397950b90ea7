"""Names and sizes of what a study's rounds carry: the network is built for it, in a process that ends (apart.py)."""

from __future__ import annotations

from sarco_models.apart import apart
from sarco_models.config import StudyConfig
from sarco_models.parameters import Manifest


def manifest_of(study: StudyConfig) -> Manifest:
    """Manifest of what would leave in a round; no torch is loaded here.

    Raises:
        ConfigError: the network cannot be built.
        ProcessError: memory is short.
    """
    return Manifest.from_json(apart("client.what_leaves:built", {"study": study.model_dump_json()}))


def built(study: str) -> str:
    """The manifest, as text, of a study's network, as text: the work itself."""
    from sarco_models.fusion import build_model
    from sarco_models.parameters import trained_tensors

    agreed = StudyConfig.model_validate_json(study)
    if agreed.unplanned:  # nothing is trained before there is a plan
        return Manifest.of({}).to_json()
    return Manifest.of(trained_tensors(build_model(agreed, weights="none").net)).to_json()
