"""What every test runs under."""

import os

# The tests' models are tiny: a second thread costs more than it computes. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
