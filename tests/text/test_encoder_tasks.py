"""The tasks on encoders against the pipelines of transformers: small random nets, real tokenizers."""

import json
import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from tokenizers import decoders as token_decoders

import bestiary
from bestiary.core import weights
from bestiary.core.labels import Label
from bestiary.table import find_architecture
from bestiary.text.tasks.answering import Answer
from bestiary.text.tasks.tagging import Span, Word, _spans
from tests.tables import table_of

TEXTS = [
    "Ada Lovelace lived in London, near Hyde Park.",
    "Charles Babbage designed the Analytical Engine; it was never built.",
    "",
    "Überraschung: 猫 and unbelievabilities!",
]
LONG = " ".join(f"In {year} the orchestra of Vienna played for {year - 1700} listeners." for year in range(1800, 1830))
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
SIZES = {"layers": 2, "width": 32, "heads": 4, "hidden": 48}
CORPUS = [*TEXTS, LONG, "Paris is the capital of France.", "Who designed the engine?"] * 20


@pytest.fixture(scope="module")
def wordpiece():
    """The tokenizer of minilm-l6-v2, and so of BERT."""
    return bestiary.load("minilm-l6-v2").file("tokenizer")


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory):
    """One as RoBERTa's, trained here, whose mask takes in the space before it."""
    rules = Tokenizer(models.BPE(unk_token=None))
    rules.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rules.decoder = token_decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    rules.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=500, special_tokens=special, show_progress=False))
    from tokenizers import AddedToken

    rules.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    rules.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    path = tmp_path_factory.mktemp("byte-level") / "tokenizer.json"
    rules.save(str(path))
    return path


def folder_of(folder, architecture, fields, tokenizer, files=None, **config):
    """A folder as transformers writes it, with random weights."""
    entry = find_architecture(architecture)
    vocabulary = Tokenizer.from_file(str(tokenizer)).get_vocab_size()
    ours = entry.configure({**SIZES, "positions": 512, "vocabulary": vocabulary, **fields})
    torch.manual_seed(1)
    net = entry.net(ours)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    folder.mkdir(parents=True)
    weights.save(net, folder / "model.safetensors", entry.rules("transformers", ours, list(net.state_dict())))
    published = entry.configs["transformers"].write(ours) | config
    mask = "[MASK]" if architecture in ("bert", "distilbert") else "<mask>"
    inputs = ["input_ids", "token_type_ids", "attention_mask"] if architecture == "bert" else ["input_ids", "attention_mask"]
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64, "mask_token": mask,
                "model_input_names": inputs}  # fmt: skip
    for name, content in {"config.json": published, "tokenizer_config.json": settings, **(files or {})}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    (folder / "tokenizer.json").write_bytes(Path(tokenizer).read_bytes())
    return folder


def pipeline(task, folder, **options):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    name = {"text-classification": "SequenceClassification", "token-classification": "TokenClassification",
            "fill-mask": "MaskedLM"}[task]  # fmt: skip
    model = getattr(transformers, f"AutoModelFor{name}").from_pretrained(folder).eval()
    return transformers.pipeline(task, model=model, tokenizer=tokenizer, device="cpu", **options)


def labelled(names):
    return {
        "id2label": {str(index): name for index, name in enumerate(names)},
        "label2id": {name: index for index, name in enumerate(names)},
    }


def with_preprocess(task, **changes):
    """The same task object with other preprocessing."""
    card = replace(task.card, preprocess={**task.card.preprocess, **changes})
    return type(task)(task.net, card, task.provenance, task._saver)


# Classification


@pytest.fixture(scope="module")
def classifiers(wordpiece, tmp_path_factory):
    """Folders by the kind of problem."""
    names, fields = ("good", "bad", "odd"), {"head": "classes", "num_classes": 3, "segments": 2}
    root = tmp_path_factory.mktemp("classifiers")
    return {
        problem: folder_of(root / str(problem), "bert", fields, wordpiece, **labelled(names), **more)
        for problem, more in {
            None: {},
            "multi_label_classification": {"problem_type": "multi_label_classification"},
            "regression": {"problem_type": "regression"},
        }.items()
    }


