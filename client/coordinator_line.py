"""One look at the coordinator's door, as a SuperNode would knock: name, port, certificate, its hour, and who may enter.

Nothing is sent but two requests for nothing (:mod:`client.admission`). A proxy that the environment names is used, as
Flower's programs use it.
"""

from __future__ import annotations

import base64
import socket
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from client.admission import ask, judged
from client.contact import FAST_S, REMEDIES, SAYS, SLOW_S, End, skew, tls_end
from client.kit import Kit
from client.node_key import certificate_chain
from client.site_folder import SiteFolder
from sarco_models.errors import ConfigError

_TIMEOUT_S = 8.0
_PROXY_PORT = 3128
_WARN_DAYS = 30.0
_NEAR_FAST_S, _NEAR_SLOW_S = 2.0, 120.0


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: of the thing.
        level: ``ok``, ``warning`` or ``fault``.
        value: what was found.
        limit: what it is held against.
        remedy: what to do; empty where nothing is to be done.
    """

    name: str
    level: str
    value: str
    limit: str = ""
    remedy: str = ""


def proxy_for(host: str) -> str:
    """The proxy that leads to a host, from the environment; empty: none."""
    if proxy_bypass(host):
        return ""
    found = getproxies()
    return found.get("https") or found.get("all") or ""


def parts_of(proxy: str) -> SplitResult:
    """A proxy's address in parts; one without ``http://`` is read as Flower's programs read it.

    Raises:
        ConfigError: it has no name, or its port is none. The message does not repeat it: a password may stand in it.
    """
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if parts.hostname and parts.port != 0:
            return parts
    except ValueError:
        pass
    raise ConfigError("HTTPS_PROXY: is no address; expected http://HOST:PORT or http://USER:PASSWORD@HOST:PORT")


def shown(proxy: str) -> str:
    """A proxy without the password that may stand in its address."""
    parts = parts_of(proxy)
    return f"{parts.hostname}:{parts.port or _PROXY_PORT}"


def look(folder: SiteFolder, kit: Kit) -> Iterator[Check]:
    """Name, port, certificate, clock, admission; the first that fails is the last."""
    proxy = proxy_for(kit.host)
    if proxy:
        try:
            yield Check("proxy", "ok", f"{shown(proxy)} (HTTPS_PROXY), not for this machine itself")
        except ConfigError as error:
            yield Check("proxy", "fault", str(error), "an address", "set HTTPS_PROXY anew")
            return
    where, port = _first_hop(kit, proxy)
    found = _name(where)
    yield found
    if found.level == "fault":
        return
    found = _port(where, port)
    yield found
    if found.level == "fault":
        return
    yield from _behind_tls(folder, kit, proxy)


def _first_hop(kit: Kit, proxy: str) -> tuple[str, int]:
    if not proxy:
        return kit.host, kit.port
    parts = parts_of(proxy)
    return parts.hostname or "", parts.port or _PROXY_PORT


def _name(host: str) -> Check:
    try:
        addresses = sorted({str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})
    except OSError:
        remedy = f"check the spelling of {host} with the coordinator, and this machine's DNS (/etc/resolv.conf)"
        return Check("name", "fault", f"{host} is not known", "an address", remedy)
    return Check("name", "ok", f"{host} is {', '.join(addresses[:3])}")


def _port(host: str, port: int) -> Check:
    try:
        with socket.create_connection((host, port), timeout=_TIMEOUT_S):
            return Check("port", "ok", f"{host}:{port} can be reached")
    except OSError as error:
        why = "does not answer" if isinstance(error, TimeoutError) else (error.strerror or "cannot be reached").lower()
        remedy = (
            f"if the coordinator is up, let your network's people allow outgoing TCP to {host}:{port}; nothing has to "
            "come in; a proxy goes into HTTPS_PROXY"
        )
        return Check("port", "fault", f"{host}:{port}: {why}", "an open connection", remedy)


def _behind_tls(folder: SiteFolder, kit: Kit, proxy: str) -> Iterator[Check]:
    try:
        line = _line(folder, kit, proxy)
    except (OSError, ValueError) as error:
        value = f"{folder.client_certificate} cannot be used with {folder.node_key}: {error}"
        yield Check("certificate", "fault", value, "of this hospital's key", REMEDIES[End.NO_CERTIFICATE])
        return
    try:
        line.connect()
        certificate = line.sock.getpeercert() or {}
        yield _certificate(str(certificate.get("notAfter", "")))
        line.request("GET", "/")
        answer = line.getresponse()
        hour = clock(skew(answer.getheader("date", ""), datetime.now(UTC)))
        answer.read()
        yield hour
        if hour.level != "fault":  # else it is refused for that
            yield _admission(line, folder.node_key)
    except (OSError, HTTPException) as error:
        end = tls_end(error)
        if end is not None:
            yield Check("certificate", "fault", SAYS[end], "of the kit's authority", REMEDIES[end])
        else:
            remedy = "look for a proxy or a firewall between that opens TLS; the coordinator sees the gate's log"
            yield Check("certificate", "fault", f"no TLS at {kit.address}: {error}", "TLS 1.2 or later", remedy)
    finally:
        line.close()


def _admission(line: HTTPSConnection, node_key: Path) -> Check:
    """Whether the coordinator lets this hospital in; a line that breaks only now says nothing of the certificate."""
    limit = "enrolled, with this node key"
    try:
        level, value, remedy = judged(*ask(line, node_key))
    except ConfigError as error:
        return Check("admission", "fault", str(error), limit, "see there")
    except (OSError, HTTPException) as error:
        end = tls_end(error)
        if end is not None:
            return Check("admission", "fault", SAYS[end], limit, REMEDIES[end])
        remedy = "try again; if it stays so, look for a proxy or a firewall between"
        return Check("admission", "warning", f"no answer to a SuperNode's request: {error}", limit, remedy)
    return Check("admission", level, value, limit, remedy)


def _line(folder: SiteFolder, kit: Kit, proxy: str) -> HTTPSConnection:
    context = ssl.create_default_context(cadata=kit.ca)
    if folder.client_certificate.exists():
        with tempfile.TemporaryDirectory() as place:
            context.load_cert_chain(*certificate_chain(folder.client_certificate, folder.node_key, Path(place)))
    where, port = _first_hop(kit, proxy)
    line = HTTPSConnection(where, port, context=context, timeout=_TIMEOUT_S)
    if proxy:
        line.set_tunnel(kit.host, kit.port, headers=_login(parts_of(proxy)))
    return line


def _login(proxy: SplitResult) -> dict[str, str]:
    if not proxy.username:
        return {}
    words = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(words.encode()).decode()}


def _certificate(ends: str) -> Check:
    left = (ssl.cert_time_to_seconds(ends) - datetime.now(UTC).timestamp()) / 86400 if ends else 0.0
    value = f"of the kit's authority, for this address, {left:.0f} days left"
    if left > _WARN_DAYS:
        return Check("certificate", "ok", value)
    return Check("certificate", "warning", value, f"{_WARN_DAYS:.0f} days", "tell the coordinator to renew it")


def clock(seconds: float | None) -> Check:
    """This machine's clock minus the coordinator's."""
    limit = f"at most {FAST_S:.0f} s ahead, {SLOW_S:.0f} s behind"
    if seconds is None:
        return Check("clock", "warning", "the coordinator does not say what time it is", limit, "ask the coordinator")
    value = f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} the coordinator's"
    remedy = REMEDIES[End.CLOCK]
    if not -SLOW_S <= seconds <= FAST_S:
        return Check("clock", "fault", value, limit, remedy)
    if not -_NEAR_SLOW_S <= seconds <= _NEAR_FAST_S:
        return Check("clock", "warning", value, limit, remedy)
    return Check("clock", "ok", value, limit)
