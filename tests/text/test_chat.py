"""Chat templates: in either of the files that models have them in, whatever these are called."""

import json

import pytest

from bestiary.errors import InputError, LayoutError
from bestiary.text.chat import ChatTemplate

TEMPLATE = "{{ bos_token }}{% for message in messages %}[{{ message.role }}] {{ message.content }}{% endfor %}"
CONFIG = {"chat_template": TEMPLATE, "bos_token": {"content": "<s>"}}
SEVERAL = {**CONFIG, "chat_template": [{"name": "tools", "template": "no"}, {"name": "default", "template": TEMPLATE}]}


# Files of the store are named by their digest.
@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer_config.json", "9f86d081884c7d659a2feaa0c55ad015"])
@pytest.mark.parametrize("content", [TEMPLATE, json.dumps(CONFIG), json.dumps(SEVERAL)], ids=["template", "config", "several"])
def test_a_template_is_known_by_its_content(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert ChatTemplate.read(tmp_path / name, {"bos_token": "<s>"})("Hello") == "<s>[user] Hello"


@pytest.mark.parametrize("content", ["{}", "[]", '{"chat_template": [{"name": "tools", "template": ""}]}', "{% if %}"])
def test_what_holds_no_template_is_refused(tmp_path, content):
    (tmp_path / "file").write_text(content)
    with pytest.raises(LayoutError):
        ChatTemplate.read(tmp_path / "file", {})


def test_a_template_may_refuse_and_cannot_reach_out():
    with pytest.raises(InputError, match="no system here"):
        ChatTemplate("{{ raise_exception('no system here') }}", {})("Hello")
    with pytest.raises(InputError, match="unsafe"):
        ChatTemplate("{{ ''.__class__.__mro__[1].__subclasses__() }}", {})("Hello")
