"""Makes the golden files of this folder with independent implementations.

    pip install torch gymnasium numpy
    python tests/golden/make_golden.py

cartpole.json    trajectories of Gymnasium's own CartPole-v1
dqn.json         losses, targets, and 30 updates of a dueling double DQN written
                 with torch.nn, torch.optim.Adam and autograd
losses.json      projections, quantile losses, rescaling, schedules
rmsprop.json     25 steps of torch.optim.RMSprop(centered=True)
network.json     a noisy convolutional network: outputs and gradients
rainbow.json     20 updates of C51
qr_dqn.json      20 updates of QR-DQN
i_dqn.json       18 updates of a chain of three networks
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


class Rainbow(torch.nn.Module):
    """Fully connected, dueling, N numbers an action; qfleet's layer order."""

    def __init__(self, atoms):
        super().__init__()
        self.atoms = atoms
        self.layers = torch.nn.ModuleList(
            [torch.nn.Linear(4, 8), torch.nn.Linear(8, 4 * atoms)])

    def forward(self, x):
        x = torch.relu(self.layers[0](x))
        x = self.layers[1](x).view(len(x), 4, self.atoms)
        value, advantage = x[:, :1], x[:, 1:]
        return value + advantage - advantage.mean(1, keepdim=True)


def project(returns, discount, probabilities, support):
    """Bellemare et al. 2017, algorithm 1, literally, in float64."""
    v_min, v_max, atoms = support[0], support[-1], len(support)
    step = (v_max - v_min) / (atoms - 1)
    result = np.zeros_like(probabilities)
    for row in range(len(returns)):
        for j in range(atoms):
            moved = np.clip(returns[row] + discount[row] * support[j], v_min,
                            v_max)
            b = (moved - v_min) / step
            b = min(max(b, 0.0), atoms - 1.0)
            lower, upper = int(np.floor(b)), int(np.ceil(b))
            if lower == upper:
                result[row, lower] += probabilities[row, j]
            else:
                result[row, lower] += probabilities[row, j] * (upper - b)
                result[row, upper] += probabilities[row, j] * (b - lower)
    return result


def quantile_huber(quantiles, targets, delta):
    """Dabney et al. 2018, equation 10, as loops; torch for the gradient."""
    n, m = len(quantiles), len(targets)
    total = 0
    for i in range(n):
        for j in range(m):
            u = targets[j] - quantiles[i]
            if delta == 0:
                size = u.abs()
            elif u.abs() <= delta:
                size = 0.5 * u * u / delta
            else:
                size = (u.abs() - 0.5 * delta)
            total = total + abs((i + 0.5) / n - float(u < 0)) * size
    return total / m


def h(x):
    return np.sign(x) * (np.sqrt(np.abs(x) + 1) - 1) + 1e-3 * x


def losses():
    random = np.random.default_rng(5)
    support = np.linspace(-2, 3, 11)
    probabilities = random.dirichlet(np.ones(11), size=7)
    # Shifts by whole atoms, by parts of one, off both ends, discount 0.
    returns = np.array([0.0, 0.5, 0.3, -4.0, 9.0, 1.25, -0.7])
    discount = np.array([1.0, 1.0, 0.9, 0.97, 0.5, 0.0, 0.0])
    logits = random.normal(size=(7, 11))
    log_softmax = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    projected = project(returns, discount, probabilities, support)
    quantiles = []
    for delta in (0, 0.7):
        theta = torch.tensor(random.normal(size=(3, 5)), requires_grad=True)
        goal = torch.tensor(random.normal(size=(3, 4)))
        loss = torch.stack(
            [quantile_huber(theta[b], goal[b], delta) for b in range(3)])
        loss.sum().backward()
        quantiles.append({
            "delta": delta, "quantiles": lists(theta.detach()),
            "targets": lists(goal), "loss": lists(loss.detach()),
            "gradient": lists(theta.grad)})
    x = np.concatenate([[-300, -7.5, -0.01, 0, 0.02, 1, 80, 12345], 
                        random.normal(size=8)])
    write("losses.json", {
        "projection": {
            "support": support.tolist(), "returns": returns.tolist(),
            "discount": discount.tolist(),
            "probabilities": probabilities.tolist(),
            "projected": projected.tolist(), "logits": logits.tolist(),
            "cross_entropy": (-(projected * log_softmax).sum(1)).tolist()},
        "quantile_huber": quantiles,
        "rescale": {"x": x.tolist(), "h": h(x).tolist()},
        # Linear schedules: (begin, end, over, at) -> value.
        "schedule": [[1, 0.1, 100, at, float(np.interp(at, [0, 100], [1, 0.1]))]
                     for at in (0, 1, 50, 99, 100, 1000)],
    })


