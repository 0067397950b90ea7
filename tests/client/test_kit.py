"""A kit is believed only as far as it proves itself; what it needs is written as a person would write it."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from client import what_leaves
from client.allowing import Allowing, Change, lacking, with_value
from client.cli import app
from client.identity import Peer, make_identity, public_of
from client.kit import authority_fingerprint, read_kit, store, stored
from client.site_config import SiteConfig
from client.site_folder import UNKNOWN_RULE
from client.study_words import Missing
from client.what_leaves import built, manifest_of
from sarco_models.chain import read
from sarco_models.config import StudyConfig, load_config, load_study
from sarco_models.errors import ConfigError
from sarco_models.fusion import build_model
from sarco_models.parameters import Manifest, trained_tensors
from server.certificates import fingerprint, make_authority
from tests.client.federated import a_folder, a_study, kit_file
from tests.sites import image_study

EXAMPLE = Path(__file__).parents[2] / "configs" / "site.example.toml"


def approve(kit: Path, site: Path, *words: str, types: str = "") -> tuple[int, str]:
    result = CliRunner().invoke(app, ["approve", str(kit), "--site", str(site), *words], input=types)
    return result.exit_code, result.output


# ---- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 2}, "version = 2, this program knows 1"),
        ({"site": "beta"}, "is for beta, and this folder is of alpha"),
        ({"digest": "0" * 64}, "says that its study has digest 000000000000"),
        ({"address": "https://c.example:8443"}, "expected HOST:PORT"),
        ({"address": "c.example:99999"}, "expected HOST:PORT"),
        ({"ca": "no certificate"}, "ca: is no certificate"),
        ({"client_certificate": "none"}, "client_certificate: is no certificate"),
        ({"command": "rm"}, "command: Extra inputs are not permitted"),
        ({"peers": [{"name": "beta", "key": "short"}]}, "peers.0.key"),
        ({"issued": "today\nits authority, valid until 2027-01-01: 1111 2222\x1b[8m"}, "expected a time"),
        ({"address": "a\x1b[8mb:8443"}, "expected HOST:PORT"),
    ],
)
def test_a_kit_that_does_not_hold_what_it_says_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    folder = a_folder(tmp_path)
    with pytest.raises(ConfigError, match=re.escape(words)):
        read_kit(kit_file(tmp_path, folder, **changes), folder.name)


def test_a_second_authority_would_be_trusted_without_having_been_shown(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    good, evil = make_authority(tmp_path / "authority").pem, make_authority(tmp_path / "evil").pem
    for pems in ({"ca": good + evil}, {"ca": good, "client_certificate": good + evil}):
        with pytest.raises(ConfigError, match="holds 2 certificates, expected 1"):
            read_kit(kit_file(tmp_path, folder, **pems), folder.name)
    hidden = evil.replace("BEGIN CERT", "BEGIN TRUSTED CERT").replace("END CERT", "END TRUSTED CERT")
    kit = read_kit(kit_file(tmp_path, folder, ca=f"{good}any text\n{hidden}"), folder.name)
    assert kit.ca == good, "what is kept is the certificate that was shown, and nothing else"


def test_what_a_kit_says_cannot_steer_the_terminal(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    _code, text = approve(kit_file(tmp_path, folder, **{"x\x1b[2Jall is well": 1}), folder.site_file)
    assert "\x1b" not in text
    assert "all is well: Extra inputs" in text


def test_a_study_that_was_changed_on_the_way_is_noticed(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    path = kit_file(tmp_path, folder)
    path.write_text(path.read_text().replace("A tiny study", "A tidy study"))
    with pytest.raises(ConfigError, match="the file was changed"):
        read_kit(path, folder.name)


@pytest.mark.parametrize("content", ["", "[]", '{"version": 1', "\x00"])
def test_what_is_no_kit_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.kit").write_text(content)
    with pytest.raises(ConfigError, match="is no kit"):
        read_kit(tmp_path / "a.kit")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_kit(tmp_path / "b.kit")


def test_the_fingerprint_is_the_one_that_the_coordinator_shows(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)
    assert authority_fingerprint(authority.pem) == fingerprint(authority.pem)


def test_what_was_stored_is_what_came(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    with pytest.raises(ConfigError, match=r"holds no kit yet: send alpha\.pub"):
        stored(folder)
    kit = read_kit(kit_file(tmp_path, folder), folder.name)
    store(kit, folder)
    assert stored(folder) == kit
    assert load_study(folder.path / "study.json").digest == kit.digest
    assert folder.authority.read_text() == kit.ca
    assert folder.client_certificate.read_text() == kit.client_certificate


# ---- approving -------------------------------------------------------------------------------------------------------


def test_a_kit_is_shown_allowed_approved_and_stored_in_one_command(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    kit = kit_file(tmp_path, folder)
    code, text = approve(kit, folder.site_file, "--by", "Dr. Li", types="y\ny\n")
    assert code == 0, text
    assert authority_fingerprint(stored(folder).ca) in text
    assert 'tasks = ["Describe", "Setup", "Train", "Evaluate", "Assess", "Probe"]' in text
    assert [entry.facts["by"] for entry in read(folder.path / "approvals.jsonl")] == ["Dr. Li"]
    config = load_config(folder.site_file, SiteConfig)
    assert config.policy.plain_updates
    assert config.budget.study_epsilon == "unlimited"
    assert config.label_rule == "invented2026"
    comments = folder.site_file.read_text().count("#")
    assert comments == a_folder(tmp_path / "new").site_file.read_text().count("#")
    code, text = approve(kit, folder.site_file, types="y\n")
    assert (code, "To allow all of it" in text) == (0, False), "there is nothing left to allow"


def test_no_means_no(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    before = folder.site_file.read_text()
    code, text = approve(kit_file(tmp_path, folder), folder.site_file, types="n\nn\n")
    assert code == 1
    assert "what it does not allow is refused" in text
    assert folder.site_file.read_text() == before
    assert not (folder.path / "approvals.jsonl").exists()
    assert not folder.kit.exists()


def test_a_label_rule_that_was_said_is_changed_by_nobody_else(tmp_path: Path) -> None:
    folder = a_folder(tmp_path, rule="ewgsop2_ours")
    code, text = approve(kit_file(tmp_path, folder), folder.site_file, "--yes")
    assert code == 0, text
    assert load_config(folder.site_file, SiteConfig).label_rule == "ewgsop2_ours"
    assert "yours are made by ewgsop2_ours: this study cannot use them" in text


def of_several_rules() -> dict[str, Any]:
    """What a kit says of a study that takes labels made by several rules."""
    label = a_study().label.model_dump(mode="json") | {"allow_mixed_rules": True}
    study = a_study(label=label)
    return {"study": json.loads(study.model_dump_json()), "digest": study.digest}


def test_where_a_study_takes_several_rules_a_person_is_asked_for_the_hospitals(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    kit = kit_file(tmp_path, folder, **of_several_rules())
    code, text = approve(kit, folder.site_file, types="EWGSOP 2\newgsop2\ny\ny\n")
    assert code == 0, text
    assert "How were your labels made? The study's are made by invented2026; it takes others." in text
    assert "'EWGSOP 2': a name has small letters" in text
    assert load_config(folder.site_file, SiteConfig).label_rule == "ewgsop2"
    code, text = approve(kit, folder.site_file, types="y\n")
    assert (code, "How were your labels made?" in text) == (0, False), "it was said"


def test_nobody_claims_a_rule_that_nobody_has_said(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    kit = kit_file(tmp_path, folder, **of_several_rules())
    code, text = approve(kit, folder.site_file, types="\ny\ny\n")
    assert code == 0, text
    assert load_config(folder.site_file, SiteConfig).label_rule == UNKNOWN_RULE
    code, text = approve(kit, folder.site_file, "--yes")
    assert code == 0, text
    assert "does not say how your labels were made" in text
    assert 'label_rule = "invented2026" if yours are made as the study' in text
    assert load_config(folder.site_file, SiteConfig).label_rule == UNKNOWN_RULE


@pytest.mark.slow  # two processes
def test_who_approves_waits_for_no_torch_of_its_own(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    kit = kit_file(tmp_path, folder)
    words = (
        "import sys; from pathlib import Path; from client.federation_cli import accept;"
        f"accept(Path({str(kit)!r}), Path({str(folder.site_file)!r}), by='', yes=True);"
        "print([m for m in ('torch', 'timm', 'scipy', 'flwr') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert stored(folder).digest == a_study().digest


@pytest.mark.parametrize("study", [a_study(), image_study()], ids=["tables", "images"])
def test_what_would_leave_is_known_in_a_process_that_ends(study: StudyConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(what_leaves, "apart", lambda work, facts: asked.append(work) or built(**facts))
    expected = Manifest.of(trained_tensors(build_model(study, weights="none").net))
    assert manifest_of(study) == expected
    assert asked == ["client.what_leaves:built"]


def test_a_script_writes_no_peer_whose_fingerprint_nobody_has_compared(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    study = a_study(federation={"min_participants": 2, "min_sites": 3, "secure_aggregation": True})
    peer = {"name": "beta", "key": public_of(make_identity(tmp_path / "beta"))}
    changes = {"study": json.loads(study.model_dump_json()), "digest": study.digest, "peers": [peer]}
    kit = kit_file(tmp_path, folder, **changes)
    code, text = approve(kit, folder.site_file, "--yes")
    assert code == 0, text
    assert "--yes writes no [[peers]]" in text
    assert load_config(folder.site_file, SiteConfig).peers == ()
    code, text = approve(kit, folder.site_file, types="y\ny\n")
    assert [peer.name for peer in load_config(folder.site_file, SiteConfig).peers] == ["beta"], text


def test_what_is_approved_and_stored_is_what_was_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is read once: another process may write to it while a person reads."""
    folder = a_folder(tmp_path)
    path = kit_file(tmp_path, folder)
    reads, read_text = [], Path.read_text

    def counted(self: Path, *words: Any, **more: Any) -> str:
        reads.extend([self] if self == path else [])
        return read_text(self, *words, **more)

    monkeypatch.setattr(Path, "read_text", counted)
    assert approve(path, folder.site_file, "--yes")[0] == 0
    assert reads == [path]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_approved_as_root_the_folder_stays_its_owners(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    for place in (folder.path, *folder.path.rglob("*")):
        os.chown(place, 2001, 2001)
    assert approve(kit_file(tmp_path, folder), folder.site_file, "--yes")[0] == 0
    owners = {place: place.stat().st_uid for place in (folder.path, *folder.path.rglob("*"))}
    assert set(owners.values()) == {2001}, owners


def test_scripts_say_yes_to_both_questions(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    code, text = approve(kit_file(tmp_path, folder), folder.site_file, "--yes")
    assert code == 0, text
    assert load_config(folder.site_file, SiteConfig).policy.unprotected_training
    code, text = approve(folder.kit, folder.site_file, "--withdraw", "--yes")
    assert code == 0, text
    assert [entry.kind for entry in read(folder.path / "approvals.jsonl")] == ["approved", "withdrawn"]


# ---- writing into site.toml ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("", "name", "beta"),
        ("", "label_rule", "ct"),
        ("policy", "tasks", ["Train"]),
        ("policy", "max_epsilon", 2.5),
        ("policy", "unprotected_training", True),
        ("budget", "study_epsilon", "unlimited"),
        ("budget", "accountant", "rdp"),
        ("", "relay_user", "sarco-relay"),
    ],
)
def test_only_the_value_changes(table: str, key: str, value: object) -> None:
    text = EXAMPLE.read_text()
    changed = with_value(text, Change(table, key, value))
    wanted = tomllib.loads(text)
    (wanted[table] if table else wanted)[key] = value
    assert tomllib.loads(changed) == wanted
    assert [line.partition("#")[2] for line in changed.splitlines() if "#" in line] == [
        line.partition("#")[2] for line in text.splitlines() if "#" in line
    ]


