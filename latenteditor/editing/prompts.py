"""One prompt into instructions for one thing each, every one of which gets its own scores, region and edit.

The rules read English requests and split where the grammar leaves one reading:

* several requests: "make his hair red and give him a blue jacket";
* a shared verb, "make the cone red and the cube blue", or a shared recipient, "give him glasses and a hat";
* a shared attribute: "paint the sphere and the cube red" is two instructions, since each has its own region;
* a pronoun is replaced by its noun, "make her hair red; make it curly", or stays in one instruction with it where
  the noun is not clear or not in the photographs yet: "add a hat and make it red".

Several attributes of one thing stay together ("shiny and red"), and so does whatever the rules do not understand.
Semicolons, new lines and quotes always split, except quotes around words that the picture shows. A language model
may be asked instead; its answer is checked, and the rules take over where it will not do.
"""

import json
import logging
import math
import os
import re
import time
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

LOGGER = logging.getLogger(__name__)

MAX_INSTRUCTIONS = 8
"""Most instructions that a language model's answer may hold; our choice."""
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


def split_prompt(prompt: str) -> list[str]:
    """Splits an English prompt by the rules; what they do not understand stays whole.

    Raises:
        ValueError: The prompt is empty.
    """
    groups: list[list[_Instruction]] = []
    for piece in _pieces(_require_prompt(prompt)):
        if piece.verbatim:
            groups.append([_as_written(piece.text)])
        else:
            groups += _split_piece(piece.text, groups)
    texts = [instruction.written or _text(instruction.words) for group in groups for instruction in group]
    return texts or keep_whole(prompt)


def keep_whole(prompt: str) -> list[str]:
    """The prompt as one instruction.

    Raises:
        ValueError: The prompt is empty.
    """
    return [_require_prompt(prompt).strip()]


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
        prompt = _require_prompt(prompt).strip()
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
    return {word.removesuffix("s") for word in words if word not in _WORDS_WITHOUT_CONTENT}


def _endpoint(config: PromptSplitConfig) -> Callable[[str], str]:
    """An OpenAI-compatible server as a function from a request to its answer."""
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
            f"The environment variable {variable!r} holds no key: set it, or name another in endpoint_key_variable."
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


def _require_prompt(prompt: str) -> str:
    """Refuses a prompt without a word in it."""
    if not re.search(r"\w", prompt):
        raise ValueError('There is nothing to edit by: give a prompt, for example "make the sphere red".')
    return prompt


# What follows are the rules: first their vocabulary, then the grammar.


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DEFINITE = _words("the this that these those all every his her its their my our your everything everyone")
"""What opens the name of something that is there already."""
_INDEFINITE = _words("a an some two three four five six seven eight nine ten several many")
"""What opens the name of something new."""
_PRONOUNS = _words("it him her them me us this that these those everything everyone")
"""What may stand for a whole object."""
_LINKS = _words(
    "in on at with of from to into by for under over behind near beside around above below inside outside through "
    "across along against like as than that which who whose wearing holding using made next towards toward onto upon "
    "off out away up down"
)
"""What ties a phrase to the word before it; the phrase may reach beyond an "and"."""
_SEPARATORS = _words(", . ! ? & and then also finally afterwards")
_COURTESY = _words("please now first can could would you")
"""What may open a request and says nothing."""
_BINDING = _words(
    "or nor but both each either neither no not don't don’t never avoid without except unless if until while when "
    "where because so keep keeping leave leaving only instead respectively together between same other others another "
    "one ones rest remaining half former latter second third fourth last"
)
"""What ties the parts of a prompt to each other: none of them says the same alone."""
_FIXED = frozenset(
    tuple(phrase.split())
    for phrase in (
        "black and white",
        "salt and pepper",
        "day and night",
        "rock and roll",
        "yin and yang",
        "hat and tails",
        "bow and arrow",
        "bows and arrows",
        "skull and crossbones",
        "stars and stripes",
        "hammer and sickle",
        "cloak and dagger",
        "dungeons and dragons",
        "fish and chips",
        "arts and crafts",
        "make up",
    )
)
"""Several words that count as one."""

