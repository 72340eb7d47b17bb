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
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from latenteditor.language.words import (
    ATTRIBUTES,
    BINDING,
    CHANGES,
    COURTESY,
    DEFINITE,
    DEGREES,
    FIXED,
    GIVING,
    INDEFINITE,
    LINKS,
    MASS_NOUNS,
    NOUN_OR_ATTRIBUTE,
    PEOPLE,
    PICTURE,
    PLACING,
    PRONOUNS,
    REMOVING,
    REPLACING,
    SEPARATORS,
    SHADES,
    SIDES,
    VERBS,
    WEATHER,
    word_set,
)

_OPENING = "|".join(sorted(COURTESY | {"then", "also"}))
_SENTENCE_END = rf"[.!?]+(?=\s*$|\s+(?:(?:{_OPENING})\s+)*(?:{'|'.join(sorted(VERBS))})\b)"
_TOKEN = re.compile(
    rf'"[^"]*"|“[^”]*”|,(?!\d)|{_SENTENCE_END}|(?:(?!,(?!\d)|{_SENTENCE_END})[^\s"“])+|["“]', re.IGNORECASE
)
_QUOTED = re.compile(r'"([^"]+)"|“([^”]+)”' + r"|(?<!\w)'((?:[^']|(?<=\w)'(?=\w))+)'(?!\w)")
_CONNECTOR = r"(?:[,;.&]|\band\b|\bthen\b|\balso\b)"


def split_prompt(prompt: str) -> list[str]:
    """Splits an English prompt by the rules; what they do not understand stays whole.

    Raises:
        ValueError: The prompt is empty.
    """
    groups: list[list[_Instruction]] = []
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
    """Refuses a prompt without a word in it."""
    if not re.search(r"\w", prompt):
        raise ValueError('There is nothing to edit by: give a prompt, for example "make the sphere red".')
    return prompt


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
    for clause in clauses if not _any(tokens, BINDING) else ():
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
        length = next((n for n in (3, 2) if tuple(map(str.lower, tokens[:n])) in FIXED), 1)
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
        divides = _is(token, SEPARATORS) or re.fullmatch(r"[.!?]+", token)
        if divides and words:
            segments.append(_Segment(tuple(separator), tuple(words)))
            separator, words = [], []
        if divides or (not words and _is(token, COURTESY)):
            separator.append(token)
        else:
            words.append(token)
    return [*segments, _Segment(tuple(separator), tuple(words))] if words else segments


def _clauses(tokens: Sequence[str]) -> list[_Clause]:
    """The requests, each of which opens with a verb; none where the first words are no request."""
    clauses: list[_Clause] = []
    for segment in _segments(tokens):
        verb, *rest = segment.words
        if _is(verb, VERBS) and rest:
            clauses.append(_Clause(segment.separator, verb, (_Segment((), tuple(rest)),)))
        elif clauses:
            clauses[-1] = clauses[-1]._replace(segments=(*clauses[-1].segments, segment))
        else:
            return []
    return clauses


def _continued(tokens: list[str], before: list[list[_Instruction]]) -> list[_Clause]:
    """A request without a verb of its own as one with the last request's: "make the cone red; the cube blue"."""
    verb = before[-1][-1].words[0] if before else ""
    clauses = _clauses([verb, *tokens]) if _is(verb, VERBS) else []
    return clauses if len(clauses) == 1 and _parse(clauses[0]) else []


def _join(instruction: _Instruction, clause: _Clause) -> _Instruction:
    """One instruction with a request whose pronoun needs it."""
    rest = (word for segment in clause.segments for word in (*segment.separator, *segment.words))
    return instruction._replace(words=(*instruction.words, *clause.separator, clause.verb, *rest))


def _parse(clause: _Clause) -> list[_Instruction] | None:
    """The instructions of one request, or None where it is not understood."""
    verb = clause.verb.lower()
    if verb in CHANGES:
        return _parse_change(clause)
    if verb in GIVING:
        return _parse_giving(clause)
    return _parse_placing(clause) if verb in PLACING else _parse_treating(clause)


def _parse_change(clause: _Clause) -> list[_Instruction] | None:
    """Reads "make the cone red and the cube blue"; "paint the sphere and the cube red"."""
    openers = CHANGES[clause.verb.lower()]
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
        new = complement[1:] if _is(clause.verb, REPLACING) else ()
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
        attribute = all(_is(word, ATTRIBUTES | NOUN_OR_ATTRIBUTE | DEGREES) for word in segment.words)
        if attribute and objects and _complement_at(objects[-1], openers) is not None:
            objects[-1] = (*objects[-1], *segment.separator, *segment.words)
        else:
            objects.append(segment.words)
    return objects


