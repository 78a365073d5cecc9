"""A TCP proxy before the server that counts bytes and spoils connections on request."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine


class Proxy:
    """Forwards every connection to a port on 127.0.0.1. Made by `proxy`; its methods may be called from any thread.

    Attributes:
        url: what a client takes for the server.
        up, down: bytes forwarded so far, client to server and back.
        connections: how many were accepted so far.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.up = self.down = self.connections = 0
        self._limits: list[int] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.accept()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self, after: int = 0, times: int = 1) -> None:
        """Reset a connection as soon as more than ``after`` bytes came back on it; so for the next ``times`` such connections."""
        self._limits = [after] * times

    def refuse(self) -> None:
        """Reset every connection and refuse new ones, as if nobody listened, until `accept`."""
        self._do(self._close())

    def accept(self) -> None:
        """Listen again, on the same port."""
        self._do(self._open())

    def stop(self) -> None:
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _do(self, work: Coroutine) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        self._reset(self._writers)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        ends = {writer}
        self._writers.add(writer)
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target)
            ends.add(server_writer)
            self._writers.add(server_writer)
            await asyncio.gather(self._forward_up(reader, server_writer), self._forward_down(server_reader, writer))
        except OSError:
            pass
        finally:
            self._reset(ends)
            self._writers -= ends

    async def _forward_up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            self.up += len(data)
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async def _forward_down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        while data := await reader.read(65536):
            cut = self._limits and passed + len(data) > self._limits[0]
            if cut:
                data = data[: self._limits.pop(0) - passed]
            passed += len(data)
            self.down += len(data)
            writer.write(data)
            await writer.drain()
            if cut:
                raise ConnectionResetError
        writer.write_eof()

    @staticmethod
    def _reset(writers: set[asyncio.StreamWriter]) -> None:
        for writer in writers:
            writer.transport.abort()


@contextlib.contextmanager
def proxy(port: int):
    """A `Proxy` before the server on ``port``."""
    made = Proxy(port)
    try:
        yield made
    finally:
        made.stop()
