import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lavis
from lavis.common.errors import ConfigError, NoAnswerError, QuestionError
from lavis.common.types import Question
from lavis.models.api.model import Said, ServedModel, named_option, read_choice
from lavis.models.base import VideoModel
from lavis.models.frame_cache import FrameCache
from lavis.models.loading import check_weights, load_model
from lavis.models.pipeline import WatchedVideo
from tests.unit.models.api.chat_server import ChatServer, Reply, chat_server, completion, picture_of
from tests.videos import shown_numbers

OPTIONS = ("a cat", "a dog", "a man")
URL = "http://127.0.0.1:9/v1"


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SEVILA_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def watched(server: ChatServer, clip: Path, **settings: Any) -> WatchedVideo:
    model = load_model(model_type={"name": "openai", "url": server.url, "model": "tiny", "retries": 0, **settings})
    found: WatchedVideo = model.watch(clip, num_frames=5)
    return found


def yes_where(*times_s: float) -> Any:
    """Answer yes or no by the frame's number, which is its time at 25 frames a second; else choose B."""
    wanted = {round(time_s * 25) for time_s in times_s}

    def answering(request: dict[str, Any]) -> dict[str, Any]:
        content = request["messages"][0]["content"]
        if "yes or no only" not in content[-1]["text"]:
            return completion("B", [("B", -0.2), ("A", -2.0), (" A", -3.0), ("C", -4.0), ("The", -5.0)])
        (number,) = shown_numbers(np.asarray(picture_of(content[0]))[None])
        listed = [("Yes", -0.1), ("No", -3.0)] if number in wanted else [("no", -0.2), (" yes", -2.0), ("YES", -4.0)]
        return completion(listed[0][0], listed)

    return answering


def test_keyframes_are_chosen_and_sent_in_time_order_with_their_times(clip: Path) -> None:
    with chat_server(yes_where(0.6, 1.4)) as server:
        video = watched(server, clip)
        assert (video.num_seen, server.bodies) == (0, [])
        answer = video.ask("What is it?", OPTIONS, num_keyframes=2)
        assert video.num_seen == 5
    assert (answer.index, answer.text) == (1, "a dog")
    np.testing.assert_allclose(answer.keyframes.times_s, [0.6, 1.4])
    no = np.logaddexp(-2.0, -4.0)
    np.testing.assert_allclose(answer.keyframes.all_scores, [no, -0.1, no, -0.1, no])
    np.testing.assert_allclose(answer.option_scores, [np.logaddexp(-2.0, -3.0), -0.2, -4.0])
    *scoring, reading = server.bodies
    assert len(scoring) == 5
    first = scoring[0]
    assert {name: value for name, value in first.items() if name != "messages"} == {
        "model": "tiny",
        "stream": False,
        "temperature": 0,
        "max_tokens": 4,
        "logprobs": True,
        "top_logprobs": 20,
    }
    picture, text = first["messages"][0]["content"]
    assert picture_of(picture).size == (96, 64)
    assert text == {
        "type": "text",
        "text": "Question: What is it?\nOptions:\nA. a cat\nB. a dog\nC. a man\n"
        "Does this frame show what is needed to answer the question? Answer with yes or no only.",
    }
    label, one, label2, two, text = reading["messages"][0]["content"]
    assert (label["text"], label2["text"]) == ("Frame at 0.6 s:", "Frame at 1.4 s:")
    assert [shown_numbers(np.asarray(picture_of(part))[None]) for part in (one, two)] == [[15], [35]]
    assert text["text"].endswith("C. a man\nAnswer with the letter of the right option only.")
    assert reading["max_tokens"] == 16


def test_nothing_is_cached_and_frames_are_decoded_when_they_are_asked_about(clip: Path, tmp_path: Path) -> None:
    cache = FrameCache(tmp_path / "cache")
    with chat_server([completion("B")]) as server:
        model = load_model(model_type=f"openai:{server.url}#m")
        seen: list[tuple[int, int]] = []
        video = model.watch(clip, num_frames=20, cache=cache, progress=lambda *done: seen.append(done))
        assert (video.num_seen, seen) == (0, [])
        video.ask("What?", OPTIONS, selector="uniform", num_keyframes=3)
        assert video.num_seen == 3
    assert cache.usage().entries == 0


