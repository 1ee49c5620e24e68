"""CHT-09 to CHT-21: every parameter of a chat, with values that are taken, values that are refused, and its effect."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from tests.conformance.chat import (
    ABOUT_ITSELF,
    MODEL,
    PATH,
    TRANSCRIBE,
    Json,
    body,
    chat,
    completion,
    input_audio,
    never_ending,
    reply,
    text_of_bytes,
    texts,
    user,
)
from tests.conformance.wire import Api, assert_refused, error_of
from tests.conftest import Clip, Server
from tests.scripted.chat_model import MAX_CONTEXT_TOKENS

QUESTION = user(ABOUT_ITSELF)

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}

OPTIONAL = """
    max_tokens max_completion_tokens temperature top_p n stop seed logprobs top_logprobs presence_penalty
    frequency_penalty logit_bias response_format tools functions tool_choice function_call modalities audio prediction
    web_search_options stream stream_options user metadata store service_tier parallel_tool_calls reasoning_effort
    verbosity safety_identifier prompt_cache_key prompt_cache_retention top_k min_p repetition_penalty min_tokens
    ignore_eos stop_token_ids skip_special_tokens
""".split()


@pytest.fixture(scope="module")
def whole(api: Api) -> Json:
    """The greedy answer to `QUESTION`, with logprobs."""
    answer = completion(api, QUESTION, logprobs=True, top_logprobs=5, max_tokens=60)
    assert answer["usage"]["completion_tokens"] > 15, "the tests below need a longer one"
    return answer


@pytest.fixture(scope="module")
def text(whole: Json) -> str:
    (text,) = texts(whole)
    return text


def finish_reason(answer: Json) -> str:
    (choice,) = answer["choices"]
    return str(choice["finish_reason"])


# Every parameter's limits ----------------------------------------------------------------------------------------


@pytest.mark.also_real
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 1),
        ("max_tokens", 1_000_000),
        ("max_completion_tokens", 1),
        ("max_completion_tokens", 1_000_000),
        ("temperature", 0),
        ("temperature", 0.0),
        ("temperature", 1e-9),
        ("temperature", 2),
        ("temperature", 2.0),
        ("top_p", 1e-9),
        ("top_p", 0.5),
        ("top_p", 1),
        ("n", 1),
        ("n", 8),
        ("stop", "x"),
        ("stop", []),
        ("stop", ["x"]),
        ("stop", ["a", "b", "c", "d"]),
        ("stop", ["\n"]),
        ("stop", "x" * 1000),
        ("seed", 0),
        ("seed", -(2**63)),
        ("seed", 2**63 - 1),
        ("logprobs", True),
        ("logprobs", False),
        ("presence_penalty", -2),
        ("presence_penalty", 2),
        ("frequency_penalty", -2),
        ("frequency_penalty", 2.0),
        ("logit_bias", {}),
        ("logit_bias", {"0": -100, "5": 100, "7": 0.5}),
        ("response_format", {"type": "text"}),
        ("tools", []),
        ("functions", []),
        ("tool_choice", "none"),
        ("tool_choice", "auto"),
        ("modalities", ["text"]),
        ("stream", False),
        ("top_k", -1),
        ("top_k", 0),
        ("top_k", 5),
        ("top_k", 1_000_000),
        ("min_p", 0),
        ("min_p", 1),
        ("repetition_penalty", 0.5),
        ("repetition_penalty", 1.3),
    ],
    ids=str,
)
def test_cht_values_that_are_taken(api: Api, name: str, value: Any) -> None:
    response = chat(api, **{"max_tokens": 3, "temperature": 0.7, name: value})
    assert response.status_code == 200, response.text


@pytest.mark.also_real
@pytest.mark.parametrize("top_logprobs", [0, 1, 20])
def test_cht_14_top_logprobs_in_range(api: Api, top_logprobs: int) -> None:
    answer = completion(api, max_tokens=3, logprobs=True, top_logprobs=top_logprobs)
    tokens = answer["choices"][0]["logprobs"]["content"]
    assert [len(token["top_logprobs"]) for token in tokens] == [top_logprobs] * 3


@pytest.mark.also_real
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", -1),
        ("max_tokens", 1.5),
        ("max_tokens", "7"),
        ("max_tokens", True),
        ("max_completion_tokens", 0),
        ("max_completion_tokens", -1),
        ("max_completion_tokens", 1.5),
        ("max_completion_tokens", "many"),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", "hot"),
        ("temperature", True),
        ("temperature", []),
        ("top_p", 0),
        ("top_p", -0.1),
        ("top_p", 1.1),
        ("top_p", "all"),
        ("n", 0),
        ("n", -1),
        ("n", 129),
        ("n", 1.5),
        ("n", "2"),
        ("seed", 1.5),
        ("seed", "lucky"),
        ("seed", 2**63),
        ("seed", -(2**63) - 1),
        ("seed", 10**400),
        ("logprobs", "yes"),
        ("logprobs", 1),
        ("presence_penalty", -2.1),
        ("presence_penalty", 2.1),
        ("presence_penalty", "much"),
        ("frequency_penalty", -2.1),
        ("frequency_penalty", 2.1),
        ("frequency_penalty", {}),
        ("logit_bias", []),
        ("logit_bias", "5"),
        ("logit_bias", {"99999999": 1}),
        ("logit_bias", {"-1": 1}),
        ("logit_bias", {"hello": 1}),
        ("logit_bias", {"": 1}),
        ("logit_bias", {"٣": 1}),
        ("logit_bias", {"9" * 30: 1}),
        ("response_format", "text"),
        ("response_format", {}),
        ("response_format", {"type": "yaml"}),
        ("response_format", {"type": "json_object"}),
        ("response_format", JSON_SCHEMA),
        ("tools", [TOOL]),
        ("tools", "weather"),
        ("functions", [{"name": "weather"}]),
        ("tool_choice", "required"),
        ("tool_choice", {"type": "function", "function": {"name": "weather"}}),
        ("modalities", ["audio"]),
        ("modalities", ["text", "audio"]),
        ("modalities", "text"),
        ("audio", {"voice": "alloy", "format": "wav"}),
        ("audio", {}),
        ("prediction", {"type": "content", "content": "Hello"}),
        ("prediction", {}),
        ("web_search_options", {"search_context_size": "low"}),
        ("web_search_options", {}),
        ("stream", "true"),
        ("stream", 1),
        ("stream_options", {"include_usage": True}),
        ("top_k", -2),
        ("top_k", 1.5),
        ("min_p", -0.1),
        ("min_p", 1.1),
        ("repetition_penalty", 0),
        ("repetition_penalty", -1),
    ],
    ids=str,
)
def test_cht_values_that_are_refused(api: Api, name: str, value: Any) -> None:
    assert_refused(chat(api, **{name: value}), 400, name)


@pytest.mark.parametrize(
    ("name", "value", "places"),
    [
        ("stop", list("abcde"), ["stop"]),
        ("stop", 7, ["stop"]),
        ("stop", {"a": "b"}, ["stop"]),
        ("stop", "", ["stop", "stop[0]"]),
        ("stop", ["a", ""], ["stop", "stop[1]"]),
        ("stop", ["a", None], ["stop", "stop[1]"]),
        ("logit_bias", {"5": 101}, ["logit_bias", "logit_bias.5"]),
        ("logit_bias", {"5": -100.5}, ["logit_bias", "logit_bias.5"]),
        ("logit_bias", {"5": "much"}, ["logit_bias", "logit_bias.5"]),
        ("logit_bias", {"5": None}, ["logit_bias", "logit_bias.5"]),
        ("modalities", ["text", 7], ["modalities", "modalities[1]"]),
    ],
    ids=str,
)
def test_cht_wrong_items_are_refused(api: Api, name: str, value: Any, places: list[str]) -> None:
    assert_refused(chat(api, **{name: value}), 400, *places)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("name", ["temperature", "top_p", "presence_penalty", "min_p", "repetition_penalty", "seed"])
def test_cht_numbers_that_are_none(api: Api, name: str, value: str) -> None:
    content = json.dumps({**body(), name: "NUMBER"}).replace('"NUMBER"', value)
    assert_refused(api.client.post(PATH, content=content), 400, name, None)


@pytest.mark.also_real
@pytest.mark.parametrize("name", ["tools", "functions", "tool_choice", "audio", "prediction", "web_search_options"])
def test_cht_18_what_is_not_supported_says_so(api: Api, name: str) -> None:
    value: Any = {"tools": [TOOL], "functions": [{"name": "f"}], "tool_choice": "required"}.get(
        name, {"type": "content"}
    )
    assert_refused(chat(api, **{name: value}), 400, name, code="unsupported_parameter")


@pytest.mark.also_real
def test_cht_19_audio_as_the_sdk_asks_for_it(api: Api) -> None:
    response = chat(api, modalities=["text", "audio"], audio={"voice": "alloy", "format": "wav"})
    assert_refused(response, 400, "modalities", "audio")


@pytest.mark.parametrize("name", OPTIONAL)
def test_cht_20_null_is_not_given(api: Api, name: str) -> None:
    plain, null = completion(api, max_tokens=4), completion(api, **{"max_tokens": 4, name: None})
    if name == "max_tokens":
        assert null["usage"]["completion_tokens"] > 4
    else:
        assert (texts(null), null["usage"]) == (texts(plain), plain["usage"])


@pytest.mark.also_real
def test_cht_20_all_of_them_null(api: Api) -> None:
    response = chat(api, **dict.fromkeys(OPTIONAL))
    assert response.status_code == 200, response.text


def test_cht_20_null_further_inside(api: Api) -> None:
    response = chat(api, max_tokens=1, stream=True, stream_options={"include_usage": None})
    assert response.status_code == 200, response.text


@pytest.mark.also_real
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("user", "user-1234"),
        ("metadata", {"trace": "1"}),
        ("store", True),
        ("service_tier", "auto"),
        ("parallel_tool_calls", True),
        ("reasoning_effort", "low"),
        ("verbosity", "low"),
        ("safety_identifier", "user-1234"),
        ("prompt_cache_key", "a-key"),
        ("prompt_cache_retention", "24h"),
        ("min_tokens", 20),
        ("ignore_eos", True),
        ("stop_token_ids", [1, 2, 3]),
        ("skip_special_tokens", False),
        ("best_of", 3),
        ("guided_json", {"type": "object"}),
        ("chat_template_kwargs", {"enable_thinking": False}),
        ("colour", "blue"),
    ],
)
def test_cht_20_ignored(api: Api, name: str, value: Any) -> None:
    assert reply(api, max_tokens=6, **{name: value}) == reply(api, max_tokens=6)


@pytest.mark.also_real
def test_cht_21_the_sdk_sends_extras_in_its_extra_body(server: Server) -> None:
    answer = server.client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Hello"}],
        extra_body={"top_k": 1, "min_p": 0.05, "repetition_penalty": 1.05, "min_tokens": 2},
    )
    assert answer.choices[0].message.content


# CHT-09 ----------------------------------------------------------------------------------------------------------


@pytest.mark.also_real
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("limit", [1, 7])
def test_cht_09_an_answer_that_hits_the_limit(api: Api, text: str, name: str, limit: int) -> None:
    answer = completion(api, QUESTION, **{name: limit})
    assert finish_reason(answer) == "length"
    assert answer["usage"]["completion_tokens"] == limit
    assert text.startswith(texts(answer)[0])
    assert len(texts(answer)[0]) < len(text)


def test_cht_09_max_completion_tokens_wins(api: Api) -> None:
    for limit, other in ((2, 5), (5, 2)):
        answer = completion(api, QUESTION, max_completion_tokens=limit, max_tokens=other)
        assert answer["usage"]["completion_tokens"] == limit


def test_cht_09_an_answer_that_just_fits(api: Api, whole: Json) -> None:
    num_tokens = whole["usage"]["completion_tokens"]
    assert finish_reason(completion(api, QUESTION, max_tokens=num_tokens + 1)) == "stop"
    assert finish_reason(completion(api, QUESTION, max_tokens=num_tokens - 1)) == "length"


@pytest.mark.also_real
@pytest.mark.parametrize("repeated", ["word ", "x", "\U0001f600", "日"])
@pytest.mark.parametrize("parameters", [{}, {"max_tokens": 1}, {"stream": True}], ids=str)
def test_cht_09_messages_beyond_the_context(api: Api, repeated: str, parameters: dict[str, Any]) -> None:
    response = chat(api, user(repeated * 20_000), **parameters)
    assert_refused(response, 400, "messages", code="context_length_exceeded")


def test_cht_09_megabytes_of_text_are_refused_quickly(api: Api) -> None:
    """Without a look at every token."""
    response = api.client.post(PATH, json=body(user("word " * 2_000_000)), timeout=20)
    assert_refused(response, 400, "messages", code="context_length_exceeded")


def test_cht_09_many_messages_beyond_the_context(api: Api) -> None:
    assert_refused(chat(api, *[user("Hello")] * 3_000), 400, "messages", code="context_length_exceeded")


def test_cht_09_prompt_and_answer_share_the_context(api: Api) -> None:
    """What is left of the context bounds an answer that would go on for ever."""
    context = MAX_CONTEXT_TOKENS
    assert str(context) in error_of(chat(api, user("word " * 20_000)))["message"]

    def num_tokens(num_words: int) -> int:
        return int(completion(api, user("word " * num_words), max_tokens=1)["usage"]["prompt_tokens"])

    tokens_per_word = (num_tokens(200) - num_tokens(100)) / 100
    num_words = int((context - num_tokens(0) - 80) / tokens_per_word)
    answer = completion(api, user("word " * num_words), **never_ending())
    assert finish_reason(answer) == "length"
    assert answer["usage"]["total_tokens"] == context
    assert answer["usage"]["completion_tokens"] > 20


# CHT-10, CHT-11, CHT-13 ------------------------------------------------------------------------------------------


@pytest.mark.also_real
def test_cht_10_temperature_0_is_repeatable(api: Api, text: str) -> None:
    first, second = (reply(api, QUESTION, seed=seed, max_tokens=8) for seed in (1, 2))
    assert first == second
    assert text.startswith(first)


def test_cht_10_hardly_above_0_is_greedy(api: Api, text: str) -> None:
    assert reply(api, QUESTION, temperature=1e-30) == text


@pytest.mark.parametrize("parameters", [{"top_p": 1e-6}, {"top_k": 1}, {"min_p": 1}], ids=str)
def test_cht_10_only_the_most_probable_is_left_to_draw(api: Api, text: str, parameters: dict[str, Any]) -> None:
    assert reply(api, QUESTION, temperature=2, **parameters) == text


def test_cht_10_above_0_answers_are_drawn(api: Api) -> None:
    """At temperature 1 they seldom differ, at 2 they nearly always do: no seed, none alike."""
    assert len({reply(api, QUESTION, temperature=2, max_tokens=20) for _ in range(4)}) > 1


def test_cht_10_without_a_temperature_the_checkpoint_s_own(api: Api, text: str) -> None:
    """Greedily, as the scripted model says of itself."""
    assert [reply(api, QUESTION, temperature=None, seed=seed) for seed in (1, 2)] == [text, text]


@pytest.mark.also_real
@pytest.mark.parametrize("n", [1, 3, 8])
def test_cht_11_n_answers(api: Api, n: int) -> None:
    answer = completion(api, QUESTION, n=n, temperature=2, max_tokens=5, seed=1)
    assert [choice["index"] for choice in answer["choices"]] == list(range(n))
    assert {choice["finish_reason"] for choice in answer["choices"]} <= {"length", "stop"}
    assert n * 1 <= answer["usage"]["completion_tokens"] <= n * 5
    assert answer["usage"]["prompt_tokens"] == completion(api, QUESTION, max_tokens=1)["usage"]["prompt_tokens"]


def test_cht_11_answers_are_drawn_separately(api: Api) -> None:
    assert len(set(texts(completion(api, QUESTION, n=4, temperature=2, max_tokens=20, seed=1)))) > 1


def test_cht_11_at_temperature_0_all_are_equal(api: Api, text: str) -> None:
    assert texts(completion(api, QUESTION, n=3)) == [text] * 3


@pytest.mark.also_real
@pytest.mark.parametrize("seed", [7, -7, 2**63 - 1, -(2**63)])
def test_cht_13_same_seed_same_text(api: Api, seed: int) -> None:
    first, second = (texts(completion(api, QUESTION, temperature=1.5, n=2, max_tokens=25, seed=seed)) for _ in range(2))
    assert first == second


def test_cht_13_another_seed_another_text(api: Api) -> None:
    assert len({reply(api, QUESTION, temperature=2, max_tokens=20, seed=seed) for seed in range(4)}) > 1


# CHT-12 ----------------------------------------------------------------------------------------------------------


@pytest.mark.also_real
@pytest.mark.parametrize("length", [1, 2, 7, 25])
@pytest.mark.parametrize("place", [0.2, 0.45, 0.7])
def test_cht_12_the_answer_ends_before_the_stop_text(api: Api, text: str, place: float, length: int) -> None:
    """Stop texts from the answer's own middle, with no regard to where its tokens begin and end."""
    start = int(place * len(text))
    stop = text[start : start + length]
    answer = completion(api, QUESTION, stop=stop)
    assert texts(answer) == [text[: text.index(stop)]]
    assert finish_reason(answer) == "stop"


