"""Serves vectors of Gymnasium's environments (docs/environments.md).

    python -m qfleet.environment_server --socket=PATH
    python -m qfleet.environment_server --fd=NUMBER

speaks proto/qfleet/v1/environment.proto on a unix socket that it makes, where
each connection is a process of its own, or on one that it was started with.

    --import=MODULE   Imported first, because it registers environments. May be
                      repeated.
    --atari=JSON      The options of qfleet.gymnasium_vector.preprocess_atari:
                      {"noop_max": 30, "frame_skip": 4, "screen_size": 84,
                      "terminal_on_life_loss": false}

An error is one line; of one that an environment raises the traceback goes to
stderr.
"""

import argparse
import json
import os
import signal
import socket
import sys
import traceback

from qfleet import framing

_PROTOCOL = 1


class BadRequest(Exception):
    """What the other side asked for cannot be; its text says all."""


def main():
    parser = argparse.ArgumentParser(prog="qfleet.environment_server")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--socket", help="path of the unix socket to make")
    where.add_argument("--fd", type=int, help="a connected socket")
    parser.add_argument("--import", dest="imports", action="append", default=[])
    parser.add_argument("--atari", type=json.loads, default=None)
    flags = parser.parse_args()
    if flags.fd is not None:
        serve(socket.socket(fileno=flags.fd), flags)
    else:
        listen(flags)


def listen(flags):
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if os.path.exists(flags.socket):
        os.unlink(flags.socket)
    server.bind(flags.socket)
    server.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Nobody waits for sessions.
    while True:
        connection, _ = server.accept()
        if os.fork() == 0:
            server.close()
            serve(connection, flags)
            sys.stderr.flush()
            os._exit(0)
        connection.close()


def serve(connection, flags):
    """One session, until the other side closes the connection."""
    try:
        stream = connection.makefile("rb")
        request = framing.receive(stream)
        if request is None:
            return
        try:
            vector, reply = make(request, flags)
        except BadRequest as error:
            framing.send(connection, framing.error_reply(str(error), True))
            return
        framing.send(connection, reply)
        if vector is not None:
            step_until_closed(connection, stream, vector)
            vector.close()
    except (BrokenPipeError, ConnectionResetError):
        pass  # The other side has gone.


def step_until_closed(connection, stream, vector):
    from qfleet.gymnasium_vector import BadEnvironment
    from qfleet.v1 import environment_pb2

    parse = environment_pb2.EnvironmentRequest.FromString
    while (message := framing.receive(stream)) is not None:
        try:
            reply = vector.step(parse(message).step.actions)
        except BadEnvironment as error:
            framing.send(connection, framing.error_reply(str(error), True))
            return
        except Exception as error:
            traceback.print_exc()
            framing.send(connection, framing.error_reply(describe(error)))
            return
        framing.send(connection, reply)


def make(message, flags):
    """The vector (None if it only was asked what it is) and the reply."""
    absent = missing_module()
    if absent is not None:
        raise BadRequest(
            f"{absent} is not installed for {sys.executable}: run "
            "scripts/setup.sh --gymnasium, or pip install it there")
    from qfleet import gymnasium_vector
    from qfleet.v1 import environment_pb2

    request = environment_pb2.EnvironmentRequest.FromString(message).make
    if request.protocol != _PROTOCOL:
        raise BadRequest(f"protocol = {request.protocol}: allowed is "
                         f"{_PROTOCOL}")
    try:
        vector = gymnasium_vector.GymnasiumVector(
            request.id, json.loads(request.kwargs or "{}"),
            max(request.count, 1), flags.imports, flags.atari)
        reply = vector.reset([seed for seed in request.seeds] or [0])
    except gymnasium_vector.BadEnvironment as error:
        raise BadRequest(str(error)) from None
    except Exception as error:
        if request.count > 0:
            traceback.print_exc()
        raise BadRequest(describe(error)) from None
    made = environment_pb2.EnvironmentReply(
        make=environment_pb2.MakeReply(protocol=_PROTOCOL, spec=vector.spec))
    if request.count == 0:
        vector.close()
        return None, made.SerializeToString()
    return vector, made.SerializeToString() + reply


def missing_module():
    """The package that is not installed; None if all are."""
    for module, package in (("google.protobuf", "protobuf"),
                            ("numpy", "numpy"), ("gymnasium", "gymnasium")):
        try:
            __import__(module)
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] != module.split(".")[0]:
                raise  # It is there, but not what it needs.
            return package
    return None


def describe(error):
    """In one line, with the place in the environment's code."""
    text = f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return text
    return (f"{text} ({os.path.basename(frames[-1].filename)}:"
            f"{frames[-1].lineno})")


if __name__ == "__main__":
    main()