@pytest.mark.parametrize("problem", [None, "multi_label_classification", "regression"])
def test_labels_are_those_of_the_reference(classifiers, problem):
    classify, reference = bestiary.load(classifiers[problem]), pipeline("text-classification", classifiers[problem], top_k=None)
    for ours, theirs in zip(classify(TEXTS), reference(TEXTS), strict=True):
        assert [label.name for label in ours] == [label["label"] for label in theirs]
        assert [label.score for label in ours] == pytest.approx([label["score"] for label in theirs], abs=1e-5)


def test_a_pair_is_judged_as_one(classifiers):
    classify, reference = bestiary.load(classifiers[None]), pipeline("text-classification", classifiers[None], top_k=None)
    theirs = reference([{"text": TEXTS[0], "text_pair": TEXTS[1]}])[0]
    ours = classify((TEXTS[0], TEXTS[1]))
    assert [(label.name, pytest.approx(label.score, abs=1e-5)) for label in ours] == [(t["label"], t["score"]) for t in theirs]
    assert classify([(TEXTS[0], TEXTS[1]), TEXTS[0]])[0] == ours
    assert ours[0].score != pytest.approx(classify((TEXTS[1], TEXTS[0]))[0].score, abs=1e-4)


def test_answers_have_the_form_of_the_question(classifiers):
    classify = bestiary.load(classifiers[None])
    assert isinstance(classify(TEXTS[0])[0], Label)
    assert classify([]) == [] and len(classify(TEXTS, top=1)[0]) == 1
    stream = classify(iter(TEXTS), batch_size=2)
    assert [found[0].name for found in stream] == [found[0].name for found in classify(TEXTS)]
    report = classify.report([f"{TEXTS[0]}\t{TEXTS[1]}"])
    assert report.records[0]["label"] == classify((TEXTS[0], TEXTS[1]))[0].name


def test_a_classifier_is_saved_exported_and_loaded(classifiers, tmp_path):
    classify = bestiary.load(classifiers["multi_label_classification"])
    classify.save(tmp_path / "saved")
    classify.export(tmp_path / "exported", layout="transformers")
    for folder in ("saved", "exported"):
        assert bestiary.load(tmp_path / folder)(TEXTS) == classify(TEXTS)
    theirs = pipeline("text-classification", tmp_path / "exported", top_k=None)(TEXTS[:1])[0]
    assert [label["label"] for label in theirs] == [label.name for label in classify(TEXTS[0])]


@pytest.mark.parametrize("given", [3, [3], [("a", 3)], [None], [("a", "b", 3)]])
def test_what_is_no_text_is_not_classified(classifiers, given):
    with pytest.raises(bestiary.InputError, match="not a text"):
        bestiary.load(classifiers[None])(given)


@pytest.mark.parametrize("top", [0, -1, "all", 1.5])
def test_a_number_of_labels_that_is_none_is_refused(classifiers, top):
    with pytest.raises(bestiary.InputError, match="is not a number of answers"):
        bestiary.load(classifiers[None])("a", top=top)


def test_an_unknown_way_to_score_and_wrong_labels_are_refused(classifiers):
    classify = bestiary.load(classifiers[None])
    with pytest.raises(bestiary.LayoutError, match="scores: 'magic'"):
        with_preprocess(classify, scores="magic")
    with pytest.raises(bestiary.LayoutError, match="max_length: 513"):
        with_preprocess(classify, max_length=513)
    with pytest.raises(bestiary.LayoutError, match="2 labels for 3 classes"):
        type(classify)(classify.net, replace(classify.card, labels=("a", "b")), classify.provenance, classify._saver)


def test_a_tokenizer_that_knows_more_tokens_than_the_net_is_refused(wordpiece, tmp_path):
    folder = folder_of(tmp_path / "small", "bert", {"vocabulary": 100, "head": "classes", "num_classes": 2}, wordpiece)
    with pytest.raises(bestiary.LayoutError, match="knows 30522 tokens, the net 100"):
        bestiary.load(folder)


# Spans


@pytest.fixture(scope="module")
def tagger(wordpiece, tmp_path_factory):
    fields = {"head": "tokens", "num_classes": len(TAGS)}
    return folder_of(tmp_path_factory.mktemp("tagger") / "tagger", "bert", fields, wordpiece, **labelled(TAGS))


