"""Ways to choose frames: scorers, which say how well frames suit a question, and policies, which choose by that."""

from lavis.common.registry import registry

registry.policies.declare("top_k", "lavis.selection.policies:TopK")
registry.policies.declare("uniform", "lavis.selection.policies:Uniform")
registry.policies.declare("random", "lavis.selection.policies:Random")
registry.policies.declare("windows", "lavis.selection.policies:Windows")
registry.policies.declare("all", "lavis.selection.policies:All")
registry.policies.declare("coarse_to_fine", "lavis.selection.coarse_to_fine:CoarseToFine")
