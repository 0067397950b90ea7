"""A hospital's folder: where everything that joins a federation lies, made once, with rights that keep it private.

    site.toml         what the hospital allows; nothing, when it is made
    approvals.jsonl   who approved which study
    study.json        the study that was approved
    state/            audit log, ledger, the hospital's own key
    keys/             the key by which the coordinator knows this hospital, and its public half
    NAME.pub          what is sent to the coordinator: public halves only
    kit/              what came back: address, certificate authority, study
    run/              the worker's socket, the state of the processes
    logs/             what the processes say
    cache/            preprocessed pixels; may be deleted at any time
    flower/           Flower's own folder, of the relay's account where there is one

Keys are never replaced, the data are never touched.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client import identity
from client.identity import identity_of, make_identity, public_of
from client.node_key import make_node_key, node_line
from client.private_files import write_private
from sarco_models.config_files import read_toml
from sarco_models.errors import ConfigError

SITE_FILE = "site.toml"
LONGEST_SOCKET = 107
"""Bytes of the path of a Unix socket."""

_COLUMN = 33
UNKNOWN_RULE = "not_said_yet"
_NAME = re.compile(r"[a-z][a-z0-9_]*")

_SITE_TOML = """\
# What {name} says of itself and allows. This file stays here; no study and no coordinator can change it.
# Whatever a key does not allow is refused. sarco-site approve offers to write what a study needs; every key is
# explained in configs/site.example.toml. Paths are absolute, or relative to this file.

name = "{name}"
data = {data}
study = "study.json"             # sarco-site approve puts it here
cache = "cache"                  # preprocessed pixels; may be deleted at any time
state = "state"                  # ledger, audit log, own key: keep it, back it up, never edit it
label_rule = {rule} # how your labels were made, such as awgs2019
threads = 1                      # processor threads of one training
device = "auto"                  # auto, cpu, cuda, cuda:1, mps
relay_user = {relay} # account of Flower's programs, which sees no data; needs sarco-site join as root

[policy]
tasks = []                       # requests that are answered
metrics = []                     # may leave: train_loss, loss, auc, dice (the last three: validation participants)
statistics = []                  # may leave: sums, histogram, assessment, leakage
min_training_participants = 10   # with fewer people in training, nothing leaves
min_cell = 5                     # sums, metrics and counts of fewer people than this stay here
min_sites = 3                    # a study must not count a round of fewer hospitals
max_epsilon = 0.0                # greatest epsilon that one study may promise
unprotected_training = false     # true: models trained WITHOUT differential privacy may leave, too
plain_updates = false            # true: the coordinator may see your own update, not only the sum over hospitals
parameters = []                  # names of parameters that may leave, as patterns: "branches.*", "output.*", "*"
max_parameter_bytes = 0          # of one update

[budget]
lifetime_epsilon = 0.0           # of all studies together, for each participant; "unlimited" must be said
study_epsilon = 0.0              # of one study; "unlimited" must be said
delta = 1e-5                     # below one divided by the number of your participants
accountant = "prv"               # prv (tighter) or rdp
"""


@dataclass(frozen=True)
class SiteFolder:
    """An existing hospital folder; ``path`` is absolute."""

    path: Path

    @staticmethod
    def open(place: Path) -> SiteFolder:
        """The folder that a command was given, or that of a site.toml.

        Raises:
            ConfigError: there is no site.toml.
        """
        folder = place.parent if place.name == SITE_FILE else place
        if not (folder / SITE_FILE).is_file():
            raise ConfigError(
                f"{folder}: is not a hospital's folder (site.toml is absent): name one, or make it: sarco-site init "
                f"{folder} --name NAME --data DATA"
            )
        return SiteFolder(folder.resolve())

    @property
    def site_file(self) -> Path:
        """What the hospital allows."""
        return self.path / SITE_FILE

    @property
    def state(self) -> Path:
        """Audit log, ledger, own key."""
        return self.path / str(self.settings.get("state", "state"))

    @property
    def cache(self) -> Path:
        """Preprocessed pixels."""
        return self.path / str(self.settings.get("cache", "cache"))

    @property
    def audit(self) -> Path:
        """What was asked, decided and sent (:mod:`client.audit`)."""
        return self.state / "audit.jsonl"

    @property
    def node_key(self) -> Path:
        """Key that the SuperNode signs requests with."""
        return self.path / "keys" / "node.pem"

    @property
    def kit(self) -> Path:
        """What the coordinator has sent, as it came."""
        return self.path / "kit" / "kit.json"

    @property
    def authority(self) -> Path:
        """Certificate of the coordinator's authority."""
        return self.path / "kit" / "ca.pem"

    @property
    def client_certificate(self) -> Path:
        """Certificate of this hospital's node key, where the coordinator's gate asks for one."""
        return self.path / "kit" / "client.pem"

    @property
    def run(self) -> Path:
        """The worker's socket and the state of the processes."""
        return self.path / "run"

    @property
    def socket(self) -> Path:
        """Where the worker listens."""
        return self.run / "worker.sock"

    @property
    def state_file(self) -> Path:
        """Which processes run."""
        return self.run / "state.json"

    @property
    def logs(self) -> Path:
        """What the processes say."""
        return self.path / "logs"

    @property
    def flower(self) -> Path:
        """Flower's own folder: of the relay's account."""
        return self.path / "flower"

    @property
    def contact(self) -> Path:
        """How the connection stands; written by the SuperNode's launcher."""
        return self.flower / "contact.json"

    @property
    def settings(self) -> dict[str, Any]:
        """site.toml as it stands, not checked: checking it needs the whole of the science."""
        return read_toml(self.site_file)

    @property
    def name(self) -> str:
        """The hospital's name."""
        return str(self.settings.get("name", ""))

    @property
    def data(self) -> Path:
        """Where the participants' data lie."""
        return self.path / str(self.settings.get("data", "data"))

    @property
    def relay_user(self) -> str:
        """Account of Flower's programs; empty: the one that joins."""
        return str(self.settings.get("relay_user", ""))