def test_spans_are_those_of_the_reference(tagger):
    find, reference = bestiary.load(tagger), pipeline("token-classification", tagger, aggregation_strategy="first")
    texts = [text.replace("猫", "cat") for text in TEXTS]  # an unknown word joins the one before it there
    found = find(texts)
    assert sum(map(len, found)) > 5
    for text, ours in zip(texts, found, strict=True):
        theirs = reference(text) if text else []
        assert [(s.label, s.start, s.end) for s in ours] == [(t["entity_group"], t["start"], t["end"]) for t in theirs]
        assert [s.score for s in ours] == pytest.approx([t["score"] for t in theirs], abs=1e-5)
        assert all(text[s.start : s.end] == s.text for s in ours)


def test_a_long_text_is_read_to_its_end(tagger):
    """Every word is tagged once, by the window in which most text surrounds it."""
    find = bestiary.load(tagger)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spans = find(LONG)
    (windows,) = find.tokenizer.windows([LONG])
    assert len(windows) > 5
    assert spans[-1].end > len(LONG) - 100
    assert all(a.end <= b.start for a, b in pairwise(spans))
    assert all(LONG[span.start : span.end] == span.text for span in spans)
    # What the first window alone holds, it decides alone; so does the last.
    shared, end = windows[1].offsets[1][0], windows[0].offsets[-2][1]
    assert [span for span in find(LONG[:end]) if span.end < shared] == near([span for span in spans if span.end < shared])
    shared, start = windows[-2].offsets[-2][1], windows[-1].offsets[1][0]
    alone = [replace_offsets(span, start) for span in find(LONG[start:])]
    assert [span for span in alone if span.start > shared] == near([span for span in spans if span.start > shared])


def near(spans):
    return [span._replace(score=pytest.approx(span.score, abs=1e-5)) for span in spans]


def replace_offsets(span, start):
    return span._replace(start=span.start + start, end=span.end + start)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-PER I-PER O B-LOC", ["PER a b", "LOC d"]),
        ("B-PER B-PER", ["PER a", "PER b"]),
        ("I-PER I-PER I-LOC", ["PER a b", "LOC c"]),
        ("O O", []),
        ("PER PER O PER", ["PER a b", "PER d"]),
        ("I-PER O I-PER", ["PER a", "PER c"]),
    ],
)
def test_tags_make_spans(tags, expected):
    words = [Word(2 * index, 2 * index + 1, tag, 0.5, 0) for index, tag in enumerate(tags.split())]
    assert [f"{span.label} {span.text}" for span in _spans("a b c d", words)] == expected


def test_spaces_that_belong_to_tokens_are_no_part_of_a_span(byte_level, tmp_path):
    fields = {"head": "tokens", "num_classes": 2, "segments": 1}
    find = bestiary.load(folder_of(tmp_path / "x", "roberta", fields, byte_level, **labelled(["PER", "LOC"])))
    spans = find("  Ada of London")
    assert spans and all(span.text == span.text.strip() == "  Ada of London"[span.start : span.end] for span in spans)
    assert find.report(["Ada"]).records[0]["span"] == "Ada"
    assert isinstance(find("Ada")[0], Span)


# Gaps


@pytest.fixture(scope="module")
def fillers(wordpiece, byte_level, tmp_path_factory):
    root = tmp_path_factory.mktemp("fillers")
    return {
        "bert": folder_of(root / "bert", "bert", {"head": "mask"}, wordpiece),
        "distilbert": folder_of(root / "distil", "distilbert", {"head": "mask", "segments": 0, "pooler": "relu"}, wordpiece),
        "roberta": folder_of(root / "roberta", "roberta", {"head": "mask", "segments": 1}, byte_level),
    }


@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta"])
def test_candidates_are_those_of_the_reference(fillers, name):
    fill, reference = bestiary.load(fillers[name]), pipeline("fill-mask", fillers[name], top_k=7)
    texts = [f"Paris is the {fill.mask} of France.", f"{fill.mask} lived in London"]
    for ours, theirs in zip(fill(texts, top=7), reference(texts), strict=True):
        assert [c.token for c in ours] == [t["token_str"].strip() for t in theirs]
        assert [c.score for c in ours] == pytest.approx([t["score"] for t in theirs], rel=1e-4)


def test_several_gaps_are_filled_each_by_itself(fillers):
    fill, reference = bestiary.load(fillers["bert"]), pipeline("fill-mask", fillers["bert"], top_k=3)
    text = "The [MASK] of [MASK] is large."
    ours, theirs = fill(text, top=3), reference(text)
    assert [[c.token for c in gap] for gap in ours] == [[t["token_str"] for t in gap] for gap in theirs]
    assert ours[0][0].text.endswith("of [MASK] is large.") and ours[1][0].text.startswith("The [MASK] of")
    mixed = fill(["A [MASK].", text], top=3)
    assert [c.text for c in mixed[1][1]] == [c.text for c in ours[1]]
    assert [c.token for c in mixed[0]] == [c.token for c in fill("A [MASK].", top=3)]