_ATTRIBUTES = _words(
    "red orange yellow green cyan blue purple pink white black grey gray brown violet magenta turquoise teal beige "
    "golden crimson scarlet maroon navy indigo lilac mauve khaki tan blond blonde brunette auburn multicolored "
    "multicoloured colorful colourful transparent translucent invisible wooden metallic furry fluffy icy frozen shiny "
    "glossy matte matt dull rough smooth polished rusty dirty clean wet dry old young new ancient modern bald bearded "
    "curly straight wavy long short big large small tiny huge tall thin thick fat slim wide narrow bigger larger "
    "smaller older younger newer darker lighter brighter longer shorter taller thinner thicker wider redder greener "
    "bluer round striped spotted dotted checkered checked plaid patterned sad happy angry scared muscular strong "
    "smiling laughing crying snowy sunny cloudy foggy rainy stormy misty empty full open closed broken bright dark "
    "pale hairy slimy sparkly glittery glowing burning melted melting pointy spooky"
) | {"salt and pepper"}
"""What something can be made, and no noun."""
_NOUN_OR_ATTRIBUTE = _words(
    "gold silver bronze copper glass stone marble brick wood metal plastic leather rubber velvet silk wool concrete "
    "crystal steel iron paper ceramic porcelain chrome clay ice rainbow light square cream peach coral salmon olive "
    "lavender ginger amber ruby emerald sapphire ivory smile laugh cry frown grin wink glow shine sparkle melt burn "
    "bloom jump run walk dance sit stand fly sleep float wave"
)
"""What something can be made, or else the last word of its name: "the cube glass", "the wine glass"."""
_SHADES = _words("snow sky baby lime navy forest royal blood jet coal lemon olive mint rose")
_DEGREES = _SHADES | _words("very more less slightly completely fully entirely dark light bright deep pale hot neon")
"""What may stand before an attribute and belongs to it; a shade right after "the" is a noun all the same."""
_SIDES = _words("left right upper lower middle inner outer front back top bottom")
"""What tells things of one kind from each other."""
_MASS_NOUNS = _words(
    "hair fur makeup make-up armour armor clothing jewelry jewellery snow rain fog mist smoke fire grass moss ivy "
    "water lightning sunlight stubble lipstick eyeliner mascara graffiti"
) | {"make up"}
"""What is new without "a" and is no plural."""

_CHANGES: dict[str, frozenset[str]] = {
    **dict.fromkeys(("make", "let", "have"), _words("a an look appear become wear hold out into")),
    **dict.fromkeys(("turn", "transform", "convert", "morph"), _words("into to")),
    "change": _words("into to from"),
    **dict.fromkeys(("paint", "colour", "color", "recolour", "recolor", "dye", "tint"), _words("in with as like")),
    **dict.fromkeys(("replace", "swap", "exchange"), _words("with by for")),
    **dict.fromkeys(("cover", "fill", "wrap", "surround", "decorate"), _words("with in")),
    "dress": _words("in as like"),
    "render": _words("in as like"),
    "take": _words("away off out from"),
}
"""Verbs that change an object, and the words that open what becomes of it."""
_REPLACING = _words("replace swap exchange")
_GIVING = _words("give lend")
_PLACING: dict[str, frozenset[str]] = {
    **dict.fromkeys(("put", "place"), _words("on in")),
    "add": _words("to"),
    "insert": _words("into"),
    **dict.fromkeys(("draw", "write", "sprinkle"), frozenset()),
}
"""Verbs that bring something new, and the words for its place that the verb, not the noun, asks for."""
_REMOVING = _words("remove delete erase")
_TREATING = _words("brighten darken enlarge shrink shave hide")
"""Verbs that say by themselves what becomes of their object."""
_VERBS = frozenset({*_CHANGES, *_GIVING, *_PLACING, *_REMOVING, *_TREATING})

