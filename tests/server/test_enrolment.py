"""Who may connect: the files that go between a hospital and the coordinator, and the list that counts."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from sarco_models.errors import ConfigError, RunError
from server.control import Control, Node, pem_of
from server.enrolment import enrol, enrolled, key_fingerprint, revoke, synchronize, write_kits
from server.home import Home
from tests.server.a_home import a_home, a_pub, node_key


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return a_home(tmp_path)


def kit_of(home: Home, name: str) -> dict[str, Any]:
    return cast(dict[str, Any], json.loads((home.kits / f"{name}.kit").read_text()))


def test_a_kit_holds_what_the_hospital_needs_and_no_secret(home: Home, tmp_path: Path) -> None:
    done = enrol(home, [a_pub(tmp_path, "alpha")], "alpha")
    assert [site.name for site in done.sites] == ["alpha"]
    assert not done.known_to_flower, "nothing runs"
    text = (home.kits / "alpha.kit").read_text()
    kit = kit_of(home, "alpha")
    assert (kit["version"], kit["site"], kit["address"]) == (1, "alpha", home.config.address)
    assert kit["ca"] == home.ca.read_text()
    assert kit["digest"] == home.study.digest
    assert kit["client_certificate"] is None
    for secret in (home.superexec_secret, home.key, home.folder / "ca.key"):
        assert secret.read_text().splitlines()[0 if secret == home.superexec_secret else 1] not in text


def test_every_kit_names_the_other_hospitals(home: Home, tmp_path: Path) -> None:
    enrol(home, [a_pub(tmp_path, "alpha")])
    assert kit_of(home, "alpha")["peers"] == []
    enrol(home, [a_pub(tmp_path, "beta"), a_pub(tmp_path, "gamma")])
    assert [peer["name"] for peer in kit_of(home, "alpha")["peers"]] == ["beta", "gamma"]
    keys = {site.name: site.identity for site in home.sites()}
    assert {peer["name"]: peer["key"] for peer in kit_of(home, "beta")["peers"]} == {
        name: key for name, key in keys.items() if name != "beta"
    }


def test_a_hospital_is_enrolled_under_the_name_that_it_gives_itself(home: Home, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the file is of alpha"):
        enrol(home, [a_pub(tmp_path, "alpha")], "st_marys")
    assert home.sites() == ()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": 2}, "version"),
        ({"name": "St Mary's"}, "name"),
        ({"node_key": "ssh-ed25519 AAAA"}, "no line of an elliptic-curve key"),
        ({"node_key": node_key(ec.SECP256R1())}, "secp256r1, expected secp384r1"),
        ({"identity": "12"}, "identity"),
        ({"secret": "x"}, "secret"),
    ],
)
def test_a_wrong_pub_file_is_refused_by_its_field(
    home: Home, tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        enrol(home, [a_pub(tmp_path, "alpha", **changes)])
    assert home.sites() == ()


def test_a_file_that_is_no_pub_file_is_refused(home: Home, tmp_path: Path) -> None:
    (tmp_path / "x.pub").write_bytes(b"\x00" * 20_000)
    with pytest.raises(ConfigError, match="10000 bytes"):
        enrol(home, [tmp_path / "x.pub"])
    with pytest.raises(ConfigError, match="absent"):
        enrol(home, [tmp_path / "absent.pub"])


def test_names_and_keys_are_taken_once(home: Home, tmp_path: Path) -> None:
    first = a_pub(tmp_path / "1", "alpha")
    enrol(home, [first])
    with pytest.raises(ConfigError, match="enrolled already, as alpha"):
        enrol(home, [first])
    with pytest.raises(ConfigError, match="two hospitals need two names"):
        enrol(home, [a_pub(tmp_path / "2", "alpha")])
    half = json.loads(first.read_text())
    with pytest.raises(ConfigError, match="enrolled already, as alpha"):
        enrol(home, [a_pub(tmp_path, "beta", node_key=half["node_key"] + " another comment")])
    with pytest.raises(ConfigError, match="enrolled already, as alpha"):
        enrol(home, [a_pub(tmp_path, "beta", identity=half["identity"])])


def test_of_several_files_all_are_enrolled_or_none(home: Home, tmp_path: Path) -> None:
    alpha = a_pub(tmp_path, "alpha")
    with pytest.raises(ConfigError, match="already"):
        enrol(home, [a_pub(tmp_path, "beta"), alpha, alpha])
    assert home.sites() == ()
    assert not list(home.kits.glob("*.kit"))


def test_a_revoked_hospital_comes_back_with_new_keys_only(home: Home, tmp_path: Path) -> None:
    old = a_pub(tmp_path / "old", "alpha")
    enrol(home, [old, a_pub(tmp_path, "beta")])
    revoke(home, "alpha")
    assert [site.name for site in enrolled(home)] == ["beta"]
    assert not (home.kits / "alpha.kit").exists()
    assert kit_of(home, "beta")["peers"] == []
    with pytest.raises(ConfigError, match=r"was revoked on .* and a revoked key stays so"):
        enrol(home, [old])
    enrol(home, [a_pub(tmp_path / "new", "alpha")])
    assert [bool(site.revoked) for site in home.sites() if site.name == "alpha"].count(True) == 1
    assert {site.name for site in enrolled(home)} == {"alpha", "beta"}


def test_who_is_not_enrolled_cannot_be_revoked(home: Home, tmp_path: Path) -> None:
    enrol(home, [a_pub(tmp_path, "beta")])
    with pytest.raises(ConfigError, match="enrolled: beta"):
        revoke(home, "alpha")


def test_kits_carry_a_certificate_where_the_gate_asks_for_one(home: Home, tmp_path: Path) -> None:
    enrol(home, [a_pub(tmp_path, "alpha")])
    path = home.folder / "coordinator.toml"
    path.write_text(path.read_text().replace("client_certificates = false", "client_certificates = true "))
    write_kits(Home.open(home.folder))
    assert kit_of(home, "alpha")["client_certificate"].startswith("-----BEGIN CERTIFICATE-----")


def test_a_fingerprint_is_of_the_keys_and_not_of_the_comment() -> None:
    key, other = node_key(), node_key()
    assert key_fingerprint(key) == key_fingerprint(f"{key} root@somewhere")
    assert len({key_fingerprint(key), key_fingerprint(other), key_fingerprint(key, "00" * 32)}) == 3
    assert [len(group) for group in key_fingerprint(key).split()] == [4] * 5


@dataclass
class StandIn:
    """What Flower has registered."""

    there: dict[str, bytes] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def nodes(self) -> tuple[Node, ...]:
        return tuple(Node(name, 1, False, "", key) for name, key in self.there.items())

    def register(self, key: str, name: str) -> int:
        self.calls.append(f"register {name}")
        self.there[name] = pem_of(key, name)
        return 1

    def unregister(self, name: str, *, keep: bytes = b"") -> None:
        assert self.there.pop(name) != keep
        self.calls.append(f"unregister {name}")


def test_flowers_list_follows_from_ours(home: Home, tmp_path: Path) -> None:
    flower = StandIn({"stranger": b"pem"})
    control = cast(Control, flower)
    enrol(home, [a_pub(tmp_path, "alpha"), a_pub(tmp_path, "beta")])
    synchronize(home, control)
    assert flower.calls == ["unregister stranger", "register alpha", "register beta"]
    assert synchronize(home, control) == ()
    revoke(home, "alpha")
    enrol(home, [a_pub(tmp_path / "new", "alpha")])
    assert synchronize(home, control) == ("alpha: refused from now on", "alpha: may connect from now on")
    assert flower.there["alpha"] == pem_of(enrolled(home)[0].node_key, "alpha")


def test_a_key_that_flower_refuses_costs_the_others_nothing(home: Home, tmp_path: Path) -> None:
    class Refusing(StandIn):
        def register(self, key: str, name: str) -> int:
            if name == "alpha":
                raise RunError("the SuperLink refused register-node: the key is taken")
            return super().register(key, name)

    flower = Refusing()
    enrol(home, [a_pub(tmp_path, "alpha"), a_pub(tmp_path, "beta")])
    with pytest.raises(RunError, match="alpha: the SuperLink refused register-node"):
        synchronize(home, cast(Control, flower))
    assert flower.calls == ["register beta"]


def test_whom_another_process_registers_at_the_same_moment_is_not_thrown_out(home: Home, tmp_path: Path) -> None:
    enrol(home, [a_pub(tmp_path, "alpha")])

    class Twice(StandIn):
        """Between the two questions of one process, another enrols beta; and both want to register alpha."""

        def nodes(self) -> tuple[Node, ...]:
            if not self.there:
                enrol(home, [a_pub(tmp_path, "beta")])
                self.there["beta"] = pem_of(home.sites()[1].node_key, "beta")
            return super().nodes()

        def register(self, key: str, name: str) -> int:
            super().register(key, name)
            raise RunError("the key is taken")

    flower = Twice()
    synchronize(home, cast(Control, flower))
    assert flower.calls == ["register alpha"]


def test_a_home_without_a_study_enrols_nobody(home: Home, tmp_path: Path) -> None:
    good = (home.folder / "study.toml").read_text()
    (home.folder / "study.toml").write_text("nonsense = [")
    pub = a_pub(tmp_path, "alpha")
    with pytest.raises(ConfigError, match=r"study\.toml"):
        enrol(home, [pub])
    assert home.sites() == ()
    (home.folder / "study.toml").write_text(good)
    enrol(home, [pub])


def test_a_hospital_is_shut_out_also_where_no_kits_can_be_written(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol(home, [a_pub(tmp_path, "alpha"), a_pub(tmp_path, "beta")])
    (home.folder / "study.toml").write_text("nonsense = [")
    at_flower: list[tuple[str, ...]] = []

    def told(home: Home) -> bool:
        at_flower.append(tuple(site.name for site in enrolled(home)))
        return True

    monkeypatch.setattr("server.enrolment._tell_flower", told)
    with pytest.raises(ConfigError, match=r"alpha is revoked, .*study\.toml.* sarco-coordinator kits"):
        revoke(home, "alpha")
    assert at_flower == [("beta",)]
    assert not (home.kits / "alpha.kit").exists()


def test_a_home_that_cannot_be_written_is_not_half_changed(home: Home, tmp_path: Path) -> None:
    (home.folder / "sites.lock").mkdir()
    with pytest.raises(RunError, match="nothing was changed"):
        enrol(home, [a_pub(tmp_path, "alpha")])
    assert home.sites() == ()