@pytest.mark.parametrize(
    ("text", "token", "expected"),
    [
        ("Paris is the [MASK] of France.", "capital", "Paris is the capital of France."),
        ("Paris is the cap [MASK] of France.", "##ital", "Paris is the capital of France."),
        ("([MASK])", "capital", "(capital)"),
        ("[MASK] is large", "paris", "paris is large"),
        ("Ends here [MASK]", ".", "Ends here."),
    ],
)
def test_a_gap_is_filled_as_one_writes(fillers, text, token, expected):
    fill = bestiary.load(fillers["bert"])
    (encoding,) = fill.tokenizer.encode([text])
    gap, number = encoding.tokens.index("[MASK]"), fill.tokenizer.rules.token_to_id(token)
    assert fill._candidates(text, encoding, gap, [1.0], [number])[0].text == expected


def test_a_gap_that_takes_in_its_space_leaves_one(fillers):
    fill = bestiary.load(fillers["roberta"])
    text = "Ada lived <mask> London"
    (encoding,) = fill.tokenizer.encode([text])
    gap = encoding.ids.index(fill._mask_id)
    for token, expected in (("Ġin", "Ada lived in London"), ("er", "Ada liveder London")):
        number = fill.tokenizer.rules.token_to_id(token)
        assert number is not None and fill._candidates(text, encoding, gap, [1.0], [number])[0].text == expected


@pytest.mark.parametrize("text", ["no gap", "the wrong <mask>", "", "word " * 80 + "[MASK]"])
def test_a_text_without_a_gap_is_refused_with_the_name_of_the_mask(fillers, text):
    fill = bestiary.load(fillers["bert"])
    with warnings.catch_warnings(), pytest.raises(bestiary.InputError, match=r"input 1 has no \[MASK\]"):
        warnings.simplefilter("ignore")
        fill(["a [MASK]", text])


def test_a_mask_that_the_tokenizer_does_not_know_is_refused(fillers):
    with pytest.raises(bestiary.LayoutError, match="no token '<gap>'"):
        with_preprocess(bestiary.load(fillers["bert"]), mask="<gap>")


def test_a_filler_reports_every_candidate(fillers):
    report = bestiary.load(fillers["bert"]).report(["a [MASK] b [MASK]", "[MASK]"])
    assert [(r["gap"], r["rank"]) for r in report.records[:6]] == [(1, 1), (1, 2), (1, 3), (1, 4), (1, 5), (2, 1)]
    assert len(report.records) == 15 and len(report.rows[0]) == len(report.columns)


def test_a_filler_is_exported_with_its_mask(fillers, tmp_path):
    fill = bestiary.load(fillers["roberta"])
    fill.export(tmp_path / "exported", layout="transformers")
    text = "Ada lived <mask> London"
    assert bestiary.load(tmp_path / "exported")(text) == fill(text)
    assert pipeline("fill-mask", tmp_path / "exported")(text)[0]["token_str"].strip() == fill(text)[0].token


def test_a_folder_that_names_no_mask_is_refused(fillers, tmp_path):
    fill = bestiary.load(fillers["bert"])
    fill.export(tmp_path / "x", layout="transformers")
    (tmp_path / "x" / "tokenizer_config.json").unlink()
    with pytest.raises(bestiary.LayoutError, match="names no mask_token"):
        bestiary.load(tmp_path / "x")


# Answers


@pytest.fixture(scope="module")
def answering(wordpiece, tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("qa") / "qa", "bert", {"head": "spans"}, wordpiece)