def _complement_at(words: Sequence[str], openers: frozenset[str]) -> int | None:
    """Where the words stop to name an object and begin to say what becomes of it."""
    if _is(words[0], frozenset({"it"})) and _any(words[1:2], WEATHER):
        return 1
    for index in range(1, len(words)):
        word, before = words[index], words[index - 1]
        article = _is(word, INDEFINITE)
        follows = index + 1 < len(words) or _is(word, word_set("away off"))
        if _is(word, openers) and follows and not (article and _is(before, LINKS)):
            return index
        names = _is(before, PRONOUNS) or not _is(before, DEFINITE | INDEFINITE | LINKS | ATTRIBUTES | DEGREES)
        if index == 2 and _is_determined(words):
            names = (names or _is(before, SHADES)) and not _is(before, word_set("left right"))
        if names and _is(word, ATTRIBUTES | NOUN_OR_ATTRIBUTE | DEGREES) and _is_attribute(words[index:]):
            return index
    return None


def _kind(complement: Sequence[str], openers: frozenset[str]) -> str:
    """Empty where a complement is surely one; else what it and its neighbours have to have in common."""
    if _is(complement[0], openers):
        last = "attribute" if _is(complement[-1], ATTRIBUTES | NOUN_OR_ATTRIBUTE) else "noun"
        return f"{complement[0].lower()} {last}" if _is(complement[0], LINKS - {"into"}) else ""
    return "noun" if _is(complement[0], NOUN_OR_ATTRIBUTE - DEGREES) else ""


def _is_attribute(words: Sequence[str]) -> bool:
    """Whether words say how something is, and may add a phrase: "dark red", "to red", "red with white dots"."""
    rest = list(words[1:] if _is(words[0], word_set("to look")) else words)
    found = False
    while rest and _is(rest[0], ATTRIBUTES | NOUN_OR_ATTRIBUTE | DEGREES | SEPARATORS):
        found |= _is(rest.pop(0), ATTRIBUTES | NOUN_OR_ATTRIBUTE)
    return found and (not rest or _is(rest[0], LINKS))


def _can_be_shared(complement: Sequence[str]) -> bool:
    """Whether each of several objects becomes the same: not "red and blue", one of which may be meant for each."""
    return _is_attribute(complement) and not _any(complement, SEPARATORS)


def _is_short(words: Sequence[str]) -> bool:
    """Whether words are an object of one noun: two may be a noun and a verb, "the dog bark"."""
    return _is_object(words) and all(_is(word, ATTRIBUTES | NOUN_OR_ATTRIBUTE | SIDES) for word in words[1:-1])


def _parse_giving(clause: _Clause) -> list[_Instruction] | None:
    """Reads "give him glasses and a hat"; "give the man a hat and the woman a scarf"."""
    instructions: list[_Instruction] = []
    recipient: tuple[str, ...] = ()
    for segment in clause.segments:
        at = _recipient_length(segment.words)
        given, thing = segment.words[:at], segment.words[at:]
        understood = _is_thing(thing) or (len(clause.segments) == 1 and bool(given) and bool(thing))
        # "a hat with a feather and a scarf": the scarf may be on the hat.
        if not given and instructions and _any(instructions[-1].new, LINKS):
            return None
        recipient = given or recipient
        if not recipient or not understood:
            return None
        instructions.append(_Instruction((clause.verb, *recipient, *thing), recipient, thing))
    return instructions


def _recipient_length(words: Sequence[str]) -> int:
    """How many words name who is given something."""
    first = words[0].lower()
    if first in PRONOUNS and first != "her":
        return 1
    if not _is_determined(words) or first in INDEFINITE:
        return 0
    article = next((index for index, word in enumerate(words) if _is(word, INDEFINITE)), None)
    if article is not None:
        return article if first == "her" or _is_object(words[:article]) else 0
    if first == "her" and _is_thing(words[1:]):
        return 1
    start = len(words) - 1
    while start > 0 and _is(words[start - 1], ATTRIBUTES | DEGREES):
        start -= 1
    return start if _is_object(words[:start]) and _is_thing(words[start:]) else 0


def _parse_placing(clause: _Clause) -> list[_Instruction] | None:
    """Reads "add a boat and a bird"; "put a hat and a scarf on him"."""
    things = [segment.words for segment in clause.segments]
    heads = [_head(words) for words in things]
    if len(things) == 1:
        understood = bool(heads[0]) and (heads[0] != things[0] or not _is(heads[0][0], PRONOUNS))
        return [_Instruction((clause.verb, *things[0]), (), heads[0])] if understood else None
    if not all(_is_thing(head) or _is_object(head) for head in heads):
        return None
    places = [words[len(head) :] for words, head in zip(things, heads, strict=True)]
    links = [sum(_is(word, LINKS) for word in place) for place in places]
    if len(set(links)) > 1:
        if links != [*([0] * (len(links) - 1)), 1] or not _is(places[-1][0], PLACING[clause.verb.lower()]):
            return None
        things = [(*head, *places[-1]) for head in heads]
    return [_Instruction((clause.verb, *words), (), head) for words, head in zip(things, heads, strict=True)]


