"""A card says what it means, says where it is wrong, and reads back as it was written."""

import dataclasses
import pickle
from pathlib import Path

import pytest
import yaml

from bestiary.errors import CardError
from bestiary.hub import frontmatter
from bestiary.hub.card import AdapterOf, Component, File, Metric, SourceSpec, parse_card, read_card
from bestiary.hub.registry import Registry

SHIPPED = sorted((Path(__file__).parents[2] / "model_cards").glob("[a-z0-9]*.md"))
DIGEST = "0123456789abcdef" * 4

WHOLE = f"""---
license: apache-2.0
pipeline_tag: feature-extraction
language: [en, no]
tags: [small, fast]
library_name: bestiary
model-index: [{{name: cat, results: []}}]
bestiary:
  schema: 1
  name: cat-base
  version: 3
  task: text-embedding
  architecture: bert
  config: {{layers: 6, eps: 1e-12, act: gelu, tied: true, window: null}}
  layout: transformers
  files:
    model.safetensors: {{size: 100, sha256: {DIGEST}, role: weights}}
    unet/tokenizer.json: {{size: 23, sha256: {DIGEST}, role: tokenizer}}
  sources:
    - package: cat-model==0.1.0
      sha256: {DIGEST}
      folder: cat_model/data
      names: {{unet/tokenizer.json: tok.json}}
    - {{hf: cats/cat-base, revision: main}}
    - url: https://models.example/cats/
    - url: http://127.0.0.1:8080/cats
    - path: .
  preprocess: {{max_length: 256}}
  labels: [cat, dog]
  precision: {{bf16: {{min_cosine: 0.9998}}}}
  metrics:
    - {{dataset: pets, metric: accuracy, value: 1, command: bestiary evaluate cat-base}}
  checked: parity
  components:
    text: {{architecture: bert, config: {{layers: 2}}, layout: transformers, files: [model.safetensors]}}
  adapter_of: {{name: cat, sha256: {DIGEST}}}
  accept_license: true
---

# Cat

It purrs.
"""


def changed(old: str, new: str) -> str:
    assert old in WHOLE
    return WHOLE.replace(old, new)


def test_every_key_has_its_place() -> None:
    card = parse_card(WHOLE, "cat-base.md")
    assert (card.name, card.version, card.task, card.license) == ("cat-base", 3, "text-embedding", "apache-2.0")
    assert (card.pipeline_tag, card.language, card.tags) == ("feature-extraction", ("en", "no"), ("small", "fast"))
    assert card.metadata == {"library_name": "bestiary", "model-index": [{"name": "cat", "results": []}]}
    assert (card.architecture, card.layout) == ("bert", "transformers")
    assert card.config == {"layers": 6, "eps": 1e-12, "act": "gelu", "tied": True, "window": None}
    assert card.files == (
        File(name="model.safetensors", size=100, sha256=DIGEST, role="weights"),
        File(name="unet/tokenizer.json", size=23, sha256=DIGEST, role="tokenizer"),
    )
    assert card.sources == (
        SourceSpec(
            kind="package", address="cat-model==0.1.0", sha256=DIGEST, folder="cat_model/data",
            names={"unet/tokenizer.json": "tok.json"},
        ),
        SourceSpec(kind="hf", address="cats/cat-base", revision="main"),
        SourceSpec(kind="url", address="https://models.example/cats/"),
        SourceSpec(kind="url", address="http://127.0.0.1:8080/cats"),
        SourceSpec(kind="path", address="."),
    )
    assert (card.preprocess, card.labels) == ({"max_length": 256}, ("cat", "dog"))
    assert card.precision == {"bf16": {"min_cosine": 0.9998}}
    assert card.metrics == (Metric(dataset="pets", metric="accuracy", value=1.0, command="bestiary evaluate cat-base"),)
    assert (card.checked, card.pinned, card.accept_license) == ("parity", True, True)
    assert card.adapter_of == AdapterOf(name="cat", sha256=(DIGEST,))
    text = Component(architecture="bert", config={"layers": 2}, layout="transformers", files=("model.safetensors",))
    assert card.components == {"text": text}
    assert card.text == "# Cat\n\nIt purrs."
    assert card.size == 123


def test_the_file_with_a_role() -> None:
    card = parse_card(WHOLE, "cat-base.md")
    assert card.file("tokenizer").name == "unet/tokenizer.json"
    with pytest.raises(CardError, match="0 files have the role 'labels'"):
        card.file("labels")
    with pytest.raises(CardError, match="2 files have the role 'weights'"):
        parse_card(changed("role: tokenizer", "role: weights"), "cat-base.md").file("weights")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_cards_read_back_as_written(path: Path) -> None:
    card = Registry([path.parent]).card(path.stem)  # which looks up what a card inherits from
    assert card.path == path
    assert parse_card(card.to_markdown(), "again") == card


