"""Training and evaluation loops."""

from lavis.common.registry import registry

registry.runners.declare("runner_base", "lavis.runners.trainer:Runner")
