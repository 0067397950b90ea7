"""When a study may begin where the released model of another ended: the same network, on the same inputs and people."""

from sarco_models.config import Config, StudyConfig

_FREE = {"model": {"weights", "dropout", "modality_dropout"}, "split": {"use"}}
"""Fields of these sections that may differ: what the network was before, what it loses at random, who is left out."""


def check_continues(study: StudyConfig, begun: StudyConfig) -> None:
    """Raise ValueError where ``study`` cannot begin with the released model of ``begun``.

    Features, table scaling and network must be the same, and with images the way to the network's pixels. So must
    seed and split: another split would test on people whom the released model was trained on.
    """
    if begun.model.local_norms or study.model.local_norms:
        raise ValueError(
            'model.norm = "local": the norms of its hospitals never left them and are no part of the released model; '
            'begin with a run of another norm, such as "group" or "none"'
        )
    sections = ["features", "tabular", "model", "split", *(["image", "intensity"] if begun.uses_images else [])]
    for name in sections:
        _same(name, getattr(study, name), getattr(begun, name))
    _same("training.seed", study.training.seed, begun.training.seed)


def _same(name: str, here: object, there: object) -> None:
    if isinstance(here, Config) and isinstance(there, Config):
        for field in type(here).model_fields:
            if field not in _FREE.get(name, ()):
                _same(f"{name}.{field}", getattr(here, field), getattr(there, field))
    elif here != there:
        values = f" = {here!r}; there it is {there!r}" if name != "features" else ": not the same list as there"
        raise ValueError(f"{name}{values}: write what the released run's study.json says, or begin with another run")
