"""Everybody who speaks to the live page's server, and the one batch of streams that listens to them all.

A client says {"rate_hz": N}, then sends its sound as binary messages of 16-bit little-endian samples, as fast as it
likes, and may say {"end": true}, after which another {"rate_hz": N} begins a new sound. It is told every word as
{"label", "start_seconds", "end_seconds", "emitted_seconds", "probability"}, and now and then a {"status"}.

Clients only ever fill queues of their own, whose length is bounded: who is ahead is not read from. One loop takes a
little of each queue, has one thread advance all streams together, and hands round what was said. Everything in a queue
has a cost in seconds of sound, by the work that it makes, and each client may spend the same in a turn.
"""

import asyncio
import json
from collections import deque
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from websockets.asyncio.server import ServerConnection, broadcast
from websockets.exceptions import ConnectionClosed

from audiojax.audio.signal import check_rate
from audiojax.errors import InputError

if TYPE_CHECKING:
    from audiojax.streaming.recognizer import Recognizers

TURN_SECONDS = 0.02  # between two advances of the batch, at least
SOUND_PER_TURN_SECONDS = 0.2  # of one client: ten times as fast as it is spoken
MAX_AHEAD_SECONDS = 3.0  # sound of one client that waits
MIN_ITEM_SECONDS = 0.005  # what a message costs, however short it is
FULL_COST_RATE_HZ = 96_000  # samples of a higher rate cost as if they were of this one: resampling takes longer
BEGIN_SECONDS = 0.1  # what the beginning of a sound costs: a reset, and perhaps another rate's filter
END_SECONDS = 0.5  # what an end costs: as much silence is recognised
MAX_RATE_CHANGES = 10  # of one client, one of which is forgotten each RATE_CHANGE_SECONDS
RATE_CHANGE_SECONDS = 1.0
MAX_UNREAD_BYTES = 2**18
UNSUPPORTED_DATA, INVALID_DATA, POLICY, TRY_AGAIN_LATER = 1003, 1007, 1008, 1013  # RFC 6455, 7.4, and its registry

Item = bytes | int | None  # sound; a sound begins, at this rate; it ends
Said = list[tuple["Client", dict[str, Any]]]


class WrongMessage(Exception):
    """A message that breaks the protocol: the code to close with, a sentence, and how long its sender waits for it."""

    def __init__(self, code: int, sentence: str, wait_seconds: float = 0.0):
        super().__init__(sentence)
        self.code, self.wait_seconds = code, wait_seconds


