"""A TCP proxy before a local server: it counts bytes, and breaks connections on request."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator


@contextlib.contextmanager
def proxy(port: int) -> Iterator["Proxy"]:
    """A `Proxy` before the server on ``port``."""
    made = Proxy(port)
    try:
        yield made
    finally:
        made.refuse()
        made.loop.call_soon_threadsafe(made.loop.stop)


class Proxy:
    """Forwards connections to a port on 127.0.0.1. Its methods are thread-safe.

    A remote job makes two connections: a websocket, on which its result comes back, and the upload.

    Attributes:
        url: the address for clients.
        up, down: bytes forwarded so far, client to server and back.
        connections: the number accepted so far.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.up = self.down = self.connections = 0
        self.loop = asyncio.new_event_loop()
        self._limits: list[int] = []
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: set[asyncio.StreamWriter] = set()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.accept()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self, after: int = 0, times: int = 1) -> None:
        """Reset a connection that has returned ``after`` bytes and has more; repeat for the next
        ``times`` such connections."""
        self._limits = [after] * times

    def stall(self) -> None:
        """Return nothing more, but keep the connections open, until `flow`."""
        self.loop.call_soon_threadsafe(self._flows.clear)

    def flow(self) -> None:
        """Undo `stall`."""
        self.loop.call_soon_threadsafe(self._flows.set)

    def refuse(self) -> None:
        """Reset all connections and stop listening, until `accept`."""
        self._wait_for(self._close())

    def accept(self) -> None:
        """Listen again, on the same port."""
        self._wait_for(self._open())

    def _wait_for(self, work: Coroutine) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        # Let the event loop run until the connections have closed.
        while self._writers:
            await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        ends = [writer]
        self._writers.add(writer)
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target)
            ends.append(server_writer)
            self._writers.add(server_writer)
            await asyncio.gather(
                self._forward_up(reader, server_writer), self._forward_down(server_reader, writer)
            )
        except OSError:
            pass
        finally:
            for end in ends:
                end.transport.abort()
                self._writers.discard(end)

    async def _forward_up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            self.up += len(data)
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async def _forward_down(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        passed = 0
        while data := await reader.read(65536):
            await self._flows.wait()
            cut = bool(self._limits) and passed + len(data) > self._limits[0]
            if cut:
                data = data[: max(self._limits.pop(0) - passed, 0)]
            passed += len(data)
            self.down += len(data)
            writer.write(data)
            await writer.drain()
            if cut:
                raise ConnectionResetError
        writer.write_eof()
