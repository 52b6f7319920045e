"""Annotations, dataset builders and loaders."""

from lavis.common.registry import registry

# Every benchmark is the same builder over its own file in `configs/datasets`.
for _name in (
    *("nextqa", "star", "how2qa", "tvqa", "vlep", "qvh", "custom"),
    *("videomme", "longvideobench", "mlvu", "egoschema", "mvbench", "charades_sta", "tacos", "tvsum"),
):
    registry.builders.declare(_name, "lavis.datasets.builder:DatasetBuilder")