_MEN = _words("man boy guy king prince father dad grandfather gentleman groom husband brother son actor")
_WOMEN = _words("woman girl lady queen princess mother mom mum grandmother bride wife sister daughter actress")
_ANYBODY = _words("person child kid baby teacher doctor soldier")
_PEOPLE = {"him": _MEN | _ANYBODY, "his": _MEN | _ANYBODY, "her": _WOMEN | _ANYBODY}
"""Nouns that a pronoun may stand for."""
_WEATHER = _words(
    "night day winter summer spring autumn fall sunset sunrise dusk dawn evening morning midnight noon daytime "
    "nighttime snow snowy snowing rain rainy raining sunny cloudy foggy stormy christmas halloween"
)
"""What "it" is when it stands for nothing: "make it winter"."""
_PICTURE = _words(
    "painting drawing sketch photo photograph picture cartoon watercolor watercolour style film movie look"
)
"""Where "it" may be the whole picture as well as a thing in it."""

_WORDS_WITHOUT_CONTENT = frozenset().union(
    _DEFINITE, _INDEFINITE, _PRONOUNS, _LINKS, _SEPARATORS, _COURTESY, _VERBS, _words("look wear hold become is are be")
)
"""What a language model may add to a prompt's words or leave out."""

_OPENING = "|".join(sorted(_COURTESY | {"then", "also"}))
_SENTENCE_END = rf"[.!?]+(?=\s*$|\s+(?:(?:{_OPENING})\s+)*(?:{'|'.join(sorted(_VERBS))})\b)"
_TOKEN = re.compile(
    rf'"[^"]*"|“[^”]*”|,(?!\d)|{_SENTENCE_END}|(?:(?!,(?!\d)|{_SENTENCE_END})[^\s"“])+|["“]', re.IGNORECASE
)
_QUOTED = re.compile(r'"([^"]+)"|“([^”]+)”' + r"|(?<!\w)'((?:[^']|(?<=\w)'(?=\w))+)'(?!\w)")
_CONNECTOR = r"(?:[,;.&]|\band\b|\bthen\b|\balso\b)"


class _Piece(NamedTuple):
    text: str
    verbatim: bool
    """It was quoted, and is one instruction as it is."""


class _Segment(NamedTuple):
    separator: tuple[str, ...]
    """What stands before the words: a comma, "and"."""
    words: tuple[str, ...]


class _Clause(NamedTuple):
    separator: tuple[str, ...]
    verb: str
    segments: tuple[_Segment, ...]
    """What the verb's coordinated objects, or the coordinated parts of one, may be."""


class _Instruction(NamedTuple):
    words: tuple[str, ...]
    target: tuple[str, ...] = ()
    """What is there already and changes."""
    new: tuple[str, ...] = ()
    """What the instruction brings."""
    written: str = ""
    """The instruction as it was written, where it is a whole text between semicolons."""


def _pieces(prompt: str) -> list[_Piece]:
    """Splits at quotes, semicolons and new lines; quotes that stand inside a request are words of it."""
    quotes = list(_QUOTED.finditer(prompt))
    edges = [0, *(edge for quote in quotes for edge in quote.span()), len(prompt)]
    outside = [prompt[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True)]
    if not quotes or not _connects(outside):
        quotes, outside = [], [prompt]
    pieces = _pieces_at_semicolons(outside[0])
    for quote, text in zip(quotes, outside[1:], strict=True):
        pieces += [_Piece(next(filter(None, quote.groups())).strip(), True), *_pieces_at_semicolons(text)]
    return [piece for piece in pieces if re.search(r"\w", piece.text)]


def _connects(outside: list[str]) -> bool:
    """Whether all that touches a quote is a comma, "and" or the like."""
    for index, text in enumerate(outside):
        if re.fullmatch(rf"(?:\s|{_CONNECTOR})*", text, re.IGNORECASE):
            continue
        opens = index == 0 or re.match(rf"\s*{_CONNECTOR}", text, re.IGNORECASE)
        closes = index == len(outside) - 1 or re.search(rf"{_CONNECTOR}\s*$", text, re.IGNORECASE)
        if not (opens and closes):
            return False
    return True