def test_what_is_known_of_the_answer_is_said(clip: Path) -> None:
    with chat_server(yes_where(0.6)) as server:
        answer = watched(server, clip).ask("What is it?", OPTIONS, num_keyframes=1)
    assert answer.caveats == (f"answered by tiny on {server.url}, of whose weights nothing is known here",)


def test_several_questions_are_asked_about_the_same_frames(clip: Path) -> None:
    with chat_server(yes_where(0.6)) as server:
        questions = [Question("What is it?", OPTIONS), Question("Who?", ("ada", "bob"))]
        first, second = watched(server, clip).ask_all(questions, num_keyframes=1)
    assert (first.text, second.text) == ("a dog", "bob")
    assert (len(first.option_scores), len(second.option_scores)) == (3, 2)
    texts = [body["messages"][0]["content"][-1]["text"].partition("\n")[0] for body in server.bodies]
    assert sorted(texts[:10]) == ["Question: What is it?"] * 5 + ["Question: Who?"] * 5


def test_only_frames_that_are_asked_about_are_sent(clip: Path) -> None:
    wanted_s = [number / 25 for number in range(10, 21)]
    with chat_server(yes_where(*wanted_s)) as server:
        model = load_model(model_type=f"openai:{server.url}#m")
        video = model.watch(clip, num_frames=50)
        policy = {"policy": {"name": "coarse_to_fine", "gap": 5}}
        answer = video.ask("What is it?", OPTIONS, num_keyframes=2, selector=policy)
    scored = np.isfinite(answer.keyframes.all_scores)
    assert 10 <= scored.sum() < 50
    assert len(server.bodies) == scored.sum() + 1
    assert video.num_seen == scored.sum()
    assert all(0.4 <= time_s <= 0.8 for time_s in answer.keyframes.times_s)


def test_moments_are_found_where_yes_is_likelier_than_no(clip: Path) -> None:
    with chat_server(yes_where(0.6, 1.0)) as server:
        found = watched(server, clip).find("A cat")
    np.testing.assert_allclose(found.scores[1], 2.9)
    ((start_s, end_s),) = [(moment.start_s, moment.end_s) for moment in found.moments]
    assert start_s <= 0.6 < 1.0 <= end_s < 1.4
    assert server.bodies[0]["messages"][0]["content"][1]["text"].startswith("Description: A cat\n")


def test_an_open_answer_is_asked_for_without_log_probabilities(clip: Path) -> None:
    with chat_server([completion(" A cat runs. ")]) as server:
        answer = watched(server, clip, max_tokens=9).ask("What?", selector="uniform", num_keyframes=2)
        assert watched(server, clip).num_seen == 0
    assert (answer.index, answer.text, len(answer.option_scores)) == (None, "A cat runs.", 0)
    (body,) = server.bodies
    assert body["max_tokens"] == 9
    assert "logprobs" not in body


def test_frames_alone_vote_and_ties_go_to_the_higher_score(clip: Path) -> None:
    said = [
        completion("A", [("A", -0.1), ("B", -3.0)]),
        completion("B", [("B", -0.01), ("A", -5.0)]),
    ]
    with chat_server(said) as server:
        answer = watched(server, clip, concurrency=1).ask(
            "What?", OPTIONS[:2], selector="uniform", num_keyframes=2, reader="per_frame"
        )
    assert answer.frame_choices.tolist() == [0, 1]
    assert answer.index == 1
    np.testing.assert_allclose(answer.option_scores, [(-0.1 - 5.0) / 2, (-3.0 - 0.01) / 2])
    assert [len(body["messages"][0]["content"]) for body in server.bodies] == [3, 3]
    with chat_server([completion("B"), completion("A")]) as server:
        answer = watched(server, clip, concurrency=1).ask(
            "What?", OPTIONS, selector="uniform", num_keyframes=2, reader="per_frame"
        )
    assert (answer.index, answer.frame_choices.tolist()) == (0, [1, 0])
    with pytest.raises(QuestionError, match="an open answer needs frames read together"):
        watched(server, clip).ask("What?", selector="uniform", reader="per_frame")


def test_without_log_probabilities_only_the_choice_is_known(clip: Path) -> None:
    with chat_server([completion("C")]) as server:
        answer = watched(server, clip).ask("What is it?", OPTIONS, selector="uniform")
    assert (answer.index, answer.text, len(answer.option_scores)) == (2, "a man", 0)
    assert answer.caveats[1:] == ("the server gives no log-probabilities: only the choice is known",)


