"""Reading what a run is configured by: `configs/default.yaml`, a recipe over it, and dotted options over both."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lavis.common.config import from_mapping, load_yaml, merged, parsed_options, section_of
from lavis.common.errors import ConfigError
from lavis.common.naming import did_you_mean
from lavis.common.paths import configs_dir
from lavis.common.published_settings import translated
from lavis.common.registry import registry
from lavis.datasets.builder import DatasetConfig
from lavis.runners.checks import check_settings
from lavis.runners.config import ModelConfig, RunConfig, TrainConfig

SECTIONS = ("model", "datasets", "run")


def load_train_config(
    path: str | Path, *, options: Sequence[str] = (), further_sections: Sequence[str] = ()
) -> TrainConfig:
    """Read a recipe over the defaults of the package.

    Args:
        path: a YAML file with the sections model, datasets and run, in our words or those of the published repository.
        options: dotted options such as "run.init_lr=1e-5", which win over everything.
        further_sections: sections that may be there too, with their defaults; they are left unread in `resolved`.

    Raises:
        ConfigError: an unknown key (the message names the nearest), a wrong type or an impossible value.
    """
    recipe, recipe_remarks = translated(load_yaml(path), place=str(path))
    overrides, option_remarks = translated(parsed_options(options), place="--options")
    known = (*SECTIONS, *further_sections)
    recipe, overrides = _sections(recipe, known, str(path)), _sections(overrides, known, "--options")
    names = _dataset_names(path, recipe, overrides)
    base = {"datasets": {name: load_yaml(configs_dir() / "datasets" / f"{name}.yaml") for name in names}}
    defaults = load_yaml(configs_dir() / "default.yaml")
    resolved = merged([{name: defaults[name] for name in known if name in defaults}, base, recipe, overrides])
    datasets = {
        name: from_mapping(DatasetConfig, resolved["datasets"][name], place=f"datasets.{name}") for name in names
    }
    config = TrainConfig(
        model=from_mapping(ModelConfig, resolved["model"], place="model"),
        run=from_mapping(RunConfig, resolved["run"], place="run"),
        dataset_name=names[0],
        dataset=datasets[names[0]],
        datasets=datasets,
        resolved=resolved,
    )
    warnings = check_settings(config)
    return replace(config, remarks=(*recipe_remarks, *option_remarks, *warnings))


def _sections(settings: Mapping[str, Any], known: Sequence[str], place: str) -> dict[str, Any]:
    for section in settings:
        if section not in known:
            raise ConfigError(f"{place}: unknown section {section!r}; {did_you_mean(str(section), known)}")
    return {section: section_of(settings, section, place=place) for section in settings}


def _dataset_names(path: str | Path, recipe: Mapping[str, Any], overrides: Mapping[str, Any]) -> list[str]:
    """Return the datasets of a recipe; options change them, and add none."""
    in_recipe, asked = list(recipe.get("datasets", ())), list(overrides.get("datasets", ()))
    if not in_recipe and not asked:
        raise ConfigError(f"{path}: datasets must name one or more of: {', '.join(registry.builders.names())}")
    names = in_recipe or asked
    for name in (*in_recipe, *asked):
        registry.builders.get(name)
        if name not in names:
            raise ConfigError(f"--options: datasets.{name} is not in {path}; {did_you_mean(name, names)}")
    return names
