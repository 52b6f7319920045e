"""What is trained, on what target: one small class per objective."""

from lavis.common.registry import registry

registry.objectives.declare("localizer_pretraining", "lavis.tasks.objectives.localizer:LocalizerPretraining")
registry.objectives.declare("self_refinement", "lavis.tasks.objectives.localizer:SelfRefinement")
registry.objectives.declare("answerer_finetuning", "lavis.tasks.objectives.answerer:AnswererFinetuning")
