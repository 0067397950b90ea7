"""What the gate costs: a model of 114 MB up and down in Flower's pieces, straight to a server and through the gate.

    PYTHONPATH=. python benchmarks/gate.py [--sites 3] [--repeats 3] [--nginx]

The client is httpx, two pieces of 5 MB at a time as a SuperNode has them; behind the gate is uvicorn with an app that
throws bodies away, so that nothing else is measured; all of it is TLS on loopback. Seconds are of the wall (which tells
little on a busy machine), and of the processors for gate and server. ``--nginx`` runs configs/nginx.conf.example too.
"""

import argparse
import os
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx

from tests.server.gate_rig import Hospital, make_home
from tests.server.nginx_rig import started_nginx

PIECE, PIECES = 5_000_000, 23
ROOT = Path(__file__).parents[1]
APP = f"""
DOWN = bytes({PIECE})

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    body = DOWN if scope["path"].endswith("pull-object") else b"ok"
    headers = [(b"content-type", b"application/protobuf"), (b"content-length", str(len(body)).encode())]
    await send({{"type": "http.response.start", "status": 200, "headers": headers}})
    await send({{"type": "http.response.body", "body": body}})
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def wait_for(port: int) -> None:
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)


def processor_s(process: subprocess.Popen[bytes]) -> float:
    """Seconds of a process and its children (nginx has workers)."""
    pids = [process.pid]
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    pids += [int(pid) for pid in children.read_text().split()]
    fields = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in pids]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


def most_memory_mb(process: subprocess.Popen[bytes]) -> float:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def transfer(url: str, hospitals: list[Hospital], trusted: ssl.SSLContext, path: str, body: bytes) -> float:
    """Seconds until all sites have moved one model."""

    def site(hospital: Hospital) -> None:
        with httpx.Client(verify=trusted, timeout=60) as client, ThreadPoolExecutor(2) as pieces:

            def piece(_: int) -> None:
                answer = client.post(f"{url}{path}", content=body, headers=hospital.headers())
                assert answer.status_code == 200, answer.text

            list(pieces.map(piece, range(PIECES)))

    began = time.perf_counter()
    with ThreadPoolExecutor(len(hospitals)) as sites:
        list(sites.map(site, hospitals))
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--nginx", action="store_true")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        hospitals = [Hospital(f"hospital_{k}") for k in range(options.sites)]
        upstream, port = free_port(), free_port()
        home = make_home(folder, *hospitals, superlink_port=upstream)
        (folder / "coordinator.toml").write_text(
            f'address = "127.0.0.1:{port}"\nsuperlink_port = {upstream}\n[gate]\nhost = "127.0.0.1"\nport = {port}\n'
        )
        (folder / "thrown_away.py").write_text(APP)
        env = dict(os.environ, PYTHONPATH=f"{ROOT}:{folder}")
        python = [sys.executable, "-m"]
        tls = ["--ssl-keyfile", str(home.loopback_key), "--ssl-certfile", str(home.loopback_certificate)]
        serve = [*python, "uvicorn", "thrown_away:app", "--port", str(upstream), *tls, "--log-level", "warning"]
        started = {
            "server": subprocess.Popen([*serve, "--no-access-log"], env=env),  # noqa: S603 - ours
            "gate": subprocess.Popen([*python, "server.gate", str(folder)], env=env, stderr=subprocess.DEVNULL),  # noqa: S603
        }
        ways = {"straight": (upstream, None), "gate": (port, started["gate"])}
        if options.nginx:
            started["nginx"], other = started_nginx(home)
            ways["nginx"] = (other, started["nginx"])
        for process in started.values():
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)
        for number in (upstream, *(port for port, _ in ways.values())):
            wait_for(number)
        measure(ways, started["server"], hospitals, ssl.create_default_context(cafile=str(home.ca)), options.repeats)
        print(f"memory of the gate at most {most_memory_mb(started['gate']):.0f} MB")


def measure(
    ways: dict[str, tuple[int, subprocess.Popen[bytes] | None]],
    server: subprocess.Popen[bytes],
    hospitals: list[Hospital],
    trusted: ssl.SSLContext,
    repeats: int,
) -> None:
    print(f"{len(hospitals)} sites, {PIECE * PIECES / 1e6:.0f} MB each; medians of {repeats}; seconds")
    print(f"{'':10}{'':6}{'wall':>8}{'way':>8}{'server':>8}")
    for direction, path, body in (("up", "push-object", os.urandom(PIECE)), ("down", "pull-object", b"x" * 100)):
        rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
        for _ in range(repeats):
            for name, (port, process) in ways.items():
                spent = processor_s(process) if process else 0.0
                served = processor_s(server)
                wall = transfer(f"https://127.0.0.1:{port}", hospitals, trusted, f"/v1/fleet/{path}", body)
                spent = (processor_s(process) if process else 0.0) - spent
                rows[name].append((wall, spent, processor_s(server) - served))
        for name, found in rows.items():
            middle = [statistics.median(column) for column in zip(*found, strict=True)]
            print(f"{name:10}{direction:6}" + "".join(f"{value:8.2f}" for value in middle))


if __name__ == "__main__":
    main()
