"""The event loop is asyncio's: every feature works on a bare loop and inside scenarios."""

from __future__ import annotations

import asyncio
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import molotov
import pytest
from asyncio_features import FEATURES
from runs import Outcome, Run, run
from servers import OK, BadServer, Connection

pytestmark = pytest.mark.timeout(90)
HERE = Path(__file__).parent
WORKERS = 3


def answering(connection: Connection) -> None:
    """Answer well; take 30 seconds (or until the test ends) over ``/slow``."""
    while (head := connection.read_request()) is not None:
        if b" /slow " in head:
            connection.server.stopping.wait(30)
        connection.send(OK)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Run one server for all features."""
    with BadServer(answering) as server:
        yield server.url


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Make a fresh loop, and close it."""
    loop = molotov.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    asyncio.set_event_loop(None)


@pytest.mark.parametrize("name", FEATURES)
def test_feature_on_a_bare_loop(name: str, loop: asyncio.AbstractEventLoop, url: str) -> None:
    """asyncio and the real aiohttp on the loop, without the load tester."""
    import aiohttp

    async def main() -> None:
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(FEATURES[name](session, url) for _ in range(2)))

    loop.run_until_complete(main())


@pytest.fixture(scope="module")
def scenarios(url: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Run every feature as a scenario, once per worker."""
    body = f"""
sys.path.insert(0, {str(HERE)!r})
from asyncio_features import FEATURES

def register(name, feature):
    @scenario(name=name)
    async def run_it(session):
        try:
            await feature(session, URL)
            os.write(1, f"PASSED {{name}} .\\n".encode())
        except BaseException as error:
            os.write(1, f"BROKEN {{name}} {{error!r}}\\n".encode())
            raise

for name, feature in FEATURES.items():
    register(name, feature)
"""
    return run(tmp_path_factory.mktemp("features"), body, "--single-run", "-w", str(WORKERS), url=url)


@pytest.mark.parametrize("name", FEATURES)
def test_feature_in_a_scenario(name: str, scenarios: Outcome) -> None:
    """The same features with the load tester's own session and worker."""
    broken = re.findall(rf"^BROKEN {name} (.*)$", scenarios.out, re.M)
    assert not broken, scenarios.out
    passed = len(re.findall(rf"^PASSED {name} ", scenarios.out, re.M))
    assert passed == WORKERS, scenarios.out + scenarios.err


def test_scenarios_are_all_counted(scenarios: Outcome) -> None:
    """Each feature once per worker, and nothing left behind."""
    scenarios.assert_clean()
    assert scenarios.counts == (len(FEATURES) * WORKERS, 0)


def test_loop_is_a_selector_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Libraries that look at the loop's type find asyncio's own."""
    assert isinstance(loop, asyncio.SelectorEventLoop)
    assert not loop.is_running()
    assert not loop.is_closed()


def test_idle_loop_sleeps(loop: asyncio.AbstractEventLoop) -> None:
    """Waiting costs no CPU time: far less than the wait itself."""
    import time

    before = time.process_time()
    loop.run_until_complete(asyncio.sleep(0.5))
    assert time.process_time() - before < 0.25


def test_stop_and_run_again(loop: asyncio.AbstractEventLoop) -> None:
    """A loop can be stopped from a thread and started again."""
    for _ in range(3):
        threading.Timer(0.01, loop.call_soon_threadsafe, [loop.stop]).start()
        loop.run_forever()
    assert loop.run_until_complete(asyncio.sleep(0, "again")) == "again"


def test_signal_handler(loop: asyncio.AbstractEventLoop) -> None:
    """`add_signal_handler` wakes an idle loop."""
    future = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, future.set_result, "woken")
    threading.Timer(0.01, signal.raise_signal, [signal.SIGUSR1]).start()
    assert loop.run_until_complete(asyncio.wait_for(future, 30)) == "woken"
    loop.remove_signal_handler(signal.SIGUSR1)


def test_keyboard_interrupt(loop: asyncio.AbstractEventLoop) -> None:
    """Ctrl-C leaves an idle `run_until_complete` as KeyboardInterrupt."""
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.05, signal.pthread_kill, [main, signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(asyncio.sleep(30))


def test_two_loops_in_turn() -> None:
    """Loops do not share state: a second one works after the first was closed, and in another thread."""
    for _ in range(2):
        loop = molotov.new_event_loop()
        assert loop.run_until_complete(asyncio.sleep(0, 1)) == 1
        loop.close()
    results: list[int] = []

    def other_thread() -> None:
        loop = molotov.new_event_loop()
        results.append(loop.run_until_complete(asyncio.sleep(0.001, 2)))
        loop.close()

    thread = threading.Thread(target=other_thread)
    thread.start()
    thread.join()
    assert results == [2]


def test_debug_mode(loop: asyncio.AbstractEventLoop, url: str) -> None:
    """asyncio's debug mode changes nothing but its speed."""
    loop.set_debug(True)

    async def main() -> None:
        import aiohttp

        async with aiohttp.ClientSession() as session:
            await FEATURES["gather"](session, url)

    loop.run_until_complete(main())


def test_workers_share_one_loop(tmp_path: Path) -> None:
    """Events, locks and queues of one worker are seen by the others."""
    body = """
ready = []

@scenario()
async def meet(session):
    event = molotov.get_var("event", factory=asyncio.Event)
    ready.append(molotov.get_context(session).worker_id)
    if len(ready) == 5:
        event.set()
    await event.wait()
    assert sorted(ready) == [0, 1, 2, 3, 4]
    assert session.loop is asyncio.get_running_loop()
"""
    outcome = run(tmp_path, body, "-w", "5", "-r", "1")
    outcome.assert_clean()
    assert outcome.counts == (5, 0)


def test_task_left_running(tmp_path: Path) -> None:
    """A task that a scenario starts and forgets neither hangs the end nor disturbs the counts."""
    body = """
tasks = []

@scenario()
async def forget(session):
    tasks.append(asyncio.create_task(asyncio.sleep(3600)))
"""
    with Run(tmp_path, body, "-w", "2", "-r", "2") as running:
        outcome = running.finish()
    assert outcome.code == 0
    assert outcome.counts == (4, 0)


def test_ending_the_wait_of_a_worker(tmp_path: Path, url: str) -> None:
    """A task that ends the request a worker waits for stays the current task until it is done itself."""
    body = """
async def broken():
    yield b"first"
    raise ValueError("no more")

@scenario()
async def upload(session):
    # A task of its own feeds the body, and ends the worker's wait when the source breaks.
    try:
        await session.post(URL + "/slow", data=broken())
    except Exception:
        mark("told")
"""
    outcome = run(tmp_path, body, "-r", "3", url=url)
    assert outcome.counts == (3, 0), outcome.out
    assert outcome.marked("told") == 3
    assert "Exception in callback" not in outcome.err, outcome.err