class Client:
    """One socket, and its sound that waits."""

    def __init__(self, connection: ServerConnection, now: float):
        self.connection = connection
        self.last_heard = now
        self.room = asyncio.Event()
        self._rate_hz = 0  # of the sound that is being sent; 0 between two sounds
        self._last_rate_hz, self._rate_changes, self._changed_at = 0, 0.0, now
        self._queue: deque[tuple[float, Item]] = deque()
        self._ahead_seconds = 0.0
        self._debt_seconds = 0.0  # what the last turn spent beyond its share
        # The listening thread's own:
        self.slot: int | None = None
        self.slot_rate_hz = 0
        self.heard_seconds = 0.0

    def put(self, message: str | bytes, now: float) -> None:
        """Queues what a message asks for; raises WrongMessage."""
        for item in self._sound(message) if isinstance(message, bytes) else [self._told(message, now)]:
            self._queue.append((self._cost_seconds(item), item))
            self._ahead_seconds += self._queue[-1][0]
        (self.room.clear if self._ahead_seconds > MAX_AHEAD_SECONDS else self.room.set)()

    def take(self) -> list[Item]:
        """What the next turn hears of this client; short messages in a row are one piece of sound."""
        items: list[Item] = []
        left = SOUND_PER_TURN_SECONDS - self._debt_seconds
        while self._queue and left > 0 and (self._queue[0][0] < left + 1e-6 or self._queue[0][1] is None):
            seconds, item = self._queue.popleft()
            left -= seconds
            self._ahead_seconds -= seconds
            last = items[-1] if items else None
            if isinstance(item, bytes) and isinstance(last, bytes):
                items[-1] = last + item
            else:
                items.append(item)
        self._debt_seconds = max(0.0, -left)
        self._ahead_seconds = self._ahead_seconds if self._queue else 0.0
        if self._ahead_seconds < MAX_AHEAD_SECONDS / 2:
            self.room.set()
        return items

    @property
    def waits(self) -> bool:
        return bool(self._queue)

    def tell(self, message: dict[str, Any]) -> None:
        """Sends without waiting; who does not read is `Hall.watch`'s to part with."""
        broadcast([self.connection], json.dumps(message))

    def _sound(self, message: bytes) -> list[Item]:
        """A message in pieces that a turn has room for."""
        if not self._rate_hz:
            raise WrongMessage(POLICY, 'sound came before its rate; send {"rate_hz": N} first.')
        if len(message) % 2:
            sentence = f"a message of {len(message)} bytes is not 16-bit sound; send two bytes a sample."
            raise WrongMessage(UNSUPPORTED_DATA, sentence)
        size = 2 * max(1, int(SOUND_PER_TURN_SECONDS * min(self._rate_hz, FULL_COST_RATE_HZ)))
        return [message[at : at + size] for at in range(0, len(message), size)] or [b""]

    def _cost_seconds(self, item: Item) -> float:
        if isinstance(item, bytes):
            return max(len(item) / 2 / min(self._rate_hz, FULL_COST_RATE_HZ), MIN_ITEM_SECONDS)
        return END_SECONDS if item is None else BEGIN_SECONDS

    def _told(self, message: str, now: float) -> Item:
        try:
            told = json.loads(message)
        except (ValueError, RecursionError):
            raise WrongMessage(INVALID_DATA, 'a text message is not JSON; send {"rate_hz": N}.') from None
        if told == {"end": True} and self._rate_hz:
            self._rate_hz = 0
            return None
        rate_hz = told.get("rate_hz") if isinstance(told, dict) and len(told) == 1 else None
        if isinstance(rate_hz, float) and rate_hz.is_integer():  # as some languages write 48000
            rate_hz = int(rate_hz)
        if type(rate_hz) is not int or not 0 < rate_hz < 10**7:
            sentence = 'a text message is not understood; send {"rate_hz": N}, a whole number, before a sound.'
            raise WrongMessage(POLICY, sentence)
        try:
            self._rate_hz = check_rate(rate_hz)
        except InputError as error:
            raise WrongMessage(POLICY, str(error)) from None
        self._count_rate_change(now)
        return rate_hz

    def _count_rate_change(self, now: float) -> None:
        """Raises WrongMessage where one rate follows another again and again."""
        self._rate_changes = max(0.0, self._rate_changes - (now - self._changed_at) / RATE_CHANGE_SECONDS)
        self._rate_changes, self._changed_at = self._rate_changes + (self._rate_hz != self._last_rate_hz), now
        self._last_rate_hz = self._rate_hz
        if self._rate_changes > MAX_RATE_CHANGES:
            sentence = f"the sample rate changed {MAX_RATE_CHANGES} times at once; keep one rate."
            raise WrongMessage(POLICY, sentence, RATE_CHANGE_SECONDS)  # else it connects again and begins anew


