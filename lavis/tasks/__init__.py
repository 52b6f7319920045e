"""Objectives, metrics and the tasks that tie them to data."""

from lavis.common.registry import registry

registry.objectives.declare("localizer_pretraining", "lavis.tasks.objectives:LocalizerPretraining")
registry.objectives.declare("self_refinement", "lavis.tasks.objectives:SelfRefinement")
registry.objectives.declare("answerer_finetuning", "lavis.tasks.objectives:AnswererFinetuning")
registry.objectives.declare("learn_selector", "lavis.tasks.selector_learning:SelectorLearning")
registry.objectives.declare("learn_selector_and_answerer", "lavis.tasks.selector_learning:SelectorAndAnswererLearning")