def rmsprop():
    torch.manual_seed(9)
    x = torch.nn.Parameter(torch.randn(13))
    optimizer = torch.optim.RMSprop([x], lr=2.5e-2, alpha=0.95, eps=0.01,
                                    centered=True)
    start, gradients = lists(x.detach()), []
    for _ in range(25):
        x.grad = torch.randn(13) + 0.3
        gradients.append(lists(x.grad))
        optimizer.step()
    write("rmsprop.json", {"start": start, "gradients": gradients,
                           "end": lists(x.detach())})


def network():
    """Convolutions, noisy layers, a dueling head with atoms; noise is given."""
    torch.manual_seed(4)
    shapes = [(3, 2, 3, 3), (3,), (4, 3, 2, 2), (4,),
              (6, 24), (6,), (6, 24), (6,), (20, 6), (20,), (20, 6), (20,)]
    parameters = [torch.nn.Parameter(torch.randn(s) / 3) for s in shapes]
    noise = torch.randn(24 + 6 + 6 + 20)
    observation = torch.randn(5, 2, 6, 8)
    functional = torch.nn.functional

    def noisy(x, weight, bias, weight_sigma, bias_sigma, epsilon):
        e_in, e_out = epsilon[:x.shape[1]], epsilon[x.shape[1]:]
        weight = weight + weight_sigma * e_out[:, None] * e_in[None, :]
        return functional.linear(x, weight, bias + bias_sigma * e_out)

    p = parameters
    x = torch.relu(functional.conv2d(observation, p[0], p[1], stride=1))
    x = torch.relu(functional.conv2d(x, p[2], p[3], stride=2)).flatten(1)
    x = torch.relu(noisy(x, *p[4:8], noise[:30]))
    x = noisy(x, *p[8:12], noise[30:]).view(5, 4, 5)
    output = x[:, :1] + x[:, 1:] - x[:, 1:].mean(1, keepdim=True)
    values = (output.softmax(2) * torch.linspace(-1, 1, 5)).sum(2)
    factors = torch.randn(5, 3)
    (values * factors).sum().backward()
    write("network.json", {
        "parameters": lists(torch.cat([q.detach().reshape(-1) for q in p])),
        "noise": lists(noise), "observation": lists(observation.reshape(-1)),
        "output": lists(output.detach().reshape(-1)),
        "values": lists(values.detach().reshape(-1)),
        "factors": lists(factors.reshape(-1)),
        "gradient": lists(torch.cat([q.grad.reshape(-1) for q in p]))})


def batch_of(size):
    batch = {
        "observation": torch.randn(size, 4),
        "next_observation": torch.randn(size, 4),
        "action": torch.randint(3, (size,)),
        "return": torch.randn(size),
        "discount": torch.tensor([0.97, 0.97, 0.0, 0.99, 0.97, 0.0]),
        "weights": torch.rand(size) + 0.1,
        "next_action_mask": torch.tensor(
            [[1, 1, 1], [0, 1, 1], [1, 0, 0], [1, 1, 0], [0, 0, 1], [1, 1, 1]]),
    }
    batch["weights"] /= batch["weights"].max()
    return batch


def legal_argmax(q, mask):
    return torch.where(mask.bool(), q, torch.tensor(-np.inf)).argmax(1)


def record(updates, batch, loss, td):
    updates.append({**{k: lists(v) for k, v in batch.items()},
                    "loss": loss.item(),
                    "priorities": lists(td.abs().detach())})