def test_cht_12_at_the_very_beginning(api: Api, text: str) -> None:
    answer = completion(api, QUESTION, stop=[text[:3]])
    assert (texts(answer), finish_reason(answer)) == ([""], "stop")
    assert answer["usage"]["completion_tokens"] >= 1


def test_cht_12_at_the_very_end(api: Api, text: str) -> None:
    answer = completion(api, QUESTION, stop=text[-4:])
    assert texts(answer) == [text[: text.index(text[-4:])]]


def test_cht_12_the_first_of_several_wins(api: Api, text: str) -> None:
    early, late = text[20:26], text[40:50]
    assert text.index(early) < text.index(late)
    assert reply(api, QUESTION, stop=[late, "☃", early]) == text[: text.index(early)]


def test_cht_12_one_within_another(api: Api, text: str) -> None:
    """The one that is complete first ends the answer."""
    outer, inner = text[20:40], text[25:30]
    assert text.index(inner) == 25
    assert reply(api, QUESTION, stop=[outer, inner]) == text[:25]


@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 1.0])
def test_cht_12_what_only_looks_like_it_stays(api: Api, text: str, place: float) -> None:
    """Also where the answer ends in the first half of a stop text."""
    start = int(place * (len(text) - 6))
    answer = completion(api, QUESTION, stop=[text[start : start + 6] + "☃"])
    assert (texts(answer), finish_reason(answer)) == ([text], "stop")