def test_without_log_probabilities_there_is_no_localizer(clip: Path) -> None:
    way_out = (
        r"gives no log-probabilities, by which frames are scored; choose frames another way \(--selector uniform\)"
    )
    with chat_server([completion("yes")]) as server, pytest.raises(ConfigError, match=way_out):
        watched(server, clip).ask("What is it?", OPTIONS)


def test_a_word_that_is_not_listed_counts_as_the_weakest_and_that_is_said(clip: Path) -> None:
    with chat_server([completion("yes", [("yes", -0.01), ("maybe", -7.0)])]) as server:
        found = watched(server, clip).find("A cat")
    np.testing.assert_allclose(found.scores, [6.99] * 5)
    assert found.caveats[1:] == (
        "of some frames only yes or no is among the likeliest words of the model; the other counts as its weakest",
    )


def test_a_frame_that_gets_neither_yes_nor_no_is_no_guess(clip: Path) -> None:
    told = r"^question 'A cat': of the frame at 0\.20 s the model said 'The frame', and neither yes nor no is among its"
    with (
        chat_server([completion("The frame", [("The", -0.1), ("A", -3.0)])]) as server,
        pytest.raises(NoAnswerError, match=told),
    ):
        watched(server, clip).find("A cat")


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("B", 1),
        (" b \n", 1),
        ("b.", 1),
        ("B.", 1),
        ("(B)", 1),
        ("**B**", 1),
        ("B) a dog", 1),
        ("B. a dog", 1),
        ("B: it barks", 1),
        ("B\n\nIt barks.", 1),
        ("Option B", 1),
        ("Answer: B", 1),
        ("The answer is B.", 1),
        ("the correct answer is (B) a dog.", 1),
        ("The correct option is **C**", 2),
        ("A dog.", 1),
        ('"a man"', 2),
        ("A. a cat", 0),
        ("", None),
        ("D", None),
        ("d", None),
        ("A bird", None),
        ("A or B", None),
        ("A) or B)", None),
        ("A. a cat\nB. a dog\nC. a man", None),
        ("Either A or B.", None),
        ("I cannot tell.", None),
        ("The answer is a dog", None),
        ("Cat", None),
        ("AB", None),
        ("1", None),
        ("\u0412", None),  # a Cyrillic letter
    ],
)
def test_a_choice_is_read_strictly(text: str, option: int | None) -> None:
    assert named_option(text, OPTIONS) == option


def test_letters_within_options_do_not_confuse() -> None:
    assert named_option("A. Vitamin B.", ("Vitamin B", "Vitamin C")) == 0
    assert named_option("I", tuple(f"option {number}" for number in range(26))) == 8
    assert named_option("same", ("Same", "same")) is None


def test_scores_are_of_the_letter_that_the_text_names() -> None:
    question = Question("What?", OPTIONS)
    listed = {"A": -0.5, " A": -1.5, "B": -1.2}
    choice = read_choice(Said("A", "A", listed), question)
    np.testing.assert_allclose(choice.scores, [np.logaddexp(-0.5, -1.5), -1.2, -1.5])
    assert choice.note == "not among the likeliest words of the model: C; such options count as its weakest word"
    # The spelling that was written is the likeliest token, but another letter has more in all its spellings.
    assert read_choice(Said("B", "B", {"A": -1.1, " A": -1.1, "B": -1.0}), question).index == 0
    # The article, not the letter.
    choice = read_choice(Said("A dog", "A", listed), question)
    assert (choice.index, len(choice.scores)) == (1, 0)
    assert choice.note == "the model did not begin with a letter: only its choice is known"
    assert read_choice(Said("The answer is C.", "The", listed), question).index == 2


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("A bird", r"^question 'What\?': the model said 'A bird', which is none of the options A to C$"),
        ("", r"said '', which is none of the options A to C; a model that thinks first needs to be told not to"),
        ("<think>Let me", "none of the options A to C; a model that thinks"),
    ],
)
def test_what_names_no_option_is_no_answer(clip: Path, said: str, told: str) -> None:
    with chat_server([completion(said, [("A", -0.1)])]) as server, pytest.raises(NoAnswerError, match=told):
        watched(server, clip).ask("What?", OPTIONS, selector="uniform")


