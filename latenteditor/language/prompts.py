"""One prompt into instructions for one thing each, every one of which gets its own scores, region and edit.

The rules of ``rules.py`` split it, or a language model: its answer is checked, and the rules take over where it will
not do.
"""

import json
import logging
import math
import os
import re
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from latenteditor.language.rules import keep_whole, require_words, split_prompt
from latenteditor.language.words import WORDS_WITHOUT_CONTENT

LOGGER = logging.getLogger(__name__)

MAX_INSTRUCTIONS = 8
"""Most instructions that are edited by one prompt, and that a language model's answer may hold; our choice."""
MAX_ANSWER_BYTES = 1_000_000
"""Longest answer of an endpoint that is read; our choice."""

REQUEST = """\
Split an instruction for editing a picture into instructions that each change one thing. Use only words of the \
instruction and leave none out. Repeat a shared verb. Write the noun in place of a pronoun that stands for it. Keep \
several attributes of one thing together. Where there is nothing to split, repeat the instruction. Answer with JSON \
and nothing else.

Instruction: make his hair red and give him a blue jacket
{"instructions": ["make his hair red", "give him a blue jacket"]}

Instruction: paint the sphere and the cube red
{"instructions": ["paint the sphere red", "paint the cube red"]}

Instruction: turn the bear into a panda with a red scarf and a hat
{"instructions": ["turn the bear into a panda with a red scarf and a hat"]}

Instruction: """
"""What a language model is asked; the prompt follows."""


@runtime_checkable
class PromptSplitter(Protocol):
    """Whatever can split a prompt."""

    def __call__(self, prompt: str) -> list[str]:
        """The instructions in the order they apply; the prompt alone where there is nothing to split."""
        ...


@dataclass
class PromptSplitConfig:
    """How a prompt that asks for several things is split into instructions."""

    splitter: Literal["rules", "model", "endpoint", "none"] = "rules"
    """What splits a prompt: the built-in rules for English; a language model on this machine; an OpenAI-compatible
    endpoint; or nothing, so that the whole prompt is one instruction. The rules need nothing and leave what they do
    not understand whole; a language model also reads other wordings and languages, and the rules stand in where its
    answer is of no use."""
    model: str | None = None
    """The language model on this machine, for "model": the hub id or folder of any instruct model that transformers
    loads as a causal language model, or the path of a GGUF file. A small one, of about 1B parameters, is enough."""
    gguf_file: str | None = None
    """The GGUF file's name within the hub id or folder, where the model is kept as one. Needs the package gguf."""
    endpoint: str | None = None
    """The address of the server, for "endpoint", up to what comes before /chat/completions, such as
    http://localhost:8000/v1. The prompt is sent there."""
    endpoint_model: str | None = None
    """The model that the server is asked for, by the server's name for it. Servers that hold a single model may do
    without."""
    endpoint_key_variable: str | None = None
    """The name of the environment variable that holds the server's key, such as OPENAI_API_KEY; never the key
    itself, since settings are saved with the run. None sends no key."""
    timeout_seconds: float = 20.0
    """Longest wait for an answer of the model or the server; after it the rules split the prompt."""


class CheckedSplitter:
    """Asks a language model to split, and splits by the rules where its answer will not do."""

    def __init__(self, complete: Callable[[str], str], name: str) -> None:
        """`complete` returns the language model's answer to a request; `name` stands for it in a warning."""
        self.complete = complete
        self.name = name

    def __call__(self, prompt: str) -> list[str]:
        """The language model's instructions, or a warning and those of the rules.

        Raises:
            ValueError: The prompt is empty.
        """
        prompt = require_words(prompt).strip()
        try:
            return read_answer(self.complete(f"{REQUEST}{prompt}\n"), prompt)
        # Whatever goes wrong in somebody else's network or server, the prompt can still be split.
        except Exception as error:
            LOGGER.warning("%s did not split the prompt (%s): the rules split it.", self.name, first_line(error))
            return split_prompt(prompt)


def load_splitter(
    config: PromptSplitConfig, load_language_model: Callable[[PromptSplitConfig], Callable[[str], str]]
) -> PromptSplitter:
    """What splits prompts as the config says; `load_language_model` is called for a model on this machine.

    Raises:
        ValueError: A setting is missing or wrong, or there is no such language model.
    """
    if config.splitter == "rules":
        return split_prompt
    if config.splitter == "none":
        return keep_whole
    if not (config.timeout_seconds > 0 and math.isfinite(config.timeout_seconds)):
        raise ValueError(f"A splitter's time-out is a number of seconds above 0, not {config.timeout_seconds}.")
    if config.splitter == "model":
        return CheckedSplitter(load_language_model(config), f"The language model '{config.model}'")
    if config.splitter == "endpoint":
        return CheckedSplitter(_endpoint(config), f"The endpoint {config.endpoint}")
    raise ValueError(f"Unknown splitter {config.splitter!r}: one of rules, model, endpoint, none fits.")


