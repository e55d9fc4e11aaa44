"""Muon (Jordan et al. 2024): the momentum of a matrix made nearly orthogonal before it is applied. All matrices of one shape go as one batch."""
import torch


def orthogonal(g, steps=5):
    """Newton-Schulz iteration on a batch of matrices [n, rows, columns] with rows <= columns; singular values end near 1."""
    x = g.bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x


class Muon:
    def __init__(self, matrices, momentum=0.95, decay=0.1):
        self.momentum, self.decay, self.groups = momentum, decay, {}
        for p in matrices:
            self.groups.setdefault(tuple(p.shape), []).append(p)
        self.means = {shape: torch.zeros(len(group), *shape, device=group[0].device) for shape, group in self.groups.items()}

    @torch.no_grad()
    def step(self, rate):
        for shape, group in self.groups.items():
            gradients = torch.stack([p.grad for p in group])
            mean = self.means[shape].lerp_(gradients, 1 - self.momentum)
            update = gradients.lerp(mean, self.momentum)
            tall = shape[0] > shape[1]
            update = orthogonal(update.mT if tall else update)
            update = (update.mT if tall else update).float() * max(1, shape[0] / shape[1]) ** 0.5
            torch._foreach_mul_(group, 1 - rate * self.decay)
            torch._foreach_add_(group, list(update.unbind(0)), alpha=-rate)
