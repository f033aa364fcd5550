"""Fault 47: malformed cards (YAML bombs, wrong types, cycles in `base`, huge files).

What must hold: CardError that names file and key, in at most three lines, at once. No test here looks at a clock; one that
tried to expand what it reads would need more memory than there is.
"""

from pathlib import Path

import pytest
import yaml

from bestiary.errors import CardError
from bestiary.hub import frontmatter
from bestiary.hub.card import read_card
from bestiary.hub.registry import Registry

DIGEST = "0123456789abcdef" * 4
GOOD = f"""---
license: mit
bestiary:
  name: cat
  task: text-embedding
  architecture: bert
  layout: transformers
  files: {{model.safetensors: {{size: 1, sha256: {DIGEST}, role: weights}}}}
  sources: [{{path: .}}]
  checked: weights
---
"""


def refused(folder: Path, content: str | bytes) -> list[str]:
    """The lines of the error that the card `cat` in `folder` with that content gives."""
    path = folder / "cat.md"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CardError) as caught:
        Registry([folder]).card("cat")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"{path}: ")
    assert len(lines) <= 3 and max(map(len, lines)) < 400
    return lines


def with_config(value: str) -> str:
    return GOOD.replace("  layout:", f"  config: {value}\n  layout:")


def test_the_card_that_the_others_differ_from_is_good(tmp_path: Path) -> None:
    (tmp_path / "cat.md").write_text(GOOD)
    assert Registry([tmp_path]).card("cat").size == 1


@pytest.mark.parametrize("bomb", ["[" * 100_000, "&a [*a, *a]", "!!python/name:os.system", "{a: 1, a: 2}", "{a: \"\\e\"}"])
def test_a_machine_without_libyaml_refuses_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bomb: str) -> None:
    lines = refused(tmp_path, with_config(bomb))
    monkeypatch.setattr(frontmatter, "_Loader", yaml.SafeLoader)
    assert refused(tmp_path, with_config(bomb)) == lines


