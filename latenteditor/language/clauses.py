"""A text as words and separators, and its requests: what opens with a verb."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from latenteditor.language.phrases import is_in
from latenteditor.language.words import (
    COURTESY,
    FIXED,
    SEPARATORS,
    VERBS,
)

_OPENING = "|".join(sorted(COURTESY | {"then", "also"}))
_SENTENCE_END = rf"[.!?]+(?=\s*$|\s+(?:(?:{_OPENING})\s+)*(?:{'|'.join(sorted(VERBS))})\b)"
_TOKEN = re.compile(
    rf'"[^"]*"|“[^”]*”|,(?!\d)|{_SENTENCE_END}|(?:(?!,(?!\d)|{_SENTENCE_END})[^\s"“])+|["“]', re.IGNORECASE
)


class Segment(NamedTuple):
    separator: tuple[str, ...]
    """What stands before the words: a comma, "and"."""
    words: tuple[str, ...]


class Clause(NamedTuple):
    separator: tuple[str, ...]
    verb: str
    segments: tuple[Segment, ...]
    """What the verb's coordinated objects, or the coordinated parts of one, may be."""


def tokens_of(text: str) -> list[str]:
    """Words and separators; fixed phrases and quoted words count as one."""
    tokens = _TOKEN.findall(text)
    found = []
    while tokens:
        length = next((n for n in (3, 2) if tuple(map(str.lower, tokens[:n])) in FIXED), 1)
        found.append(" ".join(tokens[:length]))
        tokens = tokens[length:]
    return found


def _segments(tokens: Sequence[str]) -> list[Segment]:
    """Cuts at commas and conjunctions."""
    segments: list[Segment] = []
    separator: list[str] = []
    words: list[str] = []
    for token in tokens:
        divides = is_in(token, SEPARATORS) or re.fullmatch(r"[.!?]+", token)
        if divides and words:
            segments.append(Segment(tuple(separator), tuple(words)))
            separator, words = [], []
        if divides or (not words and is_in(token, COURTESY)):
            separator.append(token)
        else:
            words.append(token)
    return [*segments, Segment(tuple(separator), tuple(words))] if words else segments


def clauses_of(tokens: Sequence[str]) -> list[Clause]:
    """The requests, each of which opens with a verb; none where the first words are no request."""
    clauses: list[Clause] = []
    for segment in _segments(tokens):
        verb, *rest = segment.words
        if is_in(verb, VERBS) and rest:
            clauses.append(Clause(segment.separator, verb, (Segment((), tuple(rest)),)))
        elif clauses:
            clauses[-1] = clauses[-1]._replace(segments=(*clauses[-1].segments, segment))
        else:
            return []
    return clauses
