"""The models that the C files follow keep their promises in every reachable state, and need each of their
rules.

LIF-03, LIF-04 (a rotation has one instant, a renewal has one successor), MPR-01 to MPR-05 (a kill or a
stop anywhere), and LIF-08 (log out everywhere) are proved here for the protocols; that the code follows
them is what tests/crash proves.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import model_counters
import model_epoch
import model_journal
import model_owners
import model_renewal
import model_rotation
import model_theft
import pytest

MODELS: dict[str, tuple[type, Callable[[Any, bool], Any], int]] = {
    "rotation": (model_rotation.Rules, lambda rules, first: model_rotation.model(rules, 1, first), 5_000),
    "two rotations": (
        model_rotation.Rules,
        lambda rules, first: model_rotation.model(rules, 2, first),
        5_000,
    ),
    "renewal": (model_renewal.Rules, model_renewal.model, 100),
    "owners": (model_owners.Rules, model_owners.model, 1_000),
    "owners at the cap": (
        model_owners.Rules,
        lambda rules, first: model_owners.model(rules, first, capped=True),
        1_000,
    ),
    "everybody out": (model_epoch.Rules, model_epoch.model, 500),
    "counters": (model_counters.Rules, model_counters.model, 30_000),
    "theft": (model_theft.Rules, model_theft.model, 50_000),
    "journal": (model_journal.Rules, model_journal.model, 5_000),
}
# The rules of a rotation need one rotator, or two; one of those of owners needs the cap.
SEEN_IN = {
    model_rotation.Rules: ("rotation", "two rotations"),
    model_owners.Rules: ("owners", "owners at the cap"),
}
RULES = {
    field.name: SEEN_IN.get(rules, (name,))
    for name, (rules, _, _) in MODELS.items()
    for field in fields(rules)
}


@pytest.mark.parametrize("name", MODELS)
def test_the_design_keeps_its_promises(name):
    rules, model, least = MODELS[name]
    result = model(rules(), False)
    assert not result.violations, str(result)
    assert result.states >= least, "the search did not get far"


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_is_needed(rule):
    found: dict[str, list[str]] = {}
    for name in RULES[rule]:
        rules, model, _ = MODELS[name]
        found |= model(replace(rules(), **{rule: False}), True).violations
    assert found, f"nothing breaks without {rule}"
