"""Decorators, registries, variables, counters, the console and statsd: in this process."""

from __future__ import annotations

import asyncio
import os
import socket

import molotov
import pytest
from molotov import _statsd, api, util
from molotov.listeners import BaseListener, EventSender
from molotov.shared.counter import Counter, Counters
from molotov.ui.console import Console, SharedConsole
from molotov.ui.status import LiveStatus


@pytest.fixture(autouse=True)
def registries():
    saved = dict(api._SCENARIO), dict(api._FIXTURES)
    api._SCENARIO.clear()
    api._FIXTURES.clear()
    yield
    for registry, content in zip((api._SCENARIO, api._FIXTURES), saved, strict=True):
        registry.clear()
        registry.update(content)


def test_a_scenario_is_registered_and_stays_callable():
    @molotov.scenario(weight=2.5, delay=1.5, name="other")
    async def one(session):
        return session

    assert api.get_scenario("other") == {
        "name": "other",
        "weight": 2.5,
        "delay": 1.5,
        "func": one.__wrapped__,
        "args": (),
        "kw": {},
    }
    assert asyncio.run(one(7)) == 7


def test_weights_of_zero_and_below_are_left_out():
    for weight in (0, -1):

        @molotov.scenario(weight=weight)
        async def one(session):
            pass

    assert api.get_scenarios() == []
    assert api.pick_scenario() is None


def test_the_later_of_two_names_wins_and_names_sort():
    for name in ("b", "a", "b"):

        @molotov.scenario(name=name)
        async def one(session):
            pass

    assert [item["name"] for item in api.get_scenarios()] == ["a", "b"]
    assert api.get_scenario("b")["func"] is one.__wrapped__
    assert [item["name"] for item in api.next_scenario()] == ["a", "b"]


def test_pick_by_weight_and_by_picker():
    @molotov.scenario(weight=1000)
    async def often(session):
        pass

    @molotov.scenario(weight=1e-9)
    async def never(session):
        pass

    assert {api.pick_scenario()["name"] for _ in range(100)} == {"often"}

    @molotov.scenario_picker()
    def picker(worker_id, step_id):
        return "never" if step_id == 3 else "missing"

    assert api.pick_scenario(0, 3)["name"] == "never"
    assert api.pick_scenario(0, 1) is None


def test_wrong_functions():
    with pytest.raises(TypeError, match="needs to be a coroutine"):
        molotov.scenario()(lambda session: None)
    with pytest.raises(TypeError, match="needs to be a coroutine"):
        molotov.setup()(lambda wid, args: None)


def test_a_fixture_can_only_be_declared_once_but_events_often():
    async def fixture(*args, **kw):
        pass

    molotov.setup()(fixture)
    with pytest.raises(ValueError, match="You can't have two 'setup' functions"):
        molotov.setup()(fixture)
    molotov.events()(fixture)
    molotov.events()(fixture)
    assert len(api.get_fixture("events")) == 2


def test_session_options_are_the_defaults_of_the_scenario():
    @molotov.scenario()
    async def call(session, session_factory="grpc", grpc_url="ipv4:///127.0.0.1:1", *, retries=2):
        pass

    @molotov.scenario()
    async def plain(session, retries=2):
        pass

    assert api.session_options(api.get_scenario("call")) == (
        "grpc",
        {"grpc_url": "ipv4:///127.0.0.1:1", "retries": 2},
    )
    assert api.session_options(api.get_scenario("plain")) == ("http", {})


def test_variables():
    util._VARS.clear()
    assert molotov.get_var("some") is None
    made = molotov.get_var("some", factory=object)
    assert molotov.get_var("some", factory=object) is made
    molotov.set_var("some", 1)
    assert molotov.get_var("some") == 1


def test_public_names():
    for name in molotov.__all__:
        assert getattr(molotov, name) is not None
    with pytest.raises(AttributeError):
        _ = molotov.nothing


def test_stop_tells_its_reason():
    util.reset_stop()
    told = []
    util._on_stop.append(lambda: told.append(1))
    try:
        error = ValueError()
        util.stop(why=error)
        assert (util.is_stopped(), util.stop_reason(), told) == (True, [error], [1])
    finally:
        util._on_stop.pop()
        util.reset_stop()


def test_cancellable_sleep_ends_early_and_keeps_its_result():
    async def run():
        sleeping = asyncio.ensure_future(util.cancellable_sleep(3600, result=5))
        while not util.cancellable_sleep.tasks:
            await asyncio.sleep(0)
        assert util.cancellable_sleep.cancel_all() == 1
        assert await sleeping == 5
        sleeping = asyncio.ensure_future(util.cancellable_sleep(3600))
        while not util.cancellable_sleep.tasks:
            await asyncio.sleep(0)
        sleeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sleeping

    asyncio.run(run())


def test_counters_compare_and_refuse():
    one, two = Counter("one"), Counter("two")
    one.value, two.value = 4, 5
    assert one < two and one <= 4 and one >= 4 and two > 4 and one == 4 and one != 5
    two -= 1
    assert one == two
    two += one
    assert two.value == 8
    with pytest.raises(NotImplementedError):
        one += 6.2
    with pytest.raises(TypeError):
        _ = one == 6.2
    assert repr(one) == "<Counter 4>"


