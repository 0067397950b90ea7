"""Late fusion of ultrasound and tables (Chen et al. 2025, figure 2): one branch per modality, one output.

A branch turns its modality into features; a modality that a participant lacks is replaced by a learned vector, so that
every participant has a prediction. Before a linear output layer that is the same as zeros and a flag of presence: both
add one learned number to the logit. With one modality the network is that branch and its output layer alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sarco_models.config import IMAGE, StudyConfig
from sarco_models.devices import device_of
from sarco_models.errors import ConfigError
from sarco_models.parameters import all_tensors, local_tensors, trained_tensors
from sarco_models.schema import Column, design_columns


@dataclass(frozen=True)
class Inputs:
    """What the trained network reads; one row per image, or one for a participant who has none.

    Attributes:
        image: output of the frozen part of the backbone, (rows, ...); None in a study without images.
        tables: branch -> (rows, columns) scaled values.
        present: branch -> (rows,) bool, False where the participant lacks the modality.
    """

    image: Tensor | None
    tables: Mapping[str, Tensor]
    present: Mapping[str, Tensor]

    def to(self, device: torch.device) -> "Inputs":
        """The same rows on another device."""
        moved = ({name: t.to(device) for name, t in each.items()} for each in (self.tables, self.present))
        return Inputs(None if self.image is None else self.image.to(device), *moved)


class TableBranch(nn.Module):
    """A two-layer feed-forward network on a table: Linear, GELU, dropout (Chen et al. 2025: 128 units)."""

    def __init__(self, columns: int, hidden_units: int, dropout: float, *, deep: bool) -> None:
        """``deep`` adds the second layer that fusion uses; alone, the output layer is the second."""
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(columns, hidden_units), nn.GELU(), nn.Dropout(dropout)]
        if deep:
            layers += [nn.Linear(hidden_units, hidden_units), nn.GELU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, table: Tensor) -> Tensor:
        """(rows, columns) -> (rows, hidden_units)."""
        features: Tensor = self.layers(table)
        return features


class FusionNet(nn.Module):
    """Branches, concatenated, one output: the logit of the positive class."""

    def __init__(self, branches: Mapping[str, nn.Module], widths: Mapping[str, int], modality_dropout: float) -> None:
        """``branches`` and ``widths`` (features of each) have the same keys, in the order of concatenation."""
        super().__init__()
        self.branches = nn.ModuleDict(branches)
        self.absent = nn.ParameterDict({name: nn.Parameter(torch.zeros(width)) for name, width in widths.items()})
        self.output = nn.Linear(sum(widths.values()), 1)
        self.modality_dropout = modality_dropout if len(branches) > 1 else 0.0

    def forward(self, inputs: Inputs) -> Tensor:
        """-> (rows,) logits."""
        present = self._hide_some(inputs.present) if self.training else inputs.present
        features = [self.features(name, inputs, present[name]) for name in self.branches]
        logits: Tensor = self.output(torch.cat(features, dim=1))
        return logits[:, 0]

    def features(self, name: str, inputs: Inputs, present: Tensor) -> Tensor:
        """(rows, width) features of one branch; the learned vector in the rows where it is not ``present``."""
        branch, absent = self.branches[name], self.absent[name]
        x = inputs.image if name == IMAGE else inputs.tables[name]
        if name != IMAGE or x is None or bool(present.all()):
            return torch.where(present[:, None], branch(x), absent)
        # What stands for an image that is not there must not enter the statistics of a batch, nor cost time.
        features: Tensor = absent.expand(len(present), -1)
        return features.index_put((present,), branch(x[present])) if bool(present.any()) else features

    def _hide_some(self, present: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Hide each modality of each row at random, never all of them, so that the absent vectors are learned."""
        if not self.modality_dropout:
            return present
        stacked = torch.stack([present[name] for name in self.branches])
        # Drawn by the processor, whatever computes: the same people are denied the same modality.
        kept = stacked & (torch.rand(stacked.shape).to(stacked.device) >= self.modality_dropout)
        kept = torch.where(kept.any(dim=0), kept, stacked)
        return dict(zip(self.branches, kept, strict=True))


@dataclass(frozen=True)
class Model:
    """A study's network.

    Attributes:
        frozen: image part that is never trained; None without images.
        net: everything that is trained.
        table_columns: branch -> positions of its columns in the study's table.
    """

    frozen: nn.Module | None
    net: nn.Module
    table_columns: Mapping[str, tuple[int, ...]]

    def to(self, device: torch.device) -> "Model":
        """Move the whole network, in place; returns itself."""
        for part in (self.frozen, self.net):
            if part is not None:
                part.to(device)
        return self

    @property
    def fusion(self) -> FusionNet:
        """The net of a study that diagnoses.

        Raises:
            ConfigError: the study segments.
        """
        if not isinstance(self.net, FusionNet):
            raise ConfigError("the study finds muscles and diagnoses nobody: there is no such branch to look into")
        return self.net

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return device_of(self.net)


def fixed_tensors(model: Model) -> dict[str, Tensor]:
    """What rounds do not carry, by name: the coordinator sends it once, before the first.

    Frozen layers; constants among the trained ones; the values from which each site's own batch norms begin.
    """
    frozen = all_tensors(model.frozen) if model.frozen is not None else {}
    trained = trained_tensors(model.net)
    inside = {**all_tensors(model.net), **local_tensors(model.net)}
    return {**frozen, **{f"net.{name}": tensor for name, tensor in inside.items() if name not in trained}}


def build_model(study: StudyConfig, weights: str | None = None) -> Model:
    """Make the study's network.

    Args:
        study: the whole study.
        weights: overrides the study's starting weights of the backbone; a site passes ``none``, since the coordinator
            sends them.
    """
    if study.segments:
        from sarco_models.unet import build_segmenter  # seconds of imports, for those who need them

        return Model(None, build_segmenter(study, weights), {})
    cfg = study.model
    table_columns = _table_columns(study, design_columns(study.features))
    several = len(table_columns) + study.uses_images > 1
    branches: dict[str, nn.Module] = {}
    widths: dict[str, int] = {}
    frozen = None
    if study.uses_images:
        start = cfg.weights if weights is None else weights
        from sarco_models.backbones import build_backbone  # a study of tables alone does not wait for timm

        backbone = build_backbone(cfg.backbone, cfg.trainable, start, norm=cfg.norm, image_size=study.image.size)
        frozen = backbone.frozen
        branches[IMAGE], widths[IMAGE] = backbone.trained, backbone.width
    for name, columns in table_columns.items():
        branches[name] = TableBranch(len(columns), cfg.hidden_units, cfg.dropout, deep=several)
        widths[name] = cfg.hidden_units
    return Model(frozen, FusionNet(branches, widths, cfg.modality_dropout), table_columns)


def _table_columns(study: StudyConfig, columns: tuple[Column, ...]) -> dict[str, tuple[int, ...]]:
    groups = [g for g in study.model.modalities if g != IMAGE]
    if study.model.tabular == "joint" and groups:
        return {"table": tuple(i for i, c in enumerate(columns) if c.group in groups)}
    return {g: tuple(i for i, c in enumerate(columns) if c.group == g) for g in groups}