def rainbow():
    """Double, dueling C51 with masks and Polyak targets; no noise."""
    torch.manual_seed(5)
    rows, atoms = torch.arange(6), 7
    support = torch.linspace(-3, 3, atoms)
    online, target = Rainbow(atoms), Rainbow(atoms)
    target.load_state_dict(online.state_dict())
    start = flat(online)
    optimizer = torch.optim.Adam(online.parameters(), lr=3e-3)
    updates = []
    for number in range(1, 21):
        batch = batch_of(6)
        with torch.no_grad():
            q = (online(batch["next_observation"]).softmax(2) * support).sum(2)
            best = legal_argmax(q, batch["next_action_mask"])
            next_ = target(batch["next_observation"])[rows, best].softmax(1)
            goal = torch.tensor(
                project(batch["return"].double().numpy(),
                        batch["discount"].double().numpy(),
                        next_.double().numpy(),
                        support.double().numpy())).float()
        logits = online(batch["observation"])[rows, batch["action"]]
        loss = (batch["weights"] *
                -(goal * logits.log_softmax(1)).sum(1)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(online.parameters(), 0.5)
        optimizer.step()
        if number % 4 == 0:
            for t, o in zip(target.parameters(), online.parameters()):
                t.data += 0.3 * (o.data - t.data)
        record(updates, batch, loss,
               ((goal - logits.softmax(1)) * support).sum(1))
    write("rainbow.json", {"start": lists(start), "updates": updates,
                           "end": lists(flat(online))})


def qr_dqn():
    """Not double; rescaled values."""
    torch.manual_seed(6)
    rows, n = torch.arange(6), 5
    online, target = Rainbow(n), Rainbow(n)
    target.load_state_dict(online.state_dict())
    start = flat(online)
    optimizer = torch.optim.Adam(online.parameters(), lr=3e-3)
    updates = []
    for number in range(1, 21):
        batch = batch_of(6)
        with torch.no_grad():
            next_ = target(batch["next_observation"])
            best = legal_argmax(next_.mean(2), batch["next_action_mask"])
            x = next_[rows, best].double().numpy()
            root = np.sqrt(1 + 4e-3 * (np.abs(x) + 1 + 1e-3))
            inverse = np.sign(x) * (((root - 1) / 2e-3) ** 2 - 1)
            goal = h(batch["return"].double().numpy()[:, None] +
                     batch["discount"].double().numpy()[:, None] * inverse)
            goal = torch.tensor(goal).float()
        theta = online(batch["observation"])[rows, batch["action"]]
        loss = (batch["weights"] * torch.stack(
            [quantile_huber(theta[b], goal[b], 0.8) for b in rows])).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if number % 5 == 0:
            target.load_state_dict(online.state_dict())
        record(updates, batch, loss, (goal - theta).mean(1))
    write("qr_dqn.json", {"start": lists(start), "updates": updates,
                          "end": lists(flat(online))})


def i_dqn():
    """Three networks, Double Q off, squared loss, D = 2, T = 5."""
    torch.manual_seed(7)
    rows = torch.arange(6)
    online = [Dueling() for _ in range(3)]
    target = [Dueling() for _ in range(3)]
    for o, t in zip(online, target):
        t.load_state_dict(o.state_dict())
    start = torch.cat([flat(o) for o in online])
    optimizer = torch.optim.Adam(
        [p for o in online for p in o.parameters()], lr=3e-3)
    updates = []
    for number in range(1, 19):
        batch = batch_of(6)
        loss = 0
        for k in range(1, 4):
            with torch.no_grad():
                next_ = target[k - 1](batch["next_observation"])
                best = legal_argmax(next_, batch["next_action_mask"])
                goal = (batch["return"] +
                        batch["discount"] * next_[rows, best])
            q = online[k - 1](batch["observation"])[rows, batch["action"]]
            if k == 1:
                td = goal - q
            loss = loss + (batch["weights"] * 0.5 * (goal - q) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        copy = lambda to, of: to.load_state_dict(of.state_dict())
        if number % 5 == 0:
            # Target k <- Q_{k+1}; then Q_k <- Q_{k+1}.
            for k in range(3):
                copy(target[k], online[k])
            for k in range(2):
                copy(online[k], online[k + 1])
        if number % 2 == 0:
            # Target k stands for Q_k.
            for k in (1, 2):
                copy(target[k], online[k - 1])
        record(updates, batch, loss, td)
    write("i_dqn.json", {
        "start": lists(start), "updates": updates,
        "end": lists(torch.cat([flat(o) for o in online]))})


if __name__ == "__main__":
    for make in (cartpole, dqn, losses, rmsprop, network, rainbow, qr_dqn,
                 i_dqn):
        make()
