"""One branch per modality; what a person lacks is replaced by what was learned for its absence."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from timm.layers import RmsNorm2d
from torch import Tensor, nn

from sarco_models.config import StudyConfig, load_study
from sarco_models.fusion import FusionNet, Inputs, TableBranch, build_model, fixed_tensors
from sarco_models.parameters import local_tensors, trained_tensors
from sarco_models.schema import design_columns
from sarco_models.training import count_parameters
from tests.sites import image_study, tables_study

SHIPPED = load_study(Path(__file__).parents[2] / "configs" / "study.toml")
WIDTHS = {"image": 6, "clinical": 3, "lab": 2}


def shipped(*modalities: str, tabular: str = "joint") -> StudyConfig:
    tree = json.loads(SHIPPED.model_dump_json())
    tree["model"] |= {"modalities": modalities, "weights": "none", "tabular": tabular}
    return StudyConfig.model_validate_json(json.dumps(tree))


@pytest.fixture
def net() -> FusionNet:
    """Three small branches, as a study with per-group tables has them; absent vectors as after training."""
    torch.manual_seed(0)
    branches: dict[str, nn.Module] = {"image": nn.Sequential(nn.Flatten(), nn.Linear(4, 6))}
    branches |= {g: TableBranch(n, WIDTHS[g], 0.0, deep=True) for g, n in (("clinical", 5), ("lab", 2))}
    made = FusionNet(branches, WIDTHS, modality_dropout=0.3).eval()
    for vector in made.absent.values():
        nn.init.normal_(vector)
    return made


def inputs(rows: int = 8, seed: int = 1) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    tables = {g: torch.randn(rows, n, generator=generator) for g, n in (("clinical", 5), ("lab", 2))}
    present = {name: torch.rand(rows, generator=generator) < 0.6 for name in WIDTHS}
    return Inputs(torch.randn(rows, 1, 2, 2, generator=generator), tables, present)


def with_present(given: Inputs, **present: bool) -> Inputs:
    rows = len(given.present["image"])
    return replace(given, present={n: torch.full((rows,), present.get(n, True)) for n in WIDTHS})


# ---- the networks of the paper ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("group", "columns"), [("clinical", 8), ("lab", 14)])
def test_one_table_alone_is_the_papers_perceptron(group: str, columns: int) -> None:
    """Chen et al. 2025: 8-128-GELU-dropout-1 and 14-128-GELU-dropout-1; no other layer."""
    net = build_model(shipped(group)).net
    layers = [m for m in net.modules() if isinstance(m, nn.Linear | nn.GELU | nn.Dropout)]
    assert [type(m) for m in layers] == [nn.Linear, nn.GELU, nn.Dropout, nn.Linear]
    shapes = [tuple(m.weight.shape) for m in layers if isinstance(m, nn.Linear)]
    assert shapes == [(128, columns), (1, 128)]
    assert [m.p for m in layers if isinstance(m, nn.Dropout)] == [0.5]


def test_fusion_of_all_is_image_features_beside_a_two_layer_table_network() -> None:
    """Chen et al. 2025, figure 2: the 22 values as one vector, concatenated with the image features, one output."""
    model = build_model(shipped("image", "clinical", "lab"))
    assert list(model.net.branches) == ["image", "table"]
    assert model.table_columns == {"table": tuple(range(22))}
    linear = [tuple(m.weight.shape) for m in model.net.branches["table"].modules() if isinstance(m, nn.Linear)]
    assert linear == [(128, 22), (128, 128)]
    assert model.net.output.weight.shape == (1, 320 + 128)


COMBINATIONS = [
    ("image",),
    ("clinical",),
    ("lab",),
    ("image", "clinical"),
    ("image", "lab"),
    ("image", "clinical", "lab"),
]


@pytest.mark.parametrize("tabular", ["joint", "per_group"])
@pytest.mark.parametrize("modalities", COMBINATIONS)
def test_all_six_combinations_of_data_have_their_network(modalities: tuple[str, ...], tabular: str) -> None:
    """Chen et al. 2025, table 2: with two branches as in the paper, or with a branch for each kind of data."""
    study = shipped(*modalities, tabular=tabular)
    model = build_model(study)
    groups = [m for m in modalities if m != "image"]
    tables = groups if tabular == "per_group" else ["table"] * bool(groups)
    assert list(model.net.branches) == ["image"] * ("image" in modalities) + tables
    assert model.net.output.weight.shape == (1, 320 * ("image" in modalities) + 128 * len(tables))
    read = [i for columns in model.table_columns.values() for i in columns]
    assert [design_columns(study.features)[i].group for i in read] == [f.group for f in study.inputs]
    rows = 5
    present = {name: torch.arange(rows) != k for k, name in enumerate(model.net.branches)}
    table = torch.randn(rows, 22)
    x = model.frozen(torch.rand(rows, 1, 32, 32)) if model.frozen else None
    logits = model.net.eval()(Inputs(x, {n: table[:, list(c)] for n, c in model.table_columns.items()}, present))
    assert logits.shape == (rows,)
    assert torch.isfinite(logits).all()


def test_each_group_may_have_a_branch_of_its_own() -> None:
    study = shipped("clinical", "lab", tabular="per_group")
    model = build_model(study)
    names = [c.name for c in design_columns(study.features)]
    assert list(model.table_columns) == ["clinical", "lab"]
    for group, columns in model.table_columns.items():
        assert [names[i] for i in columns] == [f.name for f in study.features if f.group == group]
    assert model.net.output.weight.shape == (1, 2 * 128)


def test_groups_that_are_no_modality_are_not_read() -> None:
    study = shipped("lab")
    model = build_model(study)
    assert model.table_columns == {"table": tuple(range(8, 22))}
    assert model.frozen is None


def test_a_categorical_feature_has_a_column_for_each_category() -> None:
    assert build_model(tables_study()).table_columns == {"table": tuple(range(8))}


def test_a_site_builds_the_model_without_weights() -> None:
    """The coordinator sends them: a hospital never needs a file or the internet."""
    study = image_study(model={"weights": "/nowhere.safetensors"})
    assert count_parameters(build_model(study, weights="none").net) == count_parameters(build_model(image_study()).net)


@pytest.mark.parametrize("trainable", ["head", "last_stage", "all"])
def test_everything_in_the_net_is_trained_and_nothing_beside_it(trainable: str) -> None:
    model = build_model(image_study(model={"trainable": trainable}))
    assert model.frozen is not None
    assert all(p.requires_grad for p in model.net.parameters())
    assert not any(p.requires_grad for p in model.frozen.parameters())
    mine = {id(p) for p in model.net.parameters()}
    assert not mine & {id(p) for p in model.frozen.parameters()}


# ---- missing modalities ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lacking", [{"image"}, {"lab"}, {"clinical", "lab"}, {"image", "clinical", "lab"}])
def test_a_prediction_does_not_depend_on_what_is_absent(net: FusionNet, lacking: set[str]) -> None:
    """No image, no laboratory, nothing but the image, nothing at all: finite, and the same whatever stands there."""
    given, other = inputs(seed=1), inputs(seed=2)
    present = dict.fromkeys(lacking, False)
    mixed = Inputs(
        other.image if "image" in lacking else given.image,
        {g: (other if g in lacking else given).tables[g] for g in given.tables},
        {},
    )
    logits = net(with_present(given, **present))
    assert torch.isfinite(logits).all()
    assert torch.equal(logits, net(replace(mixed, present=with_present(given, **present).present)))
    assert not torch.equal(logits, net(with_present(given)))


def test_absent_values_get_no_gradient_and_the_absent_vector_gets_one(net: FusionNet) -> None:
    given = inputs()
    table = given.tables["lab"].clone().requires_grad_()
    net(replace(given, tables={**given.tables, "lab": table})).sum().backward()
    assert table.grad is not None
    here = given.present["lab"]
    assert 0 < here.sum() < len(here)
    assert (table.grad[~here] == 0).all()
    assert (table.grad[here] != 0).any(dim=1).all()
    assert (net.absent["lab"].grad != 0).all()


def test_a_row_does_not_depend_on_the_other_rows(net: FusionNet) -> None:
    given = inputs()
    order = torch.tensor([3, 0, 7])
    assert given.image is not None
    some = Inputs(
        given.image[order],
        {g: t[order] for g, t in given.tables.items()},
        {n: p[order] for n, p in given.present.items()},
    )
    torch.testing.assert_close(net(some), net(given)[order])


def test_a_learned_vector_for_absence_is_a_flag_of_presence(net: FusionNet) -> None:
    """Zeros and a flag, whose weight is the output layer's answer to the learned vector, give the same logits."""
    given = inputs(40)
    flag = {name: 0.0 for name in WIDTHS}
    with torch.no_grad():
        expected = net(given)
        for name, weight in zip(WIDTHS, net.output.weight[0].split(list(WIDTHS.values())), strict=True):
            flag[name] = float(weight @ net.absent[name])
            net.absent[name].zero_()
        flagged = net(given) + sum(flag[name] * ~given.present[name] for name in WIDTHS)
    torch.testing.assert_close(flagged, expected)