def read_answer(answer: str, prompt: str) -> list[str]:
    """The instructions in a language model's answer, `{"instructions": ["...", ...]}`.

    Raises:
        ValueError: The answer has another form, says what the prompt does not, or leaves out what it says.
    """
    instructions = _find_instructions(answer)
    if not isinstance(instructions, list) or not all(isinstance(text, str) and text.strip() for text in instructions):
        raise ValueError("its instructions are no list of texts")
    if not 1 <= len(instructions) <= MAX_INSTRUCTIONS:
        raise ValueError(f"it gave {len(instructions)} instructions, not 1 to {MAX_INSTRUCTIONS}")
    if any(";" in text for text in instructions):
        raise ValueError("it left a semicolon, which always splits")
    asked, answered = _content(prompt), set().union(*map(_content, instructions))
    if answered - asked:
        raise ValueError(f"it made up {', '.join(sorted(answered - asked))}")
    if asked - answered:
        raise ValueError(f"it left out {', '.join(sorted(asked - answered))}")
    return [" ".join(text.split()) for text in instructions]


def _find_instructions(answer: str) -> Any:
    """The value of "instructions" in the first JSON object that has it; models like to talk around it."""
    for brace in re.finditer("{", answer):
        try:
            value, _ = json.JSONDecoder().raw_decode(answer, brace.start())
        except json.JSONDecodeError:
            continue
        if "instructions" in value:
            return value["instructions"]
    raise ValueError("its answer holds no JSON object with instructions")


def _content(text: str) -> set[str]:
    """The words of a text that carry meaning, in small letters and without a plural's or an owner's s."""
    text = re.sub(r"'s\b", "", text.lower().replace("’", "'"))
    words = re.findall(r"[^\W_]+(?:'[^\W_]+)*", text)
    return {word.removesuffix("s") for word in words if word not in WORDS_WITHOUT_CONTENT}


def require_no_key(config: PromptSplitConfig) -> None:
    """Refuses settings that hold a server's key, since they are printed and saved; the error does not repeat it.

    Raises:
        ValueError: No environment variable has the name that stands for the key, or the address holds more than a
            server and a path.
    """
    variable = config.endpoint_key_variable
    if variable is not None and variable not in os.environ:
        raise ValueError(
            "The option endpoint_key_variable takes the name of an environment variable that is set, such as "
            "OPENAI_API_KEY, and what it holds names none (it is not repeated here, as it may be the key itself): set "
            "the variable and pass its name."
        )
    if re.search("[@?#]", config.endpoint or ""):
        raise ValueError(
            "The endpoint's address holds a user name, a password or a query (it is not repeated here, as a key may be "
            "in it): pass server and path alone, such as http://localhost:8000/v1, and the key by an environment "
            "variable."
        )


def _endpoint(config: PromptSplitConfig) -> Callable[[str], str]:
    """An OpenAI-compatible server as a function from a request to its answer."""
    require_no_key(config)
    if not re.match(r"https?://[^/\s]", config.endpoint or ""):
        raise ValueError(
            f"The splitter 'endpoint' needs an address that starts with http:// or https://, such as "
            f"http://localhost:8000/v1, not {config.endpoint!r}."
        )
    address = f"{(config.endpoint or '').rstrip('/')}/chat/completions"
    key = _endpoint_key(config.endpoint_key_variable)

    def complete(request: str) -> str:
        body: dict[str, Any] = {"messages": [{"role": "user", "content": request}], "temperature": 0}
        if config.endpoint_model:
            body["model"] = config.endpoint_model
        post = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
        if key:
            # A redirection to another server must not take the key along.
            post.add_unredirected_header("Authorization", f"Bearer {key}")
        deadline = time.monotonic() + config.timeout_seconds
        with urllib.request.urlopen(post, timeout=config.timeout_seconds) as response:
            answer = json.loads(_read_until(response, deadline))
        try:
            return str(answer["choices"][0]["message"]["content"])
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError("its answer is no chat completion") from error

    return complete


def _endpoint_key(variable: str | None) -> str | None:
    """The key in an environment variable."""
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise ValueError(
            f"The environment variable {variable!r} holds no key: set it to one, or name another in "
            "endpoint_key_variable."
        )
    return key


def _read_until(response: Any, deadline: float) -> bytes:
    """A server's answer; the socket's own time-out would start anew with every byte."""
    received = b""
    while chunk := response.read1(65536):
        received += chunk
        if time.monotonic() > deadline:
            raise TimeoutError("timed out")
        if len(received) > MAX_ANSWER_BYTES:
            raise ValueError("its answer does not end")
    return received


def first_line(error: Exception) -> str:
    """What went wrong, short enough for a warning."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
