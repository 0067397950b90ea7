"""A study file is either exactly what it says, or refused with the place, the value and the way out."""

import datetime
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sarco_models.config import DENIED, StudyConfig, load_config, load_study, merged
from sarco_models.errors import ConfigError
from tests.sites import STUDY, image_study, study, tables_study

SHIPPED = Path(__file__).parents[2] / "configs" / "study.toml"
MINIMAL = """
name = "s"
title = "S"
[label]
column = "frail"
rule = "r"
[[features]]
name = "age_years"
group = "clinical"
unit = "years"
low = 18
high = 110
[model]
modalities = ["clinical"]
"""

Load = Callable[..., StudyConfig]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a study file of this text."""

    def from_text(text: str, name: str = "study.toml") -> StudyConfig:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return load_study(path)

    return from_text


def refusal(load: Load, text: str, name: str = "study.toml") -> str:
    with pytest.raises(ConfigError) as error:
        load(text, name)
    assert name in str(error.value)
    return str(error.value)


# ---- the shipped study -----------------------------------------------------------------------------------------------


def test_the_shipped_study_is_the_papers() -> None:
    """8 clinical and 14 laboratory features (SCIENCE 1.6, I1), every continuous one with its unit and range."""
    shipped = load_study(SHIPPED)
    groups = [f.group for f in shipped.features]
    assert (groups.count("clinical"), groups.count("lab"), len(groups)) == (8, 14, 22)
    assert shipped.uses_images
    assert shipped.inputs == shipped.features
    assert all(f.unit and f.low < f.high for f in shipped.features if f.kind == "continuous")
    assert (shipped.model.hidden_units, shipped.model.dropout, shipped.model.tabular) == (128, 0.5, "joint")


def test_no_shipped_feature_defines_the_label() -> None:
    shipped = load_study(SHIPPED)
    names = {f.name for f in shipped.features}
    assert not names & {shipped.label.column, *shipped.label.reference_columns}
    assert not [n for n in names for part in DENIED if part in n]
    assert all(any(part in c for part in DENIED) for c in shipped.label.reference_columns if c != "asmi_device")


# ---- the digest ------------------------------------------------------------------------------------------------------


def test_digest_is_of_what_the_file_says_not_of_how_it_is_written(load: Load) -> None:
    """Order of tables and keys, comments and 18 for 18.0 change nothing."""
    other = """
    title = "S"  # a comment
    name = "s"
    [model]
    modalities = ["clinical"]
    [label]
    rule = "r"
    column = "frail"
    [[features]]
    high = 110.0
    low = 18.0
    unit = "years"
    group = "clinical"
    name = "age_years"
    """
    assert load(MINIMAL).digest == load(other).digest
    assert len(load(MINIMAL).digest) == 64


def test_stating_a_default_is_the_same_study(load: Load) -> None:
    assert load(MINIMAL).digest == load(MINIMAL + '[split]\ntrain = 0.6\n[image]\nframing = "physical"').digest


def test_digest_does_not_depend_on_the_format(load: Load) -> None:
    """A study written as JSON, as the run directory keeps it, is the same study."""
    toml = load(MINIMAL)
    assert load(toml.model_dump_json(), "study.json").digest == toml.digest


def leaves(tree: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else None
    if children is None:
        yield place, tree
        return
    for key, child in children:
        yield from leaves(child, (*place, key))


def put(tree: Any, place: tuple[str | int, ...], value: Any) -> Any:
    tree = json.loads(json.dumps(tree))
    below = tree
    for key in place[:-1]:
        below = below[key]
    below[place[-1]] = value
    return tree


def others(value: Any) -> list[Any]:
    """Values to try in the place of this one."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, value * 0.5 + 0.01, value - 1]
    words = ["fedavg", "letterbox", "none", "per_group", "minmax", "sensitivity", "head", "binary", "continuous", "lab"]
    words += ["convnext_tiny", "group"]
    return [f"{value}x" if value else "x", *words, 0.5]


def valid(tree: Any) -> StudyConfig | None:
    try:
        return StudyConfig.model_validate_json(json.dumps(tree))
    except ValidationError:
        return None


def test_any_changed_value_changes_the_digest() -> None:
    """Every leaf of the tree, one at a time: what two hospitals could disagree about is in the digest."""
    changes: dict[str, Any] = {"model": {"modalities": ["clinical"], "norm": "frozen"}}
    tree = json.loads(study(**changes, federation={"strategy": "fedprox"}).model_dump_json())
    original = valid(tree)
    assert original
    unchanged = []
    for place, value in leaves(tree):
        changed = [c for new in others(value) if new != value and (c := valid(put(tree, place, new)))]
        if not changed or changed[0].digest == original.digest:
            unchanged.append(place)
    assert unchanged == [("features", 2, "kind")]  # a kind with categories can be nothing else


