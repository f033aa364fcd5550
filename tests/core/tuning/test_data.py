"""What people give to learn from, in order and out of it."""

import pytest
from datasets import ClassLabel, Dataset

from bestiary.core.tables import UnknownSplit
from bestiary.core.tuning.data import Splits, described, name_classes, name_tags, read_splits
from bestiary.errors import InputError


def table(*labels, **more):
    return Dataset.from_dict({"text": [f"text {number}" for number in range(len(labels))], "label": list(labels), **more})


def loader(**splits):
    def load(split):
        if split not in splits:
            raise UnknownSplit(f"no split {split!r}")
        return splits[split]

    return load


def test_rows_are_held_out_where_there_is_no_validation():
    train = table(*["cat"] * 30, *["dog"] * 10)
    splits = read_splits(loader(train=train, test=table("cat")), seed=0)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (36, 4, 1)
    assert not set(splits.train["text"]) & set(splits.validation["text"])
    again, other = (read_splits(loader(train=train), seed=seed) for seed in (0, 1))
    assert again.validation["text"][:] == splits.validation["text"][:] != other.validation["text"][:]
    assert again.test is None


def test_held_out_rows_have_the_classes_in_their_proportions():
    splits, _ = name_classes(read_splits(loader(train=table(*["cat"] * 30, *["dog"] * 10)), seed=0), "pets")
    assert sorted(splits.validation["label"]) == [0, 0, 0, 1]


def test_texts_become_numbers_that_mean_the_same_in_all_splits():
    splits, names = name_classes(Splits(table("owl", "cat"), table("cat"), table("owl")), "pets")
    assert names == ("cat", "owl")
    assert [rows["label"][:] for rows in splits.there()] == [[1, 0], [0], [1]]
    assert splits.test.features["label"].int2str(1) == "owl"


def test_numbers_and_names_of_a_card_are_kept():
    kind = ClassLabel(names=["owl", "cat"])
    rows = table(1, 0).cast_column("label", kind)
    splits, names = name_classes(Splits(rows, rows, None), "pets")
    assert names == ("owl", "cat") and splits.train["label"][:] == [1, 0]
    assert name_classes(Splits(table(7, 3), table(3), None), "stars")[1] == ("3", "7")


@pytest.mark.parametrize(
    ("splits", "complaint"),
    [
        ((table("cat", "cat"), table("cat"), None), "one class, 'cat'"),
        ((table("cat", "dog"), table("owl"), None), "no rows of 'owl' to learn from, and some in validation"),
        ((table("cat", "dog"), table("dog"), table("emu")), "no rows of 'emu' to learn from, and some in test"),
        ((table("cat", None, "dog"), table("cat"), None), "row 1 of train has no label"),
        ((table("cat", "dog").remove_columns("label"), table("cat"), None), "no column 'label' in train\nits columns: text"),
        ((table("cat", "dog"), table("cat").rename_column("label", "kind"), None), "no column 'label' in validation"),
        ((table(0).cast_column("label", ClassLabel(names=["a", "b"])), table(0), None), "no rows of 'b' to learn from$"),
    ],
)
def test_classes_that_cannot_be_learned(splits, complaint):
    with pytest.raises(InputError, match=complaint.replace("$", "\n")) as caught:
        name_classes(Splits(*splits), "pets.csv")
    assert len(str(caught.value).splitlines()) <= 3


def test_tags():
    rows = Dataset.from_dict({"words": [["Ada", "sings"]], "label": [["B-PER", "O"]]})
    splits, tags = name_tags(Splits(rows, rows, None), "names")
    assert tags == ("B-PER", "O") and splits.train["label"][0] == [0, 1]
    with pytest.raises(InputError, match="a list of tags for each row"):
        name_tags(Splits(table("cat"), table("cat"), None), "names")


def test_one_row_is_too_few():
    with pytest.raises(InputError, match="1 rows cannot be split"):
        read_splits(loader(train=table("cat")), seed=0)


def test_what_was_understood_is_told():
    splits, names = name_classes(Splits(table("cat", "dog", "cat"), table("cat"), None), "pets")
    told = described(splits, names, [3, 9, 4])
    assert told.splitlines() == [
        "3 rows to learn from, 1 to validate",
        "16 tokens, 3 to 9 a row, half of them up to 4",
        "2 classes:",
        f"  cat       2 {'█' * 30}",
        f"  dog       1 {'█' * 15}",
    ]
