"""Questions and moment queries about videos of the synthetic world, with the windows that answer them.

Questions name a scene by one attribute and ask for another. Moment queries are sentences about other videos: like
QVHighlights beside NExT-QA, what the Localizer is pre-trained on is worded otherwise than the questions.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np

from lavis.common.types import Question, Span
from sevila_data.miniature.world import NAMING, VALUES, Scene, WorldVideo

NUM_OPTIONS = 5
MAX_OPTIONS = 8
"""As many as there are shapes, colours and places; motions are five."""
QUESTIONS_PER_VIDEO = 8
ASKED = ("shape", "colour", "place", "motion")
TOPICS = tuple((key, asked) for key, asked in product(NAMING, ASKED) if key != asked)
"""Every pair of an attribute that names the scene and one that is asked for."""

_TEXT = {
    ("shape", "colour"): "What colour is the {}?",
    ("place", "colour"): "What colour is the thing {}?",
    ("colour", "shape"): "Which shape is {}?",
    ("place", "shape"): "Which shape is {}?",
    ("shape", "place"): "Where is the {}?",
    ("colour", "place"): "Where is the {} thing?",
    ("shape", "motion"): "Which way does the {} move?",
    ("colour", "motion"): "Which way does the {} thing move?",
    ("place", "motion"): "Which way does the thing {} move?",
}
_MOVES = {"still": "stays still"}

# Moment queries by the attributes they speak of; the last ones are worded as questions.
MOMENT_TEMPLATES = (
    (("shape",), "The {shape} is shown"),
    (("colour",), "Something {colour} is shown"),
    (("colour", "shape"), "A {colour} {shape}"),
    (("shape", "motion"), "The {shape} {moves}"),
    (("colour", "motion"), "Something {colour} {moves}"),
    (("shape",), "What colour is the {shape}"),
    (("colour",), "Which shape is {colour}"),
    (("shape",), "Which way does the {shape} move"),
    (("place",), "Something {where} is shown"),
    (("place",), "The thing {where}"),
    (("place",), "What colour is the thing {where}"),
)
# Questions to be answered by yes or no, by the attributes they speak of.
WHETHER_TEMPLATES = (
    (("shape",), "Is the {shape} shown?"),
    (("colour",), "Is something {colour} shown?"),
    (("colour", "shape"), "Is there a {colour} {shape}?"),
    (("shape", "motion"), "Is it right that the {shape} {moves}?"),
    (("colour", "motion"), "Is it right that something {colour} {moves}?"),
    (("place",), "Is this {where}?"),
    (("place",), "Is something shown {where}?"),
)
# What the base judges before the stages: moment queries that are not worded as questions.
SENTENCE_TEMPLATES = tuple(row for row in MOMENT_TEMPLATES if not row[1].startswith(("What", "Which")))
Templates = Sequence[tuple[tuple[str, ...], str]]


def in_place(place: str) -> str:
    """Word where something is: "on the beach", "in the forest"."""
    return f"{'on' if place == 'beach' else 'in'} the {place}"


def ask(
    scene: Scene,
    others: Sequence[Scene],
    *,
    key: str,
    asked: str,
    rng: np.random.Generator,
    name: str = "",
    num_options: int = NUM_OPTIONS,
) -> Question:
    """Make the question that names `scene` by `key` and asks for another attribute.

    Wrong options are what the other scenes show, as far as they go: whoever reads the wrong scene answers wrong.
    """
    named = scene.value(key)
    right = scene.value(asked)
    shown = rng.permutation(list(dict.fromkeys(other.value(asked) for other in others))).tolist()
    wrong = [value for value in dict.fromkeys([*shown, *rng.permutation(VALUES[asked]).tolist()]) if value != right]
    options = rng.permutation([right, *wrong[: num_options - 1]]).tolist()
    return Question(
        text=_TEXT[key, asked].format(in_place(named) if key == "place" else named),
        options=tuple(options),
        id=name,
        answer=options.index(right),
        kind=asked,
        windows=(scene.window,),
    )


def questions_about(video: WorldVideo, *, seed: Sequence[int], num_options: int = NUM_OPTIONS) -> list[Question]:
    """Make the questions of a video, each about a scene and topic of its own as far as these go.

    Args:
        num_options: where more are asked for than an attribute has values, its questions have as many as it has.
    """
    rng = np.random.default_rng(seed)
    topics = rng.permutation(len(TOPICS))[:QUESTIONS_PER_VIDEO]
    scenes = np.resize(rng.permutation(len(video.scenes)), len(topics))
    made = []
    for number, (topic, index) in enumerate(zip(topics.tolist(), scenes.tolist(), strict=True)):
        key, asked = TOPICS[topic]
        others = [scene for place, scene in enumerate(video.scenes) if place != index]
        question_id = f"{asked}_{video.name}_{number}"
        count = min(num_options, len(VALUES[asked]))
        made.append(
            ask(video.scenes[index], others, key=key, asked=asked, rng=rng, name=question_id, num_options=count)
        )
    return made


def describe(scene: Scene, template: int, templates: Templates = MOMENT_TEMPLATES) -> str:
    """Word a moment query that the scene fits, or a question that is answered by yes."""
    moves = _MOVES.get(scene.motion, f"moves {scene.motion}")
    words = {"shape": scene.shape, "colour": scene.colour, "moves": moves, "where": in_place(scene.place)}
    return templates[template][1].format(**words)


def fits(scene: Scene, described: Scene, template: int, templates: Templates = MOMENT_TEMPLATES) -> bool:
    """Return whether a scene is what the query about another one describes."""
    return all(scene.value(name) == described.value(name) for name in templates[template][0])


def moments_of(video: WorldVideo, *, seed: Sequence[int]) -> list[tuple[str, tuple[Span, ...]]]:
    """Make a video's moment queries with their windows, one query of each wording."""
    rng = np.random.default_rng(seed)
    scenes = np.resize(rng.permutation(len(video.scenes)), len(MOMENT_TEMPLATES)).tolist()
    made = []
    for template, index in enumerate(scenes):
        described = video.scenes[index]
        windows = tuple(scene.window for scene in video.scenes if fits(scene, described, template))
        made.append((describe(described, template), windows))
    return made
