"""Evaluations of models of text: tiny nets and real ones, against transformers and against what is known beforehand."""

import math
from pathlib import Path

import pytest
import torch
import transformers
from datasets import ClassLabel, Dataset, Features, List, Value

import bestiary
from bestiary.errors import InputError
from bestiary.evaluation import evaluate, find_evaluation
from bestiary.scripts.cases import precision
from bestiary.text import datasets
from bestiary.text.evaluation import _ranks
from bestiary.text.perplexity import windows
from bestiary.text.spans import Found, count_spans, spans_of
from tests.text.models import TEXTS, write_model
from tests.text.test_encoder_tasks import TAGS, folder_of, labelled, wordpiece  # noqa: F401  (a fixture)

ESSAY = Path(precision.__file__).parents[1] / "tides.txt"
NAMES = ("good", "bad", "odd")
SENTENCES = [
    ["Ada", "Lovelace", "lived", "in", "London", "."],
    ["Mr.", "Babbage's", "engine", "(1837)", "was", "never", "built"],
    ["unbelievabilities", "\u200b", "猫"],
    [],
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def classifier(root, wordpiece):  # noqa: F811
    fields = {"head": "classes", "num_classes": 3, "segments": 2}
    return bestiary.load(folder_of(root / "classes", "bert", fields, wordpiece, **labelled(NAMES)), device="cpu")


@pytest.fixture(scope="module")
def tagger_folder(root, wordpiece):  # noqa: F811
    fields = {"head": "tokens", "num_classes": len(TAGS), "segments": 2}
    return folder_of(root / "tags", "bert", fields, wordpiece, **labelled(TAGS))


@pytest.fixture(scope="module")
def tagger(tagger_folder):
    return bestiary.load(tagger_folder, device="cpu")


@pytest.fixture(scope="module")
def embed():
    return bestiary.load("minilm-l6-v2", device="cpu", precision="fp32")


# Classes of texts


def test_a_classifier_is_right_as_often_as_its_answers_say(classifier):
    texts = [f"number {number} of many texts" for number in range(20)]
    answers = [found[0].name for found in classifier(texts)]
    labels = [answer if number % 4 else NAMES[NAMES.index(answer) - 1] for number, answer in enumerate(answers)]
    for kind in (Value("string"), ClassLabel(names=sorted(NAMES))):
        rows = Dataset.from_dict({"text": texts, "label": labels}).cast(Features({"text": Value("string"), "label": kind}))
        found = evaluate(classifier, rows, batch_size=7)
        assert found.metrics["accuracy"] == pytest.approx(0.75) and "top5_accuracy" not in found.metrics
        assert sum(one.times for one in found.confused) == 5


def test_pairs_are_read_as_pairs(classifier):
    pairs = [("a cat", "an animal"), ("a dog", "a kind of tea and nothing else"), ("the sea", "salt")]
    labels = [found[0].name for found in classifier(pairs)]
    columns = {"text": [first for first, _ in pairs], "pair": [second for _, second in pairs], "label": labels}
    assert evaluate(classifier, Dataset.from_dict(columns)).metrics["accuracy"] == 1


def test_an_option_of_another_task_is_an_error(classifier):
    with pytest.raises(InputError, match="no option window\nits options: batch_size, match, progress"):
        evaluate(classifier, Dataset.from_dict({"text": ["a"], "label": ["good"]}), window=8)


# Tags of words


def test_words_get_the_tag_of_their_first_token_as_transformers_cuts_them(tagger, tagger_folder):
    tokenizer = transformers.AutoTokenizer.from_pretrained(tagger_folder)
    model = transformers.AutoModelForTokenClassification.from_pretrained(tagger_folder).eval()
    found = tagger.tags(SENTENCES)
    for sentence, tags in zip(SENTENCES[:2], found, strict=False):
        encoded = tokenizer(sentence, is_split_into_words=True, return_tensors="pt")
        with torch.no_grad():
            best = model(**encoded).logits[0].argmax(-1).tolist()
        words = encoded.word_ids(0)
        assert tags == [TAGS[best[words.index(place)]] for place in range(len(sentence))]
    assert list(map(len, found)) == list(map(len, SENTENCES))
    assert found[2][1] == "O"  # of which the tokenizer makes nothing
    assert list(tagger.tags(iter(SENTENCES), batch_size=2)) == found


def test_a_text_is_not_split_by_guessing(tagger):
    with pytest.raises(InputError, match="not split into words"):
        tagger.tags(["Ada lives in London"])


def test_spans_by_hand():
    """Two of three spans of the one, two of two of the other: the example of a name that begins a word too early."""
    expected = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    answers = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    counts = count_spans(answers, expected)
    assert counts == {"MISC": Found(0, 1, 1), "PER": Found(1, 1, 1)}
    assert Found(1, 2, 2).f1 == 0.5
    assert Found(1, 4, 2)[:] and (Found(1, 4, 2).precision, Found(1, 4, 2).recall, Found(1, 4, 2).f1) == (0.25, 0.5, 1 / 3)
    assert Found(0, 0, 0).f1 == 0


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("B-A B-A I-A", [("A", 0, 1), ("A", 1, 3)]),
        ("I-A I-A O I-A", [("A", 0, 2), ("A", 3, 4)]),
        ("B-A I-B I-B", [("A", 0, 1), ("B", 1, 3)]),
        ("B-A I-A E-A I-A", [("A", 0, 3), ("A", 3, 4)]),
        ("S-A S-A B-A E-A", [("A", 0, 1), ("A", 1, 2), ("A", 2, 4)]),
        ("noun noun verb O verb", [("noun", 0, 2), ("verb", 2, 3), ("verb", 4, 5)]),
        ("O O", []),
    ],
)
def test_tags_make_spans(tags, spans):
    assert spans_of(tags.split()) == spans


