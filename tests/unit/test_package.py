"""What `import lavis` gives."""

import subprocess
import sys

import lavis
from lavis.common import types


def test_only_what_is_meant_for_users_is_listed() -> None:
    assert dir(lavis) == [
        "Answer",
        "Moments",
        "Question",
        "Span",
        "__version__",
        "load_model",
        "load_model_and_preprocess",
        "model_zoo",
        "registry",
    ]
    assert all(hasattr(lavis, name) for name in dir(lavis))
    assert (lavis.Question, lavis.Span) == (types.Question, types.Span)
    assert (lavis.Answer, lavis.Moments) == (types.Answer, types.Moments)


def test_importing_and_listing_the_package_waits_for_nothing_heavy() -> None:
    script = "import sys, lavis; dir(lavis); print(sorted({'torch', 'numpy', 'av', 'PIL'} & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