class Hall:
    """The clients, and the recognizers, which belong to one thread."""

    def __init__(self, recognizers: "Recognizers", idle_seconds: float):
        self.clients: set[Client] = set()
        self._recognizers, self._idle_seconds = recognizers, idle_seconds
        self._by_slot: dict[int, Client] = {}
        self._left: list[Client] = []
        self._news = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "listening")
        self._tasks: set[asyncio.Task[None]] = set()

    async def receive(self, connection: ServerConnection) -> None:
        """One client, from the first message to the last."""
        places = self._recognizers.num_streams
        if len(self.clients) >= places:
            sentence = f"all {places} places are taken; try again in a moment."
            return await dismiss(connection, TRY_AGAIN_LATER, sentence)
        client = Client(connection, asyncio.get_running_loop().time())
        self.clients.add(client)
        try:
            if wrong := await self._read(client):
                await asyncio.sleep(wrong.wait_seconds)
        finally:
            self.clients.discard(client)
            self._left.append(client)
            self._news.set()
        if wrong:
            await dismiss(connection, wrong.code, str(wrong))
        return None

    async def _read(self, client: Client) -> WrongMessage | None:
        loop = asyncio.get_running_loop()
        client.tell({"status": "ready", "labels": list(self._recognizers.label_names)})
        try:
            async for message in client.connection:
                client.last_heard = loop.time()
                client.put(message, client.last_heard)
                self._news.set()
                if not client.room.is_set():
                    await _first(client.room.wait(), client.connection.wait_closed())
        except WrongMessage as wrong:
            return wrong
        except ConnectionClosed:
            pass
        return None

    async def listen(self) -> None:
        """Advances all streams as sound comes, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await self._news.wait()
            self._news.clear()
            began = loop.time()
            left, self._left = self._left, []
            work = [(client, client.take()) for client in self.clients if client.waits]
            for client, message in await loop.run_in_executor(self._thread, self._hear, left, work):
                client.tell(message)
                if "error" in message:
                    self._part(client, message["error"])
            if any(client.waits for client in self.clients):
                self._news.set()
            await asyncio.sleep(began + TURN_SECONDS - loop.time())

    async def watch(self) -> None:
        """Parts with clients who send nothing, or who do not read what they are told; for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(1.0, self._idle_seconds / 4))
            for client in list(self.clients):
                if client.connection.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
                    client.connection.transport.abort()
                elif loop.time() - client.last_heard > self._idle_seconds:
                    client.last_heard = float("inf")  # once is enough
                    self._part(client, f"nothing was sent for {self._idle_seconds:g} seconds.")

    def _part(self, client: Client, sentence: str) -> None:
        task = asyncio.create_task(dismiss(client.connection, POLICY, sentence))
        self._tasks.add(task)  # the loop itself holds it weakly
        task.add_done_callback(self._tasks.discard)

    def _hear(self, left: list[Client], work: list[tuple[Client, list[Item]]]) -> Said:
        """What the listening thread does in one turn: what it has to say, and to whom."""
        for client in left:
            if client.slot is not None:
                self._recognizers.leave(client.slot)
                del self._by_slot[client.slot]
        said: Said = []
        for client, items in work:
            try:
                for item in items:
                    said += self._hear_item(client, item)
            except InputError as error:
                said.append((client, {"error": str(error)}))
        said += self._advance()
        for client, _ in work:
            before, client.heard_seconds = client.heard_seconds, self._seconds(client)
            if int(client.heard_seconds) > int(before):
                said.append((client, {"status": "heard", "seconds": round(client.heard_seconds, 3)}))
        return said

    def _hear_item(self, client: Client, item: Item) -> Said:
        if isinstance(item, int):
            if client.slot is None:
                client.slot = self._recognizers.connect()
                assert client.slot is not None, "a client was let in without a slot"
                self._by_slot[client.slot] = client
            else:
                self._recognizers.reset(client.slot)
            client.slot_rate_hz = item
        assert client.slot is not None, "sound without a beginning"
        if item is None:
            said = [(client, _words(event)) for event in self._recognizers.flush(client.slot)]
            return [*said, (client, {"status": "ended", "seconds": round(self._seconds(client), 3)})]
        sound = np.frombuffer(item if isinstance(item, bytes) else b"", "<i2")
        self._recognizers.push(client.slot, sound, client.slot_rate_hz)  # refuses a rate that cannot be
        return []

    def _advance(self) -> Said:
        return [(self._by_slot[slot], _words(event)) for slot, event in self._recognizers.advance()]

    def _seconds(self, client: Client) -> float:
        return self._recognizers.seconds(client.slot) if client.slot is not None else 0.0


def _words(event: Any) -> dict[str, Any]:
    """A `stream.Event` as JSON has it."""
    told = {name: round(float(getattr(event, name)), 4) for name in event._fields if name != "label"}
    return {"label": event.label, **told}


async def _first(*coroutines: Coroutine[Any, Any, Any]) -> None:
    """Waits for whichever ends first, and gives up the others."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def dismiss(connection: ServerConnection, code: int, sentence: str) -> None:
    """Says why, and closes."""
    broadcast([connection], json.dumps({"error": sentence}))
    await connection.close(code, sentence.encode()[:120].decode(errors="ignore"))