def _pieces_at_semicolons(text: str) -> list[_Piece]:
    """Splits at semicolons and new lines that are not quoted, and drops what connects the pieces."""
    parts = re.findall(r'(?:"[^"]*"|“[^”]*”|[^;\n])+', text)
    ends = rf"^(?:\s|{_CONNECTOR})+|(?:\s|[,&]|\band\b|\bthen\b)+$"
    return [_Piece(re.sub(ends, "", part, flags=re.IGNORECASE), False) for part in parts]


def _split_piece(text: str, before: list[list[_Instruction]]) -> list[list[_Instruction]]:
    """The instructions of each request in a text without semicolons; the text alone where it is not understood."""
    tokens = _tokens(text)
    clauses = _clauses(tokens)
    reworded = not clauses
    clauses = clauses or _continued(tokens, before)
    groups: list[list[_Instruction]] = []
    for clause in clauses if not _any(tokens, _BINDING) else ():
        instructions = _parse(clause)
        if instructions is None:
            return [[_as_written(text)]]
        named = _name_pronouns(instructions, [*before, *groups], forced=not groups)
        if named is not None:
            groups.append(named)
            reworded |= named != instructions
        elif groups and len(groups[-1]) == 1:
            groups[-1] = [_join(groups[-1][0], clause)]
        else:
            return [[_as_written(text)]]
    if not groups:
        return [[_as_written(text)]]
    if len(groups) == 1 and len(groups[0]) == 1 and not reworded:
        return [[groups[0][0]._replace(written=text)]]
    return groups


def _as_written(text: str) -> _Instruction:
    """A text that stays whole."""
    return _Instruction((text,), written=text)


def _tokens(text: str) -> list[str]:
    """Words and separators; fixed phrases and quoted words count as one."""
    tokens = _TOKEN.findall(text)
    found = []
    while tokens:
        length = next((n for n in (3, 2) if tuple(map(str.lower, tokens[:n])) in _FIXED), 1)
        found.append(" ".join(tokens[:length]))
        tokens = tokens[length:]
    return found


def _text(words: Iterable[str]) -> str:
    """Words as a sentence."""
    return re.sub(r" (?=[,.!?])", "", " ".join(words))


def _segments(tokens: Sequence[str]) -> list[_Segment]:
    """Cuts at commas and conjunctions."""
    segments: list[_Segment] = []
    separator: list[str] = []
    words: list[str] = []
    for token in tokens:
        divides = _is(token, _SEPARATORS) or re.fullmatch(r"[.!?]+", token)
        if divides and words:
            segments.append(_Segment(tuple(separator), tuple(words)))
            separator, words = [], []
        if divides or (not words and _is(token, _COURTESY)):
            separator.append(token)
        else:
            words.append(token)
    return [*segments, _Segment(tuple(separator), tuple(words))] if words else segments


def _clauses(tokens: Sequence[str]) -> list[_Clause]:
    """The requests, each of which opens with a verb; none where the first words are no request."""
    clauses: list[_Clause] = []
    for segment in _segments(tokens):
        verb, *rest = segment.words
        if _is(verb, _VERBS) and rest:
            clauses.append(_Clause(segment.separator, verb, (_Segment((), tuple(rest)),)))
        elif clauses:
            clauses[-1] = clauses[-1]._replace(segments=(*clauses[-1].segments, segment))
        else:
            return []
    return clauses


def _continued(tokens: list[str], before: list[list[_Instruction]]) -> list[_Clause]:
    """A request without a verb of its own as one with the last request's: "make the cone red; the cube blue"."""
    verb = before[-1][-1].words[0] if before else ""
    clauses = _clauses([verb, *tokens]) if _is(verb, _VERBS) else []
    return clauses if len(clauses) == 1 and _parse(clauses[0]) else []


