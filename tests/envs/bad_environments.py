"""Environments that do what none should, on the third step of an episode; and a
trajectory of Gymnasium's own, to compare with.

    python bad_environments.py ID SEED STEPS ACTIONS    a JSON list of steps
"""
import json
import os
import signal
import sys

import gymnasium
from gymnasium import spaces
import numpy as np

BAD_STEP = 3


class Bad(gymnasium.Env):
    observation_space = spaces.Box(-1e9, 1e9, (2,), np.float64)
    action_space = spaces.Discrete(2, start=5)

    def __init__(self, what="nothing"):
        if what == "make":
            raise RuntimeError("no licence\nfor today")
        if what == "exit in make":
            os._exit(7)
        if what == "image":
            self.observation_space = spaces.Box(0, 255, (6, 8, 3), np.uint8)
        if what == "bytes":
            self.observation_space = spaces.Box(0, 255, (2,), np.uint8)
        self.what = what
        self.step_number = 0

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.step_number = 0
        return self.observation(), {}

    def step(self, action):
        assert action in (5, 6), action
        self.step_number += 1
        reward = float(action)
        if self.step_number == BAD_STEP:
            if self.what == "raise":
                raise ValueError("the rope\nbroke")
            if self.what == "exit":
                os._exit(9)
            if self.what == "hang":
                signal.pause()
            if self.what == "nan":
                return np.array([0, np.nan]), reward, False, False, {}
            if self.what == "shape":
                return np.zeros(3), reward, False, False, {}
            if self.what == "scalar":
                return np.zeros(1), reward, False, False, {}
            if self.what == "list":
                return [1, "x"], reward, False, False, {}
            if self.what == "none":
                return None, reward, False, False, {}
            if self.what == "bytes":
                return np.zeros(2), reward, False, False, {}
            if self.what == "reward":
                reward = None
            if self.what == "rewards":
                reward = np.zeros(2)
            if self.what == "nan reward":
                reward = float("nan")
        return self.observation(), reward, False, False, {}

    def observation(self):
        if self.what == "image":
            image = np.zeros((6, 8, 3), np.uint8)
            image[1, 2] = [10, 20, 30]
            return image
        return np.array([self.step_number, 0.5]).astype(
            self.observation_space.dtype)


gymnasium.register("Bad-v0", entry_point=Bad)


def trajectory(id, seed, steps, actions):
    environment = gymnasium.make(id)
    observation, _ = environment.reset(seed=seed)
    rows = [{"observation": observation.tolist()}]
    for step in range(steps):
        observation, reward, terminated, truncated, _ = environment.step(
            step * 7 // 3 % actions)
        row = {"last": observation.tolist(), "reward": float(reward),
               "terminated": terminated, "truncated": truncated}
        if terminated or truncated:
            observation, _ = environment.reset()
        rows.append({**row, "observation": observation.tolist()})
    print(json.dumps(rows))


if __name__ == "__main__":
    trajectory(sys.argv[1], *map(int, sys.argv[2:]))