def test_nothing_is_no_open_answer(clip: Path) -> None:
    with (
        chat_server([completion(None)]) as server,
        pytest.raises(NoAnswerError, match="said nothing; a model that thinks"),
    ):
        watched(server, clip).ask("What?", selector="uniform")


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"choices": []},
        {"choices": {}},
        {"choices": [{}]},
        {"choices": [{"message": {}}]},
        {"choices": [{"message": {"content": 3}}]},
        {"choices": [{"message": {"content": ["A"]}}]},
        {"choices": [{"message": {"content": "A"}, "logprobs": {"content": [{}]}}]},
        {"choices": [{"message": {"content": "A"}, "logprobs": {"content": [{"token": 3}]}}]},
        {"choices": [{"message": {"content": "A"}, "logprobs": [1]}]},
        completion("A", [("A", "high")]),  # type: ignore[list-item]
    ],
)
def test_json_that_is_no_completion_is_refused(clip: Path, content: Any) -> None:
    with (
        chat_server([content]) as server,
        pytest.raises(ConfigError, match="answers with something else than a chat completion"),
    ):
        watched(server, clip).ask("What?", OPTIONS, selector="uniform")


@pytest.mark.parametrize("logprobs", [None, {}, {"content": None}, {"content": []}, {"content": [{"token": "A"}]}])
def test_log_probabilities_may_be_missing_in_many_ways(clip: Path, logprobs: Any) -> None:
    content = completion("A")
    content["choices"][0]["logprobs"] = logprobs
    with chat_server([content]) as server:
        assert len(watched(server, clip).ask("What?", OPTIONS, selector="uniform").option_scores) == 0


def test_log_probabilities_that_are_no_numbers_are_left_out_and_doubled_tokens_added() -> None:
    model = ServedModel(URL, "m")
    content = completion("A", [("A", -1.0), ("A", -1.0), ("B", -math.inf), ("C", math.nan)])
    blank = {"token": "\n", "logprob": 0.0, "top_logprobs": []}
    content["choices"][0]["logprobs"]["content"].insert(0, blank)
    said = model._said(content)
    assert said.first == "A"
    assert set(said.listed) == {"A"}
    np.testing.assert_allclose(said.listed["A"], -1.0 + math.log(2))


def test_large_frames_are_sent_smaller(clip: Path) -> None:
    with chat_server([completion("A")]) as server:
        watched(server, clip, max_side=48).ask("What?", OPTIONS, selector="uniform", num_keyframes=1)
    assert picture_of(server.bodies[0]["messages"][0]["content"][1]).size == (48, 32)


def test_requests_say_what_else_is_given(clip: Path) -> None:
    body = {"temperature": 1, "top_k": 0, "max_tokens": None}
    with chat_server([completion("A")], also=["top_k"]) as server:
        watched(server, clip, body=body).ask("What?", OPTIONS, selector="uniform", num_keyframes=1)
    assert server.bodies[0]["temperature"] == 1
    assert server.bodies[0]["top_k"] == 0
    assert "max_tokens" not in server.bodies[0]


