"""A vector of Gymnasium's environments that answers in serialised replies.

The environments are stepped one after another, as
gymnasium.vector.SyncVectorEnv does it in its mode SAME_STEP: one whose episode
has ended is reset in the same step, its last observation is kept apart. What
they give is checked here as far as the arrays that hold it depend on it
(shapes); numbers are checked by the other side.
"""

import copy
import gc
import importlib

import gymnasium
from gymnasium import spaces
import numpy as np

from qfleet.framing import delimited
from qfleet.v1 import environment_pb2
from qfleet.v1 import tensor_pb2

# Seeds are taken modulo this: some environments pass them on to NumPy's
# RandomState, which takes no more.
SEEDS = 2**32

# Fields of EnvironmentReply.
_OBSERVATIONS, _MASKS, _REWARDS, _TERMINATED, _TRUNCATED = 3, 4, 5, 6, 7
_FINAL_OBSERVATIONS, _FINAL_MASKS = 8, 9


class BadEnvironment(Exception):
    """The environment is not there, or not what can be served, for ever."""


class GymnasiumVector:
    """`count` environments gymnasium.make(id, **kwargs)."""

    def __init__(self, id, kwargs, count, imports=(), atari=None):
        if ":" in id:  # "module:Name-v0", as gymnasium.make has it.
            module, id = id.split(":", 1)
            imports = [*imports, module]
        for module in imports:
            try:
                importlib.import_module(module)
            except ModuleNotFoundError as error:
                raise BadEnvironment(f"import of {module}: {error}") from None
        if id.startswith("ALE/"):
            register_atari()
        self._environments = [
            make_environment(id, kwargs, atari) for _ in range(count)]
        first = self._environments[0]
        self._encoder = make_encoder(first.observation_space)
        self._actions, self._start = action_range(first.action_space)
        self._has_masks = False
        # Bound once: a step looks nothing up.
        self._steps = [environment.step for environment in self._environments]
        self._observations = self._encoder.zeros(count)
        self._masks = np.ones((count, self._actions), np.uint8)

    @property
    def spec(self):
        """A qfleet.v1.EnvironmentSpec; known after reset()."""
        return environment_pb2.EnvironmentSpec(
            observation=self._encoder.spec, num_actions=self._actions,
            has_action_mask=self._has_masks)

    def reset(self, seeds):
        """Begins all anew; their first observations as a serialised reply."""
        for i, environment in enumerate(self._environments):
            observation, info = environment.reset(seed=seeds[i] % SEEDS)
            if i == 0:
                self._has_masks = "action_mask" in info
            self._encoder.put(observation, self._observations, i)
            if self._has_masks:
                self._put_mask(info, i)
        # What is there now stays: it need not be looked through again.
        gc.collect()
        gc.freeze()
        return self._state()

    def step(self, actions):
        """The serialised reply of one step of all."""
        if len(actions) != len(self._steps):
            raise BadEnvironment(f"{len(actions)} actions: allowed is "
                                 f"{len(self._steps)}")
        rewards, terminated, truncated = [], [], []
        final_observations, final_masks = [], []
        put, rows, start = self._encoder.put, self._observations, self._start
        i = 0
        try:
            for i, action in enumerate(actions):
                observation, reward, ended, cut, info = self._steps[i](
                    action + start)
                rewards.append(reward)
                terminated.append(ended)
                truncated.append(cut)
                put(observation, rows, i)
                if self._has_masks:
                    self._put_mask(info, i)
                if ended or cut:
                    final_observations.append(rows[i].tobytes())
                    final_masks.append(self._masks[i].tobytes())
                    observation, info = self._environments[i].reset()
                    put(observation, rows, i)
                    if self._has_masks:
                        self._put_mask(info, i)
        except BadEnvironment as error:
            raise BadEnvironment(f"environment {i}: {error}") from None
        reply = (self._state()
                 + delimited(_REWARDS, self._numbers("reward", rewards))
                 + delimited(_TERMINATED, self._flags("terminated", terminated))
                 + delimited(_TRUNCATED, self._flags("truncated", truncated)))
        if final_observations:
            reply += delimited(_FINAL_OBSERVATIONS,
                               b"".join(final_observations))
            if self._has_masks:
                reply += delimited(_FINAL_MASKS, b"".join(final_masks))
        return reply

    def close(self):
        for environment in self._environments:
            environment.close()

    def _put_mask(self, info, i):
        mask = info.get("action_mask")
        if mask is None:
            self._masks[i] = 1
            return
        if np.shape(mask) != (self._actions,):
            raise BadEnvironment(
                f"action_mask of shape {np.shape(mask)}: allowed is "
                f"({self._actions},)")
        self._masks[i] = np.asarray(mask) != 0

    def _state(self):
        reply = delimited(_OBSERVATIONS, self._observations.tobytes())
        if self._has_masks:
            reply += delimited(_MASKS, self._masks.tobytes())
        return reply

    # Packed elements of Protobuf are these bytes.
    def _numbers(self, name, values):
        return self._array(name, values, np.dtype("<f4")).tobytes()

    def _flags(self, name, values):
        return self._array(name, values, np.bool_).tobytes()

    def _array(self, name, values, dtype):
        try:
            array = np.array(values, dtype)
        except (TypeError, ValueError):
            array = None
        if array is not None and array.shape == (len(values),):
            return array
        for i, value in enumerate(values):
            if np.shape(value) != () or isinstance(value, (str, type(None))):
                raise BadEnvironment(f"environment {i}: {name} = {value!r}: "
                                     "allowed is a number")
        raise BadEnvironment(f"{name} = {values!r}: allowed are numbers")


