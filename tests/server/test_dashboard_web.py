"""Who may see the dashboard, and that it gives away nothing to anybody else and changes nothing for anybody."""

import asyncio
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp
from typer.testing import CliRunner

from sarco_models.errors import ConfigError, RunError
from server import cli as coordinator
from server.dashboard import cli, web
from server.dashboard.pieces import PIECES
from server.dashboard.roster import Roster
from server.dashboard.web import Desk, cookie_name, make_app, new_token
from tests.server.example_home import finish, grow, write, write_home, write_live, write_round

TOKEN = new_token()
HERE = "http://127.0.0.1:8050"
ADDRESSES = ("/", "/pieces.json", "/state.json", "/page.css", "/page.js", "/icon.svg", "/absent")
HOSTILE = "<img src=x onerror=alert(1)>'\"&<script>alert(2)</script>"


class Browser:
    """Asks the dashboard without a socket, and keeps its cookies."""

    def __init__(self, app: ASGIApp) -> None:
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HERE)

    def request(self, method: str, address: str, **about: Any) -> httpx.Response:
        return asyncio.run(self._client.request(method, address, **about))

    def get(self, address: str, **about: Any) -> httpx.Response:
        return self.request("GET", address, **about)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return write_home(tmp_path / "a-secret-folder" / "home", rounds=4, private=False)


@pytest.fixture
def stranger(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    """A browser of this machine that has not the token."""
    monkeypatch.setattr(web, "FRESH_S", 0.0)
    app = make_app(home, TOKEN, Roster(None))
    yield Browser(app)
    app.state.desk.close()


@pytest.fixture
def client(stranger: Browser) -> Browser:
    """The same browser, after it has opened the address that was printed."""
    assert stranger.get("/", params={"token": TOKEN}).status_code == 200
    return stranger


# --- who may see it ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("shown", ["", "x", TOKEN[:-1], TOKEN + "x", TOKEN.swapcase(), "ä"], ids=range(6))
def test_without_the_token_nothing_is_said(stranger: Browser, address: str, shown: str) -> None:
    for reply in (
        stranger.get(address, params={"token": shown}),
        stranger.get(address, headers={"Cookie": f"{cookie_name(TOKEN)}={shown}".encode()}),
    ):
        assert reply.status_code == 401
        assert reply.text == web.LOCKED
        assert "set-cookie" not in reply.headers


def test_the_token_opens_once_and_the_cookie_afterwards(stranger: Browser) -> None:
    assert stranger.get("/state.json").status_code == 401
    first = stranger.get("/", params={"token": TOKEN})
    cookie = first.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "expires" not in cookie and "max-age" not in cookie  # noqa: PT018 - it ends with the browser
    assert stranger.get("/state.json").status_code == 200


def test_the_page_does_not_hold_the_token(client: Browser) -> None:
    assert all(TOKEN not in client.get(address).text for address in ADDRESSES)


def test_two_dashboards_do_not_take_each_others_cookie_away() -> None:
    assert cookie_name(TOKEN) != cookie_name(new_token())
    assert TOKEN not in cookie_name(TOKEN)


def test_a_token_cannot_be_guessed() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) >= 43 for token in tokens)  # 256 bits


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8050", "127.0.0.1.evil.example", "10.0.0.5:8050", "", "[::1]:8050", "0.0.0.1"],
)
def test_a_name_that_was_pointed_at_this_machine_is_refused(client: Browser, host: str) -> None:
    """DNS rebinding: a page of evil.example lets its name lead to 127.0.0.1, and would be of the same origin."""
    reply = client.get("/", headers={"Host": host}, params={"token": TOKEN})
    assert reply.status_code == 421
    assert "SYNTHETIC" not in reply.text


@pytest.mark.parametrize("host", ["127.0.0.1:9999", "localhost:8050", "LOCALHOST", "127.0.0.1"])
def test_this_machine_may_be_called_by_its_names_and_through_any_port(client: Browser, host: str) -> None:
    assert client.get("/", headers={"Host": host}, params={"token": TOKEN}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "PROPFIND"])
