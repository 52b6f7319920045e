import pytest

from lavis.common.errors import ConfigError
from lavis.tasks.build import TASKS, build_objective, count_keyframes, resolve_task
from lavis.tasks.objectives import AnswererFinetuning, LocalizerPretraining, SelfRefinement


@pytest.mark.parametrize(
    ("name", "arch", "kind", "trainable"),
    [
        ("localizer_pretraining", "sevila", LocalizerPretraining, ("localizer",)),
        ("qa", "blip2_fmr", LocalizerPretraining, ("localizer",)),
        ("self_refinement", "sevila", SelfRefinement, ("localizer",)),
        ("train_loc_freeze_qa_vid", "sevila", SelfRefinement, ("localizer",)),
        ("answerer_finetuning", "sevila", AnswererFinetuning, ("answerer",)),
        ("qvh_freeze_loc_train_qa_with_loc_train_qa_vid", "sevila", AnswererFinetuning, ("answerer",)),
        ("answerer_finetuning_voting", "sevila", AnswererFinetuning, ("answerer",)),
    ],
)
def test_own_and_published_names_give_the_objective(
    name: str, arch: str, kind: type, trainable: tuple[str, ...]
) -> None:
    objective = build_objective(resolve_task(name, arch=arch), prompt="multiple_choice", num_keyframes=4)
    assert type(objective) is kind
    assert objective.trainable == trainable


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.objective is None])
def test_a_task_that_only_evaluates_cannot_train(name: str) -> None:
    with pytest.raises(ConfigError, match=r"only evaluates; to train, use one of: localizer_pretraining, self_"):
        build_objective(resolve_task(name), prompt="multiple_choice", num_keyframes=4)


def test_single_choices_replace_those_of_the_task() -> None:
    task = resolve_task("answerer_finetuning", selector="uniform", training_selector="random")
    assert (task.selector, task.training_selector, task.reader) == ("uniform", "random", "joint")
    assert resolve_task("self_refinement") == TASKS["self_refinement"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "self_refinment"}, r"unknown task 'self_refinment'; did you mean 'self_refinement'"),
        ({"name": "qa"}, r"unknown task 'qa'"),
        ({"name": "qa", "arch": "blip2_fm"}, r"unknown model.arch 'blip2_fm'; did you mean 'blip2_fmr'"),
        (
            {"name": "answerer_finetuning", "training_selector": "radnom"},
            r"model.training_selector: unknown frame selector 'radnom'; did you mean 'random'",
        ),
    ],
)
def test_unknown_names_suggest_the_nearest(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_task(**arguments)


@pytest.mark.parametrize(
    ("name", "frames", "expected"),
    [("answerer_finetuning", 32, 4), ("answerer_finetuning", 3, 3), ("uniform_inference", 8, 8), ("qa_one", 8, 1)],
)
def test_the_task_says_how_many_frames_are_read(name: str, frames: int, expected: int) -> None:
    task = resolve_task("qvh_freeze_loc_freeze_qa" if name == "qa_one" else name)
    assert count_keyframes(task, frame_num=4, num_frames=frames) == expected
