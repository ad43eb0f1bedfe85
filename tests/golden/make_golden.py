"""Makes the golden files of this folder with independent implementations.

    pip install torch==2.13.0 gymnasium numpy
    python tests/golden/make_golden.py

cartpole.json    trajectories of Gymnasium's own CartPole-v1
dqn.json         losses, targets, and 30 updates of a dueling double DQN written
                 with torch.nn, torch.optim.Adam and autograd
"""

import json
import pathlib

import gymnasium
import numpy as np
import torch

FOLDER = pathlib.Path(__file__).parent


def lists(tensor):
    return torch.as_tensor(tensor).tolist()


def write(name, content):
    (FOLDER / name).write_text(json.dumps(content, indent=None) + "\n")


def cartpole():
    """States are placed by hand: the two sides draw starts differently."""
    random = np.random.default_rng(7)
    trajectories = []
    for _ in range(6):
        environment = gymnasium.make("CartPole-v1").unwrapped
        environment.reset(seed=0)
        start = random.uniform(-0.05, 0.05, size=4)
        environment.state = start.copy()
        steps = []
        terminated = False
        while not terminated:
            action = int(random.integers(2))
            observation, reward, terminated, _, _ = environment.step(action)
            steps.append({
                "action": action,
                "observation": [float(x) for x in observation],
                "reward": float(reward),
                "terminated": bool(terminated),
            })
        trajectories.append({"start": start.tolist(), "steps": steps})
    write("cartpole.json", trajectories)


class Dueling(torch.nn.Module):
    """4 -> 8 -> 8 -> (V, A): the layer order of qfleet's flat vector."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(
            [torch.nn.Linear(4, 8), torch.nn.Linear(8, 8),
             torch.nn.Linear(8, 4)])

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        x = self.layers[-1](x)
        value, advantage = x[:, :1], x[:, 1:]
        return value + advantage - advantage.mean(1, keepdim=True)


def flat(module):
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


def dqn():
    torch.manual_seed(3)
    online, target = Dueling(), Dueling()
    target.load_state_dict(online.state_dict())
    start = flat(online)
    optimizer = torch.optim.Adam(online.parameters(), lr=3e-3, eps=1e-4)
    updates = []
    for number in range(1, 31):
        batch = 6
        observation = torch.randn(batch, 4)
        next_observation = torch.randn(batch, 4)
        action = torch.randint(3, (batch,))
        returns = 4 * torch.randn(batch)
        discount = torch.tensor([0.97, 0.97, 0.0, 0.99, 0.97, 0.0])
        weights = torch.rand(batch) + 0.1
        weights = weights / weights.max()
        with torch.no_grad():
            best = online(next_observation).argmax(1)
            bootstrap = target(next_observation)[torch.arange(batch), best]
            goal = returns + discount * bootstrap
        value = online(observation)[torch.arange(batch), action]
        loss = (weights * torch.nn.functional.huber_loss(
            value, goal, reduction="none", delta=1.5)).mean()
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(online.parameters(), 0.7)
        optimizer.step()
        if number % 10 == 0:
            target.load_state_dict(online.state_dict())
        updates.append({
            "observation": lists(observation),
            "next_observation": lists(next_observation),
            "action": lists(action), "return": lists(returns),
            "discount": lists(discount), "weights": lists(weights),
            "target": lists(goal), "loss": loss.item(),
            "gradient_norm": norm.item(),
            "priorities": lists((goal - value).abs().detach()),
        })
    probe = torch.randn(5, 4)
    write("dqn.json", {
        "start": lists(start), "updates": updates, "end": lists(flat(online)),
        "probe": lists(probe), "probe_q": lists(online(probe).detach()),
    })


if __name__ == "__main__":
    cartpole()
    dqn()