def test_a_billion_laughs(tmp_path: Path) -> None:
    levels = [f"    l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 12)]
    bomb = with_config("\n    l0: &l0 [ha, ha, ha]\n" + "\n".join(levels))
    assert refused(tmp_path, bomb)[0].endswith("line 8: bestiary.config.l0: an anchor or an alias")


@pytest.mark.parametrize(
    ("config", "key", "problem"),
    [
        ("&a {again: *a}", "bestiary.config", "an anchor"),
        ("*nothing", "bestiary.config", "an anchor or an alias"),
        ("{<<: *base}", "bestiary.config.<<", "an anchor or an alias"),
        ("!!python/object/apply:os.system [true]", "bestiary.config", "a tag"),
        ("{a: !!binary aGk=}", "bestiary.config.a", "a tag"),
        ("{a: 1, b: 2, a: 3}", "bestiary.config", "'a' stands twice"),
        ("{[a]: 1}", "bestiary.config", "a key that is not one line"),
        ("{? {a: 1} : 1}", "bestiary.config", "a key that is not one line"),
        ('{"a\\nb": 1}', "bestiary.config", "a key that is not one line"),
        ('{a: "\\e[2J"}', "bestiary.config.a", "a control character"),
        ('{a: "\\0"}', "bestiary.config.a", "a control character"),
        ("{a: " + "9" * 100_000 + "}", "bestiary.config.a", "a number that is too large"),
        ("{a: 1e999}", "bestiary.config.a", "a number that is too large"),
        ("[" * 100_000, "bestiary.config.0.0", "nested too deep"),
        ("{a: " * 20_000, "bestiary.config.a.a", "nested too deep"),
        ("[1, 2]", "bestiary.config", "cannot be used"),
        ("text", "bestiary.config", "cannot be used"),
        ("", "bestiary.config", "None cannot be used"),
    ],
    ids=lambda part: part[:24],
)
def test_a_hostile_value(tmp_path: Path, config: str, key: str, problem: str) -> None:
    line = refused(tmp_path, with_config(config))[0]
    assert key in line and problem in line


@pytest.mark.parametrize(
    ("front", "problem"),
    [
        ("", "the front matter is empty"),
        ("# nothing\n", "the front matter is empty"),
        ("just text\n", "line 2: not a mapping"),
        ("- a\n- b\n", "line 2: not a mapping"),
        ("license: mit\n", "bestiary: missing"),
        ("license: mit\nbestiary: cat\n", "bestiary: 'cat' cannot be used"),
        ("license: mit\nbestiary:\n", "bestiary: None cannot be used"),
        ("a: [\n", "not valid YAML"),
        ("a: b: c\n", "line 2: not valid YAML"),
        ("\tlicense: mit\n", "not valid YAML"),
        ("%YAML 9.9\n", "not valid YAML"),
        ("a: 1\n...\nb: 2\n", "not valid YAML"),
        ("a: 'never closed\n", "not valid YAML"),
        ("a: \x01\n", "the front matter holds a control character"),
    ],
    ids=repr,
)
def test_front_matter_that_is_none(tmp_path: Path, front: str, problem: str) -> None:
    assert problem in refused(tmp_path, f"---\n{front}---\n")[0]


@pytest.mark.parametrize(
    "content",
    [b"", b"# Just Markdown\n", b"---\nlicense: mit\n", b"\n---\nlicense: mit\n---\n", b"----\na: 1\n----\n"],
    ids=repr,
)
def test_no_front_matter(tmp_path: Path, content: bytes) -> None:
    assert refused(tmp_path, content)[0].endswith("no front matter")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    assert "byte 4 is not UTF-8" in refused(tmp_path, b"---\n\xff\xfe\n---\n")[0]


def test_a_huge_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "cat.md"
    with path.open("wb") as file:
        file.truncate(1 << 40)   # sparse: a terabyte to read, nothing on the disk
    with pytest.raises(CardError, match=r"cat\.md: the card is too long\nexpected: at most 1048576 bytes"):
        Registry([tmp_path]).card("cat")


def test_a_huge_front_matter(tmp_path: Path) -> None:
    many = ", ".join(["1"] * (frontmatter.LARGEST_FRONT_MATTER // 3))
    assert "the front matter is too long" in refused(tmp_path, with_config(f"{{a: [{many}]}}"))[0]


def test_ten_thousand_labels_are_no_bomb(tmp_path: Path) -> None:
    labels = ", ".join(f"a label of some length {i}" for i in range(8_000))
    (tmp_path / "cat.md").write_text(GOOD.replace("  checked:", f"  labels: [{labels}]\n  checked:"))
    card = Registry([tmp_path]).card("cat")
    assert isinstance(card.labels, tuple) and len(card.labels) == 8_000


@pytest.mark.parametrize("length", [1, 2, 3])
def test_bases_in_a_circle(tmp_path: Path, length: int) -> None:
    names = ["cat", *(f"cat{i}" for i in range(1, length))]
    for name, base in zip(names, [*names[1:], names[0]], strict=True):
        card = GOOD.replace("name: cat", f"name: {name}\n  base: {base}")
        (tmp_path / f"{name}.md").write_text(card)
    with pytest.raises(CardError) as caught:
        Registry([tmp_path]).card("cat")
    what, then = str(caught.value).splitlines()
    way = " → ".join([*names, "cat"])
    assert what == f"{tmp_path / names[-1]}.md: bestiary.base: a circle: {way}"
    assert then.startswith("expected: ")


def test_a_circle_through_an_older_version(tmp_path: Path) -> None:
    (tmp_path / "cat.md").write_text(GOOD.replace("name: cat", "name: cat\n  version: 2\n  base: cat@1"))
    (tmp_path / "cat@1.md").write_text(GOOD.replace("name: cat", "name: cat\n  base: cat@2"))
    with pytest.raises(CardError, match=r"cat@1\.md: bestiary\.base: a circle: cat → cat@1 → cat\n"):
        Registry([tmp_path]).card("cat")


@pytest.mark.parametrize("base", ["../cat", "/etc/passwd", "''", "[cat]", "null"])
def test_a_base_that_is_no_name(tmp_path: Path, base: str) -> None:
    assert "bestiary.base: " in refused(tmp_path, GOOD.replace("name: cat", f"name: cat\n  base: {base}"))[0]


def test_a_malformed_base_is_named_itself(tmp_path: Path) -> None:
    (tmp_path / "base.md").write_text("not a card")
    (tmp_path / "cat.md").write_text(GOOD.replace("name: cat", "name: cat\n  base: base"))
    with pytest.raises(CardError, match=r"base\.md: no front matter"):
        Registry([tmp_path]).card("cat")


def test_a_card_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"cat\.md: the card cannot be read: No such file"):
        read_card(tmp_path / "cat.md")
    with pytest.raises(CardError, match="the card cannot be read: Is a directory"):
        read_card(tmp_path)
