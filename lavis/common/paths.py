"""Moved to `lavis.common.files`."""

from lavis.common.files import checkpoints_dir as checkpoints_dir
from lavis.common.files import configs_dir as configs_dir
from lavis.common.files import paper_tables_path as paper_tables_path
