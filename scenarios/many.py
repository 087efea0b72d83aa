"""Many scenarios with weights, and every fixture that Molotov has.

    URL=http://127.0.0.1:8080 molotov -c -w 5 -d 10 scenarios/many.py
    URL=http://127.0.0.1:8080 molotov --single-run scenarios/many.py       each scenario once
    URL=http://127.0.0.1:8080 molotov -s checkout scenarios/many.py        only that one

The service is a shop of this shape (tests/python/test_scenarios.py has one to try):
GET / a page, GET /items?page=1 a JSON list, GET /items/ID one of them, POST /login a token,
POST /cart and POST /checkout for those who have one.
"""

import os
import random
import time

from molotov import (
    events,
    get_context,
    get_var,
    global_setup,
    global_teardown,
    json_request,
    scenario,
    set_var,
    setup,
    setup_session,
    teardown,
    teardown_session,
)

URL = os.environ.get("URL", "http://127.0.0.1:8080").rstrip("/")


@global_setup()
def look_before(args):
    """Once, before any worker: an unusable service ends the run here, with a clear reason."""
    answer = json_request(URL + "/items")
    assert answer["status"] == 200, answer["status"]
    set_var("items", [item["id"] for item in answer["content"]["items"]])
    set_var("slowest", {"seconds": 0.0, "url": None})


@setup()
async def options_of_the_session(worker_id, args):
    """Once per worker: keyword arguments for its session."""
    return {"headers": {"User-Agent": f"shopper/{worker_id}"}}


@setup_session()
async def log_in(worker_id, session):
    """Once per worker, with its session: each shopper gets a token of its own."""
    async with session.post(URL + "/login", json={"user": f"shopper-{worker_id}"}) as response:
        assert response.status == 200, response.status
        session.token = (await response.json())["token"]


@teardown_session()
async def log_out(worker_id, session):
    """Once per worker, while its session is still open."""
    async with session.delete(URL + "/login", headers={"X-Token": session.token}) as response:
        assert response.status == 204, response.status


@teardown()
def say_goodbye(worker_id):
    """Once per worker, after its session was closed."""
    set_var("gone", (get_var("gone") or 0) + 1)


@global_teardown()
def report():
    """Once, when all the workers have ended."""
    slowest = get_var("slowest")
    if slowest["url"]:
        print(f"Slowest answer: {slowest['seconds'] * 1000:.1f} ms for {slowest['url']}")


_SENT = {}


@events()
async def find_the_slowest(event, **info):
    """Called for every event; a request is the same object when it is sent and when it was answered."""
    if event == "sending_request":
        _SENT[info["request"]] = time.perf_counter()
    elif event == "response_received":
        seconds = time.perf_counter() - _SENT.pop(info["request"], time.perf_counter())
        if seconds > get_var("slowest")["seconds"]:
            set_var("slowest", {"seconds": seconds, "url": str(info["request"].url)})


@scenario(weight=40)
async def home(session):
    async with session.get(URL + "/") as response:
        assert response.status == 200, response.status
        assert response.content_type == "text/html", response.content_type
        assert "<h1>" in await response.text()


@scenario(weight=30)
async def browse(session):
    async with session.get(URL + "/items", params={"page": 1}) as response:
        assert response.status == 200, response.status
        assert (await response.json())["page"] == 1


@scenario(weight=20, delay=0.01)
async def look_at_one(session):
    """The delay is what this shopper takes to read, after each run."""
    number = random.choice(get_var("items"))
    async with session.get(f"{URL}/items/{number}") as response:
        assert response.status == 200, response.status
        assert (await response.json())["id"] == number


@scenario(weight=9.5)
async def fill_the_cart(session):
    item = random.choice(get_var("items"))
    headers = {"X-Token": session.token}
    async with session.post(URL + "/cart", data={"item": str(item)}, headers=headers) as response:
        assert response.status == 201, response.status
        assert (await response.json())["item"] == item


@scenario(weight=0.5, name="checkout")
async def pay(session):
    """One run in two hundred; `step` counts the runs of this worker."""
    order = {"worker": get_context(session).worker_id, "step": get_context(session).step}
    async with session.post(URL + "/checkout", json=order, headers={"X-Token": session.token}) as response:
        assert response.status == 200, response.status
        assert await response.json() == order


@scenario(weight=0)
async def not_ready_yet(session):
    """A weight of 0 switches a scenario off."""
    raise AssertionError("never picked")
