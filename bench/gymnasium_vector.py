"""gymnasium.vector.SyncVectorEnv stepped alone, beside which the bridge is
measured.

    gymnasium_vector.py ID COUNT [--atari=JSON]

Answers lines on standard input with a number each:

    run SECONDS     steps so long with random actions; environment steps/s
    cpu             us of CPU time for an environment step of the last run
"""

import argparse
import json
import sys
import time

import gymnasium
import numpy as np


def make(flags):
    if flags.id.startswith("ALE/"):
        import ale_py
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
        gymnasium.register_envs(ale_py)
    if flags.atari is None:
        return gymnasium.make(flags.id)
    return gymnasium.wrappers.AtariPreprocessing(
        gymnasium.make(flags.id, frameskip=1, repeat_action_probability=0.0),
        noop_max=flags.atari["noop_max"],
        frame_skip=flags.atari["frame_skip"],
        screen_size=flags.atari["screen_size"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("id")
    parser.add_argument("count", type=int)
    parser.add_argument("--atari", type=json.loads, default=None)
    flags = parser.parse_args()
    vector = gymnasium.vector.SyncVectorEnv(
        [lambda: make(flags) for _ in range(flags.count)])
    vector.reset(seed=1)
    actions = np.random.default_rng(2).integers(
        vector.single_action_space.n, size=(97, flags.count))
    step = 0
    cpu = 0
    for line in sys.stdin:
        question, *arguments = line.split()
        if question == "cpu":
            print(cpu, flush=True)
            continue
        first = step
        begin = now = time.perf_counter()
        cpu = time.process_time()
        while now - begin < float(arguments[0]):
            vector.step(actions[step % len(actions)])
            step += 1
            now = time.perf_counter()
        steps = (step - first) * flags.count
        cpu = (time.process_time() - cpu) / steps * 1e6
        print(steps / (now - begin), flush=True)


if __name__ == "__main__":
    main()