def test_an_adapter_of_weights_in_several_files() -> None:
    other = DIGEST[::-1]
    card = parse_card(changed(f"cat, sha256: {DIGEST}", f"cat, sha256: [{DIGEST}, {other}]"), "cat-base.md")
    assert card.adapter_of == AdapterOf(name="cat", sha256=(DIGEST, other))
    assert parse_card(card.to_markdown(), "again") == card


def test_reads_back_as_written() -> None:
    card = parse_card(WHOLE, "cat-base.md")
    assert parse_card(card.to_markdown(), "again") == card
    assert pickle.loads(pickle.dumps(card)) == card


@pytest.mark.parametrize(
    "value",
    [
        "1e-5", "no", "true", "null", "~", "", "12", "0x10", "2024-01-01", "1e999", "9" * 400,
        "a: b", "- a", "#", "'", '"', " a ", "{", "*a", "&a", "!a", "%", "@", "é 😀", "a\nb",
        1e-5, 1e22, -0.5, 2**62, True, None, [], {}, [[1, [2]]], {"1": {"2": "3"}},
    ],
    ids=repr,
)
def test_any_plain_value_reads_back_as_written(value: object) -> None:
    card = dataclasses.replace(parse_card(WHOLE, "cat-base.md"), config={"key": value}, metadata={"other": value})
    again = parse_card(card.to_markdown(), "again")
    assert again == card
    assert type(again.config["key"]) is type(value)


def test_what_is_written_is_a_hugging_face_card() -> None:
    """Another YAML reader finds the same metadata, 1.1 words and all."""
    card = parse_card(WHOLE, "cat-base.md")
    front = yaml.safe_load(card.to_markdown().split("---\n")[1])
    assert (front["license"], front["language"], front["tags"]) == ("apache-2.0", ["en", "no"], ["small", "fast"])
    assert front["bestiary"]["config"] == card.config


def test_a_list_that_stands_twice_is_written_twice() -> None:
    shared = [1, 2]
    card = dataclasses.replace(parse_card(WHOLE, "cat-base.md"), config={"a": shared, "b": shared})
    assert parse_card(card.to_markdown(), "again").config == {"a": [1, 2], "b": [1, 2]}


def test_windows_line_ends_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "cat-base.md"
    path.write_bytes(b"\xef\xbb\xbf" + WHOLE.replace("\n", "\r\n").encode())
    assert read_card(path) == parse_card(WHOLE, path)


def test_language_may_be_one() -> None:
    assert parse_card(changed("[en, no]", "no"), "cat-base.md").language == ("no",)


def test_a_model_of_components_alone() -> None:
    text = changed("  architecture: bert\n", "").replace("  layout: transformers\n", "", 1)
    card = parse_card(text, "cat-base.md")
    assert (card.architecture, card.layout, list(card.components)) == ("", "", ["text"])
    assert parse_card(card.to_markdown(), "again") == card


UNPINNED = changed(f"{{size: 100, sha256: {DIGEST}, role: weights}}", "{role: weights}")


def test_an_unpinned_card_says_so() -> None:
    card = parse_card(UNPINNED.replace("checked: parity", "checked: parity\n  pinned: false"), "cat-base.md")
    assert not card.pinned
    assert card.file("weights") == File(name="model.safetensors", role="weights")
    assert card.size is None
    assert parse_card(card.to_markdown(), "again") == card


