"""Makes acrobot.json and mountain_car.json of this folder with Gymnasium.

    pip install gymnasium numpy
    python tests/golden/make_gymnasium_golden.py

Each file has `trajectories` of whole episodes, with Gymnasium's limit of steps
(a controller that reaches the goal; random actions to the limit), and `steps` from states drawn all over the state space. States are placed by hand:
the two sides draw starts differently.
"""

import json
import pathlib

import gymnasium
import numpy as np

FOLDER = pathlib.Path(__file__).parent


def outcome(environment, action):
    observation, reward, terminated, truncated, _ = environment.step(action)
    return {
        "action": action,
        "observation": [float(x) for x in observation],
        "reward": float(reward),
        "terminated": bool(terminated),
        "truncated": bool(truncated),
    }


def trajectory(environment, start, act):
    environment.reset(seed=0)
    environment.unwrapped.state = start.copy()
    steps = []
    while not steps or not (steps[-1]["terminated"] or steps[-1]["truncated"]):
        action = int(act(environment.unwrapped.state))
        steps.append(outcome(environment, action))
    return {"start": start.tolist(), "steps": steps}


def write(name, environment, starts, pump, states, random):
    trajectories = [trajectory(environment, start, pump) for start in starts]
    trajectories.append(
        trajectory(environment, starts[0], lambda _: random.integers(3)))
    steps = []
    for state in states:
        environment.reset(seed=0)
        environment.unwrapped.state = state.copy()
        steps.append({"state": state.tolist(),
                      **outcome(environment, int(random.integers(3)))})
    (FOLDER / name).write_text(
        json.dumps({"trajectories": trajectories, "steps": steps}) + "\n")


def acrobot():
    random = np.random.default_rng(11)
    pi = np.pi
    high = np.array([pi, pi, 4 * pi, 9 * pi])
    write("acrobot.json", gymnasium.make("Acrobot-v1"),
          starts=random.uniform(-0.1, 0.1, size=(2, 4)),
          pump=lambda s: 2 if s[3] > 0 else 0,  # With the lower link's swing.
          states=random.uniform(-high, high, size=(200, 4)), random=random)


def mountain_car():
    random = np.random.default_rng(12)
    starts = [np.array([x, 0.0]) for x in random.uniform(-0.6, -0.4, size=3)]
    states = random.uniform([-1.2, -0.07], [0.6, 0.07], size=(200, 2))
    states[:20, 0] = random.uniform(-1.2, -1.15, size=20)  # At the wall.
    write("mountain_car.json", gymnasium.make("MountainCar-v0"), starts=starts,
          pump=lambda s: 2 if s[1] > 0 else 0,  # The way that the car goes.
          states=states, random=random)


if __name__ == "__main__":
    acrobot()
    mountain_car()