def _parse_treating(clause: _Clause) -> list[_Instruction] | None:
    """Reads "remove the cone and the cube"."""
    objects = [segment.words for segment in clause.segments]
    named = all(map(_is_object, objects))
    unnamed = all(_is_thing(words) and not _is_determined(words) for words in objects)
    if len(objects) == 1:
        named = not _is(objects[0][0], LINKS)
    if not named and not unnamed:
        return None
    removing = clause.verb.lower() in REMOVING
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
    return first in DEFINITE | INDEFINITE | PRONOUNS or first.endswith(("'s", "s'")) or first.isdigit()


def _is_object(words: Sequence[str]) -> bool:
    """Whether words name one object and nothing else: "the red cube", "him", "all the cubes"."""
    if len(words) == 1:
        return _is(words[0], PRONOUNS)
    if not words or not _is_determined(words):
        return False
    rest = words[2:] if words[0].lower() == "all" and words[1].lower() == "the" else words[1:]
    other = any(word[0] in '"“' for word in rest) or _any(rest, DEFINITE | LINKS | PRONOUNS | word_set("a an some"))
    return bool(rest) and not other and _ends_in_noun(rest)


def _is_thing(words: Sequence[str]) -> bool:
    """Whether words name something new, and perhaps more of it: "a hat with a feather", "blue eyes", "two dogs"."""
    head = _head(words)
    if not head:
        return False
    if len(head) == 1 and head[0][0] in '"“':
        return True
    if _any(head[1:], DEFINITE | PRONOUNS | word_set("a an some")):
        return False
    if _is(head[0], INDEFINITE) or head[0].isdigit():
        return len(head) > 1 and _ends_in_noun(head[1:])
    plural = _is_plural(head[-1]) or _is(head[-1], MASS_NOUNS)
    return plural and not _is_determined(head)


def _ends_in_noun(words: Sequence[str]) -> bool:
    """Whether the words after "the" or "a" are more than attributes: not "red", nor "glass" alone."""
    alone = len(words) == 1 and _is(words[0], NOUN_OR_ATTRIBUTE)
    return not _is(words[-1], ATTRIBUTES) and not alone


def _head(words: Sequence[str]) -> tuple[str, ...]:
    """The words before the first one that ties a phrase to them."""
    end = next((index for index, word in enumerate(words) if _is(word, LINKS)), len(words))
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
        of_her = word.lower() == "her" and bool(following) and not _is(following[0], LINKS | SEPARATORS)
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
    if lowered[1] == "it" and _any(words[2:], WEATHER):
        return ()
    noun = _noun_of(earlier[-1], singular, forced)
    if noun is None or (lowered[1] == "it" and _any(words[2:], PICTURE) and noun != ("it",)):
        return () if forced else None
    return noun


def _noun_of(group: list[_Instruction], singular: bool, forced: bool) -> tuple[str, ...] | None:
    """What "it" or "them" stands for after some instructions, or None where that is not clear."""
    meant = group[-1:] if singular and forced else group
    nouns = list(dict.fromkeys(_with_the(part.new) if part.new else part.target for part in meant))
    unclear = not all(nouns) or any(len(noun) == 1 and _is(noun[0], PRONOUNS - {"it"}) for noun in nouns)
    if unclear or (not forced and any(part.new for part in meant)):
        return None
    if singular != (len(nouns) == 1 and not _is_plural(nouns[0][-1])):
        return None
    return tuple(part for index, noun in enumerate(nouns) for part in (("and",) if index else ()) + noun)


def _with_the(noun: tuple[str, ...]) -> tuple[str, ...]:
    """The name of something that was new and is known now."""
    if _is(noun[0], word_set("a an some")):
        return ("the", *noun[1:])
    return noun if _is_determined(noun) and not _is(noun[0], INDEFINITE) else ("the", *noun)


def _owner(noun: tuple[str, ...]) -> tuple[str, ...]:
    """The noun as the owner of what follows; "it" owns as "its"."""
    if noun == ("it",):
        return ("its",)
    return (*noun[:-1], f"{noun[-1]}'" if _is_plural(noun[-1]) else f"{noun[-1]}'s")