def test_counters_are_a_mapping():
    data = Counters("one", "two")
    data["one"] += 10
    data["two"] = 4
    data["two"] -= 1
    assert data.to_dict() == {"one": 10, "two": 3}
    assert list(data) == ["one", "two"] and "one" in data
    with pytest.raises(KeyError):
        data["three"] = 1
    with pytest.raises(TypeError):
        data["one"] = "1"


def test_counters_count_across_forks():
    data = Counters("hits")
    children = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            for _ in range(500):
                data["hits"] += 1
            os._exit(0)
        children.append(pid)
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    assert data["hits"].value == 2000


class Recording:
    def __init__(self):
        self.errors = []

    def print_error(self, error):
        self.errors.append(error)


def test_listeners_get_events_and_cannot_break_them():
    class Listener(BaseListener):
        seen = None

        def on_plain(self, value):
            Listener.seen = value

        async def on_broken(self):
            raise ValueError("bam")

    console = Recording()
    sender = EventSender(console, [Listener()])

    async def run():
        await sender.send_event("plain", value=42)
        await sender.send_event("broken")
        await sender.send_event("unknown")

    asyncio.run(run())
    assert Listener.seen == 42
    assert [str(error) for error in console.errors] == ["bam"]
    assert not EventSender(console)


def test_the_console_writes_everything_in_order(capsys):
    async def run():
        console = Console(interval=0, simple_console=True)
        await console.start()
        console.print(" one \n two ")
        console.print_error(ValueError("three"))
        console.print_block("four", lambda: console.print("five"))
        await console.stop()

    asyncio.run(run())
    assert capsys.readouterr().out == "one\ntwo\nValueError('three')\n\nfour...\nfive\nOK\n"


def test_a_silent_console_prints_nothing(capsys):
    console = SharedConsole()
    console.print("before")
    console.silence()
    console.print("after")
    console.print_failure("[W:0] Failure!", ValueError())
    console.finish()
    assert capsys.readouterr().out == ""


def test_the_console_survives_a_narrow_encoding(monkeypatch, capsys):
    import io
    import sys

    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    console = SharedConsole()
    console.print("caf\N{LATIN SMALL LETTER E WITH ACUTE}")
    console.finish()
    assert raw.getvalue() == b"caf\\xe9\n"


class Terminal:
    encoding = "utf-8"

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text
        return len(text)

    def flush(self):
        pass

    def fileno(self):
        raise OSError


def test_the_status_line_is_redrawn_below_what_is_printed(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    status = LiveStatus(terminal)
    results = {"OK": 5, "FAILED": 1, "WORKER": 2, "REQUESTS": 10}
    status.show("", results)
    first = terminal.text
    assert first.startswith("workers 2 · successes 5 · failures 1 · 0 req/s · elapsed ")
    status.show("printed\n", results)
    assert terminal.text[len(first) :].startswith("\r\x1b[2Kprinted\nworkers 2")
    status.erase()
    assert terminal.text.endswith("\r\x1b[2K")


def test_the_status_line_counts_requests_of_the_last_second():
    status = LiveStatus(Terminal())
    status.line({"REQUESTS": 0}, 100.0)
    assert "· 500 req/s ·" in status.line({"REQUESTS": 500}, 101.0)
    assert "· 100 req/s ·" in status.line({"REQUESTS": 600}, 102.0)
    assert "elapsed 1 min 40 s" in LiveStatus(Terminal()).line({}, status._started + 100.5)


def receive(address="127.0.0.1"):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, 0))
    server.settimeout(10)
    return server


def test_statsd_metrics():
    async def run(port):
        client = _statsd.get_statsd_client(f"udp://127.0.0.1:{port}")
        client.increment("dropped")
        assert client.disconnected
        async with client:
            assert client.connected
            client.increment("a.b")
            client.decrement("a.b", value=2, tags={"x": 1, "y": "z"})
            client.timing("t", value=12)
            client.gauge("g", value=1.5)
            client.histogram("h", value=3)
            client.increment("never", sample_rate=0.0)
        assert client.disconnected

    with receive() as server:
        asyncio.run(run(server.getsockname()[1]))
        assert [server.recv(1000).decode() for _ in range(5)] == [
            "a.b:1|c",
            "a.b:-2|c|#x:1,y:z",
            "t:12|ms",
            "g:1.5|g",
            "h:3|h",
        ]


def test_statsd_without_a_server_is_no_error():
    with receive() as server:
        port = server.getsockname()[1]

    async def run():
        async with _statsd.get_statsd_client(f"udp://127.0.0.1:{port}") as client:
            for _ in range(3):
                client.increment("nobody")
                await asyncio.sleep(0)

    asyncio.run(run())


@pytest.mark.parametrize("address", ["udp://", "udp://host:port"])
def test_statsd_addresses_that_are_none(address):
    with pytest.raises(ValueError, match="--statsd-address"):
        _statsd.get_statsd_client(address)
