"""Ways to choose frames: scorers, which say how well frames suit a question, and policies, which choose by that."""

from lavis.common.registry import registry

registry.policies.declare("top_k", "lavis.selection.policies.plain:TopK")
registry.policies.declare("uniform", "lavis.selection.policies.plain:Uniform")
registry.policies.declare("random", "lavis.selection.policies.plain:Random")
registry.policies.declare("windows", "lavis.selection.policies.plain:Windows")
registry.policies.declare("all", "lavis.selection.policies.plain:All")
registry.policies.declare("coarse_to_fine", "lavis.selection.policies.coarse_to_fine:CoarseToFine")