@pytest.mark.parametrize(
    ("source", "url", "model"),
    [
        ("openai:http://127.0.0.1:8000/v1#m", "http://127.0.0.1:8000/v1", "m"),
        ("openai:http://127.0.0.1:8000/v1/#Qwen/Qwen3-VL:4b#x", "http://127.0.0.1:8000/v1", "Qwen/Qwen3-VL:4b#x"),
        ("{name: openai, url: 'http://localhost:1', model: m, timeout_s: 3}", "http://localhost:1", "m"),
        ({"name": "openai", "url": "https://example.org/v1", "model": "m"}, "https://example.org/v1", "m"),
    ],
)
def test_a_model_is_named_by_its_address(source: Any, url: str, model: str) -> None:
    check_weights(source)
    for found in (load_model(model_type=source), load_model("openai", source), load_model("hf", source)):
        assert isinstance(found, ServedModel)
        assert (found.client.url, found.model, found.config.name) == (url, model, f"{model} on {url}")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("openai:", "a model on a server needs an address and a name, as in openai:http://127.0.0.1:8000/v1#NAME"),
        ("openai", "needs an address and a name"),
        ("openai:http://127.0.0.1:8000/v1", "needs an address and a name"),
        ("openai:http://127.0.0.1:8000/v1#", "needs an address and a name"),
        ("openai:127.0.0.1:8000#m", "needs an address and a name"),
        ("openai:ftp://127.0.0.1#m", "is not the address of a server"),
        ("openai:http://ada:secret@127.0.0.1#m", "127.0.0.1 holds a user or a password"),
        ("{name: openai, url: 'http://ada:secret@a', model: m}", "the server a holds a user or a password"),
        ("{name: openai, url: 'http://localhost'}", "the model openai is None; give a mapping such as"),
        ("{name: openai, url: 'http://localhost', model: [m]}", r"the model openai is \['m'\]; give a mapping"),
        ("{name: openai, model: m}", "needs an address and a name"),
        ("{name: openai, url: 'http://localhost', model: m, api_key: secret}", "^m takes no api_key; leave it out"),
        ("{name: openai, url: 'http://localhost', model: m, body: {model: x}}", "body: 'model' is said already"),
        ("{name: openai, url: 'http://localhost', model: m, body: 3}", "body is 3; give a mapping"),
        ("{name: openai, url: 'http://localhost', model: m, max_side: 0}", "max_side is 0; give a whole number"),
        ("{name: openai, url: 'http://localhost', model: ' '}", "needs the name of a model"),
        ("{name: openai, url: 'http://localhost', model: m, timeout_s: soon}", "timeout_s is 'soon'"),
        ("{name: openia, url: 'http://localhost', model: m}", "unknown model 'openia'; did you mean 'openai'"),
        ("{name: openai", "model {name: openai: "),
    ],
)
def test_what_names_no_model_on_a_server_is_refused(source: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_model(model_type=source)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_it_is_told_apart_by_address_name_and_settings_but_not_by_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = [
        ServedModel(URL, "m").make_digest(),
        ServedModel(URL, "n").make_digest(),
        ServedModel(f"{URL}/x", "m").make_digest(),
        ServedModel(URL, "m", max_side=9).make_digest(),
        ServedModel(URL, "m", body={"temperature": 1}).make_digest(),
    ]
    assert len(set(digests)) == len(digests)
    assert ServedModel(URL, "m", timeout_s=9, retries=1, concurrency=1).make_digest() == digests[0]
    monkeypatch.setenv("SEVILA_API_KEY", "secret")
    model = ServedModel(URL, "m")
    assert model.make_digest() == model.watching_key() == digests[0]
    assert "secret" not in f"{model!r} {vars(model)} {vars(model.client)}"


def test_what_needs_weights_here_is_refused(tmp_path: Path) -> None:
    model: VideoModel = ServedModel(URL, "m")
    assert model.encoders == ()
    assert list(load_model(model_type=f"openai:{URL}#m").parameters()) == []
    served = ServedModel(URL, "m")
    for refuse, what in ((lambda: served.quantize("int8"), "quantised to int8"), (served.compile_parts, "compiled")):
        with pytest.raises(ConfigError, match=f"m on {URL} runs on a server and cannot be {what} here; name a model"):
            refuse()
    with pytest.raises(ConfigError, match="cannot be trained here"):
        served.checkpoint_activations(method="torch")
    with pytest.raises(ConfigError, match=r"cannot be given the weights of model\.finetuned"):
        check_weights(f"openai:{URL}#m", partial=[tmp_path])


def test_it_is_one_of_the_models() -> None:
    assert dict(lavis.model_zoo)["openai"] == []


def test_a_picture_that_the_server_refuses_is_explained(clip: Path) -> None:
    refused = Reply({"error": {"message": "At most 1 image(s) may be provided in one prompt."}}, status=400)
    with chat_server([refused]) as server, pytest.raises(ConfigError, match=r"error 400: At most 1 image\(s\) may"):
        watched(server, clip).ask("What?", OPTIONS, selector="uniform")


def test_frames_are_sent_at_the_sizes_that_are_chosen(clip: Path) -> None:
    with chat_server(yes_where(0.6)) as server:
        video = watched(server, clip)
        answerer = video.model.as_answerer(prompt="multiple_choice", packing="joint")
        question = Question("What is it?", tuple(OPTIONS))
        sizes = np.array([[0.5, 1, 0.125]])
        answerer.answer(video.source, np.array([[0, 1, 3]]), [question], sizes=sizes)  # type: ignore[call-arg]
    (body,) = server.bodies
    content = body["messages"][0]["content"]
    assert [picture_of(part).size for part in content if part["type"] == "image_url"] == [(48, 32), (96, 64), (12, 8)]


def test_a_budget_of_tokens_nobody_can_count_is_refused(clip: Path) -> None:
    with chat_server(yes_where(0.6)) as server, pytest.raises(ConfigError, match="on a server nobody knows"):
        watched(server, clip).ask("What is it?", OPTIONS, token_budget=100, selector="uniform")