def test_a_tagger_whose_tags_are_right_and_one_whose_are_not(tagger):
    tags = tagger.tags(SENTENCES)
    kind = Features({"words": List(Value("string")), "label": List(ClassLabel(names=list(TAGS[::-1])))})
    numbers = [[TAGS[::-1].index(tag) for tag in own] for own in tags]
    rows = Dataset.from_dict({"words": SENTENCES, "label": numbers}, features=kind)
    found = evaluate(tagger, rows)
    assert found.metrics == {"f1": 1.0, "precision": 1.0, "recall": 1.0, "accuracy": 1.0}
    assert found.rows == 4 and found.counts["words"] == sum(map(len, SENTENCES))
    assert found.counts["spans"] == sum(len(spans_of(own)) for own in tags) > 0
    nothing = Dataset.from_dict({"words": SENTENCES[:3], "label": [["O"] * len(words) for words in SENTENCES[:3]]})
    assert evaluate(tagger, nothing).metrics["f1"] == 0


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"words": [["a", "b"]], "label": [["O"]]}, "row 0 does not have a tag for each word"),
        ({"words": [["a"]], "label": [["B-FISH"]]}, "does not know the label FISH of the data\nit knows LOC, PER"),
        ({"words": [["a"]]}, "no column 'label'"),
        ({"words": [[]], "label": [[]]}, "there are no words"),
    ],
)
def test_words_that_cannot_be_used(tagger, columns, complaint):
    with pytest.raises(InputError, match=complaint):
        evaluate(tagger, Dataset.from_dict(columns))


# Vectors


def test_ranks_by_hand():
    queries, passages = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6]])
    assert _ranks(queries, passages, [0, 2, 2], [[0], [2], [2, 0]]).tolist() == [1, 2, 1]
    same = torch.ones(3, 2)
    assert _ranks(same, same, [0, 1, 2], [[0], [1], [2]]).tolist() == [3, 3, 3]  # what cannot tell apart has found nothing


