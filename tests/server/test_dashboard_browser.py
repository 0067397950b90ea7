"""The dashboard in a real browser, while a run goes on: run where a Chromium is installed.

One test lets the command itself serve the page, in a process of its own; the others serve it from here.
"""

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from server.dashboard import cli
from server.dashboard.roster import Roster
from server.dashboard.web import make_app, new_token
from tests.browser import Browser, Page, browser, find
from tests.server.example_home import SITES, finish, grow, write_home, write_live, write_processes, write_round

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find() is None, reason="no Chromium is installed")]

WIDTHS = (360, 768, 1440)
SCHEMES = ("light", "dark")
TEXT = "(document.body ? document.body.innerText : '')"


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The dashboard of a folder at work in a thread; its address."""
    token = new_token()
    app = make_app(folder, token, Roster(None))
    with cli._listen(folder, 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/?token={token}"
        finally:
            server.should_exit = True
            thread.join(20)
            app.state.desk.close()


@contextmanager
def commanded(folder: Path) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """The command itself at work on a folder: the address that it printed, and its process."""
    command = [sys.executable, "-m", "server.cli", "dashboard", str(folder), "--port", "0"]
    with subprocess.Popen(  # noqa: S603 - our own
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            found = None
            while found is None:
                line = process.stdout.readline()
                assert line, "the command ended"
                found = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", line)
            yield found[0], process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
            said = process.stdout.read()
            assert "Traceback" not in said, said


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """In round 5 of 20, private: epsilons appear while the page is looked at."""
    return write_home(tmp_path / "home", rounds=4)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    with chromium.page() as found:
        yield found


def opened(page: Page, address: str, width: int = 1440) -> None:
    """Open the page and wait until it has fetched its pieces once."""
    page.open(address, width)
    page.until("/\\d\\d:\\d\\d/.test(document.getElementById('updated').textContent)")


def fault_free(page: Page, address: str) -> None:
    """Nothing on the console, and nothing was asked of any other machine."""
    page.run("1")
    assert not page.complaints
    host = re.match(r"http://[^/]+/", address)
    assert host is not None
    assert all(request.startswith(host[0]) for request in page.requests), page.requests


def test_a_round_that_becomes_complete_is_seen_without_reloading(home: Path, page: Page) -> None:
    with served(home) as address:
        opened(page, address)
        assert "Round 5 of 20" in page.run(TEXT)
        page.run("window.here = document.querySelector('#hospitals .card'); document.querySelector('summary').click()")
        grow(home / "runs" / "muscle", 5)
        page.until(f"{TEXT}.includes('Round 6 of 20')", 15)
        assert page.run("document.title").startswith("SYNTHETIC: Round 6 of 20")
        assert page.run("document.querySelector('progress').value") == 5
        assert page.run("document.getElementById('status').textContent").startswith("Round 6 of 20.")
        assert page.run("document.contains(window.here)"), "what has not changed stays where it is"
        assert page.run("document.querySelector('details').open"), "an opened table stays open"
        finish(home / "runs" / "muscle")
        page.until(f"{TEXT}.includes('passes the study')", 15)
        page.until(f"!{TEXT}.includes('being computed')", 60)
        fault_free(page, address)
        navigations = [r for r in page.requests if re.fullmatch(r"http://[^/]+/(\?.*)?", r)]
        assert len(navigations) == 1, "the page was never loaded again"


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_every_screen_in_every_state(home: Path, page: Page, width: int) -> None:
    run = home / "runs" / "muscle"
    long_name = "the-university-hospital-of-a-very-large-city-with-a-long-name"
    write_round(run, 5, {long_name: "answers in the name of " + "x" * 300})
    write_live(run, "round", 6, {**dict.fromkeys(SITES, "asked"), long_name: "failed"})
    with served(home) as address:
        opened(page, address, width)
        place = page.run(
            "(g => g.scrollWidth - g.scrollLeft - g.clientWidth)(document.querySelector('#parts .scroll'))"
        )
        assert place < 4, "the newest rounds are in sight"
        for state in ("under way", "failed", "released"):
            if state == "failed":
                write_live(run, "failed", 6, {}, failure="e" * 500, deadline=None)
                page.until(f"{TEXT}.includes('Stopped')")
            if state == "released":
                finish(run, leaks=True)
                page.until(f"{TEXT}.includes('does not pass')")
            page.run("document.querySelectorAll('details').forEach(d => d.open = true)")
            assert page.run("document.documentElement.scrollWidth") == width, state
            outside = page.run(
                "[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, .skip, .seen')"
                " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + e.textContent.slice(0, 40))"
            )
            assert outside == [], state
        fault_free(page, address)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_text_can_be_read(home: Path, page: Page, scheme: str) -> None:
    """Contrast of 4.5 and more (WCAG 2.2, 1.4.3), by day and by night."""
    write_live(
        home / "runs" / "muscle", "round", 5, {"shanghai": "answered", "sichuan": "refused", "zhongshan": "asked"}
    )
    write_processes(home, gate={"state": "ended", "said": "it said something"})
    with served(home) as address:
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        opened(page, address)
        page.run("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert page.run(CONTRAST) == []


CONTRAST = """(() => {
  const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b; };
  const parse = t => t.match(/[\\d.]+/g).map(Number);
  const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c.slice(0, 3); } return [255, 255, 255]; };
  const poor = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || e.closest('.seen, .skip, .revoked')) continue;
    const style = getComputedStyle(e), colour = parse(e.closest('svg') ? style.fill : style.color);
    const [a, b] = [light(colour), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) poor.push(e.tagName + '.' + e.className + ' ' + e.textContent.slice(0, 30) + ' ' + ratio);
  }
  return poor;
})()"""


def test_it_can_be_used_without_a_mouse(home: Path, page: Page) -> None:
    with served(home) as address:
        opened(page, address)
        reached = []
        for _step in range(40):
            for kind in ("keyDown", "keyUp"):
                page.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
            reached.append(page.run("document.activeElement.tagName + ' ' + document.activeElement.className"))
        names = {name.strip() for name in reached}
        assert {"A skip", "SUMMARY", "DIV scroll"} <= names
        page.run("document.querySelector('#learning summary').focus()")
        for kind in ("keyDown", "keyUp"):
            page.call(
                "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r", windowsVirtualKeyCode=13
            )
        assert page.run("document.querySelector('#learning details').open")


def test_a_reader_of_the_screen_hears_what_is_drawn(home: Path, page: Page) -> None:
    with served(home) as address:
        opened(page, address)
        page.call("Accessibility.enable")
        tree = page.call("Accessibility.getFullAXTree")["nodes"]
        named = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in tree if not n.get("ignored")]
        images = [name for role, name in named if role in ("image", "img")]
        assert len(images) == 4
        assert all("central test" in name or "by round" in name for name in images)
        assert sum(role == "heading" for role, _ in named) >= 8
        assert any("no answer" in name for _, name in named), "a sign of the grid has a word"
        assert any("rogress" in role and name == "Complete rounds" for role, name in named)


def test_the_token_leaves_the_address_and_the_page_lives_on(home: Path, page: Page) -> None:
    with served(home) as address:
        opened(page, address)
        assert page.run("location.href") == address.partition("?")[0]
        assert page.run("document.cookie") == "", "no script can read the cookie"
        page.call("Page.reload")
        page.until(f"{TEXT}.includes('Round 5 of 20')")
        fault_free(page, address)


def test_a_dashboard_that_ended_is_told_and_what_is_shown_is_marked_as_old(home: Path, page: Page) -> None:
    with commanded(home) as (address, process):
        opened(page, address)
        process.send_signal(signal.SIGINT)
        process.wait(20)
        page.until("!document.getElementById('alone').hidden", 20)
        assert "sarco-coordinator dashboard" in page.run("document.getElementById('alone').textContent")
        page.until("document.body.classList.contains('old')")
        page.until("/ago/.test(document.getElementById('updated').textContent)", 20)


def test_clocks_go_on_without_the_server(home: Path, page: Page) -> None:
    with served(home) as address:
        opened(page, address)
        clock = "document.querySelector('time[data-until]').textContent"
        first = page.run(clock)
        assert re.fullmatch(r"4 min \d+ s", first), first
        page.until(f"{clock} !== '{first}'", 20)


def test_it_prints_on_a_few_sheets(home: Path, page: Page) -> None:
    import base64

    with served(home) as address:
        opened(page, address)
        found = base64.b64decode(page.call("Page.printToPDF", preferCSSPageSize=True)["data"])
        assert 1 <= found.count(b"/Type /Page\n") <= 5