def _join(instruction: _Instruction, clause: _Clause) -> _Instruction:
    """One instruction with a request whose pronoun needs it."""
    rest = (word for segment in clause.segments for word in (*segment.separator, *segment.words))
    return instruction._replace(words=(*instruction.words, *clause.separator, clause.verb, *rest))


def _parse(clause: _Clause) -> list[_Instruction] | None:
    """The instructions of one request, or None where it is not understood."""
    verb = clause.verb.lower()
    if verb in _CHANGES:
        return _parse_change(clause)
    if verb in _GIVING:
        return _parse_giving(clause)
    return _parse_placing(clause) if verb in _PLACING else _parse_treating(clause)


def _parse_change(clause: _Clause) -> list[_Instruction] | None:
    """Reads "make the cone red and the cube blue"; "paint the sphere and the cube red"."""
    openers = _CHANGES[clause.verb.lower()]
    objects = _attach_attributes(clause.segments, openers)
    instructions: list[_Instruction] = []
    waiting: list[tuple[str, ...]] = []
    kinds = set()
    for words in objects:
        at = _complement_at(words, openers)
        if at is None:
            waiting.append(words)
            continue
        target, complement = words[:at], words[at:]
        kind = _kind(complement, openers)
        kinds.add(kind)
        if waiting and not (kind != "noun" and _can_be_shared(complement) and all(map(_is_short, waiting))):
            return None
        new = complement[1:] if _is(clause.verb, _REPLACING) else ()
        for shared in (*waiting, target):
            instructions.append(_Instruction((clause.verb, *shared, *complement), shared, new))
        waiting = []
    # Where an object ends is only certain if an ambiguous word ends every one of them.
    certain = len(kinds) == 1 or all(kind == "" for kind in kinds)
    targets = [instruction.target for instruction in instructions]
    bare = [not _is_determined(target) for target in targets]
    if waiting or not certain or (any(bare) and not (all(bare) and all(len(target) == 1 for target in targets))):
        return None
    return instructions


def _attach_attributes(segments: Sequence[_Segment], openers: frozenset[str]) -> list[tuple[str, ...]]:
    """The objects; an attribute alone belongs to the object before it: "the cube red", "and shiny"."""
    objects: list[tuple[str, ...]] = []
    for segment in segments:
        attribute = all(_is(word, _ATTRIBUTES | _NOUN_OR_ATTRIBUTE | _DEGREES) for word in segment.words)
        if attribute and objects and _complement_at(objects[-1], openers) is not None:
            objects[-1] = (*objects[-1], *segment.separator, *segment.words)
        else:
            objects.append(segment.words)
    return objects


def _complement_at(words: Sequence[str], openers: frozenset[str]) -> int | None:
    """Where the words stop to name an object and begin to say what becomes of it."""
    if _is(words[0], frozenset({"it"})) and _any(words[1:2], _WEATHER):
        return 1
    for index in range(1, len(words)):
        word, before = words[index], words[index - 1]
        article = _is(word, _INDEFINITE)
        follows = index + 1 < len(words) or _is(word, _words("away off"))
        if _is(word, openers) and follows and not (article and _is(before, _LINKS)):
            return index
        names = _is(before, _PRONOUNS) or not _is(before, _DEFINITE | _INDEFINITE | _LINKS | _ATTRIBUTES | _DEGREES)
        if index == 2 and _is_determined(words):
            names = (names or _is(before, _SHADES)) and not _is(before, _words("left right"))
        if names and _is(word, _ATTRIBUTES | _NOUN_OR_ATTRIBUTE | _DEGREES) and _is_attribute(words[index:]):
            return index
    return None


def _kind(complement: Sequence[str], openers: frozenset[str]) -> str:
    """Empty where a complement is surely one; else what it and its neighbours have to have in common."""
    if _is(complement[0], openers):
        last = "attribute" if _is(complement[-1], _ATTRIBUTES | _NOUN_OR_ATTRIBUTE) else "noun"
        return f"{complement[0].lower()} {last}" if _is(complement[0], _LINKS - {"into"}) else ""
    return "noun" if _is(complement[0], _NOUN_OR_ATTRIBUTE - _DEGREES) else ""


