"""What words name: an object that is there, something new, one or many."""

from collections.abc import Iterable, Sequence

from latenteditor.language.words import (
    ATTRIBUTES,
    DEFINITE,
    INDEFINITE,
    LINKS,
    MASS_NOUNS,
    NOUN_OR_ATTRIBUTE,
    PRONOUNS,
    word_set,
)


def is_in(word: str, vocabulary: frozenset[str]) -> bool:
    """Whether a word, or each word of a fixed phrase, is in a vocabulary."""
    lowered = word.lower()
    parts = [part for part in lowered.split() if part != "and"]
    return lowered in vocabulary or (len(parts) > 1 and all(part in vocabulary for part in parts))


def any_in(words: Iterable[str], vocabulary: frozenset[str]) -> bool:
    """Whether one of the words is in a vocabulary."""
    return any(is_in(word, vocabulary) for word in words)


def is_determined(words: Sequence[str]) -> bool:
    """Whether "the", "a", "his", "John's" or a number opens the words, or they are a pronoun."""
    first = words[0].lower().replace("’", "'")
    return first in DEFINITE | INDEFINITE | PRONOUNS or first.endswith(("'s", "s'")) or first.isdigit()


def is_object(words: Sequence[str]) -> bool:
    """Whether words name one object and nothing else: "the red cube", "him", "all the cubes"."""
    if len(words) == 1:
        return is_in(words[0], PRONOUNS)
    if not words or not is_determined(words):
        return False
    rest = words[2:] if words[0].lower() == "all" and words[1].lower() == "the" else words[1:]
    other = any(word[0] in '"“' for word in rest) or any_in(rest, DEFINITE | LINKS | PRONOUNS | word_set("a an some"))
    return bool(rest) and not other and _ends_in_noun(rest)


def is_thing(words: Sequence[str]) -> bool:
    """Whether words name something new, and perhaps more of it: "a hat with a feather", "blue eyes", "two dogs"."""
    head = head_of(words)
    if not head:
        return False
    if len(head) == 1 and head[0][0] in '"“':
        return True
    if any_in(head[1:], DEFINITE | PRONOUNS | word_set("a an some")):
        return False
    if is_in(head[0], INDEFINITE) or head[0].isdigit():
        return len(head) > 1 and _ends_in_noun(head[1:])
    plural = is_plural(head[-1]) or is_in(head[-1], MASS_NOUNS)
    return plural and not is_determined(head)


def _ends_in_noun(words: Sequence[str]) -> bool:
    """Whether the words after "the" or "a" are more than attributes: not "red", nor "glass" alone."""
    alone = len(words) == 1 and is_in(words[0], NOUN_OR_ATTRIBUTE)
    return not is_in(words[-1], ATTRIBUTES) and not alone


def head_of(words: Sequence[str]) -> tuple[str, ...]:
    """The words before the first one that ties a phrase to them."""
    end = next((index for index, word in enumerate(words) if is_in(word, LINKS)), len(words))
    return tuple(words[:end])


def is_plural(word: str) -> bool:
    """Whether a noun looks like a plural; "torus", "dress" and "tennis" do not."""
    plural = word.lower().endswith(("s", "men", "people", "children", "feet", "teeth"))
    return plural and not word.lower().endswith(("ss", "us", "is", "'s"))
