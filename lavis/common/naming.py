"""Moved to `lavis.common.errors`."""

from lavis.common.errors import counted as counted
from lavis.common.errors import did_you_mean as did_you_mean
from lavis.common.errors import listed as listed
from lavis.common.errors import visible as visible