def _is_attribute(words: Sequence[str]) -> bool:
    """Whether words say how something is, and may add a phrase: "dark red", "to red", "red with white dots"."""
    rest = list(words[1:] if _is(words[0], _words("to look")) else words)
    found = False
    while rest and _is(rest[0], _ATTRIBUTES | _NOUN_OR_ATTRIBUTE | _DEGREES | _SEPARATORS):
        found |= _is(rest.pop(0), _ATTRIBUTES | _NOUN_OR_ATTRIBUTE)
    return found and (not rest or _is(rest[0], _LINKS))


def _can_be_shared(complement: Sequence[str]) -> bool:
    """Whether each of several objects becomes the same: not "red and blue", one of which may be meant for each."""
    return _is_attribute(complement) and not _any(complement, _SEPARATORS)


def _is_short(words: Sequence[str]) -> bool:
    """Whether words are an object of one noun: two may be a noun and a verb, "the dog bark"."""
    return _is_object(words) and all(_is(word, _ATTRIBUTES | _NOUN_OR_ATTRIBUTE | _SIDES) for word in words[1:-1])


def _parse_giving(clause: _Clause) -> list[_Instruction] | None:
    """Reads "give him glasses and a hat"; "give the man a hat and the woman a scarf"."""
    instructions: list[_Instruction] = []
    recipient: tuple[str, ...] = ()
    for segment in clause.segments:
        at = _recipient_length(segment.words)
        given, thing = segment.words[:at], segment.words[at:]
        understood = _is_thing(thing) or (len(clause.segments) == 1 and bool(given) and bool(thing))
        # "a hat with a feather and a scarf": the scarf may be on the hat.
        if not given and instructions and _any(instructions[-1].new, _LINKS):
            return None
        recipient = given or recipient
        if not recipient or not understood:
            return None
        instructions.append(_Instruction((clause.verb, *recipient, *thing), recipient, thing))
    return instructions


def _recipient_length(words: Sequence[str]) -> int:
    """How many words name who is given something."""
    first = words[0].lower()
    if first in _PRONOUNS and first != "her":
        return 1
    if not _is_determined(words) or first in _INDEFINITE:
        return 0
    article = next((index for index, word in enumerate(words) if _is(word, _INDEFINITE)), None)
    if article is not None:
        return article if first == "her" or _is_object(words[:article]) else 0
    if first == "her" and _is_thing(words[1:]):
        return 1
    start = len(words) - 1
    while start > 0 and _is(words[start - 1], _ATTRIBUTES | _DEGREES):
        start -= 1
    return start if _is_object(words[:start]) and _is_thing(words[start:]) else 0


def _parse_placing(clause: _Clause) -> list[_Instruction] | None:
    """Reads "add a boat and a bird"; "put a hat and a scarf on him"."""
    things = [segment.words for segment in clause.segments]
    heads = [_head(words) for words in things]
    if len(things) == 1:
        understood = bool(heads[0]) and (heads[0] != things[0] or not _is(heads[0][0], _PRONOUNS))
        return [_Instruction((clause.verb, *things[0]), (), heads[0])] if understood else None
    if not all(_is_thing(head) or _is_object(head) for head in heads):
        return None
    places = [words[len(head) :] for words, head in zip(things, heads, strict=True)]
    links = [sum(_is(word, _LINKS) for word in place) for place in places]
    if len(set(links)) > 1:
        if links != [*([0] * (len(links) - 1)), 1] or not _is(places[-1][0], _PLACING[clause.verb.lower()]):
            return None
        things = [(*head, *places[-1]) for head in heads]
    return [_Instruction((clause.verb, *words), (), head) for words, head in zip(things, heads, strict=True)]


