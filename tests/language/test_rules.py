"""Prompts by the rules of English: what has one reading is split, everything else stays whole."""

import json
import time

import pytest

from latenteditor.language.prompts import read_answer
from latenteditor.language.rules import split_prompt
from tests.language.splitting import PARTS, PROMPT

EXAMPLES: list[tuple[str, ...]] = [
    # One instruction; the paper's and those of Instruct-NeRF2NeRF.
    ("turn the bear into a panda",),
    ("Turn the bear into a grizzly bear",),
    ("Turn him into a clown",),
    ("Turn him into the Tolkien Elf",),
    ("Turn him into Lord Voldemort",),
    ("Turn it into a Modigliani painting",),
    ("Make it look like it just snowed.",),
    ("Give him a Venetian mask",),
    ("Make him wear a traditional Japanese kimono",),
    ("make it look like a Fauvism painting",),
    # Several requests.
    ("make his hair red and give him a blue jacket", "make his hair red", "give him a blue jacket"),
    ("make the cone red. Then paint the floor white!", "make the cone red", "paint the floor white"),
    (
        "make the grass yellow, remove the car and add a red barn",
        "make the grass yellow",
        "remove the car",
        "add a red barn",
    ),
    ("Turn the sky pink, and then add birds", "Turn the sky pink", "add birds"),
    ("take the cone away and brighten the floor", "take the cone away", "brighten the floor"),
    ("make it night and add a moon", "make it night", "add a moon"),
    ("put him in a suit and make his hair grey", "put him in a suit", "make his hair grey"),
    (
        "make him look like Vincent van Gogh and turn the background into a starry night",
        "make him look like Vincent van Gogh",
        "turn the background into a starry night",
    ),
    # A shared verb.
    (PROMPT, *PARTS),
    ("please make the cone red & the cube blue", *PARTS),
    ("can you make the cone red and then the cube blue?", *PARTS),
    ("make cone red and cube blue", "make cone red", "make cube blue"),
    (
        "make the sky pink, the grass blue and the house red",
        "make the sky pink",
        "make the grass blue",
        "make the house red",
    ),
    ("make the red cube blue and the blue cube red", "make the red cube blue", "make the blue cube red"),
    ("make the cone dark red and the cube light blue", "make the cone dark red", "make the cube light blue"),
    (
        "make the cube on the left red and the cube on the right blue",
        "make the cube on the left red",
        "make the cube on the right blue",
    ),
    (
        "make the cube red with white dots and the cone shiny and blue",
        "make the cube red with white dots",
        "make the cone shiny and blue",
    ),
    ("make the cube gold and the cone silver", "make the cube gold", "make the cone silver"),
    ("make him bald and her blonde", "make him bald", "make her blonde"),
    ("make the man look old and the woman look young", "make the man look old", "make the woman look young"),
    ("turn him into a clown and her into a witch", "turn him into a clown", "turn her into a witch"),
    ("turn the sky pink and the grass into snow", "turn the sky pink", "turn the grass into snow"),
    (
        "change his shirt to red, his trousers to blue and his shoes to white",
        "change his shirt to red",
        "change his trousers to blue",
        "change his shoes to white",
    ),
    (
        "replace the cone with a cube and the sphere with a torus",
        "replace the cone with a cube",
        "replace the sphere with a torus",
    ),
    ("dress the man in red and the woman in blue", "dress the man in red", "dress the woman in blue"),
    ("make the cow black and white and the horse brown", "make the cow black and white", "make the horse brown"),
    # A shared attribute: every object has its own region.
    ("paint the sphere and the cube red", "paint the sphere red", "paint the cube red"),
    (
        "paint the sphere, the cube and the cone dark red",
        "paint the sphere dark red",
        "paint the cube dark red",
        "paint the cone dark red",
    ),
    (
        "paint the sphere and the cube red and the cone blue",
        "paint the sphere red",
        "paint the cube red",
        "paint the cone blue",
    ),
    ("change the cone and the cube to red", "change the cone to red", "change the cube to red"),
    ("remove the cone and the cube", "remove the cone", "remove the cube"),
    # Something new for the same one, or for several.
    ("give him glasses and a hat", "give him glasses", "give him a hat"),
    ("give her long hair and a hat", "give her long hair", "give her a hat"),
    ("give him salt and pepper hair and a beard", "give him salt and pepper hair", "give him a beard"),
    ("give him a bow and arrow and a hat", "give him a bow and arrow", "give him a hat"),
    ("give the bear sunglasses and a hat", "give the bear sunglasses", "give the bear a hat"),
    ("give the man a hat and the woman a scarf", "give the man a hat", "give the woman a scarf"),
    ("give him a hat and her a scarf", "give him a hat", "give her a scarf"),
    ("add birds and a boat", "add birds", "add a boat"),
    ("add a boat and a bird to the lake", "add a boat to the lake", "add a bird to the lake"),
    ("put a hat on the man and a scarf on the woman", "put a hat on the man", "put a scarf on the woman"),
    ("put a hat and sunglasses on him", "put a hat on him", "put sunglasses on him"),
    # A pronoun takes its noun.
    ("make her hair red; make it curly", "make her hair red", "make her hair curly"),
    ("make her hair red and make it curly", "make her hair red", "make her hair curly"),
    ("make the bear brown and its eyes blue", "make the bear brown", "make the bear's eyes blue"),
    (
        "make the cat orange, its tail white and its ears black",
        "make the cat orange",
        "make the cat's tail white",
        "make the cat's ears black",
    ),
    ("turn the man into a clown and give him a red nose", "turn the man into a clown", "give the man a red nose"),
    (
        "make the queen's dress red and give her a crown",
        "make the queen's dress red",
        "give the queen a crown",
    ),
    ("make the trees red and their trunks blue", "make the trees red", "make the trees' trunks blue"),
    (
        "make the cone and the cube red and make them shiny",
        "make the cone red",
        "make the cube red",
        "make the cone shiny",
        "make the cube shiny",
    ),
    ("make the cone red and make it winter", "make the cone red", "make it winter"),
    ("make the baby carriage red and her dress blue", "make the baby carriage red", "make her dress blue"),
    # A pronoun stays with its noun where parting them would be a guess, or the noun is not in the photographs.
    ("add a hat and make it red",),
    ("make the sky pink, add a boat and make it red", "make the sky pink", "add a boat and make it red"),
    ("make the cone red and the cube blue and make it shiny",),
    ("make the cone red and make it look like a painting",),
    ("make his eyes blue and make it glow",),
    # Semicolons, new lines and quotes always split.
    ("add a hat; make it red", "add a hat", "make the hat red"),
    ("Make the cone red; the cube blue;", "Make the cone red", "Make the cube blue"),
    ("make the cone red\nmake the cube blue", *PARTS),
    ("make the left half red; something odd and strange", "make the left half red", "something odd and strange"),
    ('"make the cone red" "make the cube blue"', *PARTS),
    ("“make the cone red” and 'make the cube blue'", *PARTS),
    ('make the cone red and "paint the cube and the floor blue"', PARTS[0], "paint the cube and the floor blue"),
    ('write "open; and closed" on the door',),
    (
        'write "open and closed" on the door and make the wall red',
        'write "open and closed" on the door',
        "make the wall red",
    ),
    # Several attributes of one thing.
    ("make the cube shiny and red",),
    ("make the cube big, red and shiny",),
    ("turn the bear into a big, fluffy panda",),
    ("turn the bear into a panda with a red scarf and a hat",),
    ("give him a red and blue jacket",),
    ("give her a dress with red and white stripes",),
    ("make it black and white",),
    # Names and phrases.
    ("paint it in the style of Van Gogh and Monet",),
    ("make it look like Bob Ross and Van Gogh painted it",),
    ("turn them into Tom and Jerry",),
    ("turn him into Mr. Bean. ",),
    # What has another reading, or is not understood.
    ("give him a hat with a feather and a scarf",),
    ("give him a hat and scarf",),
    ("give the man and the woman hats",),
    ("add a man riding a horse and a dog",),
    ("add a boat on the lake and a bird",),
    ("remove the cup from the table and the chair",),
    ("remove the red and the blue cubes",),
    ("replace the cone with a cube and a sphere",),
    ("turn the cube and the cone into spheres",),
    ("make the cone and the cube red and blue",),
    ("make the cone red and the cube",),
    ("make the wine glass and the bottle red",),
    ("paint the chair and the wine glass",),
    ("make the dog bark and the cat red",),
    ("make the man jump and turn the page",),
    ("make it brick red and moss green",),
    ("make one cube red and the other blue",),
    ("make the left cube red and the right blue",),
    ("color the first ball red, the second blue",),
    ("make everything red but keep the sky blue",),
    ("make the cone red, not the cube",),
    ("swap the cone and the cube",),
    ("his hair should be red and his jacket blue",),
    ("red hair and a blue jacket",),
    ("mache den Kegel rot und den Würfel blau",),
]
"""A prompt and its instructions; a prompt alone stays as it is written."""


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example[0])
def test_rules_split_where_there_is_one_reading(example):
    prompt, *instructions = example
    assert split_prompt(prompt) == (instructions or [prompt.strip()])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example[0])
def test_rules_say_what_the_prompt_says_and_leave_nothing_out(example):
    instructions = split_prompt(example[0])
    if not any(";" in instruction for instruction in instructions):
        assert read_answer(json.dumps({"instructions": instructions}), example[0]) == instructions


@pytest.mark.parametrize("example", [row for row in EXAMPLES if '"' not in row[0]], ids=lambda example: example[0])
def test_what_is_split_splits_no_further(example):
    for instruction in split_prompt(example[0]):
        assert split_prompt(instruction) == [instruction]


def test_there_are_examples_enough():
    assert len({example[0] for example in EXAMPLES}) == len(EXAMPLES) >= 60


def test_a_long_prompt_is_split_in_no_time():
    start = time.process_time()
    assert len(split_prompt("; ".join([PROMPT] * 100))) == 200
    assert len(split_prompt(" and ".join([PROMPT] * 100))) == 200
    assert time.process_time() - start < 5
