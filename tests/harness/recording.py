"""Models of lmms-eval that keep what they were shown; one class takes several questions at once, as real ones do."""

from typing import Any, ClassVar

import numpy as np
from lmms_eval.api.model import lmms

from tests.harness.examples import Picture


class Recording(lmms):
    """A simple model that asks the first request's function about all of them."""

    shown: ClassVar[dict[int, list[Picture]]] = {}

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings = settings

    def generate_until(self, requests: list[Any]) -> list[str]:
        _, _, doc_to_visual, ids, tasks, splits = zip(*(request.args for request in requests), strict=True)
        for doc_id in ids:
            visuals = doc_to_visual[0](self.task_dict[tasks[0]][splits[0]][doc_id])
            self.shown[doc_id] = [np.asarray(visual) for visual in visuals]
        return ["A"] * len(requests)

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        self.generate_until(requests)
        return [(0.0, False)] * len(requests)

    def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
        raise AssertionError("no task of these tests has several rounds")  # lmms-eval wants the method to be there


class RecordingChat(Recording):
    """A chat model, of which each request has a function of its own."""

    is_simple = False

    def generate_until(self, requests: list[Any]) -> list[str]:
        for _, doc_to_messages, _, doc_id, task, split in (request.args for request in requests):
            [message] = doc_to_messages(self.task_dict[task][split][doc_id])
            parts = message["content"]
            assert {part["type"] for part in parts} == {"image", "text"}
            self.shown[doc_id] = [np.asarray(part["url"]) for part in parts if part["type"] == "image"]
        return ["A"] * len(requests)