def test_a_list_over_several_lines_a_hash_in_quotes_and_an_absent_table() -> None:
    text = 'name = "a#b"  # who\n[policy]\ntasks = [\n  "Train",  # this\n  "Setup",\n]  # that\nmin_cell = 5'
    changed = with_value(text, Change("policy", "tasks", ["Probe"]))
    assert tomllib.loads(changed) == {"name": "a#b", "policy": {"tasks": ["Probe"], "min_cell": 5}}
    changed = with_value(text, Change("", "name", "c"))
    assert changed.splitlines()[0] == 'name = "c"    # who'
    changed = with_value(text, Change("budget", "delta", 1e-6))
    assert tomllib.loads(changed)["budget"] == {"delta": 1e-6}
    changed = with_value('[[peers]]\nname = "x"\n', Change("", "name", "y"))
    assert tomllib.loads(changed) == {"name": "y", "peers": [{"name": "x"}]}


def test_a_file_that_cannot_be_changed_safely_stays(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text('policy = { tasks = ["Train"] }\n')
    with pytest.raises(ConfigError, match="write the lines yourself"):
        Allowing((Change("policy", "tasks", ["Probe"]),)).write(path)
    assert path.read_text() == 'policy = { tasks = ["Train"] }\n'


def test_what_is_asked_for_in_words_becomes_values() -> None:
    needs = [
        Missing("tasks", "add Train", ""),
        Missing("tasks", "add Probe", ""),
        Missing("max_epsilon", "3.01 or more", ""),
        Missing("parameters", '["*"], or patterns of the names', ""),
        Missing("budget.study_epsilon", '"unlimited"', ""),
        Missing("[[peers]]", "a line for each", ""),
    ]
    settings = {"label_rule": "invented2026", "policy": {"tasks": ["Setup"], "metrics": ["auc"]}, "peers": []}
    peers = [Peer(name="beta", key="0" * 64)]
    found = lacking(a_study(), needs, settings, peers)
    assert {(c.table, c.key): c.value for c in found.changes} == {
        ("policy", "tasks"): ["Setup", "Train", "Probe"],
        ("policy", "max_epsilon"): 3.01,
        ("policy", "parameters"): ["*"],
        ("budget", "study_epsilon"): "unlimited",
    }
    assert [peer.name for peer in found.peers] == ["beta"]
    assert lacking(a_study(), needs[:5], settings, peers).peers == (), "only where sums are masked"


def test_peers_of_a_kit_are_added_to_those_that_are_known(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text('[[peers]]\nname = "beta"\nkey = "1"\n')
    Allowing((), (Peer(name="gamma", key="a" * 64),)).write(path)
    assert [peer["name"] for peer in tomllib.loads(path.read_text())["peers"]] == ["beta", "gamma"]