def test_pairs_of_texts(embed):
    texts = ["a cat", "a dog", "a car", "the sea"]
    positives = ["a kitten", "a puppy", "an ocean", "an automobile"]  # the last two changed over
    found = evaluate(embed, Dataset.from_dict({"text": texts, "positive": positives}))
    ranks = [1 + sum(score >= row[place] for at, score in enumerate(row) if at != place)
             for place, row in enumerate(embed.similarity(texts, positives).tolist())]  # fmt: skip
    assert ranks[:2] == [1, 1] and min(ranks[2:]) > 1
    assert found.metrics["recall_at_1"] == 0.5 and found.metrics["recall_at_5"] == 1
    assert found.metrics["mrr"] == pytest.approx(sum(1 / rank for rank in ranks) / 4)


def test_emoji_to_their_subgroups(embed):
    rows = datasets.load("openmoji", "test").rename_column("subgroup", "positive")
    found = evaluate(embed, rows)
    assert found.metrics == pytest.approx({"recall_at_1": 0.4590, "recall_at_5": 0.7596, "mrr": 0.5890}, abs=0.006)
    assert found.rows == 183 and found.counts["passages"] == len(set(rows["positive"]))


def test_scores_of_pairs(embed):
    columns = {"text": ["a cat", "a cat", "a cat"], "other": ["the cat", "a dog", "an invoice"], "score": [5.0, 3.5, 0.0]}
    assert evaluate(embed, Dataset.from_dict(columns)).metrics == {"spearman": pytest.approx(1, abs=1e-5)}
    reverse = Dataset.from_dict({**columns, "score": [0, 1, 2]})
    assert evaluate(embed, reverse).metrics["spearman"] == pytest.approx(-1, abs=1e-5)
    with pytest.raises(InputError, match="one pair"):
        evaluate(embed, reverse.select([0]))
    with pytest.raises(InputError, match="with a positive, or with an other and a score\nthe columns: text"):
        evaluate(embed, Dataset.from_dict({"text": ["a cat"]}))


# Answers


def test_answers_to_questions(root, wordpiece):  # noqa: F811
    folder = folder_of(root / "spans", "bert", {"head": "spans", "segments": 2}, wordpiece)
    answer = bestiary.load(folder, device="cpu")
    asked = [("Who lived there?", "Ada Lovelace lived in London"), ("Where?", "Near Hyde Park, in the north.")]
    own = [found.text for found in answer(asked)]
    rows = [
        {"question": question, "context": context, "answers": {"text": texts, "answer_start": [0] * len(texts)}}
        for (question, context), texts in zip(asked, [["nothing of the kind", own[0].upper()], ["zebra"]], strict=True)
    ]
    assert evaluate(answer, Dataset.from_list(rows)).metrics == pytest.approx({"f1": 0.5, "exact_match": 0.5})
    rows[0]["answers"] = {"text": [], "answer_start": []}
    with pytest.raises(InputError, match="row 0 has no answer"):
        evaluate(answer, Dataset.from_list(rows))


# Perplexity


