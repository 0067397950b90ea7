"""A hospital's folder and the kit for it, as the commands make them, without a coordinator."""

import json
from pathlib import Path
from typing import Any

from client.kit import Kit, read_kit, store
from client.site_folder import Beginning, SiteFolder, make, public_half
from sarco_models.config import StudyConfig
from server.certificates import client_certificate, make_authority
from tests.sites import tables_site, tables_study


def a_study(**changes: Any) -> StudyConfig:
    return tables_study(**{"federation": {"rounds": 2, "min_participants": 2, "min_sites": 1}, **changes})


def a_folder(place: Path, name: str = "alpha", **more: Any) -> SiteFolder:
    data = place / "data"
    if not data.exists():
        tables_site(data, n=40)
    return make(place / "h", Beginning(name, data, **more))


def kit_content(place: Path, folder: SiteFolder, **changes: Any) -> dict[str, Any]:
    """What the coordinator would send."""
    study = a_study()
    authority = make_authority(place / "authority")
    found = {
        "version": 1,
        "site": folder.name,
        "address": "127.0.0.1:8443",
        "ca": authority.pem,
        "study": json.loads(study.model_dump_json()),
        "digest": study.digest,
        "peers": [],
        "client_certificate": client_certificate(authority, str(public_half(folder)["node_key"]), folder.name),
        "issued": "2026-11-20T12:00:00+00:00",
    }
    return {**found, **changes}


def kit_file(place: Path, folder: SiteFolder, **changes: Any) -> Path:
    path = place / f"{folder.name}.kit"
    path.write_text(json.dumps(kit_content(place, folder, **changes)))
    return path


def with_kit(place: Path, folder: SiteFolder, **changes: Any) -> Kit:
    """The folder holds a kit, and the approval of its study; how the labels were made is said where it was not."""
    from client.approval import FILE, Approvals
    from client.site_folder import UNKNOWN_RULE

    kit = read_kit(kit_file(place, folder, **changes), folder.name)
    store(kit, folder)
    said = folder.site_file.read_text().replace(UNKNOWN_RULE, kit.study.label.rule)
    folder.site_file.write_text(said)
    Approvals(folder.path / FILE).record(kit.study, by="Dr. Li")
    return kit
