"""What splits prompts, by what a config says; answers of language models are checked, and the rules stand in."""

import json

import pytest

from latenteditor.language.prompts import (
    MAX_INSTRUCTIONS,
    CheckedSplitter,
    PromptSplitConfig,
    PromptSplitter,
    read_answer,
)
from latenteditor.language.rules import keep_whole, split_prompt
from tests.language.splitting import PARTS, PROMPT, load_splitter


@pytest.mark.parametrize("prompt", ["", " \t\n", ";", '""', "..."])
@pytest.mark.parametrize("splitter", [split_prompt, keep_whole, CheckedSplitter(str, "nobody")])
def test_an_empty_prompt_is_refused_in_one_line(splitter, prompt):
    with pytest.raises(ValueError, match=r"^There is nothing to edit by: give a prompt, .*\.$"):
        splitter(prompt)


@pytest.mark.parametrize(
    "answer",
    [
        '{"instructions": ["make the cone red", "make the cube blue"]}',
        'Here it is:\n```json\n{"instructions": ["make the  cone red", " make the cube blue"]}\n```\nAnything else?',
        '<think>{red?}</think> {} {"instructions": ["make the cone red", "make the cube blue"], "count": 2}',
    ],
)
def test_a_good_answer_is_read_whatever_stands_around_it(answer):
    assert read_answer(answer, PROMPT) == PARTS


@pytest.mark.parametrize(
    ("instructions", "complaint"),
    [
        ("make the cone red", "no list of texts"),
        (None, "no list of texts"),
        ([*PARTS, 3], "no list of texts"),
        ([*PARTS, " "], "no list of texts"),
        ([], "0 instructions"),
        (PARTS * 5, f"10 instructions, not 1 to {MAX_INSTRUCTIONS}"),
        ([*PARTS, "make the sphere red"], "made up sphere"),
        (["make the cone red", "make the cube blue and shiny"], "made up shiny"),
        (["make the cone red"], "left out blue, cube"),
        (["make the cone red; make the cube blue"], "semicolon"),
    ],
)
def test_an_answer_of_no_use_is_refused(instructions, complaint):
    with pytest.raises(ValueError, match=complaint):
        read_answer(json.dumps({"instructions": instructions}), PROMPT)


@pytest.mark.parametrize("answer", ["", "make the cone red", '{"instructions": ["make', '["make the cone red"]', "{}"])
def test_an_answer_without_json_is_refused(answer):
    with pytest.raises(ValueError, match="no JSON object with instructions"):
        read_answer(answer, PROMPT)


def test_an_answer_may_change_verb_pronoun_number_and_case():
    answer = json.dumps({"instructions": ["Paint the man's hair red", "give the man a blue jacket"]})
    assert len(read_answer(answer, "please make the man's hair red, and give him two blue jackets")) == 2


def test_rules_take_over_with_one_warning_when_a_language_model_fails(warnings):
    def fail(request: str) -> str:
        raise RuntimeError("out of memory\nand more lines")

    assert CheckedSplitter(fail, "The model")(PROMPT) == PARTS
    assert warnings() == ["The model did not split the prompt (out of memory): the rules split it."]


def test_the_language_model_is_asked_with_the_prompt_at_the_end():
    requests = []
    CheckedSplitter(lambda request: requests.append(request) or "", "The model")(f" {PROMPT}\n")
    assert requests[0].endswith(f"Instruction: {PROMPT}\n")


@pytest.mark.parametrize(("splitter", "expected"), [("rules", PARTS), ("none", [PROMPT])])
def test_splitters_without_a_language_model(splitter, expected):
    loaded = load_splitter(PromptSplitConfig(splitter))
    assert isinstance(loaded, PromptSplitter)
    assert loaded(PROMPT) == expected


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"splitter": "model"}, "needs a language model"),
        ({"splitter": "model", "model": "/no/such/folder"}, "'/no/such/folder' could not be loaded .* choose"),
        ({"splitter": "endpoint"}, "needs an address .*, not None"),
        ({"splitter": "endpoint", "endpoint": "localhost:8000"}, "needs an address .*, not 'localhost:8000'"),
        ({"splitter": "endpoint", "endpoint": "file:///etc/passwd"}, "needs an address"),
        (
            {"splitter": "endpoint", "endpoint": "http://localhost", "endpoint_key_variable": "NO_SUCH_KEY"},
            "name of an environment variable that is set",
        ),
        ({"splitter": "endpoint", "endpoint": "http://localhost", "timeout_seconds": 0.0}, "time-out .* not 0.0"),
        ({"splitter": "model", "model": "x", "timeout_seconds": float("nan")}, "time-out .* not nan"),
    ],
)
def test_a_mistake_in_the_settings_is_answered_before_any_prompt(options, complaint):
    with pytest.raises(ValueError, match=complaint) as caught:
        load_splitter(PromptSplitConfig(**options))
    assert "\n" not in str(caught.value)


def test_an_unknown_splitter_is_refused():
    config = PromptSplitConfig()
    config.__dict__["splitter"] = "oracle"
    with pytest.raises(ValueError, match="Unknown splitter 'oracle': one of rules, model, endpoint, none fits"):
        load_splitter(config)
