"""Certificates in time: renewed before they end, and warned of where that cannot be done.

A renewed certificate keeps its key and its names, so that hospitals notice nothing; the authority's own end is another
matter, for every hospital has it in its kit.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sarco_models.errors import ConfigError
from server.certificates import LEAF_DAYS, Authority, days_left, issue, names_of, read_certificate

RENEW_DAYS = 45
WARN_DAYS = 30


def renew(authority: Authority, certificate: Path, *, days: int = LEAF_DAYS) -> Path:
    """Issue a server's certificate again, for the same names and with the same key; hospitals notice nothing.

    Raises:
        ConfigError: the certificate or its key is gone or damaged.
    """
    names = names_of(read_certificate(certificate))
    return issue(authority, certificate.with_suffix(""), names, days=days)


def renew_expiring(
    authority: Authority, certificates: Iterable[Path], *, within_days: float = RENEW_DAYS
) -> tuple[Path, ...]:
    """Renew those that end soon, or have ended; returns them.

    Raises:
        ConfigError: the authority, or the certificate or the key of one of them, cannot be used.
    """
    soon = [path for path in certificates if days_left(read_certificate(path)) <= within_days]
    return tuple(renew(authority, path) for path in soon)


def expiry_warnings(certificates: Iterable[Path], *, within_days: float = WARN_DAYS) -> tuple[str, ...]:
    """One sentence for each certificate that has ended, ends within ``within_days``, or cannot be read."""
    found = []
    for path in certificates:
        try:
            certificate = read_certificate(path)
        except ConfigError as error:
            found.append(str(error))
            continue
        left, end = days_left(certificate), certificate.not_valid_after_utc.date()
        if left > within_days:
            continue
        ended = f"ended on {end}: hospitals refuse it" if left < 0 else f"ends on {end}, in {left:.0f} days"
        remedy = (
            "a new authority means a new kit for every hospital: plan it"
            if certificate.issuer == certificate.subject
            else "renew it: sarco-coordinator down and up"
        )
        found.append(f"{path}: {ended}; {remedy}")
    return tuple(found)