FRAGMENTS = [   # what is put in place of what, the key that the error names, and what it expects
    ("license: apache-2.0\n", "", "license: missing", "the licence of the files"),
    ("license: apache-2.0", "license: [mit]", "license: ['mit'] cannot be used", "the name of one licence"),
    ("license: apache-2.0", "license: ''", "license: '' cannot be used", "the name of one licence"),
    ("tags: [small, fast]", "tags: small", "tags: 'small' cannot be used", "a list"),
    ("tags: [small, fast]", "tags: [1]", "tags[0]: 1 cannot be used", "text"),
    ("bestiary:\n", "bestiarium:\n", "bestiary: missing", "a mapping"),
    ("schema: 1", "schema: 2", "bestiary.schema: this Bestiary does not read schema 2", "a newer Bestiary"),
    ("name: cat-base", "name: Cat", "bestiary.name: 'Cat' cannot be used", "small letters"),
    ("version: 3", "version: 0", "bestiary.version: 0 cannot be used", "a whole number"),
    ("version: 3", "version: true", "bestiary.version: True cannot be used", "a whole number"),
    ("version: 3", "version: 3.0", "bestiary.version: 3.0 cannot be used", "a whole number"),
    ("  task: text-embedding\n", "", "bestiary.task: missing", "a name"),
    ("architecture: bert\n", "architecture: bert.evil\n", "bestiary.architecture: 'bert.evil' cannot be used", "a name"),
    ("config: {layers: 6", "konfig: {layers: 6", "bestiary.konfig: no such key", "one of schema, name, version"),
    ("preprocess: {max_length: 256}", "preprocess: 256", "bestiary.preprocess: 256 cannot be used", "a mapping"),
    ("size: 100, ", "", "bestiary.files.model.safetensors.size: missing", "bytes"),
    ("size: 100", "size: -1", "bestiary.files.model.safetensors.size: -1 cannot be used", "a whole number"),
    (f"size: 100, sha256: {DIGEST}", "size: 100", "bestiary.files.model.safetensors.sha256: missing", "64 hexadecimal"),
    ("role: tokenizer", "rolle: tokenizer", "bestiary.files.unet/tokenizer.json.rolle: no such key", "size, sha256, role"),
    (", role: tokenizer", "", "bestiary.files.unet/tokenizer.json.role: missing", "a name"),
    ("package: cat-model==0.1.0", "packet: cat-model==0.1.0", "bestiary.sources[0]: one kind", "package, debian, hf, url, path"),
    ("url: https", "path: .\n      url: https", "bestiary.sources[2]: one kind", "package, debian, hf, url, path"),
    ("{hf: cats/cat-base, revision: main}", "{hf: cats/cat-base}", "bestiary.sources[1].revision: missing", "a commit"),
    (f"sha256: {DIGEST}\n", "\n", "bestiary.sources[0].sha256: missing", "digest of the wheel"),
    ("names: {unet/tokenizer.json: tok.json}", "names: {tok: a}", "bestiary.sources[0].names.tok: no such key", "unet/tokenizer"),
    ("labels: [cat, dog]", "labels: []", "bestiary.labels: empty", "labels"),
    ("{bf16:", "{bfloat16:", "bestiary.precision.bfloat16: no such key", "bf16, fp16, int8"),
    ("min_cosine: 0.9998", "min_cosine: high", "bestiary.precision.bf16.min_cosine: 'high' cannot be used", "a number"),
    (", command: bestiary evaluate cat-base", "", "bestiary.metrics[0].command: missing", "the command"),
    ("command: bestiary evaluate cat-base", "command: ''", "bestiary.metrics[0].command: '' cannot be used", "the command"),
    ("value: 1,", "value: .nan,", "bestiary.metrics[0].value: '.nan' cannot be used", "a number"),
    ("checked: parity", "checked: yes", "bestiary.checked: 'yes' cannot be used", "weights, parity or bridged"),
    ("  checked: parity\n", "", "bestiary.checked: missing", "weights, parity or bridged"),
    ("files: [model.safetensors]", "files: [model.bin]", "bestiary.components.text.files[0]", "model.safetensors"),
    ("files: [model.safetensors]", "files: []", "bestiary.components.text.files: empty", "at least one file"),
    ("adapter_of: {name: cat, ", "adapter_of: {name: a cat, ", "bestiary.adapter_of.name", "the name of a card"),
    ("cat, sha256: 0", "cat, digest: 0", "bestiary.adapter_of.digest: no such key", "name, sha256"),
    (f"cat, sha256: {DIGEST}}}", "cat}", "bestiary.adapter_of.sha256: missing", "64 hexadecimal digits"),
    (f"cat, sha256: {DIGEST}}}", "cat, sha256: []}", "bestiary.adapter_of.sha256: empty", "a list of such"),
    (f"cat, sha256: {DIGEST}}}", "cat, sha256: [ab]}", "bestiary.adapter_of.sha256[0]: 'ab' cannot be used", "or a list of such"),
    ("schema: 1", "base: cat", "bestiary.base: a card that stands alone has no base", "every key"),
]


@pytest.mark.parametrize(("old", "new", "key", "expected"), FRAGMENTS, ids=lambda part: part.strip()[:30])
def test_an_error_names_file_key_and_expected_form(old: str, new: str, key: str, expected: str) -> None:
    with pytest.raises(CardError) as caught:
        parse_card(changed(old, new), "zoo/cat-base.md")
    what, then = str(caught.value).splitlines()
    assert what.startswith(f"zoo/cat-base.md: {key}")
    assert then.startswith("expected: ") and expected in then


def test_an_unpinned_card_needs_a_source_with_a_revision() -> None:
    text = UNPINNED.replace("    - {hf: cats/cat-base, revision: main}\n", "").replace("schema: 1", "pinned: false")
    with pytest.raises(CardError, match=r"bestiary\.pinned: nothing says what is meant"):
        parse_card(text, "cat-base.md")


def test_an_unpinned_file_in_a_card_that_does_not_say_so() -> None:
    with pytest.raises(CardError, match=r"bestiary\.files\.model\.safetensors\.size: missing"):
        parse_card(UNPINNED, "cat-base.md")


def test_scalars_mean_what_they_mean_in_json() -> None:
    front = "a: no\nb: 2024-01-01\nc: 010\nd: 1e-5\ne: -0\nf: 1_000\ng: .5\nh: 12:30:45\ni: '1'\nj: ~\nk:\nl: True\n1: 2"
    values, _ = frontmatter.load(f"---\n{front}\n---\n", "x")
    assert values == {
        "a": "no", "b": "2024-01-01", "c": "010", "d": 1e-5, "e": 0, "f": "1_000", "g": ".5", "h": "12:30:45", "i": "1",
        "j": None, "k": None, "l": "True", "1": 2,
    }
