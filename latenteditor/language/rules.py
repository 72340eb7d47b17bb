"""Splits a prompt by rules of English, where the grammar leaves one reading.

* several requests: "make his hair red and give him a blue jacket";
* a shared verb, "make the cone red and the cube blue", or a shared recipient, "give him glasses and a hat";
* a shared attribute: "paint the sphere and the cube red" is two instructions, since each has its own region;
* a pronoun is replaced by its noun, "make her hair red; make it curly", or stays in one instruction with it where
  the noun is not clear or not in the photographs yet: "add a hat and make it red".

Several attributes of one thing stay together ("shiny and red"), and so does whatever the rules do not understand.
Semicolons, new lines and quotes always split, except quotes around words that the picture shows.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from latenteditor.language.clauses import Clause, clauses_of, tokens_of
from latenteditor.language.phrases import any_in, is_in
from latenteditor.language.pronouns import name_pronouns
from latenteditor.language.requests import Instruction, parse_clause
from latenteditor.language.words import (
    BINDING,
    VERBS,
)

MAX_CHARACTERS = 10_000
"""Longest prompt that is read; our choice. Eight instructions as long as CLIP reads are about a third."""

_QUOTED = re.compile(r'"([^"]+)"|“([^”]+)”' + r"|(?<!\w)'((?:[^']|(?<=\w)'(?=\w))+)'(?!\w)")
_CONNECTOR = r"(?:[,;.&]|\band\b|\bthen\b|\balso\b)"


def split_prompt(prompt: str) -> list[str]:
    """Splits an English prompt by the rules; what they do not understand stays whole.

    Raises:
        ValueError: The prompt is empty.
    """
    groups: list[list[Instruction]] = []
    for piece in _pieces(require_words(prompt)):
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
    return [require_words(prompt).strip()]


def require_words(prompt: str) -> str:
    """Refuses a prompt without a word in it, or with far too many."""
    if len(prompt) > MAX_CHARACTERS:
        raise ValueError(
            f"The prompt has {len(prompt)} characters, and {MAX_CHARACTERS} are read at most: say in a few words what "
            "to change."
        )
    if not re.search(r"\w", prompt):
        raise ValueError('There is nothing to edit by: give a prompt, for example "make the sphere red".')
    return prompt


class _Piece(NamedTuple):
    text: str
    verbatim: bool
    """It was quoted, and is one instruction as it is."""


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


def _split_piece(text: str, before: list[list[Instruction]]) -> list[list[Instruction]]:
    """The instructions of each request in a text without semicolons; the text alone where it is not understood."""
    tokens = tokens_of(text)
    clauses = clauses_of(tokens)
    reworded = not clauses
    clauses = clauses or _continued(tokens, before)
    groups: list[list[Instruction]] = []
    for clause in clauses if not any_in(tokens, BINDING) else ():
        instructions = parse_clause(clause)
        if instructions is None:
            return [[_as_written(text)]]
        named = name_pronouns(instructions, [*before, *groups], forced=not groups)
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


def _as_written(text: str) -> Instruction:
    """A text that stays whole."""
    return Instruction((text,), written=text)


def _text(words: Iterable[str]) -> str:
    """Words as a sentence."""
    return re.sub(r" (?=[,.!?])", "", " ".join(words))


def _continued(tokens: list[str], before: list[list[Instruction]]) -> list[Clause]:
    """A request without a verb of its own as one with the last request's: "make the cone red; the cube blue"."""
    verb = before[-1][-1].words[0] if before else ""
    clauses = clauses_of([verb, *tokens]) if is_in(verb, VERBS) else []
    return clauses if len(clauses) == 1 and parse_clause(clauses[0]) else []


def _join(instruction: Instruction, clause: Clause) -> Instruction:
    """One instruction with a request whose pronoun needs it."""
    rest = (word for segment in clause.segments for word in (*segment.separator, *segment.words))
    return instruction._replace(words=(*instruction.words, *clause.separator, clause.verb, *rest))
