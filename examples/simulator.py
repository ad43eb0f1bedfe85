#!/usr/bin/env python3
"""A simulator for qfleet: corridors of ten cells, 1 for the end, 50 steps.

    PYTHONPATH=build/release/python examples/simulator.py PATH
"""
import socketserver
import struct
import sys

from qfleet.v1 import environment_pb2, tensor_pb2

CELLS, STEPS = 10, 50
pack = struct.Struct(f"<{CELLS}f").pack


class Session(socketserver.StreamRequestHandler):
    def handle(self):
        self.make(self.receive().make)
        while request := self.receive():
            self.step(request.step.actions)

    def receive(self):
        size = self.rfile.read(4)
        return size and environment_pb2.EnvironmentRequest.FromString(
            self.rfile.read(int.from_bytes(size, "little")))

    def send(self, reply):
        message = reply.SerializeToString()
        self.wfile.write(len(message).to_bytes(4, "little") + message)

    def row(self, i):
        return pack(*(cell == self.cells[i] for cell in range(CELLS)))

    def make(self, request):  # request.seeds are not needed: nothing is random.
        self.cells, self.steps = [0] * request.count, [0] * request.count
        reply = environment_pb2.EnvironmentReply()
        reply.make.protocol = 1
        reply.make.spec.num_actions = 2
        reply.make.spec.observation.name = "observation"
        reply.make.spec.observation.dtype = tensor_pb2.FLOAT32
        reply.make.spec.observation.shape.append(CELLS)
        reply.observations = b"".join(map(self.row, range(request.count)))
        self.send(reply)

    def step(self, actions):
        reply = environment_pb2.EnvironmentReply()
        for i, action in enumerate(actions):
            self.cells[i] = max(0, self.cells[i] + (1 if action else -1))
            self.steps[i] += 1
            arrived = self.cells[i] == CELLS - 1
            reply.rewards.append(arrived)
            reply.terminated.append(arrived)
            reply.truncated.append(not arrived and self.steps[i] == STEPS)
            if arrived or self.steps[i] == STEPS:  # The next episode begins.
                reply.final_observations += self.row(i)
                self.cells[i] = self.steps[i] = 0
            reply.observations += self.row(i)
        self.send(reply)


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


Server(sys.argv[1], Session).serve_forever()
