"""Names of arms are read as they are written, and said as people say them."""

import pytest

from server.arms import ArmName, arm_name, in_order


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        ("federated", "Federated"),
        ("federated@fedadam", "Federated, FedAdam"),
        ("federated@mine", "Federated, My own way"),
        ("federated@deep_nets", "Federated, deep nets"),
        ("pooled", "Pooled"),
        ("local:west_china", "West China alone"),
        ("local:shanghai@mine", "Shanghai alone, My own way"),
        ("without:sichuan", "Federated without Sichuan"),
        ("pooled_without:sichuan", "Pooled without Sichuan"),
        ("tuned:shanghai", "Federated, then tuned at Shanghai"),
        ("cv:shanghai", "Cross-validation at Shanghai"),
        ("cv:shanghai@us_clinical", "Cross-validation, Ultrasound + clinical"),
        ("cv:shanghai@nested", "Cross-validation, chosen anew in each fold"),
        ("control:age", "Age only"),
        ("control:grip_and_age", "Grip and age"),
        ("federated [image]", "Federated (image)"),
        ("something_new", "something_new"),
    ],
)
def test_every_kind_of_arm_has_a_name(arm: str, said: str) -> None:
    assert arm_name(arm, {"mine": "My own way", "us_clinical": "Ultrasound + clinical"}) == said


def test_the_parts_of_a_name() -> None:
    assert ArmName.parse("local:a@v [image]") == ArmName("local", "a", "v", "image")
    assert ArmName.parse("control:age").control


def test_order_is_by_kind_then_variant_then_hospital_and_controls_are_last() -> None:
    arms = ["control:age", "new_kind", "local:b", "local:a@v", "local:a", "federated@w", "federated@v", "federated"]
    expected = ["federated", "federated@v", "federated@w", "local:a", "local:b", "local:a@v", "new_kind", "control:age"]
    assert in_order(arms, ["v", "w"], ["a", "b"]) == expected
