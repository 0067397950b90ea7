"""Work in a process that ends: the same result, the same errors, and nothing of it is left here."""

import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sarco_models import apart as module
from sarco_models.apart import apart
from sarco_models.errors import ConfigError, DataError, Finding, ProcessError, RunError, SarcoError

HERE = "tests.sarco_models.test_apart"


def doubled(number: int) -> dict[str, Any]:
    sys.stdout.write("what is printed is no result")
    return {"twice": 2 * number, "pid": os.getpid(), "user": os.geteuid()}


def refused(kind: str) -> None:
    raise {
        "run": RunError("r: mend it"),
        "config": ConfigError("c: mend it"),
        "data": DataError([Finding("error", "range", "p.csv", "200", "below 110", "correct it")]),
    }[kind]


def killed() -> None:
    os.kill(os.getpid(), 9)


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a command that has not loaded it: a process is really started."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)


def test_a_result_comes_back_from_another_process(without_torch: None, capfd: pytest.CaptureFixture[str]) -> None:
    found = apart(f"{HERE}:doubled", {"number": 21})
    assert found["twice"] == 42
    assert found["pid"] != os.getpid()
    captured = capfd.readouterr()
    assert "what is printed" in captured.err
    assert not captured.out, "what a command prints for a program is its own"


def test_an_error_keeps_its_kind_and_words(without_torch: None) -> None:
    with pytest.raises(RunError, match=r"^r: mend it$"):
        apart(f"{HERE}:refused", {"kind": "run"})
    with pytest.raises(ConfigError, match=r"^c: mend it$"):
        apart(f"{HERE}:refused", {"kind": "config"})
    with pytest.raises(SarcoError, match="below 110"):
        apart(f"{HERE}:refused", {"kind": "data"})


def test_a_process_that_is_killed_is_told_of(without_torch: None) -> None:
    with pytest.raises(ProcessError, match="status -9 and no result; memory may be short"):
        apart(f"{HERE}:killed", {})


def test_where_torch_is_loaded_a_process_saves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", os)
    assert apart(f"{HERE}:doubled", {"number": 1})["pid"] == os.getpid()


def test_an_account_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="there is no account no-such: make it with useradd"):
        apart(f"{HERE}:doubled", {"number": 1}, user="no-such")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another account")
def test_another_account_does_it_or_is_said_not_to_be_able_to() -> None:
    nobody = {"user": pwd.getpwnam("nobody").pw_uid, "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
    try:
        subprocess.run([sys.executable, "-c", ""], check=True, **nobody)
    except PermissionError:
        with pytest.raises(ProcessError, match="install SARCO-FL and its Python where every account can run it"):
            apart(f"{HERE}:doubled", {"number": 1}, user="nobody")
    else:
        assert apart(f"{HERE}:doubled", {"number": 1}, user="nobody")["user"] == nobody["user"]


def test_the_process_finds_our_code_from_any_folder(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('code of the folder that a command is given in')")
    words = f"from sarco_models.apart import apart; print(apart('{module.__name__}:_our_code', {{}}))"
    root = str(Path(module.__file__).parents[1])
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-P", "-c", words], cwd=tmp_path, env={**os.environ, "PYTHONPATH": root}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert root in done.stdout
