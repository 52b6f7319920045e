"""Whatever stands in a configuration or an option, it is read, or refused in one line that names the place."""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lavis.common.config import from_mapping, load_yaml, merged, parsed_options
from lavis.common.errors import ConfigError
from lavis.common.files import configs_dir
from lavis.datasets.builder import load_dataset_config
from lavis.runners.config import RunConfig, load_evaluation_config, load_train_config

LETTERS = "abcdefg"
# The libraries that read YAML word most of their refusals themselves, each version differently.
MALFORMED = {
    "a cycle of references": "a: ${b}\nb: ${a}\n",
    "a reference to itself": "a: ${a}\n",
    "a reference to what holds it": "a:\n  b: ${a}\n",
    "a list within itself": "a: &a [*a]\n",
    "a mapping within itself": "a: &a\n  b: *a\n",
    "nesting without end": "".join(" " * depth + "a:\n" for depth in range(1500)),
    "a number of 5000 digits": f"a: {'9' * 5000}\n",
    "code": "a: !!python/object/apply:os.system ['touch pwned']\n",
    "the same key twice": "a: 1\na: 2\n",
    "a key of nothing": "null: 1\n",
    "a number alone": "5\n",
    "a list": "[1]\n",
    "a variable that is not set": "a: ${oc.env:SEVILA_NOT_SET}\n",
    "no text": "a: \0\n",
    "two documents": "a: 1\n---\na: 2\n",
}


def one_line(error: ConfigError) -> str:
    line = str(error)
    assert "\n" not in line
    assert len(line) < 2000
    return line


def outcome(read: Callable[[], object]) -> str:
    """Return "read", or the one line of what is wrong."""
    try:
        read()
    except ConfigError as error:
        return one_line(error)
    return "read"


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_file_is_named(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "recipe.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError) as raised:
        load_yaml(file)
    place, _, reason = one_line(raised.value).partition(": ")
    assert place == str(file)
    assert len(reason.split()) > 2
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_aliases_that_multiply_are_refused(tmp_path: Path) -> None:
    """Ten million values in half a kilobyte."""
    file = tmp_path / "bomb.yaml"
    lines = [f"{name}: &{name} [{', '.join(['*' + before] * 10)}]" for before, name in pairwise(LETTERS)]
    file.write_text("\n".join([f"a: &a [{', '.join('x' * 10)}]", *lines]))
    with pytest.raises(ConfigError, match=r"bomb\.yaml: stands for more than 100,000 values"):
        load_yaml(file)


def test_recursion_without_end_is_told_in_our_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a version of the library does not bound nesting itself."""

    def recurse(*args: object) -> object:
        return recurse(*args)

    monkeypatch.setattr(OmegaConf, "load", recurse)
    file = tmp_path / "recipe.yaml"
    file.write_text("a: 1\n")
    with pytest.raises(ConfigError, match=r"recipe\.yaml: nested too deeply to be a configuration$"):
        load_yaml(file)


@pytest.mark.parametrize(
    "option",
    ["a=" + "[" * 2000, "a={", "a=: :", "a=!!python/object:os.x 1", "a=*x", "a=\0", "a=\ud800", "a=" + "9" * 5000,
     "a=${oc.env:SEVILA_NOT_SET}", "a.b=${a}"],
)  # fmt: skip
def test_a_malformed_option_is_named(option: str) -> None:
    with pytest.raises(ConfigError) as raised:
        merged([{"a": {"b": 1}}, parsed_options([option])])
    assert re.match(r"options (a|\{'a')", one_line(raised.value))


SECTIONS = ("5", "[1]", "[[1]]", "true", ".nan", "text", "{1: 2}", "{[1]: 2}", "null", "[]", "{}")


@pytest.mark.parametrize("value", SECTIONS)
@pytest.mark.parametrize("section", ["model", "datasets", "run", "moments"])
def test_a_section_that_is_none_is_refused_in_one_line(section: str, value: str, tmp_path: Path) -> None:
    sections = {
        "model": "{}",
        "datasets": "{nextqa: {}}",
        "run": "{test_splits: [val]}",
        "moments": "{}",
        section: value,
    }
    file = tmp_path / "recipe.yaml"
    file.write_text("".join(f"{name}: {content}\n" for name, content in sections.items()))
    for read in (
        lambda: load_evaluation_config(file),
        lambda: load_train_config(file, further_sections=("moments",)),
        lambda: load_dataset_config("nextqa", recipe=file),
    ):
        assert outcome(read).startswith(
            ("read", f"{file}", f"{section}: unknown key", "unknown dataset", "run.test_spl")
        )


TEXT = st.text(max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_one_line(tmp_path_factory: pytest.TempPathFactory, content: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_bytes(content.encode("utf-8", "surrogatepass"))
    assert outcome(lambda: load_yaml(file)).startswith(("read", f"{file}: "))


@settings(max_examples=50, deadline=None)
@given(st.lists(TEXT, max_size=2))
def test_any_options_are_applied_or_one_line(options: list[str]) -> None:
    assert outcome(lambda: merged([{"run": {"seed": 1}}, parsed_options(options)])).startswith(("read", "options "))


RUN = load_yaml(configs_dir() / "default.yaml")["run"]


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(sorted(RUN)), VALUES)
def test_any_value_fits_its_setting_or_is_refused_by_its_name(key: str, value: object) -> None:
    found = outcome(lambda: from_mapping(RunConfig, {**RUN, key: value}, place="run"))
    assert found.startswith(("read", f"run: {key}: ", f"run.{key}: ", f"run.{key} is "))


@pytest.mark.parametrize("key", sorted(RUN))
def test_every_misspelt_setting_is_recognized(key: str) -> None:
    with pytest.raises(ConfigError, match=f"run: unknown key '{key}x'; did you mean '{key}'\\?"):
        from_mapping(RunConfig, {**RUN, f"{key}x": 1}, place="run")


RECIPES = sorted((configs_dir() / "sevila").rglob("*.yaml"))


@settings(max_examples=8, deadline=None)
@given(
    st.sampled_from(RECIPES),
    st.sampled_from(["run", "model", "datasets", "datasets.nextqa", "datasets.nextqa.vis_processor", "run.mix"]),
    st.sampled_from(["", ".seed", ".frame_num", ".train", ".build_info", ".nextqa"]),
    st.sampled_from(["5", "[]", "{}", "null", "a b", "nan", "-1", "[1,[2]]", "{x: 1}", "𝒳", "'\u202eאב'"]),
)
def test_any_setting_of_any_recipe_is_read_or_refused(path: Path, section: str, key: str, value: str) -> None:
    sections = ("evaluation", "moments")
    assert outcome(lambda: load_train_config(path, options=[f"{section}{key}={value}"], further_sections=sections))


def test_a_configuration_that_takes_minutes_to_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    path.write_text("run:\n" + "".join(f"  key{number}: [1, 2]\n" for number in range(20_000)))
    with pytest.raises(ConfigError, match=r"has more than 200,000 characters; give a smaller configuration$"):
        load_yaml(path)
