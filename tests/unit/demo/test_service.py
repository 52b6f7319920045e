"""The page's work: the pipeline with limits, watched once, with a field for every mistake; files of its results."""

import json
import math
import zipfile
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lavis.common.errors import ConfigError
from lavis.common.types import Span
from lavis.demo.jobs import Job
from lavis.demo.layout import ANSWER_FILES, MOMENT_FILES
from lavis.demo.service import (
    AnswerRequest,
    AnswerResult,
    Files,
    FindRequest,
    FindResult,
    PicturedAnswer,
    Service,
)
from lavis.demo.settings import FieldError, JobError, Settings
from lavis.demo.videos import Source, Sources
from lavis.export.files import jpeg
from tests.unit.demo.conftest import CAVEAT, BrightnessModel, make_answer
from tests.videos import numbered_picture, shown_numbers, write_video

MakeJob = Callable[..., Job]
PICTURES = tuple(jpeg(numbered_picture(number, width=96, height=64)) for number in (10, 20))
ASKED = AnswerRequest("How bright?", ("dark", "grey", "light"), num_frames=20, num_keyframes=3)


@pytest.fixture
def source(video: Path) -> Source:
    return Source(video, "mine.mp4")


def test_the_answer_is_the_pipeline_s(service: Service, source: Source, make_job: MakeJob) -> None:
    answer = service.answer(source, ASKED, make_job()).chosen.answer
    expected = BrightnessModel().watch(source.path, num_frames=20).ask(ASKED.question, ASKED.options, num_keyframes=3)
    assert (answer.index, answer.text) == (expected.index, expected.text)
    assert answer.keyframes.frame_idx.tolist() == expected.keyframes.frame_idx.tolist()


def test_a_further_question_does_not_watch_again(
    service: Service, source: Source, model: BrightnessModel, make_job: MakeJob
) -> None:
    first = service.answer(source, ASKED, make_job())
    again = service.answer(source, AnswerRequest("Again?", num_frames=20), make_job())
    found = service.find(source, FindRequest(("light",), num_frames=20), make_job())
    assert model.num_watched == 20
    assert (first.known, again.known, found.known) == (False, True, True)
    assert first.seconds["watch"] > 0
    assert (again.seconds["decode"], again.seconds["watch"]) == (0, 0)
    assert again.chosen.answer.text == "open"


@pytest.mark.parametrize(("visitor", "frames"), [("bob", 20), ("ada", 10)])
def test_another_visitor_or_number_of_frames_watches_again(
    service: Service, source: Source, make_job: MakeJob, visitor: str, frames: int
) -> None:
    service.answer(source, ASKED, make_job("ada"))
    assert not service.answer(source, AnswerRequest("Why?", num_frames=frames), make_job(visitor)).known


def test_the_comparison_reads_uniform_frames_and_costs_the_answer_no_time(
    service: Service, source: Source, make_job: MakeJob
) -> None:
    answered = service.answer(source, AnswerRequest("How bright?", ("dark", "light"), 20, 4, compare=True), make_job())
    assert answered.uniform is not None
    assert answered.uniform.answer.keyframes.positions.tolist() == [2, 7, 12, 17]
    assert len(answered.uniform.pictures) == 4
    assert service.answer(source, ASKED, make_job()).uniform is None


def test_steps_are_told(service: Service, source: Source, make_job: MakeJob) -> None:
    steps: list[str] = []
    service.answer(source, ASKED, make_job(steps=steps))
    assert steps == [
        "opening the video",
        *["watching frames"] * 3,
        "reading the question",
        "reading the keyframes",
    ]


def test_a_cancelled_job_ends_and_is_no_mistake_of_a_field(service: Service, source: Source, make_job: MakeJob) -> None:
    job = make_job()
    job.cancel()
    with pytest.raises(JobError, match=r"^Cancelled\.$"):
        service.answer(source, ASKED, job)


def test_the_record_names_the_video_and_not_its_path(service: Service, source: Source, make_job: MakeJob) -> None:
    record = service.answer(source, ASKED, make_job()).record
    assert record["video"]["path"] == "mine.mp4"
    assert record["caveats"] == [CAVEAT]
    assert record["timings_s"].keys() == {"decode", "watch", "localize", "answer"}
    assert service.find(source, FindRequest(("light",)), make_job()).records[0]["video"]["path"] == "mine.mp4"


