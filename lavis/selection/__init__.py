"""Ways to choose frames: scorers, which say how well frames suit a question, and policies, which choose by that."""

from lavis.common.registry import registry

registry.policies.declare("top_k", "lavis.selection.policies.plain:TopK")
registry.policies.declare("uniform", "lavis.selection.policies.plain:Uniform")
registry.policies.declare("random", "lavis.selection.policies.plain:Random")
registry.policies.declare("windows", "lavis.selection.policies.plain:Windows")
registry.policies.declare("all", "lavis.selection.policies.plain:All")
registry.policies.declare("coarse_to_fine", "lavis.selection.policies.coarse_to_fine:CoarseToFine")
registry.policies.declare("aks", "lavis.selection.policies.aks:AKS")
registry.policies.declare("bolt", "lavis.selection.policies.bolt:BOLT")
registry.policies.declare("mdp3", "lavis.selection.policies.dpp:MDP3")
registry.policies.declare("diversity", "lavis.selection.policies.dpp:Diversity")
registry.policies.declare("q_frame", "lavis.selection.policies.q_frame:QFrame")
registry.policies.declare("focus", "lavis.selection.policies.focus:FOCUS")
registry.policies.declare("t_star", "lavis.selection.policies.t_star:TStar")
registry.policies.declare("threshold", "lavis.selection.policies.spread:Threshold")
registry.policies.declare("scenes", "lavis.selection.policies.spread:Scenes")
registry.policies.declare("half_uniform", "lavis.selection.policies.spread:HalfUniform")
registry.policies.declare("atp", "lavis.selection.policies.trained:ATP")
registry.policies.declare("differentiable_top_k", "lavis.selection.policies.trained:DifferentiableTopK")

registry.scorers.declare("dual_encoder", "lavis.selection.scorers.dual_encoder:DualEncoder")
registry.scorers.declare("blip_itm", "lavis.selection.scorers.blip_itm:BlipITM")
registry.scorers.declare("scores_file", "lavis.selection.scorers.scores_file:ScoresFile")
registry.scorers.declare("windows", "lavis.selection.scorers.without_model:InWindows")
registry.scorers.declare("motion", "lavis.selection.scorers.without_model:Motion")
registry.scorers.declare("noise", "lavis.selection.scorers.without_model:Noise")