def make_environment(id, kwargs, atari):
    """gymnasium.make without the wrappers that only check how it is used."""
    try:
        spec = copy.deepcopy(gymnasium.spec(id))
        spec.order_enforce = False
        kwargs = {"disable_env_checker": True, **kwargs}
        if atari is None:
            return gymnasium.make(spec, **kwargs)
        if "ale_py" not in str(spec.entry_point):
            raise BadEnvironment("atari is set: allowed is an environment of "
                                 "ale-py, \"ALE/Pong-v5\"")
        return preprocess_atari(
            gymnasium.make(spec, **{"frameskip": 1,
                                    "repeat_action_probability": 0.0,
                                    **kwargs}), **atari)
    except gymnasium.error.Error as error:
        raise BadEnvironment(first_line(error)) from None


def register_atari():
    try:
        import ale_py
    except ModuleNotFoundError:
        raise BadEnvironment("ale-py is not installed: run scripts/setup.sh "
                             "--gymnasium, or pip install it") from None
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    gymnasium.register_envs(ale_py)


def preprocess_atari(environment, noop_max, frame_skip, screen_size,
                     terminal_on_life_loss):
    """Atari's usual preprocessing (Machado et al. 2018)."""
    environment = gymnasium.wrappers.AtariPreprocessing(
        environment, noop_max=noop_max, frame_skip=frame_skip,
        screen_size=screen_size)
    return LifeLoss(environment) if terminal_on_life_loss else environment


class LifeLoss(gymnasium.Wrapper):
    """A lost life terminates the episode; the next goes on in the same game.

    AtariPreprocessing's own option begins a new game instead.
    """

    def __init__(self, environment):
        super().__init__(environment)
        self._lives = 0
        self._game_goes_on = False

    def step(self, action):
        observation, reward, terminated, truncated, info = self.env.step(action)
        lives = self.unwrapped.ale.lives()
        lost = lives < self._lives
        self._lives = lives
        self._game_goes_on = lost and not terminated and not truncated
        return observation, reward, terminated or lost, truncated, info

    def reset(self, *, seed=None, options=None):
        if self._game_goes_on and seed is None:
            # As Baselines' EpisodicLifeEnv: a step without an action.
            observation, _, terminated, truncated, info = self.env.step(0)
            if terminated or truncated:
                observation, info = self.env.reset(options=options)
        else:
            observation, info = self.env.reset(seed=seed, options=options)
        self._game_goes_on = False
        self._lives = self.unwrapped.ale.lives()
        return observation, info


