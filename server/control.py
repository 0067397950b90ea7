"""Flower's Control API in the words of a coordinator: who is registered, who is online, which runs there are.

The open-source Control API asks nobody who they are (FLOWER 4.3), so the SuperLink listens on loopback alone
and the gate lets nothing of it through. This is its one caller. It speaks protobuf over HTTPS directly: a call takes
milliseconds, where Flower's command line takes a second of a processor.
"""

from __future__ import annotations

import json
import math
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from sarco_models.errors import RunError
from server.bundle import bundle, bundle_digest
from server.certificates import node_public_key
from server.departures import read_departures, seconds_of
from server.home import Home

Message = Any
"""A message of protobuf, which has no types."""

RUN_DIR = "run-dir"
ALIVE = ("pending", "starting", "running")
_MEDIA, _STREAM = "application/protobuf", "application/flower-protobuf-stream"
_CALL_S, _QUIET_S, _LISTEN_S = 20.0, 2.0, 5.0
_MISSED_BEATS = 2
"""A node is online until it has missed as many heartbeats (Flower's HEARTBEAT_PATIENCE)."""


@dataclass(frozen=True)
class Node:
    """A hospital's SuperNode as Flower knows it.

    Attributes:
        name: as it was enrolled.
        node_id: Flower's number for it; another one after it is enrolled again.
        online: whether its heartbeats come.
        last_seen: when the last one came, or when it left, ISO 8601; empty where it never connected.
        public_key: the key that it signs with, PEM.
        lease: until when it counts as online without another heartbeat, unix seconds.
        ended: when its last connection ended, as Flower writes it; empty where none has.
        left: the same, where it ended it by itself; empty while it is online, and where its heartbeats stopped.
    """

    name: str
    node_id: int
    online: bool
    last_seen: str
    public_key: bytes = b""
    lease: float = 0.0
    ended: str = ""
    left: str = ""


@dataclass(frozen=True)
class FlowerRun:
    """A run as Flower knows it.

    Attributes:
        run_id: Flower's number.
        folder: the run directory that it was given.
        status: pending, starting, running or finished.
        ending: of a finished one: completed, failed or stopped.
        details: Flower's words for it.
        bundle: digest of what was sent to the hospitals.
    """

    run_id: str
    folder: str
    status: str
    ending: str
    details: str
    bundle: str

    @property
    def alive(self) -> bool:
        """Whether it may still write to its run directory."""
        return self.status in ALIVE