def _parse_treating(clause: _Clause) -> list[_Instruction] | None:
    """Reads "remove the cone and the cube"."""
    objects = [segment.words for segment in clause.segments]
    named = all(map(_is_object, objects))
    unnamed = all(_is_thing(words) and not _is_determined(words) for words in objects)
    if len(objects) == 1:
        named = not _is(objects[0][0], _LINKS)
    if not named and not unnamed:
        return None
    removing = clause.verb.lower() in _REMOVING
    return [_Instruction((clause.verb, *words), () if removing else words) for words in objects]


def _is(word: str, vocabulary: frozenset[str]) -> bool:
    """Whether a word, or each word of a fixed phrase, is in a vocabulary."""
    lowered = word.lower()
    parts = [part for part in lowered.split() if part != "and"]
    return lowered in vocabulary or (len(parts) > 1 and all(part in vocabulary for part in parts))


def _any(words: Iterable[str], vocabulary: frozenset[str]) -> bool:
    return any(_is(word, vocabulary) for word in words)


def _is_determined(words: Sequence[str]) -> bool:
    """Whether "the", "a", "his", "John's" or a number opens the words, or they are a pronoun."""
    first = words[0].lower().replace("’", "'")
    return first in _DEFINITE | _INDEFINITE | _PRONOUNS or first.endswith(("'s", "s'")) or first.isdigit()


def _is_object(words: Sequence[str]) -> bool:
    """Whether words name one object and nothing else: "the red cube", "him", "all the cubes"."""
    if len(words) == 1:
        return _is(words[0], _PRONOUNS)
    if not words or not _is_determined(words):
        return False
    rest = words[2:] if words[0].lower() == "all" and words[1].lower() == "the" else words[1:]
    other = any(word[0] in '"“' for word in rest) or _any(rest, _DEFINITE | _LINKS | _PRONOUNS | _words("a an some"))
    return bool(rest) and not other and _ends_in_noun(rest)


def _is_thing(words: Sequence[str]) -> bool:
    """Whether words name something new, and perhaps more of it: "a hat with a feather", "blue eyes", "two dogs"."""
    head = _head(words)
    if not head:
        return False
    if len(head) == 1 and head[0][0] in '"“':
        return True
    if _any(head[1:], _DEFINITE | _PRONOUNS | _words("a an some")):
        return False
    if _is(head[0], _INDEFINITE) or head[0].isdigit():
        return len(head) > 1 and _ends_in_noun(head[1:])
    plural = _is_plural(head[-1]) or _is(head[-1], _MASS_NOUNS)
    return plural and not _is_determined(head)


def _ends_in_noun(words: Sequence[str]) -> bool:
    """Whether the words after "the" or "a" are more than attributes: not "red", nor "glass" alone."""
    alone = len(words) == 1 and _is(words[0], _NOUN_OR_ATTRIBUTE)
    return not _is(words[-1], _ATTRIBUTES) and not alone


def _head(words: Sequence[str]) -> tuple[str, ...]:
    """The words before the first one that ties a phrase to them."""
    end = next((index for index, word in enumerate(words) if _is(word, _LINKS)), len(words))
    return tuple(words[:end])


def _is_plural(word: str) -> bool:
    """Whether a noun looks like a plural; "torus", "dress" and "tennis" do not."""
    plural = word.lower().endswith(("s", "men", "people", "children", "feet", "teeth"))
    return plural and not word.lower().endswith(("ss", "us", "is", "'s"))


def _name_pronouns(
    instructions: list[_Instruction], before: list[list[_Instruction]], forced: bool
) -> list[_Instruction] | None:
    """The instructions with nouns for pronouns, or None where one cannot be parted from what comes before it.

    Args:
        instructions: Those of one request.
        before: The instructions of each earlier request.
        forced: They are parted already: a pronoun takes the nearest noun, or stays where there is none.
    """
    named: list[_Instruction] = []
    for instruction in instructions:
        earlier = [*before, named] if named else before
        words = _name_people(instruction, earlier, forced and not named)
        if words is None:
            return None
        thing = _thing_meant(words, earlier, forced and not named)
        if thing is None:
            return None
        if thing:
            replaced = {"it": thing, "them": thing, "its": _owner(thing), "their": _owner(thing)}
            words = tuple(part for word in words for part in replaced.get(word.lower(), (word,)))
        parsed = (_parse(_clauses(words)[0]) if words != instruction.words else None) or [instruction]
        if len(parsed) == 1:
            # The next "it" means the same thing: "make the cat orange, its tail white and its ears black".
            parsed = [parsed[0]._replace(words=words, target=thing or parsed[0].target)]
        named += parsed
    return named