def test_what_is_known_of_the_model_is_said_of_each_result(service: Service, source: Source, make_job: MakeJob) -> None:
    assert service.caveats == (CAVEAT,)
    assert service.answer(source, ASKED, make_job()).caveats == (CAVEAT,)
    assert service.find(source, FindRequest(("light",)), make_job()).caveats == (CAVEAT,)


@pytest.mark.parametrize(
    ("asked", "field", "message"),
    [
        (AnswerRequest(" "), "question", "the question is empty; give some text"),
        (AnswerRequest("x" * 501), "question", "This text has 501 characters; at most 500 go."),
        (AnswerRequest("Why?", ("a",)), "options", "1 option given; give none, or 2 to 26"),
        (AnswerRequest("Why?", ("a", " ")), "options", "option B is empty; give some text or leave it out"),
        (AnswerRequest("Why?", ("a", "b", "a")), "options", "option C repeats 'a'; give different options"),
        (AnswerRequest("Why?", tuple("abcdefghi")), "options", "9 options given; at most 8 go"),
        (AnswerRequest("Why?", ("a", "x" * 201)), "options", "This text has 201 characters; at most 200 go."),
        (AnswerRequest("Why?", num_frames=65), "frames", "65 does not go here; give 1 to 64."),
        (AnswerRequest("Why?", num_frames=0), "frames", "0 does not go here; give 1 to 64."),
        (AnswerRequest("Why?", num_keyframes=21), "keyframes", "21 does not go here; give 1 to 20."),
        *(
            (
                AnswerRequest("Why?", num_frames=3, num_keyframes=wished),
                "keyframes",
                f"Cannot read {wished} keyframes of 3 frames; read at most 3, or watch more frames.",
            )
            for wished in (4, 5)
        ),
    ],
)
def test_mistakes_of_a_question_are_said_beside_their_field_before_anything_is_opened(
    service: Service, make_job: MakeJob, asked: AnswerRequest, field: str, message: str
) -> None:
    with pytest.raises(FieldError) as raised:
        service.answer(Source(Path("missing.mp4"), "missing.mp4"), asked, make_job())
    assert (raised.value.field, str(raised.value)) == (field, message)


@pytest.mark.parametrize(
    ("sought", "field"),
    [
        (FindRequest(("",)), "query"),
        (FindRequest(("x" * 501,)), "query"),
        (FindRequest(("a",), 999), "frames"),
        (FindRequest(("a",), 8, 9), "query"),
    ],
)
def test_mistakes_of_a_search_are_said_beside_their_field(
    service: Service, make_job: MakeJob, sought: FindRequest, field: str
) -> None:
    with pytest.raises(FieldError) as raised:
        service.find(Source(Path("missing.mp4"), "missing.mp4"), sought, make_job())
    assert raised.value.field == field


def test_a_short_video_is_read_as_a_whole_unless_more_keyframes_were_wished_for(
    service: Service, make_job: MakeJob, tmp_path: Path
) -> None:
    short = Source(write_video(tmp_path / "short.mp4", num_frames=3), "short.mp4")
    answered = service.answer(short, AnswerRequest("Why?", compare=True), make_job())
    assert answered.uniform is not None
    for shown in (answered.chosen, answered.uniform):
        assert shown.answer.keyframes.frame_idx.tolist() == [0, 1, 2]
    few = service.answer(short, AnswerRequest("Why?", num_frames=2), make_job())
    assert len(few.chosen.answer.keyframes) == 2
    for wished in (4, 5):  # 4 is what nobody's wish comes to; asked for, it is a wish as any other
        with pytest.raises(FieldError, match=rf"^cannot choose {wished} keyframes of 3 frames") as raised:
            service.answer(short, AnswerRequest("Why?", num_keyframes=wished), make_job())
        assert raised.value.field == "keyframes"


def test_a_file_that_went_meanwhile_is_named_without_its_path(
    service: Service, make_job: MakeJob, tmp_path: Path
) -> None:
    gone = Source(tmp_path / "gone.mp4", "gone.mp4")
    with pytest.raises(FieldError) as raised:
        service.answer(gone, ASKED, make_job())
    assert raised.value.field == "video"
    assert str(tmp_path) not in str(raised.value)


@pytest.fixture
def files(answered: AnswerResult) -> Files:
    return replace(answered, chosen=PicturedAnswer(make_answer(), PICTURES)).files()


