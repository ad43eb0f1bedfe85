"""Makes minatar.json: trajectories of MinAtar's own games.

    pip install MinAtar==1.0.15 numpy
    python tests/golden/make_minatar_golden.py [FILE [STEPS]]

MinAtar is a black box here: it is stepped, copied and looked at. Its random
generator is replaced by one that makes every decision from a uniform integer k
below 840 and writes it down, so that the other side can be given the same: a
real number is (k + 0.5) / 840, an integer below n is k * n // 840. Actions
never stick; that is the environment's affair, not a game's.

minatar.json is a list of episodes:
  game      "breakout"
  ramping   whether difficulty goes up
  set       fields of MinAtar's that were set after the reset, by name
  draws     of the reset
  start     the cells of the first observation that are 1: their numbers in
            [channels, 10, 10]
  steps     [action, reward, terminal, draws, changed]: the cells that changed
            with this step
"""

import copy
import json
import logging
import pathlib
import sys

import numpy as np

logging.disable()  # It misses matplotlib, which only pictures need.
import minatar  # noqa: E402

DRAWS = 840  # Divisible by every n up to 8.
FOLDER = pathlib.Path(__file__).parent


class Draws:
    """What MinAtar uses of numpy's RandomState, from integers below DRAWS."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.log = []

    def below(self, n):
        assert DRAWS % n == 0
        self.log.append(int(self.random.integers(DRAWS)))
        return self.log[-1] * n // DRAWS

    def many(self, draw, size):
        return draw() if size is None else np.array(
            [draw() for _ in range(size)])

    def rand(self, size=None):
        return self.many(lambda: (self.below(DRAWS) + 0.5) / DRAWS, size)

    def randint(self, low, high=None, size=None):
        if high is None:
            low, high = 0, low
        return self.many(lambda: low + self.below(high - low), size)

    def choice(self, options, size=None):
        if np.ndim(options) == 0:
            options = range(options)
        return self.many(lambda: options[self.below(len(options))], size)

    def take_log(self):
        log, self.log = self.log, []
        return log


class Game:
    def __init__(self, name, seed, ramping=True):
        self.environment = minatar.Environment(
            name, sticky_action_prob=0, difficulty_ramping=ramping)
        self.draws = Draws(seed)
        self.environment.env.random = self.draws
        self.environment.reset()

    def cells(self):
        state = self.environment.state().transpose(2, 0, 1)
        return set(int(cell) for cell in np.flatnonzero(state))

    def act(self, action):
        reward, terminal = self.environment.act(action)
        return float(reward), bool(terminal)


def outlook(game, action, random, depth, rollouts):
    """What follows an action: how long random play survives it, and rewards."""
    worth = 0
    for _ in range(rollouts):
        trial = copy.deepcopy(game)
        trial.draws.random = np.random.default_rng(random.integers(2**32))
        for step in range(depth):
            reward, terminal = trial.act(
                action if step == 0 else int(random.integers(6)))
            worth += reward * (1 - step / depth)
            if terminal:
                worth -= 5 * (1 - step / depth)
                break
    return worth


def careful(game, random):
    """Lives long and is rewarded, so that late parts of a game are seen."""
    actions = random.permutation(6)
    worths = [outlook(game, int(a), random, depth=10, rollouts=8)
              for a in actions]
    return int(actions[int(np.argmax(worths))])


def wild(_, random):
    return int(random.integers(6))


def always(action, share):
    return lambda _, random: (
        action if random.random() < share else int(random.integers(6)))


def catch(game, random):
    """Breakout's ball, with the paddle's edge half of the time."""
    env = game.environment.env
    at = env.ball_x
    falls = env.ball_dir in (2, 3)
    if falls and (env.ball_y < 8 or random.random() < 0.5):
        at = min(max(at + (1 if env.ball_dir == 2 else -1), 0), 9)
    return 1 if env.pos > at else 3 if env.pos < at else int(random.choice(
        [0, 2, 4, 5]))


def rescue(game, random):
    """Seaquest's divers: fetches them, brings them up in time."""
    env = game.environment.env
    wish = 5
    if env.diver_count == 6 or env.diver_count > 0 and env.oxygen < 60:
        wish = 2
    elif env.divers:
        x, y = min((abs(d[0] - env.sub_x) + abs(d[1] - env.sub_y), d[0], d[1])
                   for d in env.divers)[1:]
        wish = (4 if y > env.sub_y else 2 if y < env.sub_y and env.sub_y > 1
                else 1 if x < env.sub_x else 3)
    if outlook(game, wish, random, depth=6, rollouts=6) >= 0:
        return wish
    return careful(game, random)


def play(name, policy, seed, steps, ramping=True, set_to=()):
    game = Game(name, seed, ramping)
    set_to = dict(set_to)
    for field, value in set_to.items():
        setattr(game.environment.env, field, value)
    random = np.random.default_rng(1000 + seed)
    episode = {"game": name, "ramping": ramping, "set": set_to,
               "draws": game.draws.take_log(), "start": sorted(game.cells()),
               "steps": []}
    cells = game.cells()
    for _ in range(steps):
        action = policy(game, random)
        reward, terminal = game.act(action)
        now = game.cells()
        episode["steps"].append([action, reward, terminal,
                                 game.draws.take_log(), sorted(cells ^ now)])
        cells = now
        if terminal:
            break
    return episode


def main():
    file = sys.argv[1] if len(sys.argv) > 1 else FOLDER / "minatar.json"
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 400
    episodes = []
    for seed in range(max(3, steps // 100)):
        for name in ["asterix", "breakout", "freeway", "seaquest",
                     "space_invaders"]:
            episodes.append(play(name, wild, seed, min(steps, 150)))
    episodes += [
        play("breakout", catch, 11, 3 * steps),
        play("breakout", catch, 12, steps),
        play("asterix", careful, 13, steps),
        play("asterix", careful, 14, steps),
        play("asterix", careful, 15, steps // 2, ramping=False),
        play("asterix", careful, 16, steps, set_to={
            "spawn_speed": 4, "move_speed": 2, "move_timer": 2,
            "ramp_index": 6, "ramp_timer": 20}),
        play("freeway", always(2, 0.9), 15, steps),
        play("freeway", always(2, 0.7), 16, steps,
             set_to={"terminate_timer": 200}),
        play("seaquest", rescue, 17, steps),
        play("seaquest", rescue, 18, steps // 2, ramping=False,
             set_to={"diver_count": 5, "oxygen": 90}),
        play("seaquest", careful, 19, steps // 2, set_to={
            "e_spawn_speed": 6, "move_speed": 2, "ramp_index": 14,
            "diver_count": 2}),
        play("seaquest", always(4, 0.5), 20, steps, set_to={"oxygen": 30}),
        play("space_invaders", careful, 21, steps),
        play("space_invaders", careful, 22, steps // 2, ramping=False),
        play("space_invaders", careful, 23, steps // 2, set_to={
            "enemy_move_interval": 7, "ramp_index": 5}),
    ]
    text = "[\n" + ",\n".join(
        json.dumps(e, separators=(",", ":")) for e in episodes) + "\n]\n"
    pathlib.Path(file).write_text(text)
    for e in episodes:
        print(e["game"], len(e["steps"]), "steps, return",
              sum(step[1] for step in e["steps"]), ", ended:",
              e["steps"][-1][2])


main()
