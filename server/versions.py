"""Versions of what results depend on, for the record of a run."""

import importlib.metadata
import platform

PACKAGES = (
    "flwr",
    "torch",
    "timm",
    "opacus",
    "albumentations",
    "pydicom",
    "scikit-learn",
    "numpy",
    "scipy",
    "sarco-fl",
)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
