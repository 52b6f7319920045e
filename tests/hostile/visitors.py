"""Visitors of the web page, many at once: programs that use its functions, and pages that send what a click sends."""

import asyncio
import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any

import httpx

_PATIENCE_S = 300
_API, _FILE = "gradio_api", {"_type": "gradio.FileData"}


@dataclass(frozen=True)
class Asking:
    """A question about a clip, and what is to come back.

    Attributes:
        options: as many as a fresh page has fields for.
        keyframes: indices of the frames that are read.
    """

    clip: Path
    question: str
    options: tuple[str, ...]
    answer: int
    keyframes: tuple[int, ...]


@dataclass
class Seen:
    """What all visitors saw.

    Attributes:
        answered: by each visitor, how many of its questions.
        wrong: what came back instead of what should have.
        seconds: from each question to its answer.
        waiting: what was said to those who waited.
    """

    answered: dict[int, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)


async def crowd(url: str, askings: Sequence[Asking], *, programs: int, pages: int, lasting_s: float) -> Seen:
    """Let so many visitors ask one question after another; each is answered before it leaves."""
    seen, ends_at = Seen(), time.monotonic() + lasting_s
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=_PATIENCE_S, limits=limits) as http:
        page = page_event((await http.get("config")).json())
        everybody: list[Program | OpenPage] = [Program(http) for _ in range(programs)]
        everybody += [OpenPage(http, event=page, said=seen.waiting) for _ in range(pages)]
        visits = (_visit(visitor, number, askings, seen, ends_at) for number, visitor in enumerate(everybody))
        await asyncio.gather(*visits)
    return seen


async def _visit(
    visitor: "Program | OpenPage", number: int, askings: Sequence[Asking], seen: Seen, ends_at: float
) -> None:
    turn = seen.answered[number] = 0
    while time.monotonic() < ends_at:
        # Neighbours never ask the same, so an answer that goes to the wrong one is noticed.
        asking = askings[(number * 7 + turn) % len(askings)]
        began = time.monotonic()
        wrong = await visitor.ask(asking, upload=(number + turn) % 2 == 0)
        seen.seconds.append(time.monotonic() - began)
        turn += 1
        if wrong:
            seen.wrong.append(f"visitor {number}: {wrong}")
        else:
            seen.answered[number] += 1


class Program:
    """Uses the function for programs."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def ask(self, asking: Asking, *, upload: bool) -> str | None:
        """Ask, and tell what is wrong with what comes back."""
        clip = {"clip": asking.clip.name}
        video = {"path": await _upload(self._http, asking.clip), "meta": _FILE} if upload else clip
        data = [video, asking.question, list(asking.options), 32, 4]
        called = (await self._http.post(f"{_API}/call/answer", json={"data": data})).json()
        streamed = (await self._http.get(f"{_API}/call/answer/{called['event_id']}")).text
        kind, content = re.fullmatch(r".*event: (\w+)\ndata: (.*?)\n\n", streamed, re.DOTALL).groups()  # type: ignore[union-attr]
        if kind != "complete":
            return f"{kind} {content}"
        (record,) = json.loads(content)
        found = record["answer_index"], tuple(frame["frame_idx"] for frame in record["keyframes"])
        wanted = asking.answer, asking.keyframes
        return None if found == wanted and record["question"] == asking.question else f"{found}, not {wanted}"


class OpenPage:
    """Sends what a click on the button sends, and reads what the page would show.

    Args:
        event: what `page_event` returned.
        said: gets every text that is shown while the visitor waits.
    """

    def __init__(self, http: httpx.AsyncClient, *, event: tuple[int, list[dict[str, Any]]], said: list[str]) -> None:
        self._http, self._said = http, said
        self._number, self._fields = event
        self._session = uuid.uuid4().hex

    async def ask(self, asking: Asking, *, upload: bool) -> str | None:
        """Ask, and tell what is wrong with what would be shown."""
        name = asking.clip.name
        stage = {"path": await _upload(self._http, asking.clip), "name": name} if upload else {"clip": name}
        given = {"stage": stage, "question": asking.question}
        given |= {f"option-{letter}": text for letter, text in zip("ABC", asking.options, strict=True)}
        data = [given.get(part["elem_id"], part.get("value")) for part in self._fields]
        body = {"data": data, "fn_index": self._number, "session_hash": self._session}
        joined = await self._http.post(f"{_API}/queue/join", json=body)
        if joined.status_code != httpx.codes.OK:
            return joined.text
        html = await self._result()
        shown = re.search(r'data-answer="(\d*)"><p class="asked">(.*?)</p>', html)
        found = (int(shown[1]), unescape(shown[2])) if shown else html[:200]
        return None if found == (asking.answer, asking.question) else f"{found}, not {asking.answer}"

    async def _result(self) -> str:
        async for message in self._messages():
            if message["msg"] == "progress":
                self._said += [step["desc"] for step in message["progress_data"] if step["desc"].startswith("Waiting")]
            if message["msg"] == "process_completed":
                if not message["success"]:
                    return str(message["output"])
                shown = [part for part in message["output"]["data"] if isinstance(part, str)]
                return next((part for part in shown if "data-answer" in part), str(shown))
        return "the page lost its connection"

    async def _messages(self) -> AsyncIterator[dict[str, Any]]:
        address = f"{_API}/queue/data?session_hash={self._session}"
        async with self._http.stream("GET", address) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))


async def _upload(http: httpx.AsyncClient, clip: Path) -> str:
    (path,) = (await http.post(f"{_API}/upload", files={"files": (clip.name, clip.read_bytes())})).json()
    return str(path)


def page_event(config: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    """Return the number of the event that asks, and the properties of the fields it sends."""
    parts = {part["id"]: part["props"] for part in config["components"]}
    for event in config["dependencies"]:
        fields = [parts[number] for number in event["inputs"]]
        shown = {parts[number].get("elem_id") for number in event["outputs"]}
        if {"stage", "question"} <= {part.get("elem_id") for part in fields} and "answer" in shown:
            return event["id"], [{"elem_id": part.get("elem_id"), "value": part.get("value")} for part in fields]
    raise LookupError("the page has no event that asks")
