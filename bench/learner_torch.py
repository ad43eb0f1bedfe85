"""The update of a deep Q-learner in PyTorch, beside which qfleet's is measured.

Written as a good single-file implementation writes it (CleanRL's DQN, with
double Q-learning, importance weights and a clipped gradient): modules, Adam as
it comes, tensors made of the batch's arrays in each update, new priorities read
back in each update. The arrays are there already: making them is the replay's
business, and so are the importance weights.

    learner_torch.py CASE FILE [--rows=N] [--device=cpu|cuda]
                     [--mode=eager|compile|graphs]

On a GPU the arrays go there from pinned memory, without waiting. `compile` is
torch.compile of the loss, `graphs` the same with CUDA graphs
(mode="reduce-overhead"); both step a fused Adam.

FILE (bench/learner_case.h) holds the parameters and the batch. Answers lines on
standard input with a number each:

    parameters      how many the network has
    check N         makes N updates; the sum of the last one's priorities
    run SECONDS     makes updates for so long; updates per second
    cpu             us of CPU time for an update of the last run
"""

import argparse
import sys
import time

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

TARGET_PERIOD = 500


class Scale(nn.Module):
    """Bytes to [0, 1]."""

    def forward(self, x):
        return x / 255.0


def make_network(case):
    if case == "mlp":
        return nn.Sequential(nn.Linear(4, 128), nn.ReLU(),
                             nn.Linear(128, 128), nn.ReLU(),
                             nn.Linear(128, 2))
    if case == "minatar":
        return nn.Sequential(nn.Conv2d(4, 16, 3), nn.ReLU(), nn.Flatten(),
                             nn.Linear(16 * 8 * 8, 128), nn.ReLU(),
                             nn.Linear(128, 6))
    if case == "nature":
        return nn.Sequential(Scale(), nn.Conv2d(4, 32, 8, stride=4), nn.ReLU(),
                             nn.Conv2d(32, 64, 4, stride=2), nn.ReLU(),
                             nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(),
                             nn.Linear(64 * 7 * 7, 512), nn.ReLU(),
                             nn.Linear(512, 6))
    sys.exit(f"CASE = {case}: allowed is mlp, minatar, nature")


SHAPES = {"mlp": ((4,), np.float32, 64), "minatar": ((4, 10, 10), np.float32, 32),
          "nature": ((4, 84, 84), np.uint8, 32)}


def read_case(case, path, rows):
    """The flat parameters and the batch's arrays by name."""
    with open(path, "rb") as file:
        data = file.read()
    shape, dtype, default_rows = SHAPES[case]
    rows = rows or default_rows
    at = 0

    def take(dtype, shape):
        nonlocal at
        count = int(np.prod(shape))
        # A copy: writable, aligned, of its own.
        array = np.frombuffer(data, dtype, count, at).reshape(shape).copy()
        at += array.nbytes
        return array

    parameters = take(np.float32, (int(np.frombuffer(data[-8:], np.int64)[0]),))
    batch = {"weight": take(np.float32, (rows,)),
             "action": take(np.int32, (rows,)).astype(np.int64),
             "return": take(np.float32, (rows,)),
             "discount": take(np.float32, (rows,)),
             "observation": take(dtype, (rows, *shape)),
             "next_observation": take(dtype, (rows, *shape))}
    assert at == len(data) - 8, "the file is of another case"
    return parameters, batch


def compute_loss(online, target, observation, next_observation, action,
                 return_, discount, weight):
    """The loss and the TD errors, without a gradient."""
    with torch.no_grad():
        best = online(next_observation).argmax(dim=1, keepdim=True)
        q_next = target(next_observation).gather(1, best).squeeze(1)
        goal = return_ + discount * q_next
    q = online(observation).gather(1, action.unsqueeze(1)).squeeze(1)
    loss = (weight * F.smooth_l1_loss(q, goal, reduction="none")).mean()
    return loss, goal - q.detach()


class Learner:

    def __init__(self, case, path, rows=0, device="cpu", mode="eager"):
        self.device = device
        self.online = make_network(case).to(device)
        self.target = make_network(case).to(device)
        parameters, self.batch = read_case(case, path, rows)
        self.start = torch.from_numpy(parameters).to(device)
        self.updates = 0
        options = {} if mode == "eager" else {"fused": True}
        self.optimizer = torch.optim.Adam(self.online.parameters(), lr=1e-4,
                                          **options)
        self.loss = compute_loss
        if mode == "compile":
            self.loss = torch.compile(compute_loss)
        elif mode == "graphs":
            self.loss = torch.compile(compute_loss, mode="reduce-overhead")

    def parameter_count(self):
        return sum(p.numel() for p in self.online.parameters())

    def load_start(self):
        nn.utils.vector_to_parameters(self.start, self.online.parameters())
        self.target.load_state_dict(self.online.state_dict())

    def tensor(self, name):
        tensor = torch.from_numpy(self.batch[name])
        if self.device == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def update(self):
        observation = self.tensor("observation")
        next_observation = self.tensor("next_observation")
        action = self.tensor("action")
        return_ = self.tensor("return")
        discount = self.tensor("discount")
        weight = self.tensor("weight")
        loss, td = self.loss(self.online, self.target, observation,
                             next_observation, action, return_, discount,
                             weight)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.online.parameters(), 10)
        self.optimizer.step()
        self.updates += 1
        if self.updates % TARGET_PERIOD == 0:
            self.target.load_state_dict(self.online.state_dict())
        return td.abs().cpu().numpy()


def run(learner, seconds):
    """Updates per second, and us of CPU time for one."""
    begin = now = time.perf_counter()
    cpu = time.process_time()
    updates = 0
    while now - begin < seconds:
        learner.update()
        updates += 1
        now = time.perf_counter()
    cpu = time.process_time() - cpu
    return updates / (now - begin), cpu / updates * 1e6


def main():
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser()
    parser.add_argument("case")
    parser.add_argument("file")
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--mode", default="eager",
                        choices=["eager", "compile", "graphs"])
    flags = parser.parse_args()
    learner = Learner(flags.case, flags.file, flags.rows, flags.device,
                      flags.mode)
    cpu = 0
    for line in sys.stdin:
        question, *arguments = line.split()
        if question == "parameters":
            answer = learner.parameter_count()
        elif question == "check":
            learner.load_start()
            for _ in range(int(arguments[0])):
                priorities = learner.update()
            answer = float(priorities.sum())
        elif question == "run":
            answer, cpu = run(learner, float(arguments[0]))
        else:
            answer = cpu
        print(answer, flush=True)


if __name__ == "__main__":
    main()