class Control:
    """Calls to the SuperLink of a home; one connection, kept until :meth:`close`."""

    def __init__(self, home: Home, *, timeout_s: float = _CALL_S) -> None:
        """Connects at the first call."""
        self._home = home
        self._timeout_s = timeout_s
        self._client: httpx.Client | None = None

    def __enter__(self) -> Control:
        """For ``with``."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def answers(self) -> bool:
        """Whether the SuperLink answers."""
        try:
            self.nodes()
        except RunError:
            return False
        return True

    def nodes(self) -> tuple[Node, ...]:
        """Registered hospitals, in the order of their names; those that were revoked are left out.

        Raises:
            RunError: the SuperLink does not answer.
        """
        from flwr.proto import control_pb2 as pb

        found = self._call("list-nodes", pb.ListNodesRequest(), pb.ListNodesResponse).nodes_info
        departed = read_departures(self._home.folder)
        nodes = [_node(info, departed) for info in found if info.status != "unregistered"]
        return tuple(sorted(nodes, key=lambda node: node.name))

    def register(self, node_key: str, name: str) -> int:
        """Let a SuperNode with this key (an ssh line) connect, under this name; returns its number.

        Raises:
            RunError: the key is taken, also by a hospital that was revoked.
        """
        from flwr.proto import control_pb2 as pb

        request = pb.RegisterNodeRequest(public_key=pem_of(node_key, name), name=name)
        return int(self._call("register-node", request, pb.RegisterNodeResponse).node_id)

    def unregister(self, name: str, *, keep: bytes = b"") -> None:
        """Refuse a hospital's SuperNodes from now on, but for one with the key ``keep`` (PEM)."""
        from flwr.proto import control_pb2 as pb

        for node in self.nodes():
            if node.name == name and node.public_key != keep:
                self._call("unregister-node", pb.UnregisterNodeRequest(node_id=node.node_id), pb.UnregisterNodeResponse)

    def submit(self, run_dir: Path) -> str:
        """Have a prepared run directory run, or gone on with; returns Flower's number of the run."""
        from flwr.proto import control_pb2 as pb

        request = pb.StartRunRequest()
        request.fab.hash_str, request.fab.content = bundle_digest(), bundle()
        request.override_config[RUN_DIR].string = str(run_dir.resolve())
        answer = self._call("start-run", request, pb.StartRunResponse)
        if not answer.HasField("run_id"):
            raise RunError(f"{run_dir}: the SuperLink did not take the run: see {self._home.logs / 'superlink.log'}")
        return str(answer.run_id)

    def runs(self) -> tuple[FlowerRun, ...]:
        """The last twenty runs, the latest first."""
        from flwr.proto import control_pb2 as pb

        found = self._call("list-runs", pb.ListRunsRequest(), pb.ListRunsResponse).run_dict.values()
        return tuple(_flower_run(run) for run in sorted(found, key=lambda run: run.pending_at, reverse=True))

    def alive(self, run_dir: Path) -> FlowerRun | None:
        """The run that is at work in this directory; None: none is."""
        wanted = str(run_dir.resolve())
        return next((run for run in self.runs() if run.alive and run.folder == wanted), None)

    def stop(self, run_id: str) -> None:
        """End a run; what its hospitals are computing is dropped when it comes.

        Raises:
            RunError: there is none, or it has ended.
        """
        from flwr.proto import control_pb2 as pb

        self._call("stop-run", pb.StopRunRequest(run_id=int(run_id)), pb.StopRunResponse)

    def log(self, run_id: str) -> str:
        """What the run's ServerApp has said so far."""
        from flwr.proto import control_pb2 as pb

        request = pb.StreamLogsRequest(run_id=int(run_id))
        return "".join(str(part.log_output) for part in self._stream("stream-logs", request, pb.StreamLogsResponse))

    def _call(self, what: str, request: Message, kind: type[Message]) -> Message:
        content = request.SerializeToString()
        headers = {"content-type": _MEDIA, "accept": _MEDIA}
        try:
            reply = self._connected().post(f"/v1/control/{what}", content=content, headers=headers)
        except (httpx.HTTPError, OSError) as error:
            raise self._unreachable(error) from None
        if reply.is_error:
            raise RunError(f"the SuperLink refused {what}: {_reason(reply)}")
        answer = kind()
        answer.ParseFromString(reply.content)
        return answer

    def _stream(self, what: str, request: Message, kind: type[Message]) -> Iterator[Message]:
        """Messages of a stream, until it ends, is quiet or has lasted for a while: that of a living run has no end."""
        content, headers = request.SerializeToString(), {"content-type": _MEDIA, "accept": _STREAM}
        timeout = httpx.Timeout(self._timeout_s, read=_QUIET_S)
        held, until = bytearray(), time.monotonic() + _LISTEN_S
        try:
            with self._connected().stream(
                "POST", f"/v1/control/{what}", content=content, headers=headers, timeout=timeout
            ) as reply:
                if reply.is_error:
                    reply.read()
                    raise RunError(f"the SuperLink refused {what}: {_reason(reply)}")
                for piece in reply.iter_bytes():
                    held += piece
                    yield from _framed(held, kind)
                    if time.monotonic() > until:
                        return
        except httpx.ReadTimeout:
            return
        except (httpx.HTTPError, OSError) as error:
            raise self._unreachable(error) from None

    def _connected(self) -> httpx.Client:
        if self._client is None:
            trusted = ssl.create_default_context(cafile=str(self._home.ca))
            # never through a proxy: the SuperLink is on this machine
            self._client = httpx.Client(
                base_url=f"https://{self._home.superlink}", verify=trusted, timeout=self._timeout_s, trust_env=False
            )
        return self._client

    def _unreachable(self, error: Exception) -> RunError:
        return RunError(
            f"the SuperLink of {self._home.folder} does not answer on {self._home.superlink} ({error}): start it with "
            f"sarco-coordinator up {self._home.folder}; where it runs, {self._home.logs / 'superlink.log'} says more"
        )


def pem_of(node_key: str, name: str) -> bytes:
    """The key of an ssh line in the form that Flower knows it by.

    Raises:
        ConfigError: it is no elliptic-curve key; the message names the hospital.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return node_public_key(node_key, name).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _framed(held: bytearray, kind: type[Message]) -> Iterator[Message]:
    """Take the whole messages from the front of ``held``: four bytes of length, then as many bytes."""
    while len(held) >= 4 and len(held) >= 4 + (size := int.from_bytes(held[:4], "big")):
        message = kind()
        message.ParseFromString(bytes(held[4 : 4 + size]))
        del held[: 4 + size]
        yield message


def _node(info: Any, departed: Mapping[str, str]) -> Node:
    online, ended = info.status == "online", str(info.last_deactivated_at)
    left = ended if ended and not online and departed.get(info.name) == ended else ""
    seen = _iso(seconds_of(left) if left else _last_beat(info)) if info.last_activated_at else ""
    lease = float(info.online_until)
    return Node(str(info.name), int(info.node_id), online, seen, bytes(info.public_key), lease, ended, left)


def _last_beat(info: Any) -> float:
    """Of a lease that ran out or runs still; where Flower was told of the end, its lease was cut to that moment."""
    beat = float(info.online_until - _MISSED_BEATS * info.heartbeat_interval)
    began = seconds_of(info.last_activated_at)
    return max(beat, began) if math.isfinite(began) else beat


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _flower_run(run: Any) -> FlowerRun:
    folder = run.override_config[RUN_DIR].string if RUN_DIR in run.override_config else ""
    status = run.status
    return FlowerRun(str(run.run_id), str(folder), status.status, status.sub_status, status.details, str(run.fab_hash))


def _reason(reply: httpx.Response) -> str:
    """The SuperLink's own words: an object of JSON, or that again as text."""
    try:
        told = reply.json()
        told = json.loads(told) if isinstance(told, str) else told
        words = [str(told[key]) for key in ("public_message", "message", "detail", "public_details") if told.get(key)]
    except (ValueError, AttributeError):
        words = []
    return "; ".join(words) or f"HTTP {reply.status_code}"
