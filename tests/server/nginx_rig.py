"""A real nginx with the example of the repository, a test's home and a test's ports written into it."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

from server.home import Home
from tests.server.gate_rig import until

NGINX = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
EXAMPLE = Path(__file__).parents[2] / "configs" / "nginx.conf.example"

_KINDS = ("proxy", "client_body", "fastcgi", "uwsgi", "scgi")


def started_nginx(
    home: Home, *, requests_per_second: int = 10_000, more: str = ""
) -> tuple[subprocess.Popen[bytes], int]:
    """An nginx before the SuperLink of this home, and its port on 127.0.0.1; ``more`` goes into its server block."""
    for _ in range(3):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = int(free.getsockname()[1])
        _write(home, port, requests_per_second, more)
        command = [str(NGINX), "-p", str(home.folder), "-e", "error.log", "-c", f"{home.folder}/nginx.conf"]
        process = subprocess.Popen(command)  # noqa: S603 - the nginx that was found
        until(lambda process=process, port=port: process.poll() is not None or _open(port), 30)
        if process.poll() is None:
            return process, port
        # somebody else took the port in the meantime
    raise AssertionError((home.folder / "error.log").read_text())


def _write(home: Home, port: int, requests_per_second: int, more: str) -> None:
    folder, text = home.folder, EXAMPLE.read_text()
    for old, new in (
        ("/srv/sarco", str(folder)),
        ("listen 8443", f"listen 127.0.0.1:{port}"),
        ("127.0.0.1:9092", home.superlink),
        ("rate=50r/s", f"rate={requests_per_second}r/s"),
        ("client_header_timeout       10s", "client_header_timeout 1s"),
        ("client_body_timeout         30s", "client_body_timeout 1s"),
        ("    # Who is slow", f"{more}\n    # Who is slow"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    (folder / "sarco.conf").write_text(text)
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in _KINDS)
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user} worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;"
        f"events {{ worker_connections 512; }} http {{ access_log off; {temporary} include {folder}/sarco.conf; }}"
    )


def _open(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port)):
            return True
    except OSError:
        return False
