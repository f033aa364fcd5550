"""What evaluations share: the metrics of classifiers, computed by hand and by scikit-learn, and whose classes are whose."""

import random
import sys

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from sklearn import metrics

from bestiary.core.evaluation import Classes, Confusion, classified, metrics_of, read, silent
from bestiary.errors import InputError


def labelled(labels, kind):
    return Dataset.from_dict({"label": labels}, features=Features({"label": kind}))


def test_metrics_by_hand():
    """Of four cats three are found, of two dogs one, and the dog taken for a cat makes one of four cats wrong."""
    found = classified([[0], [0], [0], [1], [1], [0]], [0, 0, 0, 0, 1, 1], ["cat", "dog", "bird"])
    assert list(found.metrics) == ["accuracy", "macro_f1"]
    assert found.metrics["accuracy"] == pytest.approx(4 / 6)
    assert found.metrics["macro_f1"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert found.rows == 6
    assert found.classes["cat"] == pytest.approx({"precision": 3 / 4, "recall": 3 / 4, "f1": 3 / 4, "rows": 4})
    assert found.classes["dog"] == pytest.approx({"precision": 1 / 2, "recall": 1 / 2, "f1": 1 / 2, "rows": 2})
    assert "bird" not in found.classes
    assert found.confused == (Confusion("cat", "dog", 1), Confusion("dog", "cat", 1))


def test_metrics_are_those_of_scikit_learn():
    dice = random.Random(0)
    names = [f"class {number}" for number in range(12)]
    labels = [dice.randrange(3, 9) for _ in range(300)]
    answers = [dice.sample(range(10), 6) for _ in labels]
    found, best = classified(answers, labels, names), [first for first, *_ in answers]
    assert list(found.metrics) == ["accuracy", "top5_accuracy", "macro_f1"]
    assert found.metrics["accuracy"] == pytest.approx(metrics.accuracy_score(labels, best))
    assert found.metrics["macro_f1"] == pytest.approx(metrics.f1_score(labels, best, average="macro"))
    scores = [[-answer.index(number) if number in answer else -9 for number in range(12)] for answer in answers]
    top = metrics.top_k_accuracy_score(labels, scores, k=5, labels=range(12))
    assert found.metrics["top5_accuracy"] == pytest.approx(top)
    report = metrics.classification_report(labels, best, output_dict=True, zero_division=0)
    for number in {*labels, *best}:
        theirs = report[str(number)]
        ours = found.classes[names[number]]
        assert ours["rows"] == theirs["support"]
        assert (ours["precision"], ours["recall"], ours["f1"]) == pytest.approx(
            (theirs["precision"], theirs["recall"], theirs["f1-score"])
        )
    mistakes = [count for *_, count in found.confused]
    assert mistakes == sorted(mistakes, reverse=True) and sum(mistakes) <= 300


def test_one_class_alone_is_evaluated_too():
    assert classified([[0], [0]], [0, 0], ["cat", "dog"]).metrics == pytest.approx({"accuracy": 1.0, "macro_f1": 1.0})


@pytest.mark.parametrize(
    ("labels", "kind", "numbers"),
    [
        ([0, 1, 1], ClassLabel(names=["dog", "cat"]), [2, 1, 1]),
        ([0, 0], ClassLabel(names=["dog", "griffin"]), [2, 2]),  # griffins do not occur
        (["cat", "dog"], Value("string"), [1, 2]),
        ([3, 3], Value("int64"), [3, 3]),
    ],
)
def test_classes_are_matched_by_name(labels, kind, numbers):
    rows = labelled(labels, kind)
    classes = Classes(rows, ["bird", "cat", "dog", "3"], "names", "zoo")
    assert [classes(label) for label in rows["label"][:]] == numbers


def test_classes_are_matched_by_number_where_asked():
    rows = labelled([1, 0], ClassLabel(names=["n01440764", "n01443537"]))
    assert [Classes(rows, ["tench", "goldfish"], "numbers", "zoo")(label) for label in rows["label"]] == [1, 0]
    with pytest.raises(InputError, match="1 of the data's 2 classes: n01443537"):
        Classes(rows, ["tench"], "numbers", "zoo")


def test_a_class_that_the_model_does_not_know_is_named_beside_those_the_data_lacks():
    rows = labelled([0, 1], ClassLabel(names=["cat", "griffin"]))
    with pytest.raises(InputError) as caught:
        Classes(rows, ["cat", "dog", "bird"], "names", "zoo")
    first, second, third = str(caught.value).splitlines()
    assert first == "zoo does not know 1 of the data's 2 classes: griffin"
    assert second == "of its own 3 the data lacks 2: dog, bird"
    assert "alike" in third


def test_a_stream_is_checked_by_what_it_says_of_itself_and_row_by_row():
    stream = labelled([0, 1], ClassLabel(names=["cat", "griffin"])).to_iterable_dataset()
    with pytest.raises(InputError, match="griffin"):
        Classes(stream, ["cat", "dog"], "names", "zoo")
    classes = Classes(labelled(["cat", "griffin"], Value("string")).to_iterable_dataset(), ["cat"], "names", "zoo")
    assert classes("cat") == 0
    with pytest.raises(InputError, match="griffin"):
        classes("griffin")


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (Dataset.from_dict({"text": ["a"]}), "the data has no column 'label'\nits columns: text"),
        (Dataset.from_dict({"label": ["cat"]}).select([]), "there are no rows"),
        (Dataset.from_dict({"label": ["cat", None]}), "a row has no label"),
        (labelled([[0]], List(Value("int64"))).map(lambda row: row), "1 of the data's 1 classes: 0"),
        (Dataset.from_dict({"label": [0.5]}), "holds 0.5"),
    ],
)
def test_labels_that_cannot_be_used(rows, complaint):
    with pytest.raises(InputError, match=complaint) as caught:
        Classes(rows, ["cat"], "names", "zoo")
    assert len(str(caught.value).splitlines()) <= 3


def test_a_match_that_is_not_known():
    with pytest.raises(InputError, match='"names" or "numbers"'):
        Classes(labelled(["cat"], Value("string")), ["cat"], "colours", "zoo")


def test_only_the_columns_asked_for_are_read_and_progress_is_told():
    rows, seen = Dataset.from_dict({"a": [1, 2], "b": [3, 4], "c": [5, 6]}), []

    def told(items, name, count):
        seen.append((name, count, items.column_names))
        return items

    assert list(read(rows, ["b", "a"], told)) == [(3, 1), (4, 2)]
    assert seen == [("rows", 2, ["b", "a"])]
    assert list(read(rows.to_iterable_dataset(), ["c"], silent)) == [(5,), (6,)]


def test_a_missing_library_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.classification", None)
    with pytest.raises(InputError, match=r"pip install 'bestiary\[train\]'"):
        metrics_of("functional.classification")
