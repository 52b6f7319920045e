"""From each benchmark's own annotation files to one schema; `sevila prepare` is the command for it."""

from lavis.common.registry import Registry
from sevila_data.dataset import RawDataset

DATASETS: Registry[RawDataset] = Registry("dataset to prepare")
for _name in (
    *("nextqa", "nextgqa", "star", "how2qa", "tvqa", "vlep", "qvh", "custom"),
    *("videomme", "longvideobench", "mlvu", "egoschema", "mvbench", "charades_sta", "tacos", "tvsum"),
):
    DATASETS.declare(_name, f"sevila_data.{_name}:DATASET")
