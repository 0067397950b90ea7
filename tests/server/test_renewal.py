"""Certificates are renewed in time, and who watches is told in time."""

from pathlib import Path

import pytest

from sarco_models.errors import ConfigError
from server.certificates import Authority, days_left, issue, make_authority, names_of, read_certificate
from server.renewal import expiry_warnings, renew, renew_expiring


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


def test_renewal_keeps_key_and_names(authority: Authority, tmp_path: Path) -> None:
    path = issue(authority, tmp_path / "server", ["localhost", "127.0.0.1"], days=3)
    before, key = read_certificate(path), path.with_suffix(".key").read_bytes()
    after = read_certificate(renew(authority, path))
    assert path.with_suffix(".key").read_bytes() == key
    assert names_of(after) == names_of(before) == ("localhost", "127.0.0.1")
    assert days_left(before) < 4
    assert days_left(after) > 700


def test_warnings_come_before_the_end_and_after(authority: Authority, tmp_path: Path) -> None:
    soon = issue(authority, tmp_path / "soon", ["localhost"], days=20)
    ended = issue(authority, tmp_path / "ended", ["localhost"], days=0)
    fine = issue(authority, tmp_path / "fine", ["localhost"])
    said = expiry_warnings([soon, ended, fine, tmp_path / "absent.pem"])
    assert [line.split(":")[0] for line in said] == [str(soon), str(ended), str(tmp_path / "absent.pem")]
    assert "in 20 days; renew it" in said[0]
    assert "hospitals refuse it; renew it" in said[1]
    assert "cannot be read" in said[2]
    assert not expiry_warnings([authority.certificate])
    assert "a new kit for every hospital" in expiry_warnings([authority.certificate], within_days=4000)[0]


def test_only_what_ends_soon_is_renewed(authority: Authority, tmp_path: Path) -> None:
    soon = issue(authority, tmp_path / "soon", ["localhost"], days=20)
    ended = issue(authority, tmp_path / "ended", ["localhost"], days=0)
    fine = issue(authority, tmp_path / "fine", ["localhost"])
    before = fine.read_bytes()
    assert renew_expiring(authority, [soon, ended, fine]) == (soon, ended)
    assert fine.read_bytes() == before
    assert not expiry_warnings([soon, ended, fine])


def test_without_the_authority_s_key_the_reason_is_told(tmp_path: Path) -> None:
    made = make_authority(tmp_path)
    soon = issue(made, tmp_path / "soon", ["localhost"], days=20)
    made.key.unlink()
    with pytest.raises(ConfigError, match=r"ca\.key: the key cannot be read"):
        renew_expiring(made, [soon])
