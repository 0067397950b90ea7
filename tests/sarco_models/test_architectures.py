"""What is written down of the image networks is what timm says, and what does not fit together is refused."""

import subprocess
import sys
from typing import get_args

import pytest
import timm

from sarco_models.architectures import (
    ARCHITECTURES,
    SHIPPED_WEIGHTS,
    Norm,
    architecture,
    check_image_size,
    check_norm,
    check_private,
    check_weights,
)
from sarco_models.backbones import PHANTOM_WEIGHTS

OURS = {"swin_atto"}
EFFICIENTNETS = [
    f"{kind}_{size}"
    for kind in ("efficientnet", "tf_efficientnet", "efficientnetv2", "tf_efficientnetv2")
    for size in (*(f"b{k}" for k in range(9)), *(f"lite{k}" for k in range(5)), "s", "m", "l", "xl")
]


# ---- compared with timm ----------------------------------------------------------------------------------------------


def test_every_network_is_timms_and_every_one_of_these_families_is_known() -> None:
    """Families as in Chen et al. 2025; of EfficientNet and Swin the authors' own sizes, and no later variants."""
    swins = [m for m in timm.list_models("swin_*") if not m.startswith("swin_s3")]
    theirs = {*timm.list_models("convnext*"), *filter(timm.is_model, EFFICIENTNETS), *swins}
    assert set(ARCHITECTURES) - OURS == theirs
    assert {a.timm_name for a in ARCHITECTURES.values()} == theirs


def test_which_networks_timm_has_weights_for() -> None:
    theirs = {name.split(".")[0] for name in timm.list_pretrained()}
    assert {name for name, a in ARCHITECTURES.items() if a.timm_weights} == theirs & set(ARCHITECTURES)


def test_a_study_is_read_without_torch() -> None:
    """Commands answer at once, and the processes that decode images stay small."""
    code = "import sys, sarco_models.config; print([m for m in ('torch', 'timm', 'flwr') if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert told.stdout.strip() == "[]"


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("convnext_attoo", "convnext_atto"),
        ("efficientnet-b0", "efficientnet_b0"),
        ("swin_tiny", "swin_tiny_patch4_window7_224"),
        ("resnet18", "convnext_tiny"),
        ("", "convnext_tiny"),
    ],
)
def test_an_unknown_network_is_refused_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ValueError, match=rf"the nearest: .*\b{nearest}\b"):
        architecture(name)


def test_a_tag_of_timms_weights_is_part_of_no_networks_name() -> None:
    assert architecture("convnext_tiny.fb_in22k_ft_in1k") == architecture("convnext_tiny")


@pytest.mark.parametrize("name", ["swin_atto", "efficientnet_b6", "convnextv2_small"])
def test_weights_that_timm_does_not_have_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f'no weights for {name}: name a safetensors file, or write "none"'):
        check_weights(name, "timm")
    check_weights(name, "none")


def test_which_networks_this_project_has_weights_for() -> None:
    """Written down, because a Flower app package carries no weights and a hospital reads the study all the same."""
    assert {path.stem for path in PHANTOM_WEIGHTS.glob("*.safetensors")} == set(SHIPPED_WEIGHTS)
    for name in SHIPPED_WEIGHTS:
        check_weights(name, "phantom")


@pytest.mark.parametrize(("name", "instead"), [("convnext_tiny", "timm"), ("efficientnet_b6", "none")])
def test_shipped_weights_that_are_not_there_are_refused(name: str, instead: str) -> None:
    with pytest.raises(ValueError, match=rf'only of convnext_atto.*: .*--backbone {name} .*or write "{instead}"'):
        check_weights(name, "phantom")


@pytest.mark.parametrize("norm", [n for n in get_args(Norm) if n not in ("none", "local")])
@pytest.mark.parametrize("name", ["convnext_atto", "convnextv2_atto", "swin_atto"])
def test_a_treatment_of_batch_norms_that_are_not_there_is_refused(name: str, norm: Norm) -> None:
    with pytest.raises(ValueError, match=f"{name} has no batch norm.*remove this key"):
        check_norm(name, norm, "all", "w.safetensors")
    check_norm(name, "none", "all", "w.safetensors")


@pytest.mark.parametrize("name", ["convnext_atto", "convnextv2_atto", "swin_atto"])
def test_layer_norms_may_stay_where_they_train(name: str) -> None:
    """FedBN-style: Li et al. 2021 is about batch norms."""
    for trainable in ("all", "last_stage"):
        check_norm(name, "local", trainable, "none")
    check_image_size(name, 64, "local")
    with pytest.raises(ValueError, match=f'trainable = "head" no layer norm of {name} is trained.*remove this key'):
        check_norm(name, "local", "head", "none")


def test_batch_norms_are_never_left_to_chance() -> None:
    with pytest.raises(ValueError, match='statistics are of private images: write "frozen", "group" or "local"'):
        check_norm("efficientnet_b0", "none", "all", "timm")
    with pytest.raises(ValueError, match=r'weights = "none" are random.*write "group", or name weights'):
        check_norm("efficientnet_b0", "frozen", "all", "none")
    check_norm("efficientnet_b0", "group", "all", "none")
    check_norm("efficientnet_b0", "local", "last_stage", "none")


@pytest.mark.parametrize("norm", ["group", "local"])
def test_with_a_frozen_backbone_batch_norms_are_frozen(norm: Norm) -> None:
    with pytest.raises(ValueError, match='no batch norm is trained: write "frozen"'):
        check_norm("efficientnet_b0", norm, "head", "timm")
    check_norm("efficientnet_b0", "frozen", "head", "timm")


@pytest.mark.parametrize(
    ("name", "norm", "size", "words"),
    [
        ("swin_atto", "none", 100, "a multiple of 32, at least 64: write 96"),
        ("swin_tiny_patch4_window7_224", "none", 32, "a multiple of 32, at least 64: write 64"),
        ("convnext_tiny", "local", 31, "halves an image five times: write at least 32"),
        ("convnext_tiny", "none", 31, "halves an image five times: write at least 32"),
        ("efficientnet_b0", "frozen", 16, "halves an image five times: write at least 32"),
        ("efficientnet_b0", "local", 32, "more than the one pixel that is left: write at least 33"),
    ],
)
def test_a_size_that_the_network_cannot_read_is_refused_with_one_that_it_can(
    name: str, norm: Norm, size: int, words: str
) -> None:
    with pytest.raises(ValueError, match=f"image.size = {size}: .*{words}"):
        check_image_size(name, size, norm)
    check_image_size(name, int(words.split()[-1]), norm)


def test_layers_that_see_one_image_at_a_time_may_be_trained_with_differential_privacy() -> None:
    """Swin as a whole too: its windows share an axis with the images of one person, never with another's."""
    for name in ("swin_atto", "convnext_atto", "convnextv2_atto"):
        check_private(name, "none")
        check_private(name, "local")


def test_batch_norms_that_live_are_not_private() -> None:
    """Their statistics mix participants without noise (STYLE 7.1)."""
    with pytest.raises(ValueError, match=r'norm = "local": .* write norm = "frozen" or "group"'):
        check_private("efficientnet_b0", "local")
    check_private("efficientnet_b0", "group")
    check_private("efficientnet_b0", "frozen")