@pytest.mark.parametrize("limit", [2, 3, 5, 8])
def test_cht_12_what_was_held_back_is_said_at_the_limit(api: Api, limit: int) -> None:
    plain = reply(api, QUESTION, max_tokens=limit)
    answer = completion(api, QUESTION, max_tokens=limit, stop=[plain[-2:] + "☃", plain + "☃"])
    assert (texts(answer), finish_reason(answer)) == ([plain], "length")


def test_cht_12_messages_are_not_searched(api: Api, text: str) -> None:
    assert reply(api, QUESTION, stop="What can you do?") == text


def test_cht_12_a_character_of_several_bytes(api: Api, clips: list[Clip]) -> None:
    """The model may write it in several tokens."""
    clip = next(clip for clip in clips if not clip.text.isascii())
    question = user(input_audio(clip.data), TRANSCRIBE)
    text = reply(api, question)
    stop = next(character for character in text if not character.isascii())
    assert reply(api, question, stop=stop) == text[: text.index(stop)]


# CHT-14 ----------------------------------------------------------------------------------------------------------


def tokens_of(answer: Json) -> list[Json]:
    (choice,) = answer["choices"]
    tokens: list[Json] = choice["logprobs"]["content"]
    return tokens


def assert_scored(tokens: Sequence[Json], num_alternatives: int) -> None:
    for token in tokens:
        assert token.keys() == {"token", "logprob", "bytes", "top_logprobs"}
        assert token["logprob"] <= 0
        assert len(token["top_logprobs"]) == num_alternatives
        for alternative in token["top_logprobs"]:
            assert alternative.keys() == {"token", "logprob", "bytes"}
        scores = [alternative["logprob"] for alternative in token["top_logprobs"]]
        assert scores == sorted(scores, reverse=True)


