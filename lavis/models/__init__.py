"""The image-language model, its two roles, and the pipeline that asks it about videos."""

import logging

from lavis.common.registry import registry

registry.models.declare("sevila", "lavis.models.sevila.model:SeViLA")
registry.frame_readers.declare("joint", "lavis.models.sevila.readers:JointReader")
registry.frame_readers.declare("per_frame", "lavis.models.sevila.readers:PerFrameReader")
registry.selectors.declare("localizer", "lavis.models.selectors:LocalizerSelector")
registry.selectors.declare("coarse_to_fine", "lavis.models.coarse_to_fine:CoarseToFineSelector")
registry.selectors.declare("uniform", "lavis.models.selectors:UniformSelector")
registry.selectors.declare("random", "lavis.models.selectors:RandomSelector")
registry.selectors.declare("windows", "lavis.models.selectors:WindowsSelector")

# Where torchao is installed, transformers imports it, and it warns of every kernel for other machines.
for name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(name).setLevel(logging.ERROR)