def test_json_is_the_record(answered: AnswerResult, files: Files) -> None:
    name, content = files["json"]
    assert name == "where_is_it.json"
    assert json.loads(content) == json.loads(json.dumps(answered.record))


def test_csv_has_a_row_for_each_watched_frame(files: Files) -> None:
    name, content = files["csv"]
    assert name == "where_is_it.csv"
    assert content.decode().splitlines() == [
        "frame_idx,time_s,score,keyframe",
        "0,1.000,0.500000,0",
        "10,2.000,3.000000,1",
        "20,3.000,2.000000,1",
        "30,4.000,-1.000000,0",
    ]


def test_the_zip_holds_the_keyframes_as_they_are_in_the_video(files: Files) -> None:
    name, content = files["zip"]
    assert name == "where_is_it.zip"
    with zipfile.ZipFile(BytesIO(content)) as archive:
        names = archive.namelist()
        pictures = np.stack([np.asarray(Image.open(BytesIO(archive.read(file)))) for file in names])
    assert names == ["keyframe_1_00m02.00s_frame10.jpg", "keyframe_2_00m03.00s_frame20.jpg"]
    assert pictures.shape == (2, 64, 96, 3)
    assert shown_numbers(pictures) == [10, 20]


def test_the_picture_is_a_png_as_wide_as_a_page(files: Files) -> None:
    name, content = files["png"]
    picture = Image.open(BytesIO(content))
    assert (name, picture.format, picture.width) == ("where_is_it.png", "PNG", 1280)


def pictured(found: FindResult) -> FindResult:
    """The same with real pictures."""
    return replace(found, searches=tuple(replace(search, pictures=PICTURES) for search in found.searches))


def test_each_button_has_its_file(files: Files, found: FindResult) -> None:
    assert files.keys() == ANSWER_FILES.keys()
    assert pictured(found).files().keys() == MOMENT_FILES.keys()


def test_moments_as_json_csv_chapters_and_picture(found: FindResult) -> None:
    files = dict(pictured(found).files().values())
    assert list(files) == ["a_ring.json", "a_ring.csv", "a_ring.vtt", "a_ring.png"]
    assert [moment["start_s"] for moment in json.loads(files["a_ring.json"])["moments"]] == [2.5, 0.0]
    assert files["a_ring.csv"].decode() == (
        "rank,start_s,end_s,score\n1,2.500,3.500,2.000000\n2,0.000,1.500,0.500000\n"
    )
    assert files["a_ring.vtt"].decode().splitlines()[2] == "00:00:00.000 --> 00:00:01.500"
    assert Image.open(BytesIO(files["a_ring.png"])).width == 1280


def test_files_of_several_sentences_name_each(found: FindResult) -> None:
    one = pictured(found)
    other = replace(one.searches[0].moments, query='a "boat", red')
    files = replace(one, searches=(*one.searches, replace(one.searches[0], moments=other))).files()
    assert [record["query"] for record in json.loads(files["json"][1])] == ["a ring", 'a "boat", red']
    assert files["csv"][1].decode().splitlines()[::2] == [
        "rank,start_s,end_s,score,query",
        "2,0.000,1.500,0.500000,a ring",
        '2,0.000,1.500,0.500000,"a ""boat"", red"',
    ]
    chapters = files["vtt"][1].decode()
    assert chapters.count("WEBVTT") == 1
    assert chapters.count(" --> ") == 4
    assert [line.split(" (")[0] for line in chapters.splitlines() if "#1" in line] == ["a ring", 'a "boat", red']
    heights = [Image.open(BytesIO(content)).height for content in (one.files()["png"][1], files["png"][1])]
    assert heights[1] == 2 * heights[0]


def test_each_sentence_is_searched_once_the_video_is_watched(
    service: Service, source: Source, make_job: MakeJob, model: BrightnessModel
) -> None:
    found = service.find(source, FindRequest(("light", "dark"), num_frames=20), make_job())
    assert [search.moments.query for search in found.searches] == ["light", "dark"]
    assert [len(search.pictures) for search in found.searches] == [
        len(search.moments.moments) for search in found.searches
    ]
    assert model.num_watched == 20
    for queries, message in (
        (tuple("abcdef"), "6 sentences given; at most 5 go."),
        (("a", "b", "a"), "'a' stands there twice; give different sentences."),
        ((), "the question is empty; give some text"),
    ):
        with pytest.raises(FieldError) as refused:
            service.find(source, FindRequest(queries), make_job())
        assert (refused.value.field, str(refused.value)) == ("query", message)