@pytest.mark.also_real
def test_cht_14_one_entry_per_token(whole: Json, text: str) -> None:
    tokens = tokens_of(whole)
    assert len(tokens) == whole["usage"]["completion_tokens"]
    assert_scored(tokens, 5)
    assert text_of_bytes(tokens) == text
    assert "".join(token["token"] for token in tokens) == text  # all of it is ASCII


def test_cht_14_greedy_takes_the_most_probable(whole: Json) -> None:
    for token in tokens_of(whole):
        best, *_ = token["top_logprobs"]
        assert best == {key: token[key] for key in ("token", "logprob", "bytes")}


def test_cht_14_without_alternatives(api: Api, text: str) -> None:
    answer = completion(api, QUESTION, logprobs=True)
    assert_scored(tokens_of(answer), 0)
    assert text_of_bytes(tokens_of(answer)) == text


@pytest.mark.real
def test_cht_14_drawn_tokens_are_scored_too(api: Api) -> None:
    answer = completion(api, QUESTION, logprobs=True, top_logprobs=2, temperature=2, seed=3, max_tokens=10)
    tokens = tokens_of(answer)
    assert_scored(tokens, 2)
    assert any(token["token"] != token["top_logprobs"][0]["token"] for token in tokens)


def test_cht_14_bytes_of_characters_outside_ascii(api: Api, clips: list[Clip]) -> None:
    clip = next(clip for clip in clips if not clip.text.isascii())
    answer = completion(api, user(input_audio(clip.data), TRANSCRIBE), logprobs=True)
    assert text_of_bytes(tokens_of(answer)) == texts(answer)[0]


