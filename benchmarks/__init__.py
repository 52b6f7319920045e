"""What is measured, and how; `RESULTS.md` holds the last run of each benchmark."""

# Before transformers imports torchvision.
import tests.torchvision_guard  # noqa: F401
