"""The demo's application: one page, and the studio behind it as JSON.

    GET  /                 the page
    GET  /api/defence      name, shape, classes, attacks and usual radii, latents to walk, how it votes, how many images
    GET  /api/pick?index=  an image of the data set and its class, if that is known
    GET  /api/place        the visitor's place in the queue, and how many wait
    POST /api/picture      a PNG or JPEG -> an image
    POST /api/attack       image, attack, norm, eps, aim -> the attacked image, the distance, the classifiers' answers
    POST /api/vote         image -> the vote, one JSON line per round
    POST /api/walk         image, first, second -> the image recalled there

What is posted is computed, in the turns of `carso.demo.turns`; a visitor names itself by the header X-Visitor. When all
turns are taken the answer is 503, and Retry-After says when to come back.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from carso.demo.studio import ATTACKS, SHOWN, Round, Studio
from carso.demo.turns import CAPACITY, Turns, Visit
from carso.demo.wire import AttackRequest, VoteRequest, WalkRequest, decode, encode, longest, parse, told
from carso.recall import rounds
from carso.types import Images
from carso.web.body import UPLOAD, Room, bounded, picture
from carso.web.call import Call
from carso.web.guard import Guard
from carso.web.refusal import HANDLERS, RefusedError
from carso.web.serving import run

FILES = {
    "": ("index.html", "text/html"),
    "style.css": ("style.css", "text/css"),
    **{f"{name}.js": (f"{name}.js", "text/javascript") for name in ("script", "request", "pad", "pixels", "vote")},
}


class Demo:
    """What the page can ask of a studio."""

    def __init__(self, studio: Studio, turns: Turns) -> None:
        self.studio, self.turns = studio, turns

    async def defence(self, _: Request) -> Response:
        """What the page needs to know once."""
        return JSONResponse(facts(self.studio))

    async def pick(self, request: Request) -> Response:
        """An image of the data set."""
        index = request.query_params.get("index", "0")
        if not index.isdecimal() or len(index) > 9:
            raise RefusedError(400, f"index must be a whole number, not {index[:80]!r}")
        image, label = self.studio.pick(int(index))
        return JSONResponse({"image": encode(image), "label": label})

    async def place(self, request: Request) -> Response:
        """Where the visitor waits."""
        return JSONResponse({"place": self.turns.place(visitor(request)), "waiting": len(self.turns.line)})

    async def picture(self, body: bytes, visit: Visit) -> Response:
        """An uploaded picture as an image."""
        read = partial(picture, body, self.studio.shape, self.studio.digits)
        return JSONResponse({"image": encode(await visit.run(read))})

    async def attack(self, asked: AttackRequest, visit: Visit) -> Response:
        """An image attacked, and what every model says of it before and after."""
        image = decode(asked.image, self.studio)
        return JSONResponse(await visit.run(partial(attacked, self.studio, image, asked)))

    async def vote(self, asked: VoteRequest, visit: Visit) -> Response:
        """The rounds of a vote as they come."""
        ballots = self.studio.vote(decode(asked.image, self.studio), asked.seed, asked.whole)
        return StreamingResponse(lines(ballots, await _next(ballots, visit), visit), media_type="application/x-ndjson")

    async def walk(self, asked: WalkRequest, visit: Visit) -> Response:
        """The image recalled at two latents."""
        image = decode(asked.image, self.studio)
        recalled = await visit.run(partial(self.studio.walk, image, asked.first, asked.second))
        return JSONResponse({"image": encode(recalled)})

    def admit(self, request: Request) -> AbstractContextManager[Visit]:
        """Let an interaction in; see `Turns`."""
        return self.turns.admit(visitor(request))

    def routes(self) -> list[Route]:
        """The page and everything that it asks for."""
        plain = [Route(f"/api/{each.__name__}", each) for each in (self.defence, self.pick, self.place)]
        upload = Call(self.admit, partial(bounded, most=UPLOAD), self.picture)
        read = partial(parse, most=longest(self.studio.shape))
        calls = {
            "picture": upload,
            "attack": Call(self.admit, partial(read, kind=AttackRequest), self.attack),
            "vote": Call(self.admit, partial(read, kind=VoteRequest), self.vote),
            "walk": Call(self.admit, partial(read, kind=WalkRequest), self.walk),
        }
        computed = [Route(f"/api/{name}", call, methods=["POST"]) for name, call in calls.items()]
        return [*(Route(f"/{name}", static(name)) for name in FILES), *plain, *computed]


def application(studio: Studio, hosts: Iterable[str] = (), capacity: int = CAPACITY) -> Guard:
    """The demo of a studio as an ASGI application; `hosts` as `Guard` takes them, `capacity` as `Turns` does."""
    app = Starlette(routes=Demo(studio, Turns(capacity)).routes(), exception_handlers=HANDLERS)
    return Guard(Room(app), hosts)


def visitor(request: Request) -> str:
    """Who asks: the name that a page gives itself, else the connection."""
    return request.headers.get("x-visitor", str(request.client))[:64]


def serve(studio: Studio, listener: socket.socket, hosts: Iterable[str] = ()) -> None:
    """Run the demo of a studio on a socket until interrupted; `hosts` as `Guard` takes them."""
    run(application(studio, hosts), listener)


def facts(studio: Studio) -> dict[str, Any]:
    """What the page needs to know of a studio."""
    defence = studio.defence
    return {
        "name": studio.name,
        "shape": studio.shape,
        "classes": studio.classes,
        "attacks": {key: title for key, (title, _options) in ATTACKS.items()},
        "picks": 0 if studio.dataset is None else len(studio.dataset),
        "latent": defence.purifier.latent,
        "axes": studio.axes,
        "radii": studio.radii,
        "samples": defence.samples,
        "aggregation": defence.aggregation,
        "adversarial": studio.adversarial,
        "first": next(rounds(defence.samples, "confident"))[1],
        "error": defence.error,
        "shown": SHOWN,
    }


def attacked(studio: Studio, image: Images, asked: AttackRequest) -> dict[str, Any]:
    """The attacked image, how far it is from the clean one, and what every model says of both."""
    started = time.perf_counter()
    after = studio.attack(image, asked.attack, asked.norm, asked.eps, asked.aim, asked.seed)
    seconds = time.perf_counter() - started
    answers = {name: list(map(vars, studio.answers(one))) for name, one in (("clean", image), ("attacked", after))}
    answers["clean"].append(vars(studio.elected(image, asked.seed)))
    distance = {"Linf": float((after - image).abs().max()), "L2": float((after - image).norm())}
    return {"image": encode(after), "distance": distance, "seconds": seconds, "answers": answers}


async def lines(ballots: Iterator[Round], first: Round | None, visit: Visit) -> AsyncIterator[str]:
    """A vote as lines of JSON, each round in a turn of its own, so that a slow reader keeps nobody waiting."""
    round_ = first
    while round_ is not None:
        yield json.dumps(told(round_)) + "\n"
        round_ = await _next(ballots, visit)


async def _next(ballots: Iterator[Round], visit: Visit) -> Round | None:
    return await visit.run(partial(next, ballots, None))


def static(name: str) -> Callable[[Request], Awaitable[Response]]:
    """A file of the page."""
    file, kind = FILES[name]
    content = (resources.files("carso.demo") / "page" / file).read_bytes()

    async def handle(_: Request) -> Response:
        return Response(content, media_type=kind)

    return handle