@pytest.mark.parametrize("parameters", [{}, {"logprobs": False}, {"logprobs": None}], ids=str)
def test_cht_14_null_unless_asked(api: Api, parameters: dict[str, Any]) -> None:
    assert completion(api, max_tokens=2, **parameters)["choices"][0]["logprobs"] is None


@pytest.mark.parametrize("parameters", [{}, {"logprobs": False}, {"logprobs": None}], ids=str)
def test_cht_14_top_logprobs_need_logprobs(api: Api, parameters: dict[str, Any]) -> None:
    assert_refused(chat(api, top_logprobs=2, **parameters), 400, "top_logprobs")


@pytest.mark.parametrize("value", [-1, 21, 1.5, "2", True])
def test_cht_14_top_logprobs_out_of_range(api: Api, value: Any) -> None:
    assert_refused(chat(api, logprobs=True, top_logprobs=value), 400, "top_logprobs")


def test_cht_14_the_sdk_reads_them(server: Server, text: str) -> None:
    answer = server.client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": ABOUT_ITSELF}],
        temperature=0,
        logprobs=True,
        top_logprobs=1,
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert b"".join(bytes(token.bytes or []) for token in logprobs.content).decode() == text


# CHT-15, CHT-16, CHT-21 ------------------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize("name", ["presence_penalty", "frequency_penalty", "repetition_penalty"])
def test_cht_15_penalties_lead_to_other_words(api: Api, name: str) -> None:
    """An answer that may not end falls into repeating itself."""
    assert num_kinds(api, **{name: 2.0}) > num_kinds(api)


def num_kinds(api: Api, **penalty: float) -> int:
    """Different tokens of an answer to "Hello" that may not end."""
    answer = completion(api, logprobs=True, max_tokens=40, **never_ending(), **penalty)
    return len({token["token"] for token in tokens_of(answer)})


@pytest.mark.real
@pytest.mark.parametrize("temperature", [0, 1])
def test_cht_16_a_token_can_be_forced(api: Api, temperature: float) -> None:
    answer = completion(api, logprobs=True, max_tokens=6, temperature=temperature, logit_bias={"300": 100})
    (written,) = {token["token"] for token in tokens_of(answer)}
    assert texts(answer)[0].strip() == (written * 6).strip()


def test_cht_16_tokens_can_be_forbidden(api: Api, text: str) -> None:
    """Those that end answers: it goes on until its limit."""
    answer = completion(api, QUESTION, max_tokens=100, **never_ending())
    assert (finish_reason(answer), answer["usage"]["completion_tokens"]) == ("length", 100)
    assert texts(answer)[0].startswith(text)


def test_cht_16_fields_like_openai_s_client_sends_them(server: Server) -> None:
    answer = server.client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Hello"}], logit_bias={"300": 100}, max_tokens=2
    )
    assert answer.choices[0].message.content