def test_a_key_that_older_studies_do_not_have_leaves_their_digest_as_it_was() -> None:
    """Hospitals have approved it, in their site.toml."""
    assert "norm" not in study().model_dump_json()
    assert study(model={"norm": "none"}).digest == study().digest
    assert study(model={"norm": "group"}).digest != study().digest


def test_the_condition_is_named_by_the_study_and_by_nobody_else() -> None:
    """The label's column says it where the study has no other words."""
    assert load_study(SHIPPED).label.condition == "sarcopenia"
    assert study(label={"column": "hip_fracture"}).label.condition == "hip fracture"
    named = study(label={"words": "a fall within a year"})
    assert named.label.condition == "a fall within a year"
    assert named.digest != study().digest
    assert study().image.words == "ultrasound"
    assert "words" not in study().model_dump_json()


def test_order_of_features_is_part_of_the_study() -> None:
    """Columns of the table follow it, so two orders are two studies."""
    assert study().digest != study(features=STUDY["features"][::-1]).digest


# ---- what is refused -------------------------------------------------------------------------------------------------

FAULTS = {
    "typo in a key": ("[training]\nlocal_epoch = 2", ["training.local_epoch", "did you mean local_epochs"]),
    "typo in a table": ("[trainning]\nseed = 1", ["trainning", "unknown key", "did you mean training"]),
    "unlike any key": ("[split]\nxyz = 1", ["split.xyz", "unknown key", "known here: ", "train, use, validation"]),
    "too large": ("[image]\nsize = 4096", ["image.size = 4096", "less than or equal to 1024"]),
    "too small": ("[federation]\nrounds = 0", ["federation.rounds = 0", "greater than or equal to 1"]),
    "no such choice": ('[image]\nframing = "square"', ["image.framing = 'square'", "'letterbox' or 'paper'"]),
    "text for a number": ('[image]\nsize = "48"', ["image.size = '48'", "valid integer"]),
    "fraction for a count": ("[federation]\nrounds = 2.5", ["federation.rounds = 2.5", "valid integer"]),
    "number for a text": ("[image]\nroi = 1", ["image.roi = 1", "'mask', 'auto' or 'none'"]),
    "number for a switch": ("[training]\nbalance_classes = 1", ["training.balance_classes = 1", "valid boolean"]),
    "value for a table": ("image = 3", ["image = 3", "should be an object"]),
    "not a number": ("[training]\nlearning_rate = nan", ["training.learning_rate", "finite"]),
    "infinite": ("[federation]\nround_deadline_s = inf", ["federation.round_deadline_s", "finite"]),
    "nobody to test on": ("[split]\ntrain = 0.9\nvalidation = 0.1", ["split", "train + validation must be below 1"]),
    "proximal term without FedProx": ("[federation]\nproximal_mu = 0.1", ["proximal_mu", 'strategy = "fedprox"']),
    "a date": ("[evaluation]\nhistogram_bins = 2026-01-01", ["date", "write dates and times as text"]),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_study_file_names_place_value_and_way_out(load: Load, fault: str) -> None:
    addition, expected = FAULTS[fault]
    # A key of the whole study has to stand above the tables.
    message = refusal(load, MINIMAL + addition if addition.startswith("[") else addition + "\n" + MINIMAL)
    assert not [words for words in expected if words not in message], message


FEATURE_FAULTS = {
    "feature listed twice": ('name = "age_years"\ngroup = "lab"', ["feature age_years is listed twice"]),
    "no group": ('name = "x"', ["features.1.group", "this key is missing; add it"]),
    "empty range": ('name = "x"\ngroup = "g"\nlow = 2\nhigh = 1', ["features.1", "low 2.0 must be below high 1.0"]),
    "infinite range": ('name = "x"\ngroup = "g"\nhigh = inf', ["features.1.high", "finite"]),
    "one category": ('name = "x"\ngroup = "g"\nkind = "categorical"\ncategories = ["a"]', ["at least two different"]),
    "categories of a number": ('name = "x"\ngroup = "g"\ncategories = ["a", "b"]', ["only a categorical feature"]),
    "typo in a feature": ('name = "x"\ngroup = "g"\nunits = "m"', ["features.1.units", "did you mean unit"]),
    "name with a space": ('name = "x y"\ngroup = "g"', ["features.1.name = 'x y'", "pattern"]),
    "the label": ('name = "frail"\ngroup = "g"', ["frail defines the label", "remove it"]),
}


@pytest.mark.parametrize("fault", FEATURE_FAULTS)
def test_a_wrong_feature_is_refused_with_its_place(load: Load, fault: str) -> None:
    addition, expected = FEATURE_FAULTS[fault]
    message = refusal(load, f"{MINIMAL}[[features]]\n{addition}")
    assert not [words for words in expected if words not in message], message


@pytest.mark.parametrize("part", DENIED)
def test_what_defines_sarcopenia_can_never_be_an_input(load: Load, part: str) -> None:
    """SCIENCE 1.6, I18 and section 5, pitfall 5: chair stand alone has an AUC of .84."""
    message = refusal(load, f'{MINIMAL}[[features]]\nname = "x_{part}_1"\ngroup = "clinical"')
    assert f"x_{part}_1 defines the label ({part})" in message
    assert "remove it" in message


def test_a_reference_column_can_never_be_an_input(load: Load) -> None:
    """Whatever the name: the study's own reference columns are on the deny-list too."""
    text = MINIMAL.replace('rule = "r"', 'rule = "r"\nreference_columns = ["frailty_index"]')
    message = refusal(load, f'{text}[[features]]\nname = "frailty_index"\ngroup = "clinical"')
    assert "frailty_index defines the label" in message


def test_a_modality_without_features_is_refused_and_the_known_ones_are_said(load: Load) -> None:
    message = refusal(load, MINIMAL.replace('["clinical"]', '["clinical", "lab"]'))
    assert 'model.modalities: modality lab is not one of: image, clinical: add features with group = "lab"' in message
    assert "a modality is listed twice" in refusal(load, MINIMAL.replace('["clinical"]', '["image", "image"]'))


IMAGES = MINIMAL.replace('["clinical"]', '["image", "clinical"]')
NETWORK_FAULTS = {
    "unknown network": (
        'backbone = "efficientnet-b0"', ["model.backbone = 'efficientnet-b0'", "nearest: efficientnet_b0"]
    ),
    "no treatment of batch norms": ('backbone = "efficientnet_b0"', ["model.norm = 'none'", 'write "frozen", "group"']),
    "no batch norms": ('norm = "group"', ["model.norm = 'group'", "has no batch norm", "remove this key"]),
    "no norm that trains": (
        'norm = "local"\ntrainable = "head"', ["model.norm = 'local'", "no layer norm of convnext_tiny is trained"]
    ),
    "another treatment": ('norm = "batch"', ["model.norm = 'batch'", "'none', 'frozen', 'group' or 'local'"]),
    "frozen at random": (
        'backbone = "efficientnet_b0"\nnorm = "frozen"', ["model.norm = 'frozen'", 'write "group", or name weights']
    ),
    "weights that are not": (
        'backbone = "swin_atto"\nweights = "timm"', ["model.weights = 'timm'", "no weights for swin_atto"]
    ),
    "shipped weights that are not": (
        'weights = "phantom"', ["model.weights = 'phantom'", "no weights of convnext_tiny are shipped", 'write "timm"']
    ),
    "windows that do not tile": (
        'backbone = "swin_atto"\n[image]\nsize = 100', ["image.size = 100", "multiple of 32", "write 96"]
    ),
    "too small": ("[image]\nsize = 24", ["image.size = 24", "convnext_tiny", "write at least 32"]),
}  # fmt: skip


@pytest.mark.parametrize("fault", NETWORK_FAULTS)
def test_a_network_that_does_not_fit_the_study_is_refused_when_the_study_is_read(load: Load, fault: str) -> None:
    addition, expected = NETWORK_FAULTS[fault]
    message = refusal(load, IMAGES + addition)
    assert not [words for words in expected if words not in message], message


def test_a_study_of_tables_does_not_care_for_a_network_that_it_never_makes(load: Load) -> None:
    """The same file serves all six combinations of modalities."""
    network = 'backbone = "swin_atto"\nweights = "timm"\nnorm = "group"\n[image]\nsize = 24'
    assert not load(MINIMAL + network).uses_images


@pytest.mark.parametrize(
    "network",
    [
        'backbone = "convnext_tiny.fb_in1k"\nweights = "timm"',
        'backbone = "convnextv2_tiny"\nweights = "timm"\ntrainable = "last_stage"',
        'backbone = "swin_tiny_patch4_window7_224"\nweights = "timm"',
        'backbone = "efficientnet_b4"\nweights = "timm"\nnorm = "local"',
        'backbone = "tf_efficientnetv2_s"\nweights = "/w.safetensors"\nnorm = "frozen"\ntrainable = "head"',
    ],
)
def test_networks_for_a_gpu_are_named_in_the_study_file(load: Load, network: str) -> None:
    study = load(IMAGES + network + "\n[image]\nsize = 224")
    assert study.model.local_norms == ('"local"' in network)


def test_private_training_asks_what_the_network_allows(load: Load) -> None:
    local = 'backbone = "efficientnet_b0"\nnorm = "local"\n[image]\nsize = 64'
    with pytest.raises(ValueError, match=r'norm = "local": batch statistics mix participants'):
        load(IMAGES + local).model.check_private()
    load(IMAGES + 'backbone = "swin_atto"').model.check_private()
    load(MINIMAL + local.split("[image]")[0]).model.check_private()


def test_a_missing_table_is_named(load: Load) -> None:
    message = refusal(load, MINIMAL.replace('[model]\nmodalities = ["clinical"]', ""))
    assert "[model] is missing: a study has [label] and [model], or [segmentation]" in message


def test_all_faults_are_told_at_once(load: Load) -> None:
    message = refusal(load, MINIMAL + "[image]\nsize = 1\nwindow_mm = 1\n[training]\nsed = 1")
    assert len(message.splitlines()) == 3


def test_text_that_is_no_toml_is_refused_with_the_line(load: Load) -> None:
    assert "line 2" in refusal(load, 'name = "s"\ntitle = s\n')
    assert "cannot be read" in refusal(load, "[1, 2]", "study.json")


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: there is no such file; name an existing TOML file"):
        load_study(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match="name an existing TOML file"):
        load_study(tmp_path)
    (tmp_path / "latin1.toml").write_bytes(b'title = "Universit\xe4t"')
    with pytest.raises(ConfigError, match=r"latin1\.toml: cannot be read"):
        load_study(tmp_path / "latin1.toml")


# ---- the tree --------------------------------------------------------------------------------------------------------


def test_a_study_cannot_be_changed_after_it_was_read(load: Load) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load(MINIMAL).training.seed = 2  # type: ignore[misc]


def test_changes_are_laid_over_a_file_and_checked_like_it(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(MINIMAL + "[training]\nseed = 3\nlocal_epochs = 2")
    changed = load_config(path, StudyConfig, {"training": {"seed": 4}})
    assert (changed.training.seed, changed.training.local_epochs) == (4, 2)
    with pytest.raises(ConfigError, match="did you mean seed"):
        load_config(path, StudyConfig, {"training": {"sede": 4}})
    with pytest.raises(ConfigError, match="write dates and times as text"):
        load_config(path, StudyConfig, {"title": datetime.date(2026, 1, 1)})


def test_merging_changes_neither_tree() -> None:
    tree, changes = {"a": {"x": 1, "y": [1, 2]}, "b": 1}, {"a": {"y": [3]}, "c": 2}
    assert merged(tree, changes) == {"a": {"x": 1, "y": [3]}, "b": 1, "c": 2}
    assert tree == {"a": {"x": 1, "y": [1, 2]}, "b": 1}


def test_inputs_are_the_features_of_the_modalities_in_the_studys_order() -> None:
    assert [f.name for f in study(model={"modalities": ["lab"]}).inputs] == ["albumin_g_per_l", "hba1c_percent"]
    assert study().groups == ("clinical", "lab")
    assert not study().uses_images


PRIVATE: dict[str, Any] = {
    "privacy": {"epsilon": 3.0, "delta": 1e-5},
    "training": {"local_steps": 2, "balance_classes": False},
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training": {"balance_classes": True}}, "balance_classes = false"),
        ({"training": {"local_steps": 0}}, "training.local_steps"),
        ({"tabular": {"scaling": "minmax"}}, "values of single persons"),
        ({"privacy": {"noise_multiplier": 0.1}}, "noise_multiplier"),
        ({"privacy": {"sensitivity": 0.1}}, "sensitivity"),
        ({"privacy": {"epsilon": 0.0}}, "epsilon"),
        ({"privacy": {"delta": 0.5}}, "delta"),
        ({"federation": {"secure_aggregation": True, "min_sites": 2}}, "min_sites = 3"),
    ],
)
def test_what_would_make_the_noise_a_claim_without_substance_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tables_study(**merged(PRIVATE, changes))
    tables_study(**PRIVATE)


def test_grey_levels_measured_on_everybody_are_refused_in_a_private_study() -> None:
    with pytest.raises(ValueError, match="without noise"):
        image_study(**merged(PRIVATE, {"intensity": {"standardize": "device"}}))
    image_study(**PRIVATE)


def test_a_study_without_privacy_keeps_the_digest_that_hospitals_have_approved() -> None:
    assert "privacy" not in tables_study().model_dump_json()
    assert tables_study().digest != tables_study(**PRIVATE).digest
