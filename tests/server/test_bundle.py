"""What is sent to hospitals: names, and no code."""

import io
import tomllib
import zipfile

from server.bundle import bundle, bundle_digest

FILES = {"pyproject.toml", "LICENSE", ".info/CONTENT"}


def test_no_code_travels() -> None:
    with zipfile.ZipFile(io.BytesIO(bundle())) as fab:
        assert set(fab.namelist()) == FILES
        app = tomllib.loads(fab.read("pyproject.toml").decode())["tool"]["flwr"]["app"]
    assert app["components"] == {"serverapp": "server.app:app", "clientapp": "client.app:app"}
    assert app["config"] == {"run-dir": ""}


def test_the_same_versions_give_the_same_bytes() -> None:
    first, digest = bundle(), bundle_digest()
    bundle.cache_clear()
    assert (bundle(), bundle_digest()) == (first, digest)
