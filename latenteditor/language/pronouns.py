"""Nouns for the pronouns of an instruction, from the instructions before it."""

import re

from latenteditor.language.clauses import clauses_of
from latenteditor.language.phrases import any_in, head_of, is_determined, is_in, is_plural
from latenteditor.language.requests import Instruction, parse_clause
from latenteditor.language.words import (
    INDEFINITE,
    LINKS,
    PEOPLE,
    PICTURE,
    PRONOUNS,
    SEPARATORS,
    WEATHER,
    word_set,
)


def name_pronouns(
    instructions: list[Instruction], before: list[list[Instruction]], forced: bool
) -> list[Instruction] | None:
    """The instructions with nouns for pronouns, or None where one cannot be parted from what comes before it.

    Args:
        instructions: Those of one request.
        before: The instructions of each earlier request.
        forced: They are parted already: a pronoun takes the nearest noun, or stays where there is none.
    """
    named: list[Instruction] = []
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
        parsed = (parse_clause(clauses_of(words)[0]) if words != instruction.words else None) or [instruction]
        if len(parsed) == 1:
            # The next "it" means the same thing: "make the cat orange, its tail white and its ears black".
            parsed = [parsed[0]._replace(words=words, target=thing or parsed[0].target)]
        named += parsed
    return named


def _name_people(instruction: Instruction, earlier: list[list[Instruction]], forced: bool) -> tuple[str, ...] | None:
    """Replaces "him", "his" and "her" by the only person named before; nobody named leaves them as they are."""
    found: list[str] = []
    for index, word in enumerate(instruction.words):
        nouns = PEOPLE.get(word.lower())
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
        of_her = word.lower() == "her" and bool(following) and not is_in(following[0], LINKS | SEPARATORS)
        owner = of_him or (of_her and not (index == 1 and len(instruction.target) == 1))
        found += _owner(people[0]) if owner else people[0]
    return tuple(found)


def _person(words: tuple[str, ...], nouns: frozenset[str]) -> tuple[str, ...]:
    """Who is named, as the thing itself or as its owner: "the man" in "the man's hair"."""
    for index, word in enumerate(words):
        name = re.sub(r"['’]s$", "", word)
        # "her" is not the baby of "the baby carriage".
        if is_in(name, nouns) and (name != word or index == len(head_of(words)) - 1):
            return (*words[:index], name)
    return ()


def _thing_meant(words: tuple[str, ...], earlier: list[list[Instruction]], forced: bool) -> tuple[str, ...] | None:
    """What "it" or "them" stands for; nothing where it stays as it is, None where it cannot be told."""
    lowered = [word.lower() for word in words]
    singular = "it" in lowered or "its" in lowered
    if not earlier or not (singular or "them" in lowered or "their" in lowered):
        return ()
    if lowered[1] == "it" and any_in(words[2:], WEATHER):
        return ()
    noun = _noun_of(earlier[-1], singular, forced)
    if noun is None or (lowered[1] == "it" and any_in(words[2:], PICTURE) and noun != ("it",)):
        return () if forced else None
    return noun


def _noun_of(group: list[Instruction], singular: bool, forced: bool) -> tuple[str, ...] | None:
    """What "it" or "them" stands for after some instructions, or None where that is not clear."""
    meant = group[-1:] if singular and forced else group
    nouns = list(dict.fromkeys(_with_the(part.new) if part.new else part.target for part in meant))
    unclear = not all(nouns) or any(len(noun) == 1 and is_in(noun[0], PRONOUNS - {"it"}) for noun in nouns)
    if unclear or (not forced and any(part.new for part in meant)):
        return None
    if singular != (len(nouns) == 1 and not is_plural(nouns[0][-1])):
        return None
    return tuple(part for index, noun in enumerate(nouns) for part in (("and",) if index else ()) + noun)


def _with_the(noun: tuple[str, ...]) -> tuple[str, ...]:
    """The name of something that was new and is known now."""
    if is_in(noun[0], word_set("a an some")):
        return ("the", *noun[1:])
    return noun if is_determined(noun) and not is_in(noun[0], INDEFINITE) else ("the", *noun)


def _owner(noun: tuple[str, ...]) -> tuple[str, ...]:
    """The noun as the owner of what follows; "it" owns as "its"."""
    if noun == ("it",):
        return ("its",)
    return (*noun[:-1], f"{noun[-1]}'" if is_plural(noun[-1]) else f"{noun[-1]}'s")
