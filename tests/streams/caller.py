"""PyPI's websockets and grpcio: every kind of stream once, a line for each. caller.py HOST:PORT"""

import asyncio
import os
import sys

import grpc
import websockets

authority = sys.argv[1]


def say(what, good, more=""):
    print(what, "ok" if good else f"bad {more}", flush=True)


async def socket():
    async with websockets.connect(f"ws://{authority}/ws/echo", max_size=None, proxy=None) as ws:
        sent = [os.urandom(number * 2003 % 70_000) for number in range(50)]
        received = []

        async def receive():
            for _ in sent:
                received.append(await ws.recv())

        receiving = asyncio.create_task(receive())
        for message in sent:
            await ws.send(message)
        await receiving
        say("websocket binary", received == sent)
        await ws.send("grüß")
        say("websocket text", await ws.recv() == "grüß")
        await (await ws.ping())
        say("websocket ping", True)
        await ws.close(4001, "enough")
        say("websocket close", ws.close_code == 4001)


def calls():
    big = os.urandom(100_000)
    parts = [big[start:start + 3000] for start in range(0, len(big), 3000)]
    options = [("grpc.max_receive_message_length", 1 << 26), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(authority, options) as channel:
        name = "/keybearer.Streams/"
        say("grpc unary", channel.unary_unary(name + "Unary")(big, timeout=20) == big)
        say("grpc client stream", channel.stream_unary(name + "ClientStream")(iter(parts), timeout=20) == big)
        say("grpc server stream", b"".join(channel.unary_stream(name + "ServerStream")(big, timeout=20)) == big)
        say("grpc bidirectional", b"".join(channel.stream_stream(name + "Bidirectional")(iter(parts), timeout=20)) == big)
        try:
            channel.unary_unary(name + "Failing")(big, timeout=20)
            say("grpc error", False, "no error")
        except grpc.RpcError as error:
            trailers = dict(error.trailing_metadata())
            good = error.code() == grpc.StatusCode.FAILED_PRECONDITION and error.details() == "it fails: ä%"
            say("grpc error", good and trailers.get("x-reason") == "as asked", error)


asyncio.run(socket())
calls()
