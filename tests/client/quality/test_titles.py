"""No rule is shown to a hospital by its code name."""

import ast
import re
from functools import cache
from pathlib import Path

from client.quality import titles

ROOT = Path(__file__).parents[3]
SEVERITIES = ("error", "warning", "note")


@cache
def rules_in_code() -> dict[str, str]:
    """Rule -> place, of every rule that is written out where a finding or a refusal is made."""
    found: dict[str, str] = {}
    for file in [*ROOT.glob("client/quality/*.py"), *ROOT.glob("sarco_models/*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call | ast.Tuple) and (rule := rule_of(node)):
                found.setdefault(rule, f"{file.relative_to(ROOT)}:{node.lineno}")
    return found


def rule_of(node: ast.Call | ast.Tuple) -> str:
    """The first rule-like word of what makes a finding, or follows a severity in a tuple of six; else ""."""
    if isinstance(node, ast.Tuple):
        return word(node.elts[1]) if len(node.elts) == 6 and names_severity(node.elts[0]) else ""
    name = getattr(node.func, "id", getattr(node.func, "attr", "")).strip("_").lower()
    if not name.endswith(("finding", "refusal", "refused", "remark", "found")):
        return ""
    return next((w for a in node.args[:2] if (w := word(a)) and w not in SEVERITIES), "")


def word(node: ast.expr) -> str:
    value = node.value if isinstance(node, ast.Constant) else ""
    return value if isinstance(value, str) and re.fullmatch("[a-z][a-z-]+", value) else ""


def names_severity(node: ast.expr) -> bool:
    return word(node) in SEVERITIES or isinstance(node, ast.IfExp | ast.Name)


def test_every_rule_has_a_title_and_a_reason() -> None:
    rules = rules_in_code()
    assert len(rules) > 100, "the search finds nothing any more"
    assert not {rule: place for rule, place in rules.items() if not titles.why_of(rule)}, "add them to titles.py"


def test_titles_are_words_and_an_unknown_rule_shows_its_name() -> None:
    assert titles.title_of("some-new_rule") == "Some new rule"
    assert titles.why_of("some-new_rule") == ""
    for title, why in titles._TITLES.values():
        assert title[0].isupper()
        assert not title.endswith(".")
        assert why.endswith(".")
        assert len(title) < 60
