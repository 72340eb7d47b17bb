"""One request into its instructions: what changes, and what becomes of it."""

from collections.abc import Sequence
from typing import NamedTuple

from latenteditor.language.clauses import Clause, Segment
from latenteditor.language.phrases import any_in, head_of, is_determined, is_in, is_object, is_thing
from latenteditor.language.words import (
    ATTRIBUTES,
    CHANGES,
    DEFINITE,
    DEGREES,
    GIVING,
    INDEFINITE,
    LINKS,
    NOUN_OR_ATTRIBUTE,
    PLACING,
    PRONOUNS,
    REMOVING,
    REPLACING,
    SEPARATORS,
    SHADES,
    SIDES,
    WEATHER,
    word_set,
)


class Instruction(NamedTuple):
    words: tuple[str, ...]
    target: tuple[str, ...] = ()
    """What is there already and changes."""
    new: tuple[str, ...] = ()
    """What the instruction brings."""
    written: str = ""
    """The instruction as it was written, where it is a whole text between semicolons."""


def parse_clause(clause: Clause) -> list[Instruction] | None:
    """The instructions of one request, or None where it is not understood."""
    verb = clause.verb.lower()
    if verb in CHANGES:
        return _parse_change(clause)
    if verb in GIVING:
        return _parse_giving(clause)
    return _parse_placing(clause) if verb in PLACING else _parse_treating(clause)


def _parse_change(clause: Clause) -> list[Instruction] | None:
    """Reads "make the cone red and the cube blue"; "paint the sphere and the cube red"."""
    openers = CHANGES[clause.verb.lower()]
    objects = _attach_attributes(clause.segments, openers)
    instructions: list[Instruction] = []
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
        new = complement[1:] if is_in(clause.verb, REPLACING) else ()
        for shared in (*waiting, target):
            instructions.append(Instruction((clause.verb, *shared, *complement), shared, new))
        waiting = []
    # Where an object ends is only certain if an ambiguous word ends every one of them.
    certain = len(kinds) == 1 or all(kind == "" for kind in kinds)
    targets = [instruction.target for instruction in instructions]
    bare = [not is_determined(target) for target in targets]
    if waiting or not certain or (any(bare) and not (all(bare) and all(len(target) == 1 for target in targets))):
        return None
    return instructions


def _attach_attributes(segments: Sequence[Segment], openers: frozenset[str]) -> list[tuple[str, ...]]:
    """The objects; an attribute alone belongs to the object before it: "the cube red", "and shiny"."""
    objects: list[tuple[str, ...]] = []
    for segment in segments:
        attribute = all(is_in(word, ATTRIBUTES | NOUN_OR_ATTRIBUTE | DEGREES) for word in segment.words)
        if attribute and objects and _complement_at(objects[-1], openers) is not None:
            objects[-1] = (*objects[-1], *segment.separator, *segment.words)
        else:
            objects.append(segment.words)
    return objects


def _complement_at(words: Sequence[str], openers: frozenset[str]) -> int | None:
    """Where the words stop to name an object and begin to say what becomes of it."""
    if is_in(words[0], frozenset({"it"})) and any_in(words[1:2], WEATHER):
        return 1
    for index in range(1, len(words)):
        word, before = words[index], words[index - 1]
        article = is_in(word, INDEFINITE)
        follows = index + 1 < len(words) or is_in(word, word_set("away off"))
        if is_in(word, openers) and follows and not (article and is_in(before, LINKS)):
            return index
        names = is_in(before, PRONOUNS) or not is_in(before, DEFINITE | INDEFINITE | LINKS | ATTRIBUTES | DEGREES)
        if index == 2 and is_determined(words):
            names = (names or is_in(before, SHADES)) and not is_in(before, word_set("left right"))
        if names and is_in(word, ATTRIBUTES | NOUN_OR_ATTRIBUTE | DEGREES) and _is_attribute(words[index:]):
            return index
    return None


def _kind(complement: Sequence[str], openers: frozenset[str]) -> str:
    """Empty where a complement is surely one; else what it and its neighbours have to have in common."""
    if is_in(complement[0], openers):
        last = "attribute" if is_in(complement[-1], ATTRIBUTES | NOUN_OR_ATTRIBUTE) else "noun"
        return f"{complement[0].lower()} {last}" if is_in(complement[0], LINKS - {"into"}) else ""
    return "noun" if is_in(complement[0], NOUN_OR_ATTRIBUTE - DEGREES) else ""


