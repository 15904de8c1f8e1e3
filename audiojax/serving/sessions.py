"""The clients of the live page's server, whose streams are recognised in one batch.

Protocol: A client sends {"rate_hz": N}, then its sound as binary messages of 16-bit little-endian samples, at any
speed, and optionally {"end": true}, after which another {"rate_hz": N} starts a new sound. {"sensitivity": NAME} sets
the operating point of its stream at any time, see `Recognizers.set_sensitivity`. The server sends each word as
{"label", "start_seconds", "end_seconds", "emitted_seconds", "probability"}, and {"status"} messages.

Scheduling: Each client fills a queue of bounded length; while the queue is full, its socket is not read. One loop takes
items from all queues in turn, advances all streams in one batch on a worker thread, and sends the events. Each item has
a cost in seconds of sound that reflects its processing time, and all clients have the same budget per turn.
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

TURN_SECONDS = 0.02  # minimum time between two turns
SOUND_PER_TURN_SECONDS = 0.2  # budget of one client per turn: ten times real time
MAX_AHEAD_SECONDS = 3.0  # queued sound of one client
MIN_ITEM_SECONDS = 0.005  # minimum cost of a message
FULL_COST_RATE_HZ = 96_000  # samples of a higher rate cost as much as at this one, because resampling takes longer
BEGIN_SECONDS = 0.1  # cost of the start of a sound: a reset and possibly the filter for a new rate
END_SECONDS = 0.5  # cost of the end of a sound: as much silence is processed
MAX_RATE_CHANGES = 10  # of one client; the count decreases by one each RATE_CHANGE_SECONDS
RATE_CHANGE_SECONDS = 1.0
MAX_UNREAD_BYTES = 2**18
UNSUPPORTED_DATA, INVALID_DATA, POLICY, TRY_AGAIN_LATER = 1003, 1007, 1008, 1013  # RFC 6455, 7.4, and its registry

Item = bytes | int | str | None  # samples; the sampling rate, which starts a sound; a sensitivity; the end of a sound
Messages = list[tuple["Client", dict[str, Any]]]


class WrongMessage(Exception):
    """A message that violates the protocol: close code, sentence, and the seconds until the connection is closed."""

    def __init__(self, code: int, sentence: str, wait_seconds: float = 0.0):
        super().__init__(sentence)
        self.code, self.wait_seconds = code, wait_seconds


class Client:
    """A WebSocket connection and the queue of its sound and commands that have not been processed."""

    def __init__(self, connection: ServerConnection, now: float):
        self.connection = connection
        self.last_message_at = now
        self.room = asyncio.Event()
        self._rate_hz = 0  # of the current sound; 0 between two sounds
        self._last_rate_hz, self._rate_changes, self._changed_at = 0, 0.0, now
        self._queue: deque[tuple[float, Item]] = deque()
        self._ahead_seconds = 0.0
        self._debt_seconds = 0.0  # by which the last turn exceeded the budget
        # Used by the worker thread only:
        self.slot: int | None = None
        self.slot_rate_hz = 0
        self.processed_seconds = 0.0

    def put(self, message: str | bytes, now: float) -> None:
        """Adds a message to the queue at time `now` in seconds. Raises WrongMessage if it violates the protocol."""
        for item in self._sound(message) if isinstance(message, bytes) else [self._parse(message, now)]:
            self._queue.append((self._cost_seconds(item), item))
            self._ahead_seconds += self._queue[-1][0]
        (self.room.clear if self._ahead_seconds > MAX_AHEAD_SECONDS else self.room.set)()

    def take(self) -> list[Item]:
        """Removes and returns the items for the next turn: commands and sound, consecutive pieces joined."""
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
        """Returns whether the queue has items to process."""
        return bool(self._queue)

    def send(self, message: dict[str, Any]) -> None:
        """Sends a message as JSON without waiting; `Sessions.watch` disconnects clients that do not read."""
        broadcast([self.connection], json.dumps(message))

    def _sound(self, message: bytes) -> list[Item]:
        """Returns a message in pieces that fit into the budget of a turn."""
        if not self._rate_hz:
            raise WrongMessage(POLICY, 'sound came before its rate; send {"rate_hz": N} first.')
        if len(message) % 2:
            sentence = f"a message of {len(message)} bytes is not 16-bit sound; send two bytes per sample."
            raise WrongMessage(UNSUPPORTED_DATA, sentence)
        size = 2 * max(1, int(SOUND_PER_TURN_SECONDS * min(self._rate_hz, FULL_COST_RATE_HZ)))
        return [message[at : at + size] for at in range(0, len(message), size)] or [b""]

    def _cost_seconds(self, item: Item) -> float:
        if isinstance(item, bytes):
            return max(len(item) / 2 / min(self._rate_hz, FULL_COST_RATE_HZ), MIN_ITEM_SECONDS)
        return END_SECONDS if item is None else BEGIN_SECONDS

    def _parse(self, message: str, now: float) -> Item:
        try:
            content = json.loads(message)
        except (ValueError, RecursionError):
            raise WrongMessage(INVALID_DATA, 'a text message is not JSON; send {"rate_hz": N}.') from None
        if content == {"end": True} and self._rate_hz:
            self._rate_hz = 0
            return None
        if isinstance(content, dict) and content.keys() == {"sensitivity"}:
            return str(content["sensitivity"])
        rate_hz = content.get("rate_hz") if isinstance(content, dict) and len(content) == 1 else None
        if isinstance(rate_hz, float) and rate_hz.is_integer():  # some languages write 48000.0
            rate_hz = int(rate_hz)
        if type(rate_hz) is not int or not 0 < rate_hz < 10**7:
            sentence = 'a text message is invalid; send {"rate_hz": N}, a whole number, before a sound.'
            raise WrongMessage(POLICY, sentence)
        try:
            self._rate_hz = check_rate(rate_hz)
        except InputError as error:
            raise WrongMessage(POLICY, str(error)) from None
        self._count_rate_change(now)
        return rate_hz

    def _count_rate_change(self, now: float) -> None:
        """Raises WrongMessage if the rate changes too often."""
        self._rate_changes = max(0.0, self._rate_changes - (now - self._changed_at) / RATE_CHANGE_SECONDS)
        self._rate_changes, self._changed_at = self._rate_changes + (self._rate_hz != self._last_rate_hz), now
        self._last_rate_hz = self._rate_hz
        if self._rate_changes > MAX_RATE_CHANGES:
            sentence = f"the sample rate changed {MAX_RATE_CHANGES} times at once; keep one rate."
            raise WrongMessage(POLICY, sentence, RATE_CHANGE_SECONDS)  # delays a reconnection


class Sessions:
    """All connected clients, and the recognisers of their streams, which are used on one worker thread.

    Clients that send nothing for `idle_seconds` are disconnected.
    """

    def __init__(self, recognizers: "Recognizers", idle_seconds: float):
        self.clients: set[Client] = set()
        self._recognizers, self._idle_seconds = recognizers, idle_seconds
        self._by_slot: dict[int, Client] = {}
        self._left: list[Client] = []
        self._news = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "recogniser")
        self._tasks: set[asyncio.Task[None]] = set()

    async def receive(self, connection: ServerConnection) -> None:
        """Handles a client's connection until it is closed; refuses it if all streams are in use."""
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
        client.send({"status": "ready", "labels": list(self._recognizers.label_names)})
        try:
            async for message in client.connection:
                client.last_message_at = loop.time()
                client.put(message, client.last_message_at)
                self._news.set()
                if not client.room.is_set():
                    await _first(client.room.wait(), client.connection.wait_closed())
        except WrongMessage as wrong:
            return wrong
        except ConnectionClosed:
            pass
        return None

    async def recognise(self) -> None:
        """Processes the queues of all clients in turns and sends the recognised words; never returns."""
        loop = asyncio.get_running_loop()
        while True:
            await self._news.wait()
            self._news.clear()
            began = loop.time()
            left, self._left = self._left, []
            work = [(client, client.take()) for client in self.clients if client.waits]
            for client, message in await loop.run_in_executor(self._thread, self._process, left, work):
                client.send(message)
                if "error" in message:
                    self._disconnect(client, message["error"])
            if any(client.waits for client in self.clients):
                self._news.set()
            await asyncio.sleep(began + TURN_SECONDS - loop.time())

    async def watch(self) -> None:
        """Disconnects clients that send nothing or do not read; never returns."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(1.0, self._idle_seconds / 4))
            for client in list(self.clients):
                if client.connection.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
                    client.connection.transport.abort()
                elif loop.time() - client.last_message_at > self._idle_seconds:
                    client.last_message_at = float("inf")  # disconnect once
                    self._disconnect(client, f"nothing was sent for {self._idle_seconds:g} seconds.")

    def _disconnect(self, client: Client, sentence: str) -> None:
        task = asyncio.create_task(dismiss(client.connection, POLICY, sentence))
        self._tasks.add(task)  # the event loop has weak references only
        task.add_done_callback(self._tasks.discard)

    def _process(self, left: list[Client], work: list[tuple[Client, list[Item]]]) -> Messages:
        """Runs one turn on the worker thread and returns the messages to send."""
        for client in left:
            if client.slot is not None:
                self._recognizers.leave(client.slot)
                del self._by_slot[client.slot]
        messages: Messages = []
        for client, items in work:
            try:
                for item in items:
                    messages += self._process_item(client, item)
            except InputError as error:
                messages.append((client, {"error": str(error)}))
        messages += [(self._by_slot[slot], _words(event)) for slot, event in self._recognizers.advance()]
        for client, _ in work:
            before, client.processed_seconds = client.processed_seconds, self._seconds(client)
            if int(client.processed_seconds) > int(before):
                messages.append((client, {"status": "heard", "seconds": round(client.processed_seconds, 3)}))
        return messages

    def _process_item(self, client: Client, item: Item) -> Messages:
        if client.slot is None:
            client.slot = self._recognizers.connect()
            assert client.slot is not None, "a client was let in without a slot"
            self._by_slot[client.slot] = client
        if isinstance(item, str):
            self._recognizers.set_sensitivity(client.slot, item)
            return []
        if isinstance(item, int):
            self._recognizers.reset(client.slot)
            client.slot_rate_hz = item
        if item is None:
            messages = [(client, _words(event)) for event in self._recognizers.flush(client.slot)]
            return [*messages, (client, {"status": "ended", "seconds": round(self._seconds(client), 3)})]
        sound = np.frombuffer(item if isinstance(item, bytes) else b"", "<i2")
        self._recognizers.push(client.slot, sound, client.slot_rate_hz)  # raises InputError for an invalid rate
        return []

    def _seconds(self, client: Client) -> float:
        return self._recognizers.seconds(client.slot) if client.slot is not None else 0.0


def _words(event: Any) -> dict[str, Any]:
    """Returns a `decoder.Event` as a JSON object."""
    content = {name: round(float(getattr(event, name)), 4) for name in event._fields if name != "label"}
    return {"label": event.label, **content}


async def _first(*coroutines: Coroutine[Any, Any, Any]) -> None:
    """Waits until one coroutine ends and cancels the others."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


async def dismiss(connection: ServerConnection, code: int, sentence: str) -> None:
    """Sends the reason `sentence` as an error message and closes the connection with the WebSocket close code."""
    broadcast([connection], json.dumps({"error": sentence}))
    await connection.close(code, sentence.encode()[:120].decode(errors="ignore"))
