"""Key maps: expansion, both ways, and every disagreement named."""

import pytest
import torch

from bestiary.core.keymap import Rule, each, ignored, linear, load, norm, plan, prefixed, same, save, tied, within
from bestiary.errors import LayoutError

RULES = [
    same("tokens", "embedding.weight"),
    *each(2, *linear("layer.{i}.dense", "blocks.{i}.up"), *norm("layer.{i}.LayerNorm", "blocks.{i}.norm")),
    *ignored("position_ids"),
]
OURS = [name for rule in RULES for name in rule.ours]
THEIRS = [rule.theirs[0][0] for rule in RULES if rule.ours]


def tensors(names):
    return {name: torch.full((2,), float(number)) for number, name in enumerate(names)}


def read(rules, theirs, ours):
    return {name: value for _, part in load(plan(rules, theirs, ours), theirs) for name, value in part.items()}


def test_what_is_written_is_read_again():
    ours = tensors(OURS)
    theirs = save(RULES, ours)
    assert list(theirs) == THEIRS
    assert read(RULES, theirs, ours) == ours


def test_layers_are_expanded_by_number():
    assert "layer.1.dense.bias" in THEIRS and "blocks.1.up.bias" in OURS
    assert not any("{" in name for name in THEIRS + OURS)


def test_old_names_and_prefixes_are_read_and_todays_are_written():
    rules = prefixed(("", "bert."), norm("LayerNorm", "norm"))
    old = {"bert.LayerNorm.gamma": torch.ones(2), "bert.LayerNorm.beta": torch.zeros(2)}
    ours = read(rules, old, ["norm.weight", "norm.bias"])
    assert torch.equal(ours["norm.weight"], torch.ones(2))
    assert list(save(rules, ours)) == ["LayerNorm.weight", "LayerNorm.bias"]


def test_a_net_within_another_keeps_its_names_in_files():
    rules = prefixed(("model.", ""), within("encoder", linear("proj", "projection")))
    ours = {"encoder.projection.weight": torch.eye(2), "encoder.projection.bias": torch.ones(2)}
    assert list(save(rules, ours)) == ["model.proj.weight", "model.proj.bias"]
    assert read(rules, {"proj.weight": torch.eye(2), "proj.bias": torch.ones(2)}, list(ours)).keys() == ours.keys()


def test_an_operation_may_join_and_split():
    class Halves:
        def load(self, theirs):
            return theirs[0].chunk(2)

        def save(self, ours):
            return (torch.cat(ours),)

    rules = [Rule((("fused",),), ("query", "key"), Halves())]
    theirs = {"fused": torch.arange(4.0)}
    ours = read(rules, theirs, ["query", "key"])
    assert ours["key"].tolist() == [2.0, 3.0]
    assert save(rules, ours)["fused"].tolist() == theirs["fused"].tolist()


TIED = [tied(("shared", "encoder.shared", "head"), "embedding.weight")]


@pytest.mark.parametrize("names", [["shared"], ["head"], ["shared", "head"], ["encoder.shared", "shared", "head"]])
def test_a_tied_weight_is_read_under_any_of_its_names_and_written_under_the_first(names):
    ours = read(TIED, {name: torch.arange(4.0) for name in names}, ["embedding.weight"])
    assert ours["embedding.weight"].tolist() == [0, 1, 2, 3]
    assert list(save(TIED, ours)) == ["shared"]


@pytest.mark.parametrize("other", [torch.ones(4), torch.zeros(5), torch.zeros(4, dtype=torch.float16)])
def test_tied_weights_that_differ_are_refused(other):
    with pytest.raises(LayoutError, match=r"shared, head: not equal"):
        read(TIED, {"shared": torch.zeros(4), "head": other}, ["embedding.weight"])


def test_a_tied_weight_may_have_a_prefix_but_only_one():
    rules = prefixed(("", "bert."), TIED)
    zeros = torch.zeros(1)
    assert read(rules, {"bert.shared": zeros, "bert.head": zeros}, ["embedding.weight"])
    with pytest.raises(LayoutError, match=r"twice: as shared and as bert\.head"):
        plan(rules, ["shared", "bert.head"], ["embedding.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda names: names.remove("layer.1.dense.bias"), r"lacks layer\.1\.dense\.bias \(ours: blocks\.1\.up\.bias\)"),
        (lambda names: names.append("pooler.weight"), r"no place for: pooler\.weight"),
        (lambda names: names.append("layer.0.LayerNorm.gamma"), r"holds .* twice: as layer\.0\.LayerNorm\.weight and as .*gamma"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(change, message):
    theirs = list(THEIRS)
    change(theirs)
    with pytest.raises(LayoutError, match=message) as error:
        plan(RULES, theirs, OURS)
    assert len(str(error.value).splitlines()) <= 3


def test_ignored_keys_may_be_there():
    assert len(plan(RULES, [*THEIRS, "position_ids"], OURS)) == len(THEIRS)


def test_fresh_parts_need_not_come_from_the_file():
    steps = plan(RULES, [name for name in THEIRS if name != "tokens"], OURS, fresh=["embedding.weight"])
    assert "embedding.weight" not in [name for step in steps for name in step.rule.ours]


@pytest.mark.parametrize("names", [[*OURS, "head.weight"], OURS[1:], []])
def test_rules_that_do_not_cover_the_net_are_refused(names):
    with pytest.raises(LayoutError, match="disagree about"):
        plan(RULES, THEIRS, names)
    with pytest.raises(LayoutError, match="disagree about"):
        save(RULES, tensors(names))