def _is_attribute(words: Sequence[str]) -> bool:
    """Whether words say how something is, and may add a phrase: "dark red", "to red", "red with white dots"."""
    rest = list(words[1:] if is_in(words[0], word_set("to look")) else words)
    found = False
    while rest and is_in(rest[0], ATTRIBUTES | NOUN_OR_ATTRIBUTE | DEGREES | SEPARATORS):
        found |= is_in(rest.pop(0), ATTRIBUTES | NOUN_OR_ATTRIBUTE)
    return found and (not rest or is_in(rest[0], LINKS))


def _can_be_shared(complement: Sequence[str]) -> bool:
    """Whether each of several objects becomes the same: not "red and blue", one of which may be meant for each."""
    return _is_attribute(complement) and not any_in(complement, SEPARATORS)


def _is_short(words: Sequence[str]) -> bool:
    """Whether words are an object of one noun: two may be a noun and a verb, "the dog bark"."""
    return is_object(words) and all(is_in(word, ATTRIBUTES | NOUN_OR_ATTRIBUTE | SIDES) for word in words[1:-1])


def _parse_giving(clause: Clause) -> list[Instruction] | None:
    """Reads "give him glasses and a hat"; "give the man a hat and the woman a scarf"."""
    instructions: list[Instruction] = []
    recipient: tuple[str, ...] = ()
    for segment in clause.segments:
        at = _recipient_length(segment.words)
        given, thing = segment.words[:at], segment.words[at:]
        understood = is_thing(thing) or (len(clause.segments) == 1 and bool(given) and bool(thing))
        # "a hat with a feather and a scarf": the scarf may be on the hat.
        if not given and instructions and any_in(instructions[-1].new, LINKS):
            return None
        recipient = given or recipient
        if not recipient or not understood:
            return None
        instructions.append(Instruction((clause.verb, *recipient, *thing), recipient, thing))
    return instructions


def _recipient_length(words: Sequence[str]) -> int:
    """How many words name who is given something."""
    first = words[0].lower()
    if first in PRONOUNS and first != "her":
        return 1
    if not is_determined(words) or first in INDEFINITE:
        return 0
    article = next((index for index, word in enumerate(words) if is_in(word, INDEFINITE)), None)
    if article is not None:
        return article if first == "her" or is_object(words[:article]) else 0
    if first == "her" and is_thing(words[1:]):
        return 1
    start = len(words) - 1
    while start > 0 and is_in(words[start - 1], ATTRIBUTES | DEGREES):
        start -= 1
    return start if is_object(words[:start]) and is_thing(words[start:]) else 0


def _parse_placing(clause: Clause) -> list[Instruction] | None:
    """Reads "add a boat and a bird"; "put a hat and a scarf on him"."""
    things = [segment.words for segment in clause.segments]
    heads = [head_of(words) for words in things]
    if len(things) == 1:
        understood = bool(heads[0]) and (heads[0] != things[0] or not is_in(heads[0][0], PRONOUNS))
        return [Instruction((clause.verb, *things[0]), (), heads[0])] if understood else None
    if not all(is_thing(head) or is_object(head) for head in heads):
        return None
    places = [words[len(head) :] for words, head in zip(things, heads, strict=True)]
    links = [sum(is_in(word, LINKS) for word in place) for place in places]
    if len(set(links)) > 1:
        if links != [*([0] * (len(links) - 1)), 1] or not is_in(places[-1][0], PLACING[clause.verb.lower()]):
            return None
        things = [(*head, *places[-1]) for head in heads]
    return [Instruction((clause.verb, *words), (), head) for words, head in zip(things, heads, strict=True)]


def _parse_treating(clause: Clause) -> list[Instruction] | None:
    """Reads "remove the cone and the cube"."""
    objects = [segment.words for segment in clause.segments]
    named = all(map(is_object, objects))
    unnamed = all(is_thing(words) and not is_determined(words) for words in objects)
    if len(objects) == 1:
        named = not is_in(objects[0][0], LINKS)
    if not named and not unnamed:
        return None
    removing = clause.verb.lower() in REMOVING
    return [Instruction((clause.verb, *words), () if removing else words) for words in objects]