@pytest.mark.parametrize("address", ["/", "/state.json", "/page.js", "/runs/muscle/stop"])
def test_nothing_can_be_changed(client: Browser, method: str, address: str) -> None:
    reply = client.request(method, address)
    assert reply.status_code == 405
    assert reply.headers["allow"] == "GET"


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_other_page_may_read_frame_or_embed_it(client: Browser, address: str) -> None:
    reply = client.get(address, headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in reply.headers
    assert reply.headers["x-frame-options"] == "DENY"
    assert reply.headers["cross-origin-resource-policy"] == "same-origin"
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert reply.headers["cache-control"] == "no-store"
    rules = dict(rule.strip().split(" ", 1) for rule in reply.headers["content-security-policy"].split(";"))
    assert rules["default-src"] == rules["frame-ancestors"] == rules["form-action"] == rules["base-uri"] == "'none'"
    assert {rules[k] for k in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}


def test_a_request_that_another_page_made_is_refused(client: Browser) -> None:
    made = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert client.get("/state.json", headers=made).status_code == 403
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/", headers=followed).status_code == 200


@pytest.mark.parametrize(
    "address",
    ["/../coordinator.toml", "/%2e%2e/coordinator.toml", "/page.css/../../cli.py", "/web.py", "/ca.key", "//etc/passwd",
     "/sites.json", "/runs/muscle/study.json", "/page.css%00", "/pieces.html"],
)  # fmt: skip
def test_no_file_but_the_pages_own_is_served(client: Browser, address: str) -> None:
    assert client.get(address).status_code == 404


@pytest.mark.parametrize("run", ["..", "../../..", "/etc", "muscle/../..", "%2e%2e", "muscle\x00", "x" * 5000])
def test_a_run_that_is_not_in_the_list_is_the_newest_one(client: Browser, run: str) -> None:
    assert client.get("/state.json", params={"run": run}).json()["run"]["name"] == "muscle"


# --- what it says -----------------------------------------------------------------------------------------------------


def test_no_path_of_the_machine_is_on_any_page(client: Browser, home: Path) -> None:
    run = home / "runs" / "muscle"
    where = str(home.resolve())
    write_round(run, 5, {"sichuan": f"cannot read {where}/runs/muscle/x.npy"})
    write_live(run, "failed", 5, {}, failure=f"{where}/runs/muscle/rounds: is full", deadline=None)
    (run / "leakage.json").write_text("{", encoding="utf-8")
    finish(run)
    for address in ADDRESSES:
        text = client.get(address).text
        assert where not in text
        assert "a-secret-folder" not in text


class Tags(HTMLParser):
    """Names of elements and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_hostile_names_and_reasons_are_texts(client: Browser, home: Path) -> None:
    """Hospitals choose their names and strangers what they knock with; neither becomes an element of the page."""
    run = home / "runs" / "muscle"
    before = Tags(client.get("/").text)
    study = json.loads((run / "study.json").read_text())
    write(run / "study.json", {**study, "title": HOSTILE})
    record = json.loads((run / "rounds" / "0003.json").read_text())
    record["sites"][HOSTILE] = {"auc": 0.5, "loss": 0.5, "train_loss": 0.1, "participants": 3}
    record["failures"] = {HOSTILE + "2": HOSTILE}
    write(run / "rounds" / "0003.json", record)
    write_live(run, "round", 5, {HOSTILE: "failed"}, failure=HOSTILE)
    knock = {"time": 1, "address": HOSTILE, "site": HOSTILE, "reason": HOSTILE, "fix": HOSTILE}
    (home / "refusals.jsonl").write_text(json.dumps(knock), encoding="utf-8")
    write(home / "run" / "state.json", {HOSTILE: {"pid": 1, "state": HOSTILE, "said": HOSTILE}})
    write(home / "sites.json", {"version": 1, "sites": [{"name": HOSTILE, "revoked": HOSTILE}]})
    for text in (client.get("/").text, "".join(client.get("/pieces.json").json()["pieces"].values())):
        found = Tags(text)
        assert "onerror" not in found.attributes
        assert found.attributes <= before.attributes | {"title", "colspan", "open"}
        assert found.tags <= before.tags | {"details", "summary"}
        assert "&lt;script&gt;" in text


def test_scripts_and_styles_are_files_of_the_page(client: Browser) -> None:
    """The content security policy allows no other; what would be blocked must not be there."""
    text = client.get("/").text
    assert re.findall(r"<script[^>]*>", text) == ['<script src="/page.js" defer>']
    assert "<style" not in text
    assert not re.search(r"\s(style|on\w+)=", text)
    assert not re.search(r"(src|href)=\"(?!/|#)", text)


def test_a_picture_that_has_not_changed_is_not_sent_again(client: Browser, home: Path) -> None:
    for address in ("/pieces.json", "/state.json"):
        first = client.get(address)
        again = client.get(address, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert abs(float(again.headers["x-now"]) - time.time()) < 60
    grow(home / "runs" / "muscle", 5)
    reply = client.get("/pieces.json", headers={"If-None-Match": first.headers["etag"]})
    assert reply.status_code == 200
    assert "Round 6 of 20" in reply.json()["pieces"]["progress"]


def test_the_first_page_and_its_pieces_are_the_same(client: Browser, home: Path) -> None:
    page, content = client.get("/").text, client.get("/pieces.json").json()
    assert set(content["pieces"]) == set(PIECES)
    for name, piece in content["pieces"].items():
        assert f'id="{name}"' in page
        assert piece in page
    assert content["say"] == "Round 5 of 20."  # zhongshan was away in round 4, and is at work now
    write_live(home / "runs" / "muscle", "round", 5, {"shanghai": "asked", "sichuan": "asked", "zhongshan": "away"})
    assert client.get("/pieces.json").json()["say"] == "Round 5 of 20. 1 thing needs attention."


def test_before_the_first_round_nothing_is_said_to_have_been_counted(client: Browser, tmp_path: Path) -> None:
    folder = write_home(tmp_path / "young", rounds=0)
    app = make_app(folder, TOKEN, Roster(None))
    try:
        young = Browser(app)
        assert young.get("/", params={"token": TOKEN}).status_code == 200
        text = young.get("/").text
    finally:
        app.state.desk.close()
    assert "AUC, central test, before the first round" in text
    assert "0 of 0" not in text
    assert "trains on 53 of its 89 people" in text


def test_every_chart_has_a_table_behind_it(client: Browser) -> None:
    text = client.get("/").text
    assert text.count("<svg") == 4
    for figure in re.findall(r"<figure>.*?</figure>", text, re.DOTALL):
        assert 'role="img"' in figure
        assert "aria-label=" in figure
        assert "<table>" in figure


def test_synthetic_people_are_marked_on_the_page_and_in_its_title(client: Browser, home: Path) -> None:
    text = client.get("/").text
    assert "<title>SYNTHETIC: " in text
    assert 'class="banner"><b>SYNTHETIC</b>' in text
    write(home / "runs" / "central" / "manifest.json", {"synthetic": False})
    write(home / "runs" / "muscle" / "run.json", {"study": "x"})
    fresh = make_app(home, TOKEN, Roster(None))
    assert "SYNTHETIC" not in Browser(fresh).get("/", params={"token": TOKEN}).text
    fresh.state.desk.close()


def test_a_home_without_a_run_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "coordinator.toml").write_text('address = "x:1"\n', encoding="utf-8")
    text = Browser(make_app(tmp_path, TOKEN, Roster(None))).get("/", params={"token": TOKEN}).text
    assert "No run yet" in text
    assert "sarco-coordinator run" in text


def test_many_who_look_at_once_cost_one_look() -> None:
    class Counting:
        looks = 0

        def look(self, name: str) -> object:
            self.looks += 1
            return object()

    watcher = Counting()
    desk = Desk(watcher)  # type: ignore[arg-type]
    assert len({id(desk.picture("a")) for _ in range(50)}) == 1
    assert watcher.looks == 1
    assert desk.picture("b") is not desk.picture("a")


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_listens_on_this_machine_only(home: Path) -> None:
    with cli._listen(home, 0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_the_port_is_that_of_the_home(home: Path) -> None:
    assert cli._port_of(home) == 8050
    (home / "coordinator.toml").write_text('address = "fl.example.org:8443"\ndashboard_port = 9123\n', encoding="utf-8")
    assert cli._port_of(home) == 9123
    assert cli._port_of(home / "runs" / "muscle") == cli.PORT


def test_a_port_that_is_taken_is_named(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        taken.listen()
        with pytest.raises(RunError, match=f"port {port} .*--port"):
            cli._listen(home, port)


@pytest.mark.parametrize("port", [70000, -1])
def test_a_port_that_cannot_be_is_refused(home: Path, port: int) -> None:
    with pytest.raises(RunError, match="--port"):
        cli._listen(home, port)


def test_a_folder_that_is_nothing_is_refused_with_the_way_out(tmp_path: Path) -> None:
    found = CliRunner().invoke(coordinator.app, ["dashboard", str(tmp_path)])
    assert found.exit_code == 1
    assert "sarco-coordinator init" in found.output


def test_a_wrong_home_is_refused(tmp_path: Path) -> None:
    (tmp_path / "coordinator.toml").write_text("adress = 1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="adress"):
        cli._listen(tmp_path, None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "absent"),
    [("server.dashboard.cli", "torch flwr starlette uvicorn numpy"), ("server.dashboard.web", "torch flwr")],
)
def test_what_is_not_needed_is_not_imported(module: str, absent: str) -> None:
    """The command's help comes at once, and the dashboard takes a tenth of the memory of one with torch."""
    script = f"import sys, {module}; print(sorted(set(sys.modules) & set('{absent}'.split())))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)  # noqa: S603
    assert found.stdout.strip() == "[]"