@pytest.fixture(scope="module")
def writer(root):
    return bestiary.load(write_model(root / "writer", context=96), device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def reference(writer, root):
    writer.export(root / "exported", layout="transformers")
    return transformers.AutoModelForCausalLM.from_pretrained(root / "exported").eval()


def nats_of(reference, tokens):
    """What transformers takes for the negative log-probability of tokens after the first, summed up."""
    ids = torch.tensor([tokens])
    with torch.no_grad():
        return float(reference(ids, labels=ids).loss) * (len(tokens) - 1)


def test_perplexity_is_that_of_transformers(writer, reference):
    found = evaluate(writer, Dataset.from_dict({"text": [*TEXTS, "", "a"]}), batch_size=3)
    tokens = [writer.rules.encode(text).ids for text in TEXTS]
    nats, count = sum(nats_of(reference, ids) for ids in tokens), sum(len(ids) - 1 for ids in tokens)
    assert found.metrics["perplexity"] == pytest.approx(math.exp(nats / count), rel=1e-4)
    foretold = sum(len(text.encode()) for text in TEXTS) - sum(len(writer.rules.decode(ids[:1]).encode()) for ids in tokens)
    assert found.metrics["byte_perplexity"] == pytest.approx(math.exp(nats / foretold), rel=1e-4)
    assert found.counts == {"tokens": count, "bytes": foretold, "window": 96, "stride": 48}
    assert found.rows == 6


def test_a_long_text_is_read_in_windows_that_overlap(writer, reference):
    text = " ".join(f"{number} is {number * 7}" for number in range(40))
    tokens = writer.rules.encode(text).ids
    assert len(tokens) > 96
    total = nats_of(reference, tokens[:32])
    for start in range(16, len(tokens) - 16, 16):  # each window without what those before it have foretold
        with torch.no_grad():
            scores = reference(torch.tensor([tokens[start : start + 32]])).logits[0].log_softmax(-1)
        total -= sum(float(scores[place - 1, token]) for place, token in enumerate(tokens[start : start + 32]) if place >= 16)
    found = evaluate(writer, Dataset.from_dict({"text": [text]}), window=32)
    assert found.metrics["perplexity"] == pytest.approx(math.exp(total / (len(tokens) - 1)), rel=1e-4)
    assert found.counts["window"] == 32 and found.counts["stride"] == 16


@pytest.mark.parametrize("length", range(14))
@pytest.mark.parametrize(("window", "stride"), [(2, 1), (4, 2), (5, 3)])
def test_every_token_but_the_first_is_foretold_once(length, window, stride):
    found = [token for part in windows(range(length), window, stride) for token in map(part.tokens.__getitem__, part.foretold)]
    assert found == list(range(1, length))


def test_lines_can_be_joined(writer):
    whole = evaluate(writer, Dataset.from_dict({"text": ["one line\nand another\n"]})).metrics
    for lines in (["one line", "and another"], ["one line\n", "and another\n"]):
        joined = evaluate(writer, Dataset.from_dict({"text": lines}), join=True)
        assert joined.metrics == pytest.approx(whole) and joined.rows == 2


def test_an_essay_read_by_windows_is_as_surprising_as_token_by_token():
    model = bestiary.load("smollm2-135m-instruct", device="cpu", precision="fp32")
    found = evaluate(model, Dataset.from_dict({"text": [ESSAY.read_text("utf-8")]}))
    assert found.metrics["perplexity"] == pytest.approx(23.48, abs=0.02)  # what the card says
    assert found.counts["tokens"] == 1459


@pytest.mark.full
def test_an_essay_is_as_surprising_as_transformers_finds_it(tmp_path):
    model = bestiary.load("smollm2-135m-instruct", device="cpu", precision="fp32")
    text = ESSAY.read_text("utf-8")
    model.export(tmp_path / "exported", layout="transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "exported").eval()
    tokens = model.rules.encode(text).ids
    expected = math.exp(nats_of(theirs, tokens) / (len(tokens) - 1))
    assert evaluate(model, Dataset.from_dict({"text": [text]})).metrics["perplexity"] == pytest.approx(expected, rel=1e-4)


def test_what_foretells_nothing(writer):
    with pytest.raises(InputError, match="nothing to foretell"):
        evaluate(writer, Dataset.from_dict({"text": ["", "a"]}))
    with pytest.raises(InputError, match="a window of 1 tokens"):
        evaluate(writer, Dataset.from_dict({"text": ["a b"]}), window=1)
    with pytest.raises(InputError, match="the columns words\nwanted: messages; or prompt, answer; or text"):
        evaluate(writer, Dataset.from_dict({"words": ["a b"]}))


def test_a_task_without_an_evaluation():
    with pytest.raises(InputError, match="there is no evaluation of fill-mask\nthere is one of audio-classification, "):
        find_evaluation("fill-mask")