class _Counting(nn.Module):
    """Remembers how many images it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(len(images))
        return images.flatten(1).repeat(1, 2)[:, :6]


def test_the_image_network_is_shown_images_that_are_there_and_no_others(net: FusionNet) -> None:
    """What is hidden in training costs no time, and what stands for nothing enters no statistics of a batch."""
    net.branches["image"] = counting = _Counting()
    given = inputs(8)
    for present in (given.present["image"], torch.ones(8, dtype=torch.bool), torch.zeros(8, dtype=torch.bool)):
        net(replace(given, present={**given.present, "image": present}))
    assert 0 < int(given.present["image"].sum()) < 8
    assert counting.shown == [int(given.present["image"].sum()), 8]


# ---- what travels, and when ------------------------------------------------------------------------------------------

NORMS = [
    ("convnext_atto", "none"),
    ("convnext_atto", "local"),
    ("swin_atto", "local"),
    ("efficientnet_b0", "frozen"),
    ("efficientnet_b0", "group"),
    ("efficientnet_b0", "local"),
]


@pytest.mark.parametrize("trainable", ["last_stage", "all"])
@pytest.mark.parametrize(("backbone", "norm"), NORMS)
def test_all_of_a_model_travels_once_or_every_round(backbone: str, norm: str, trainable: str) -> None:
    weights = "w.safetensors" if norm == "frozen" else "none"
    study = image_study(
        image={"size": 64}, model={"backbone": backbone, "norm": norm, "trainable": trainable, "weights": weights}
    )
    model = build_model(study, weights="none")
    assert model.frozen is not None
    once, rounds = fixed_tensors(model), trained_tensors(model.net)
    net = {f"net.{name}": t for name, t in model.net.state_dict().items() if t.is_floating_point()}
    everything = {**net, **model.frozen.state_dict()}
    assert {*once, *(f"net.{name}" for name in rounds)} == set(everything)
    assert not {id(t) for t in once.values()} & {id(t) for t in rounds.values()}
    assert all(t.requires_grad for t in rounds.values())
    local = {f"net.{name}" for name in local_tensors(model.net)}
    assert local <= set(once)
    assert bool(local) == (norm == "local")
    frozen = {name for name in once if name.startswith("net.")} - local
    assert bool(frozen) == (norm == "frozen")


def test_nothing_of_a_batch_norm_travels_in_a_round() -> None:
    """FedBN (Li et al. 2021): affine parts and statistics stay; STYLE 7.1: also of timm's own kinds of batch norm."""
    model = build_model(image_study(image={"size": 64}, model={"backbone": "efficientnet_b0", "norm": "local"}))
    norms = [name for name, m in model.net.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 49
    rounds = trained_tensors(model.net)
    assert not [name for name in rounds if name.startswith(tuple(f"{norm}." for norm in norms))]
    parts = ("weight", "bias", "running_mean", "running_var")
    assert set(local_tensors(model.net)) == {f"{norm}.{part}" for norm in norms for part in parts}


LAYER_NORMS = {
    "convnext_atto": (nn.LayerNorm, 17),  # 12 blocks, 3 downsamplings, stem, head
    "convnextv2_atto": (nn.LayerNorm, 17),
    "convnext_atto_rms": (RmsNorm2d, 17),
    "swin_atto": (nn.LayerNorm, 29),  # two in each of 12 blocks, 3 mergings, patches, the end
}


@pytest.mark.parametrize("name", LAYER_NORMS)
def test_local_layer_norms_stay_and_everything_else_travels(name: str) -> None:
    """FedBN-style. A global response norm is no layer norm: it travels."""
    kind, count = LAYER_NORMS[name]
    study = image_study(image={"size": 64}, model={"backbone": name, "norm": "local"})
    net = build_model(study).net
    norms = [prefix for prefix, m in net.named_modules() if isinstance(m, kind)]
    assert len(norms) == count
    local, rounds = local_tensors(net), trained_tensors(net)
    assert {key.rpartition(".")[0] for key in local} == set(norms)
    assert {*local, *rounds} == {key for key, _ in net.named_parameters()}
    assert not {*local} & {*rounds}
    assert any(".grn." in key for key in rounds) == name.startswith("convnextv2")
    assert local_tensors(build_model(image_study(image={"size": 64}, model={"backbone": name})).net) == {}


def test_only_norms_that_train_stay() -> None:
    study = image_study(image={"size": 64}, model={"norm": "local", "trainable": "last_stage"})
    net = build_model(study).net
    assert len(local_tensors(net)) == 2 * 4  # one downsampling, two blocks, the head


# ---- hidden modalities -----------------------------------------------------------------------------------------------


def hidden(net: FusionNet, present: dict[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return dict(net._hide_some(present))


def test_modality_dropout_hides_at_its_rate_and_never_everything(net: FusionNet) -> None:
    """With .3 for each of three, all three would go at once in 2.7 % of the rows: those are left whole."""
    present = {name: torch.ones(20000, dtype=torch.bool) for name in WIDTHS}
    kept = hidden(net, present)
    assert torch.stack(list(kept.values())).any(dim=0).all()
    rate = 1 - torch.stack(list(kept.values())).float().mean(dim=1)
    torch.testing.assert_close(rate, torch.full((3,), 0.3 - 0.3**3), atol=0.015, rtol=0)


def test_modality_dropout_reveals_nothing_that_is_absent_and_keeps_a_last_one(net: FusionNet) -> None:
    present = inputs(400).present
    kept = hidden(net, dict(present))
    for name in WIDTHS:
        assert not (kept[name] & ~present[name]).any()
    alone = torch.stack(list(present.values())).sum(dim=0) == 1
    assert alone.any()
    for name in WIDTHS:
        assert torch.equal(kept[name][alone], present[name][alone])


def test_nothing_is_hidden_when_people_are_scored(net: FusionNet) -> None:
    given = inputs(64)
    torch.manual_seed(1)
    assert torch.equal(net(given), net(given))
    net.train()
    assert not torch.equal(net(given), net(given))


def test_a_single_modality_is_never_hidden() -> None:
    assert build_model(tables_study(model={"modality_dropout": 0.5})).net.modality_dropout == 0
    several = image_study(model={"modality_dropout": 0.5})
    assert build_model(several).net.modality_dropout == 0.5