def _name_people(instruction: _Instruction, earlier: list[list[_Instruction]], forced: bool) -> tuple[str, ...] | None:
    """Replaces "him", "his" and "her" by the only person named before; nobody named leaves them as they are."""
    found: list[str] = []
    for index, word in enumerate(instruction.words):
        nouns = _PEOPLE.get(word.lower())
        if nouns is None:
            found.append(word)
            continue
        old = {_person(previous.target, nouns) for group in earlier for previous in group} - {()}
        new = {_person(previous.new, nouns) for group in earlier for previous in group} - {()}
        if new and not forced:
            return None
        people = [_with_the(person) for person in old | new]
        if len(people) != 1:
            found.append(word)
            continue
        following = instruction.words[index + 1 : index + 2]
        of_him = word.lower() == "his"
        of_her = word.lower() == "her" and bool(following) and not _is(following[0], _LINKS | _SEPARATORS)
        owner = of_him or (of_her and not (index == 1 and len(instruction.target) == 1))
        found += _owner(people[0]) if owner else people[0]
    return tuple(found)


def _person(words: tuple[str, ...], nouns: frozenset[str]) -> tuple[str, ...]:
    """Who is named, as the thing itself or as its owner: "the man" in "the man's hair"."""
    for index, word in enumerate(words):
        name = re.sub(r"['’]s$", "", word)
        # "her" is not the baby of "the baby carriage".
        if _is(name, nouns) and (name != word or index == len(_head(words)) - 1):
            return (*words[:index], name)
    return ()


def _thing_meant(words: tuple[str, ...], earlier: list[list[_Instruction]], forced: bool) -> tuple[str, ...] | None:
    """What "it" or "them" stands for; nothing where it stays as it is, None where it cannot be told."""
    lowered = [word.lower() for word in words]
    singular = "it" in lowered or "its" in lowered
    if not earlier or not (singular or "them" in lowered or "their" in lowered):
        return ()
    if lowered[1] == "it" and _any(words[2:], _WEATHER):
        return ()
    noun = _noun_of(earlier[-1], singular, forced)
    if noun is None or (lowered[1] == "it" and _any(words[2:], _PICTURE) and noun != ("it",)):
        return () if forced else None
    return noun


def _noun_of(group: list[_Instruction], singular: bool, forced: bool) -> tuple[str, ...] | None:
    """What "it" or "them" stands for after some instructions, or None where that is not clear."""
    meant = group[-1:] if singular and forced else group
    nouns = list(dict.fromkeys(_with_the(part.new) if part.new else part.target for part in meant))
    unclear = not all(nouns) or any(len(noun) == 1 and _is(noun[0], _PRONOUNS - {"it"}) for noun in nouns)
    if unclear or (not forced and any(part.new for part in meant)):
        return None
    if singular != (len(nouns) == 1 and not _is_plural(nouns[0][-1])):
        return None
    return tuple(part for index, noun in enumerate(nouns) for part in (("and",) if index else ()) + noun)


def _with_the(noun: tuple[str, ...]) -> tuple[str, ...]:
    """The name of something that was new and is known now."""
    if _is(noun[0], _words("a an some")):
        return ("the", *noun[1:])
    return noun if _is_determined(noun) and not _is(noun[0], _INDEFINITE) else ("the", *noun)


def _owner(noun: tuple[str, ...]) -> tuple[str, ...]:
    """The noun as the owner of what follows; "it" owns as "its"."""
    if noun == ("it",):
        return ("its",)
    return (*noun[:-1], f"{noun[-1]}'" if _is_plural(noun[-1]) else f"{noun[-1]}'s")
