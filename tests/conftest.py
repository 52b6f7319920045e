"""What every test runs under."""

import os
import tempfile

# The tests' models are tiny: a second thread costs more than it computes. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What commands remember of the tests' videos is not left in anybody's home folder, nor taken from it.
os.environ["SEVILA_CACHE"] = tempfile.mkdtemp(prefix="sevila-test-cache-")