def best_by_hand(folder, question, context, longest=30):
    """The best span of a short context, span by span, with logits of the reference."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    given = tokenizer(question, context, return_tensors="pt", return_offsets_mapping=True)
    inside = [place for place, sequence in enumerate(given.sequence_ids(0)) if sequence == 1]
    offsets = given.pop("offset_mapping")[0].tolist()
    kinds = torch.tensor([encoding for encoding in given.encodings[0].type_ids])[None]
    with torch.no_grad():
        output = model(given["input_ids"], token_type_ids=kinds)
    starts, ends = (logits[0][[0, *inside]].softmax(-1) for logits in (output.start_logits, output.end_logits))
    score, i, j = max(
        (float(starts[i + 1] * ends[j + 1]), i, j) for i in range(len(inside)) for j in range(i, min(len(inside), i + longest))
    )
    return score, offsets[inside[i]][0], offsets[inside[j]][1], float(starts[0] * ends[0])


@pytest.mark.parametrize("context", [TEXTS[0], TEXTS[1], TEXTS[3]])
def test_the_answer_is_the_best_span(answering, context):
    answer = bestiary.load(answering)
    score, start, end, nothing = best_by_hand(answering, "Who designed it?", context)
    found = answer("Who designed it?", context)
    assert found == Answer(context[start:end], start, end, pytest.approx(score, rel=1e-4))
    empty = answer("Who designed it?", context, no_answer=-1000.0)
    assert empty == Answer("", 0, 0, pytest.approx(nothing, rel=1e-4))
    assert answer("Who designed it?", context, no_answer=1000.0) == found


def test_a_long_context_is_read_to_its_end(answering):
    """The best of all windows, each computed by itself."""
    answer = bestiary.load(answering)
    found = answer("Who played?", LONG)
    assert LONG[found.start : found.end] == found.text and 0 < found.score < 1
    windows = answer.tokenizer.rules.encode("Who played?", LONG)
    windows = [windows, *windows.overflowing]
    assert len(windows) > 5
    sums = []
    for window in windows:
        kinds = torch.tensor([window.type_ids])
        with torch.no_grad():
            logits = answer.net(torch.tensor([window.ids]), segments=kinds)[0]
        inside = [place for place, sequence in enumerate(window.sequence_ids) if sequence == 1]
        sums += [
            (float(logits[i, 0] + logits[j, 1]), window.offsets[i][0], window.offsets[j][1])
            for i in inside
            for j in inside
            if i <= j < i + 30
        ]
    assert (found.start, found.end) == max(sums)[1:]


def test_questions_come_with_one_text_or_each_with_its_own(answering):
    answer = bestiary.load(answering)
    questions = ["Who?", "Where did she live?"]
    several = answer(questions, TEXTS[0])
    assert several == [answer(question, TEXTS[0]) for question in questions]
    assert answer([(question, TEXTS[0]) for question in questions]) == several
    assert answer(("Who?", TEXTS[0])) == several[0]
    assert list(answer(iter(questions), TEXTS[0], batch_size=1)) == several
    assert answer([], TEXTS[0]) == [] and answer("Who?", "").text == ""
    assert len(answer("Who?", TEXTS[0], max_answer_tokens=1).text.split()) == 1
    report = answer.report([*questions, TEXTS[0]])
    assert [record["text"] for record in report.records] == [one.text for one in several]


def test_a_question_that_cannot_be_asked_is_refused(answering):
    answer = bestiary.load(answering)
    for long in ("word " * 50, "word " * 500):
        with pytest.raises(bestiary.InputError, match="a question has more than"):
            answer(long, TEXTS[0])
    with pytest.raises(bestiary.InputError, match="question 0 comes without a text"):
        answer("Who?")
    with pytest.raises(bestiary.InputError, match="not a text"):
        answer("Who?", 3)
    with pytest.raises(bestiary.InputError, match="there is no question"):
        answer.report(["Who?"])


# Vectors


@pytest.fixture(scope="module")
def prompted(wordpiece, tmp_path_factory):
    """As sentence-transformers writes it: an encoder that was saved with a head, pooled by the class token, with prompts."""
    files = {
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
        "1_Pooling/config.json": {"word_embedding_dimension": 32, "pooling_mode_cls_token": True},
        "config_sentence_transformers.json": {"prompts": {"query": "query: ", "passage": "passage: ", "none": ""}},
    }
    folder = tmp_path_factory.mktemp("prompted") / "prompted"
    return folder_of(folder, "bert", {}, wordpiece, files, architectures=["BertForMaskedLM"])


def test_prompts_and_vectors_are_those_of_sentence_transformers(prompted, tmp_path):
    from sentence_transformers import SentenceTransformer

    embed = bestiary.load(prompted)
    assert embed.prompts == {"query": "query: ", "passage": "passage: "}
    embed.export(tmp_path / "exported", layout="transformers")
    for folder in (prompted, tmp_path / "exported"):
        reference = SentenceTransformer(str(folder), device="cpu")
        for prompt in (None, "query", "passage"):
            theirs = reference.encode(TEXTS, prompt_name=prompt, convert_to_tensor=True)
            assert (embed(TEXTS, prompt=prompt) - theirs).abs().max() < 1e-5
    assert torch.equal(bestiary.load(tmp_path / "exported")(TEXTS), embed(TEXTS))


def test_search_asks_with_the_prompts(prompted):
    embed = bestiary.load(prompted)
    found = embed.search("Ada", TEXTS, top=2)
    scores = embed(TEXTS, prompt="passage") @ embed("Ada", prompt="query")
    assert [match.index for match in found] == scores.topk(2).indices.tolist()
    assert [match.score for match in found] == pytest.approx(scores.topk(2).values.tolist(), abs=1e-6)


def test_an_unknown_prompt_is_refused(prompted):
    with pytest.raises(bestiary.InputError, match=r"has no prompt 'question'\nits prompts: query, passage"):
        bestiary.load(prompted)("a", prompt="question")


def test_prompts_that_are_no_texts_are_refused(prompted):
    with pytest.raises(bestiary.LayoutError, match="prompts"):
        with_preprocess(bestiary.load(prompted), prompts={"query": 3})


def test_a_prompt_before_every_text_is_refused(prompted, tmp_path):
    bestiary.load(prompted).export(tmp_path / "x", layout="transformers")
    said = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    (tmp_path / "x" / "config_sentence_transformers.json").write_text(json.dumps(said))
    with pytest.raises(bestiary.LayoutError, match="puts a prompt before every text"):
        bestiary.load(tmp_path / "x")


FACTS = [
    "The cat sleeps on the warm windowsill.",
    "Stock markets fell sharply on Monday.",
    "Photosynthesis turns light into sugar.",
    "The Eiffel Tower stands in Paris.",
    "A kitten is napping in the sun.",
]


def test_search_finds_what_is_meant():
    embed = bestiary.load("minilm-l6-v2")
    found = embed.search(["Where is the Eiffel tower?", "shares lost value"], FACTS, top=2)
    assert [matches[0].index for matches in found] == [3, 1]
    assert found[0][0].text == FACTS[3] and found[0][0].score > 0.7
    cats = embed.search("a dozing cat", FACTS, top=2)
    assert {match.index for match in cats} == {0, 4}
    assert embed.search("a dozing cat", iter(FACTS), top=2, batch_size=2) == [
        type(match)(match.index, match.text, pytest.approx(match.score, abs=1e-6)) for match in cats
    ]
    assert len(embed.search("cat", FACTS, top=50)) == 5 and embed.search("cat", []) == []


@pytest.mark.parametrize("corpus", ["one text", 3])
def test_a_corpus_is_several_texts(corpus):
    with pytest.raises(bestiary.InputError, match="the corpus is one"):
        bestiary.load("minilm-l6-v2").search("cat", corpus)


# Tables


def test_results_are_rows_of_tables(classifiers, tagger, fillers, answering):
    def near(row, **values):
        assert row == {name: pytest.approx(value, abs=1e-6) if "score" in name else value for name, value in values.items()}

    classify, find, fill, answer = map(bestiary.load, (classifiers[None], tagger, fillers["bert"], answering))
    pair = (TEXTS[0], TEXTS[1])
    for given, row in zip([TEXTS[0], pair], table_of(classify, [TEXTS[0], pair]), strict=True):
        labels = classify(given)
        names, scores = [label.name for label in labels], [label.score for label in labels]
        near(row, label=names[0], score=scores[0], labels=names, scores=scores)
    for text, row in zip(TEXTS, table_of(find, TEXTS), strict=True):
        assert [tuple(span.values())[:4] for span in row["spans"]] == [span[:4] for span in find(text)]
    one, two = table_of(fill, ["a [MASK]", "a [MASK] b [MASK]"])
    assert [len(gap) for gap in one["gaps"]] == [5] and [len(gap) for gap in two["gaps"]] == [5, 5]
    assert one["gaps"][0][0]["token"] == fill("a [MASK]")[0].token
    asked = [("Who?", LONG), ("What?", TEXTS[0])]
    for row, found in zip(table_of(answer, asked), answer(asked), strict=True):
        near(row, **found._asdict())