def test_only_a_part_of_the_video_is_watched(service: Service, source: Source, make_job: MakeJob) -> None:
    answered = service.answer(source, replace(ASKED, clip=Span(1.0, 3.0)), make_job())
    frames = answered.chosen.answer.keyframes
    assert (frames.all_times_s.min(), frames.all_times_s.max()) == pytest.approx((1.0, 2.9), abs=0.15)
    assert answered.record["clip"] == {"start_s": 1.0, "end_s": 3.0}
    assert not answered.known
    again = service.answer(source, replace(ASKED, clip=Span(1.0, 3.0)), make_job())
    other = service.answer(source, replace(ASKED, clip=Span(2.0, math.inf)), make_job())
    assert (again.known, other.known) == (True, False)
    assert other.record["clip"] == {"start_s": 2.0, "end_s": 4.0}
    beyond = service.answer(source, replace(ASKED, clip=Span(2.0, 90.0)), make_job())
    assert "the clip from 2 to 90 s reaches beyond the video and was shortened to 2 to 4 s" in beyond.caveats


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (Span(2.0, 1.0), "There is no part from 2 to 1 s; give a start of 0 or more, and an end after it."),
        (Span(-1.0, 1.0), "There is no part from -1 to 1 s; give a start of 0 or more, and an end after it."),
        (Span(math.nan, 1.0), "There is no part from nan to 1 s; give a start of 0 or more, and an end after it."),
        (Span(4.0, math.inf), "The part starts at 4 s, but the video lasts 4 s."),
    ],
)
def test_a_part_that_is_not_there_is_said_beside_its_field(
    service: Service, source: Source, make_job: MakeJob, clip: Span, message: str
) -> None:
    with pytest.raises(FieldError) as refused:
        service.answer(source, replace(ASKED, clip=clip), make_job())
    assert (refused.value.field, str(refused.value)) == ("clip", message)


def test_another_model_is_loaded_once_it_is_asked_and_at_most_one_besides_the_first(
    model: BrightnessModel, sources: Sources, source: Source, make_job: MakeJob
) -> None:
    loaded: list[str] = []

    def loader(name: str) -> Callable[[], BrightnessModel]:
        return lambda: loaded.append(name) or BrightnessModel()  # type: ignore[func-returns-value]

    others = {name: loader(name) for name in ("second", "third")}
    service = Service(model, model_name="first", sources=sources, settings=Settings(), other_models=others)
    assert service.model_names == ("first", "second", "third")

    def ask(name: str) -> AnswerResult:
        return service.answer(source, replace(ASKED, model=name), make_job())

    assert (ask("").model_name, ask("first").known, loaded) == ("first", True, [])
    steps: list[str] = []
    second = service.answer(source, replace(ASKED, model="second"), make_job(steps=steps))
    assert (second.model_name, second.known, second.record["model"]) == ("second", False, "second")
    assert "loading second" in steps
    assert (ask("second").known, ask("first").known, loaded) == (True, True, ["second"])
    ask("third")
    assert len(service.watched_videos) == 2  # nothing holds on to the second any more
    assert (ask("second").known, loaded) == (False, ["second", "third", "second"])
    with pytest.raises(FieldError, match="There is no model 'fourth'") as refused:
        ask("fourth")
    assert refused.value.field == "model"


def test_a_model_that_cannot_be_loaded_is_logged_and_its_path_is_not_told(
    model: BrightnessModel, sources: Sources, source: Source, make_job: MakeJob, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ConfigError("/secret/folder holds no model")

    service = Service(model, model_name="first", sources=sources, settings=Settings(), other_models={"bad": fail})
    with pytest.raises(JobError) as refused:
        service.answer(source, replace(ASKED, model="bad"), make_job())
    assert str(refused.value) == "bad cannot be loaded at the moment; the server's log says why."
    assert "/secret/folder holds no model" in caplog.text


@pytest.mark.parametrize("question", ["???", "彩色"])
def test_a_question_without_letters_still_names_a_file(answered: AnswerResult, question: str) -> None:
    answer = make_answer()
    asked = replace(answer, question=replace(answer.question, text=question))
    assert replace(answered, chosen=PicturedAnswer(asked, PICTURES)).files()["csv"][0] == "result.csv"
