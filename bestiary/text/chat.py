"""From the messages of a conversation to the prompt that a model was trained on, by the model's own template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from bestiary.errors import InputError, LayoutError

Messages = str | Sequence[Mapping[str, Any]]  # what the user says, or messages {"role": …, "content": …}


class ChatTemplate:
    """A Jinja template, run in a sandbox, as it may come from anywhere.

    `special` are the texts of special tokens that templates ask for, such as `bos_token`.
    """

    def __init__(self, source: str, special: Mapping[str, str]):
        from jinja2 import TemplateError
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _to_json
        environment.globals.update(raise_exception=_refuse, strftime_now=lambda form: datetime.now().strftime(form))
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise LayoutError(f"the chat template is not valid Jinja: {error}\nfetch it again") from error
        self._special = special

    @classmethod
    def read(cls, path: Path, special: Mapping[str, str]) -> ChatTemplate:
        """The template in a chat_template.jinja, or in a tokenizer_config.json with the special tokens that it names."""
        text = path.read_text("utf-8")
        try:
            config = json.loads(text)
        except (ValueError, RecursionError):  # not JSON; the name tells nothing, as files of the store are named by their digest
            return cls(text, special)
        try:
            source = config["chat_template"]
            if isinstance(source, list):  # several, by name
                source = next(entry["template"] for entry in source if entry["name"] == "default")
            named = {key: config[key] for key in ("bos_token", "eos_token", "unk_token", "pad_token") if config.get(key)}
        except (ValueError, KeyError, TypeError, StopIteration) as error:
            raise LayoutError(f"{path.name} holds no chat template\nfetch it again, or name another file in the card") from error
        texts = {key: token["content"] if isinstance(token, dict) else token for key, token in named.items()}
        return cls(source, {**special, **texts})

    def __call__(self, messages: Messages) -> str:
        """The prompt that asks for the next message of the assistant. Raises InputError for what are not messages."""
        return self._rendered(messages, asking=True)

    def answer(self, messages: Messages) -> str:
        """The last of the messages as the template has it behind the prompt that the others make: what training asks for."""
        prompt, whole = self(messages[:-1]) if len(messages) > 1 else "", self._rendered(messages, asking=False)
        if not whole.startswith(prompt):
            raise InputError("the chat template changes a prompt once it is answered\nno model can learn from that: take another")
        return whole[len(prompt) :]

    def _rendered(self, messages: Messages, asking: bool) -> str:
        messages = _checked(messages)
        try:
            return self._template.render(messages=messages, add_generation_prompt=asking, **self._special)
        except Exception as error:  # a template is a stranger's program, and fails in any way there is
            raise InputError(f"the chat template refuses these messages: {str(error)[:200]}") from error


def _checked(messages: Messages) -> list[dict[str, Any]]:
    if isinstance(messages, str):
        return [{"role": "user", "content": messages}]
    if not isinstance(messages, Sequence) or not messages:
        raise InputError('a conversation is a text, or a list of messages such as {"role": "user", "content": "Hello"}')
    checked: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise InputError(f"message {index} lacks a role or a content that is text\n"
                             'give messages such as {"role": "user", "content": "Hello"}')  # fmt: skip
        checked.append(dict(message))
    return checked


def _to_json(value: Any, indent: int | None = None, ensure_ascii: bool = False, **_: Any) -> str:
    """As templates expect it: without the escapes for HTML that Jinja's own adds."""
    return json.dumps(value, indent=indent, ensure_ascii=ensure_ascii)


def _refuse(message: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(message)
