"""A segmentation model as its receiver gets it, and as it is stored: weights, study, and what is known of it.

    model.safetensors    the network's parameters by name; frozen.safetensors beside it, where a part never trained
    study.json           the study, whose digest model.json names; study.toml will do for a single file
    model.json           what is known: whether it was trained on computer-made people, ranges of drawn shapes for each
                         muscle, the score from which a muscle is accepted
    manifest.json        of a release: hashes of all files (:mod:`sarco_models.released`)

A folder of a run, a release, and one .safetensors file with its study beside it are opened alike. Nothing of it is
code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sarco_models.config import StudyConfig, load_config
from sarco_models.errors import ConfigError, RunError, WeightsError
from sarco_models.parameters import Manifest, Parameters, all_tensors
from sarco_models.plausible import THRESHOLD
from sarco_models.release_files import ABOUT, FROZEN, MANIFEST, MODEL, STUDY, verified
from sarco_models.segmentation_net import SegmentationNet
from sarco_models.segmenter import Segmenter
from sarco_models.shapes import ShapeRange
from sarco_models.unet import build_segmenter


@dataclass(frozen=True)
class About:
    """What is known of a model beside its weights.

    Attributes:
        synthetic: trained on computer-made people; None where nobody knows.
        threshold: score from which a found muscle is accepted.
        shapes: range of drawn masks for each muscle, by name; empty where none was agreed.
    """

    synthetic: bool | None = None
    threshold: float = THRESHOLD
    shapes: Mapping[str, ShapeRange] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For model.json."""
        shapes = {name: found.to_dict() for name, found in self.shapes.items()}
        return {"synthetic": self.synthetic, "threshold": self.threshold, "shapes": shapes}

    @staticmethod
    def from_dict(stored: Mapping[str, Any]) -> About:
        """What model.json says; a key that is absent is not known."""
        shapes = {name: ShapeRange.from_dict(found) for name, found in (stored.get("shapes") or {}).items()}
        threshold = stored.get("threshold")
        return About(stored.get("synthetic"), THRESHOLD if threshold is None else float(threshold), shapes)


@dataclass(frozen=True)
class ReleasedSegmenter:
    """A segmentation model, ready for frames.

    Attributes:
        study: as it was run.
        net: with the released weights.
        about: what is known of it.
        digest: SHA-256 of the parameters, 64 hexadecimal digits; it names the model wherever its results go.
    """

    study: StudyConfig
    net: SegmentationNet
    about: About
    digest: str

    def segmenter(self, device: torch.device | str = "cpu", *, mirror: bool = True, rows: int = 8) -> Segmenter:
        """The network ready for frames; see :class:`sarco_models.segmenter.Segmenter`."""
        return Segmenter(self.study, self.net, device, mirror=mirror, rows=rows)

    def title(self, name: str) -> str:
        """A muscle in words for people."""
        cfg = self.study.segmentation
        found = [m for m in cfg.muscles if m.name == name] if cfg else []
        return found[0].title if found else name


def store_segmenter(folder: Path, study: StudyConfig, net: SegmentationNet, about: About) -> None:
    """Write weights, study and what is known, model.json last, so that it stands for a complete model.

    Raises:
        RunError: the folder holds a model already.
    """
    if (folder / ABOUT).exists():
        raise RunError(f"{folder / ABOUT}: a model is there already: name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    parameters = Parameters.pack(all_tensors(net))
    parameters.save(folder / MODEL)
    stored = {"study": study.digest, "parameters": parameters.digest, **about.to_dict()}
    for name, text in ((STUDY, study.model_dump_json(indent=2)), (ABOUT, json.dumps(stored, indent=1))):
        partial = (folder / name).with_suffix(".partial")
        partial.write_text(text, encoding="utf-8")
        partial.rename(folder / name)


def open_segmenter(place: Path) -> ReleasedSegmenter:
    """Open a folder of a run or a release, or a single .safetensors file with its study beside it.

    Raises:
        RunError: a file is absent, was changed, or belongs to another study.
        ConfigError: the study's model does not segment.
        WeightsError: the weights do not fit the study's network.
    """
    folder, weights = (place, place / MODEL) if place.is_dir() else (place.parent, place)
    if not weights.is_file():
        remedy = "name the folder of a run that is complete, of a release, or a .safetensors file"
        trained = sorted(place.glob(f"arms/*/*/{MODEL}"))
        remedy += f"; here is one of {len(trained)}: {trained[0].parent}" if trained else ""
        raise RunError(f"{weights}: no such model: {remedy}")
    synthetic = verified(folder)["synthetic"] if place.is_dir() and (folder / MANIFEST).is_file() else None
    study = _study(folder)
    if study.segmentation is None:
        raise ConfigError(f"{place}: a model of study {study.name}, which diagnoses: name one that finds muscles")
    net = build_segmenter(study, weights="none")
    parameters = _parameters(weights, folder / FROZEN, Manifest.of(all_tensors(net)))
    parameters.load_into(all_tensors(net))
    stored = _known(folder / ABOUT)
    if stored.get("study", study.digest) != study.digest:
        raise RunError(f"{folder / ABOUT}: is of another study than {STUDY}: get the model again, both files together")
    if synthetic is not None:
        stored = {**stored, "synthetic": synthetic}
    return ReleasedSegmenter(study, net, About.from_dict(stored), parameters.digest)


def _study(folder: Path) -> StudyConfig:
    for name in (STUDY, "study.toml"):
        if (folder / name).is_file():
            return load_config(folder / name, StudyConfig)
    raise RunError(
        f"{folder / STUDY}: is absent: put the study's file beside the model, for it says which network it is"
    )


def _known(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        About.from_dict(stored)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise RunError(f"{path}: cannot be read: get the model again") from None
    return dict(stored)


def _parameters(weights: Path, frozen: Path, manifest: Manifest) -> Parameters:
    """All of a network's parameters, from one file, or from two where a part never trained.

    Names may be those of the whole network, or, as a run has them, of its trained part and of its frozen one.

    Raises:
        WeightsError: they are not those of this network.
    """
    found: dict[str, torch.Tensor] = {}
    for path, part in ((frozen, "frozen"), (weights, "trained")):
        if path == frozen and not path.is_file():
            continue
        for name, tensor in _tensors(path).items():
            bare = name.removeprefix("net.")  # constants of the part that trains
            names = (name, f"{part}.{name}", bare, f"trained.{bare}")
            found[next((n for n in names if n in manifest.names), name)] = tensor
    absent, extra = sorted(set(manifest.names) - set(found)), sorted(set(found) - set(manifest.names))
    if absent or extra:
        raise WeightsError(
            f"{weights}: parameters do not fit the study's network: absent {absent[:3]}, unexpected {extra[:3]}; "
            "another study or version?"
        )
    wrong = [n for n, shape in zip(manifest.names, manifest.shapes, strict=True) if tuple(found[n].shape) != shape]
    if wrong:
        raise WeightsError(f"{weights}: {wrong[0]} has shape {tuple(found[wrong[0]].shape)}: another study or version?")
    return Parameters.pack({name: found[name] for name in manifest.names})


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a safetensors file ({error})") from None
