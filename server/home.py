"""The coordinator's home: one folder with its choices, keys, enrolled hospitals, database, runs and logs.

    coordinator.toml      address, ports, the gate's limits, choices of every run; the only file written by hand
    study.toml            the study that the kits carry
    ca.pem  ca.key        the authority that signs both certificates; whoever has ca.key can pass for this coordinator
    server.pem  .key      certificate of the gate, for the address that hospitals connect to
    loopback.pem  .key    certificate of the SuperLink, for this machine alone
    secrets/superexec     what a process must know to be given a run's work
    sites.json            enrolled hospitals: name, keys, when; a revoked one stays in the list
    departures.json       who has ended its connection by itself, and when, until it is back (server/departures.py)
    kits/NAME.kit         one file for each hospital: address, authority, study, peers; no secret
    superlink.sqlite      Flower's database: messages under way, keys of the registered sites
    superlink.objects/    what those messages carry
    runs/NAME/            one run each (server/runs.py)
    logs/  run/           what the processes say; their state
    flower/               Flower's own settings and unpacked apps
    refusals.jsonl        whom the gate refused, and why

Nothing here imports torch or Flower: the gate opens the same home.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from sarco_models.config_files import Config, load_config
from sarco_models.errors import ConfigError
from server.whole_files import write_json

if TYPE_CHECKING:
    from sarco_models.config import StudyConfig

SITES_VERSION = 1


class CoordinatorConfig(Config):
    """coordinator.toml of a run: the coordinator's own choices; no study names them. Paths are relative to the file."""

    central: str = ""
    cache: str = "cache"
    segmenter: str = Field(
        default="", description='Folder of the model that finds muscles, for a study with image.roi = "auto".'
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    expected: tuple[str, ...] = Field(default=(), description="Who a run waits for at its start: none joins later.")
    grace_s: float = Field(default=30.0, ge=0, description="How long it waits for them once it has enough others.")
    wait_for_sites_s: float = Field(default=600.0, ge=0)
    poll_s: float = Field(default=0.1, gt=0, description="Between two looks for answers, at first; later it is longer.")
    retry_s: float = Field(default=5.0, ge=0, description="Pause before a round without enough answers is repeated.")


class GateConfig(Config):
    """[gate]: the only door from outside."""

    host: str = Field(default="0.0.0.0", description="Where it listens; 127.0.0.1 behind a proxy of your own.")  # noqa: S104 - it is the door
    port: int = Field(default=8443, ge=1, le=65535)
    max_body_mb: int = Field(default=16, ge=6, description="Flower sends pieces of 5 MB.")
    requests_per_second: float = Field(default=50.0, gt=0, description="From one address; bursts of 5 seconds pass.")
    max_mb_per_hour: int = Field(
        default=20_000, ge=100, description="From one hospital; what it sends ends on the disk."
    )
    client_certificates: bool = Field(default=False, description="Ask every hospital for the certificate of its kit.")


class HomeConfig(Config):
    """coordinator.toml of a home."""

    address: str = Field(pattern=r"^[^\s/:]+:[0-9]{1,5}$", description="HOST:PORT as hospitals reach the gate.")
    superlink_port: int = Field(default=9092, ge=1, le=65535, description="Of Flower's SuperLink, on this machine.")
    dashboard_port: int = Field(default=8050, ge=1, le=65535)
    gate: GateConfig = GateConfig()
    runs: CoordinatorConfig = CoordinatorConfig()


@dataclass(frozen=True)
class Enrolled:
    """A hospital in sites.json.

    Attributes:
        name: as it stands in every record of a run; Flower knows the site by it.
        node_key: public key that its SuperNode signs requests with, an ssh line.
        identity: public key of the hospital for secure aggregation, hexadecimal; empty where it gave none.
        enrolled: when, ISO 8601.
        revoked: when, or empty.
    """

    name: str
    node_key: str
    identity: str
    enrolled: str
    revoked: str = ""


@dataclass(frozen=True)
class Home:
    """An opened home; see the module for what lies in it."""

    folder: Path
    config: HomeConfig

    @staticmethod
    def open(folder: Path) -> Home:
        """Read a home's coordinator.toml.

        Raises:
            ConfigError: the folder is no home, or the file is wrong.
        """
        path = folder / "coordinator.toml"
        if not path.is_file():
            raise ConfigError(
                f"{folder}: is not a coordinator's home (coordinator.toml is absent): name one, or make it: "
                f"sarco-coordinator init {folder} --address HOST:PORT --study STUDY.toml"
            )
        return Home(folder.resolve(), load_config(path, HomeConfig))

    @property
    def ca(self) -> Path:
        """Certificate of the authority; its key lies beside it."""
        return self.folder / "ca.pem"

    @property
    def certificate(self) -> Path:
        """Certificate of the gate."""
        return self.folder / "server.pem"

    @property
    def key(self) -> Path:
        """Key of the gate's certificate."""
        return self.folder / "server.key"

    @property
    def loopback_certificate(self) -> Path:
        """Certificate of the SuperLink, for 127.0.0.1 and localhost."""
        return self.folder / "loopback.pem"

    @property
    def loopback_key(self) -> Path:
        """Key of the SuperLink's certificate."""
        return self.folder / "loopback.key"

    @property
    def superexec_secret(self) -> Path:
        """What a SuperExec shows to the SuperLink."""
        return self.folder / "secrets" / "superexec"

    @property
    def database(self) -> Path:
        """Flower's SQLite file."""
        return self.folder / "superlink.sqlite"

    @property
    def sites_file(self) -> Path:
        """The list of enrolled hospitals."""
        return self.folder / "sites.json"

    @property
    def kits(self) -> Path:
        """Where the hospitals' kits are written."""
        return self.folder / "kits"

    @property
    def runs_folder(self) -> Path:
        """Where run directories are made."""
        return self.folder / "runs"

    @property
    def logs(self) -> Path:
        """What the processes say."""
        return self.folder / "logs"

    @property
    def flower(self) -> Path:
        """FLWR_HOME of the coordinator's processes."""
        return self.folder / "flower"

    @property
    def state_file(self) -> Path:
        """State of the processes of ``up``, written by their supervisor."""
        return self.folder / "run" / "state.json"

    @property
    def refusals(self) -> Path:
        """Whom the gate refused; one JSON object a line."""
        return self.folder / "refusals.jsonl"

    @property
    def superlink(self) -> str:
        """HOST:PORT of the SuperLink, which listens on this machine only."""
        return f"127.0.0.1:{self.config.superlink_port}"

    @property
    def study(self) -> StudyConfig:
        """The study that the kits carry.

        Raises:
            ConfigError: study.toml is absent or wrong.
        """
        from sarco_models.config import load_study

        return load_study(self.folder / "study.toml")

    def sites(self) -> tuple[Enrolled, ...]:
        """Hospitals that were ever enrolled, in the order of their names, revoked ones too.

        Raises:
            ConfigError: sites.json is damaged.
        """
        if not self.sites_file.is_file():
            return ()
        try:
            stored = json.loads(self.sites_file.read_text(encoding="utf-8"))
            if stored["version"] != SITES_VERSION:
                raise ValueError(f"version = {stored['version']}, this code knows {SITES_VERSION}")
            known = {f.name for f in fields(Enrolled)}
            sites = [Enrolled(**{k: str(v) for k, v in row.items() if k in known}) for row in stored["sites"]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{self.sites_file}: the list of enrolled hospitals cannot be read: {error}: restore it from a backup"
            ) from None
        return tuple(sorted(sites, key=lambda site: site.name))

    def write_sites(self, sites: tuple[Enrolled, ...]) -> None:
        """Replace the list of enrolled hospitals; readable by the coordinator's user only."""
        ordered = sorted(sites, key=lambda site: site.name)
        write_json(self.sites_file, {"version": SITES_VERSION, "sites": [asdict(site) for site in ordered]})
        self.sites_file.chmod(0o600)
