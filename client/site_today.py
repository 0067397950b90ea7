"""The open hospital, kept as its site.toml says today.

A worker lives for weeks. What the hospital changes in its policy, its budget, its peers or its threads holds from the
next request on; an approval or its withdrawal does so too (:mod:`client.approval`). While site.toml cannot be read,
nothing is answered but a code: the policy of yesterday is not the hospital's word of today. What decides which data are
open (data, study, label rule, templates, cache, state, device, name) is read when a site is opened: where it changes,
the worker ends, is started again, and opens what the file says then. The tables and images themselves are those of
that moment: after new data, start the worker again.
"""

from __future__ import annotations

import logging
from pathlib import Path

from client.identity import by_name
from client.workspace import Site, SiteConfig, open_site
from sarco_models.config import load_config, load_study
from sarco_models.image_cache import Progress

log = logging.getLogger(__name__)

LIVING = ("policy", "budget", "peers", "threads")
"""Keys of site.toml that hold from the next request on."""

Mark = tuple[int, int, int] | None


class Reopen(Exception):
    """What decides which data are open has changed."""


class SiteToday:
    """A site and the file that describes it."""

    def __init__(self, path: Path, progress: Progress | None = None) -> None:
        """Open the site; raises what :func:`client.workspace.open_site` raises."""
        self._path = path
        self._config = load_config(path, SiteConfig)
        self._study = path.parent / self._config.study
        self._marks = self._looked()
        self._site = open_site(path, progress)

    def now(self) -> Site:
        """The site under the policy of today.

        Raises:
            ConfigError: site.toml, or the study file, cannot be read now.
            Reopen: other data, or another study, than those that are open.
        """
        marks = self._looked()
        if marks != self._marks:
            self._read_again()
            self._marks = marks
        return self._site

    def _read_again(self) -> None:
        config = load_config(self._path, SiteConfig)
        study = load_study(self._path.parent / config.study)
        fixed = [{k: v for k, v in c.model_dump().items() if k not in LIVING} for c in (config, self._config)]
        if fixed[0] != fixed[1] or study.digest != self._site.study.digest:
            raise Reopen
        peers = by_name(config.peers)
        site, self._config = self._site, config
        site.policy, site.budget, site.peers, site.threads = config.policy, config.budget, peers, config.threads
        log.info("site.toml has changed: its policy and budget hold from this request on")

    def _looked(self) -> tuple[Mark, Mark]:
        return _mark(self._path), _mark(self._study)


def _mark(path: Path) -> Mark:
    """Tells one state of a file from another; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_ctime_ns  # the time of a change of content can be set back