@dataclass(frozen=True)
class Beginning:
    """What a new hospital folder is made of.

    Attributes:
        name: of the hospital, as the coordinator is to know it.
        data: folder with the participants' data.
        rule: how the labels were made; empty: not said yet.
        relay_user: account for Flower's programs; empty: none of their own.
    """

    name: str
    data: Path
    rule: str = ""
    relay_user: str = ""


def make(folder: Path, beginning: Beginning) -> SiteFolder:
    """Make a hospital's folder, or complete one that is there: keys and site.toml are never replaced.

    Raises:
        ConfigError: the name, the folder or the data cannot be used.
    """
    _check(folder, beginning)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder = folder.resolve()
        for name in ("state", "keys", "kit", "run", "logs", "flower", "cache"):
            (folder / name).mkdir(exist_ok=True)
            (folder / name).chmod(0o700)
        folder.chmod(0o711 if beginning.relay_user else 0o700)  # the relay has to pass through, not to look
        if not (folder / SITE_FILE).exists():
            write_private(folder / SITE_FILE, _site_toml(beginning))
        found = SiteFolder(folder)
        make_identity(found.state)
        make_node_key(found.node_key, beginning.name)
        write_private(folder / f"{beginning.name}.pub", json.dumps(public_half(found), indent=1) + "\n", 0o644)
    except OSError as error:
        raise ConfigError(
            f"{error.filename or folder}: {error.strerror}: name a folder that you may write to, on a disk with room"
        ) from None
    return found


def _check(folder: Path, beginning: Beginning) -> None:
    _check_names(beginning)
    if not beginning.data.is_dir():
        raise ConfigError(f"--data {beginning.data}: there is no such folder: name the one with participants.csv")
    if beginning.data.resolve() == folder.resolve():
        raise ConfigError(f"{folder}: holds the data: choose another folder, for this one gets keys and logs")
    length = len(os.fsencode(folder.resolve() / "run" / "worker.sock"))
    if length > LONGEST_SOCKET:
        raise ConfigError(
            f"{folder}: its worker's socket would have a path of {length} bytes, and the limit of this system is "
            f"{LONGEST_SOCKET}: choose a folder with a shorter path"
        )
    there = folder / SITE_FILE
    if there.exists():
        name = read_toml(there).get("name")
        if name != beginning.name:
            raise ConfigError(
                f"{there}: is of {name}, and --name is {beginning.name}: choose another folder, or the same name"
            )


def _check_names(beginning: Beginning) -> None:
    if not _NAME.fullmatch(beginning.name):
        raise ConfigError(
            f"--name {beginning.name!r}: a name has small letters, digits and _, and begins with a letter: such as "
            "hospital_a"
        )
    if beginning.rule and not _NAME.fullmatch(beginning.rule):
        raise ConfigError(
            f"--label-rule {beginning.rule!r}: a name has small letters, digits and _, and begins with a letter: such "
            "as awgs2019, ewgsop2, ct_l3_smi"
        )


def _site_toml(beginning: Beginning) -> str:
    return _SITE_TOML.format(
        name=beginning.name,
        data=json.dumps(str(beginning.data.resolve()), ensure_ascii=False),
        rule=json.dumps(beginning.rule or UNKNOWN_RULE).ljust(_COLUMN - len("label_rule = ") - 1),
        relay=json.dumps(beginning.relay_user).ljust(_COLUMN - len("relay_user = ") - 1),
    )


def public_half(folder: SiteFolder) -> dict[str, object]:
    """What the coordinator is sent: the name and two public keys."""
    return {
        "version": 1,
        "name": folder.name,
        "node_key": node_line(folder.node_key),
        "identity": public_of(identity_of(folder.state)),
    }


def fingerprint(folder: SiteFolder) -> str:
    """Twenty digits over both public keys, to read out to the coordinator, whose enrol command shows the same."""
    half = public_half(folder)
    blob = base64.b64decode(str(half["node_key"]).split()[1])
    digits = hashlib.sha256(blob + bytes.fromhex(str(half["identity"]))).hexdigest()
    return " ".join(digits[k : k + 4] for k in range(0, 20, 4))


def told(folder: SiteFolder, asked: Beginning) -> Iterator[str]:
    """What was made, and what comes next."""
    pub = folder.path / f"{asked.name}.pub"
    yield f"{folder.path}: the folder of {asked.name}. It allows nothing yet; keep it out of shared backups."
    if not (folder.data / "participants.csv").exists() and not list(folder.data.glob("participants.*")):
        yield f"{folder.data}: holds no participants.csv yet: sarco-site ingest or sarco-site check-data helps"
    if folder.settings.get("label_rule") == UNKNOWN_RULE:
        yield (
            f"How your labels were made is not said yet: label_rule in {folder.site_file}, such as awgs2019. "
            "sarco-site approve asks for it; without it nobody joins a study that learns from labels."
        )
    yield ""
    yield f"1. Send this file to the coordinator: {pub}"
    yield f"   Read its fingerprint out over the telephone: {fingerprint(folder)}"
    key = identity.fingerprint(public_of(identity_of(folder.state)))
    yield f"   Other hospitals compare another one, of the key for sums under masks: {key}"
    yield f"2. When the kit has come back: sarco-site approve {asked.name}.kit --site {folder.site_file}"
    yield f"3. sarco-site doctor {folder.path}"
    yield f"4. sarco-site join {folder.path}"