def action_range(space):
    if not isinstance(space, spaces.Discrete):
        raise BadEnvironment(f"action space {shown(space)}: allowed is "
                             "Discrete")
    return int(space.n), int(space.start)


def make_encoder(space):
    if isinstance(space, spaces.Discrete):
        return OneHot(space)
    if isinstance(space, spaces.Box) and space.dtype.kind in "buif":
        is_image = (space.dtype == np.uint8 and len(space.shape) == 3
                    and space.shape[2] <= 4 < space.shape[0])
        return Image(space) if is_image else Array(space)
    raise BadEnvironment(f"observation space {shown(space)}: allowed is Box "
                         "or Discrete")


class Array:
    """A Box: uint8 stays, all else becomes float32."""

    def __init__(self, space):
        self._shape = space.shape
        self._dtype = (np.dtype(np.uint8) if space.dtype == np.uint8
                       else np.dtype("<f4"))
        # Of NumPy's types those that can be written to it.
        self._kinds = "bui" if self._dtype == np.uint8 else "buif"
        self.spec = tensor(self._dtype, space.shape or (1,))

    def zeros(self, count):
        return np.zeros((count, *self.spec.shape), self._dtype)

    def put(self, observation, rows, i):
        rows[i] = self._checked(observation)

    def _checked(self, observation):
        try:
            # What nearly all give, at the least cost.
            if (observation.shape == self._shape
                    and observation.dtype.kind in self._kinds):
                return observation
        except AttributeError:
            pass
        try:
            array = np.asarray(observation)
        except ValueError:  # Of lists that are no array.
            array = np.array(None)
        if array.shape != self._shape:
            raise BadEnvironment(f"observation of shape {array.shape}: allowed "
                                 f"is {self._shape}, as its space says")
        if array.dtype.kind not in self._kinds:
            raise BadEnvironment(f"observation of {array.dtype}: allowed is "
                                 f"{self._dtype}, as its space says")
        return array


class Image(Array):
    """[height, width, channels] becomes [channels, height, width]."""

    def __init__(self, space):
        super().__init__(space)
        height, width, channels = space.shape
        self.spec = tensor(self._dtype, (channels, height, width))

    def put(self, observation, rows, i):
        rows[i] = self._checked(observation).transpose(2, 0, 1)


class OneHot:
    """A Discrete observation: 1 at its place, else 0."""

    def __init__(self, space):
        self._n = int(space.n)
        self._start = int(space.start)
        self.spec = tensor(np.dtype("<f4"), (self._n,))

    def zeros(self, count):
        return np.zeros((count, self._n), "<f4")

    def put(self, observation, rows, i):
        if np.shape(observation) != ():
            raise BadEnvironment(
                f"observation of shape {np.shape(observation)}: allowed is "
                "one number, as its space says")
        place = int(observation) - self._start
        if not 0 <= place < self._n:
            raise BadEnvironment(
                f"observation = {observation}: allowed is {self._start} to "
                f"{self._start + self._n - 1}")
        rows[i] = 0
        rows[i, place] = 1


def tensor(dtype, shape):
    return tensor_pb2.TensorSpec(
        name="observation", shape=shape,
        dtype=(tensor_pb2.UINT8 if dtype == np.uint8 else tensor_pb2.FLOAT32))


def shown(space):
    """A space in one line that is not too long."""
    text = " ".join(str(space).split())
    return text if len(text) <= 100 else f"{text[:100]}..."


def first_line(error):
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
