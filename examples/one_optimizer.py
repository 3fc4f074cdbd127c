"""One optimiser for a whole model: tables, dense layers, a schedule, clipping and mixed precision in one plain loop.

Run it: ``python -m examples.one_optimizer``. Clicks are drawn from hidden tastes of users and items, which the tables
learn. Each step costs the rows that its batch looks up, whatever the number of users.
"""

import torch
from torch import nn

import catembed
from catembed import optim

USERS, ITEMS, DIM = 200_000, 20_000, 16


class Clicks(nn.Module):
    """Two large tables, a shared one for two features, and a small network on top."""

    def __init__(self) -> None:
        super().__init__()
        self.users = catembed.Embedding(USERS, DIM, sparse=True, name="users")
        self.items = catembed.Embedding(ITEMS, DIM, sparse=True, name="items", padding_idx=0)
        self.tower = nn.Sequential(nn.Linear(3 * DIM, 32), nn.ReLU(), nn.Linear(32, 1))
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, user: torch.Tensor, item: torch.Tensor, last_item: torch.Tensor) -> torch.Tensor:
        """The log-odds of a click."""
        rows = [self.users(user), self.items(item), self.items(last_item)]
        return self.tower(torch.cat(rows, dim=1)).squeeze(1)


def draw(count: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """Users, items and the items seen before, few of each popular; whether it was a click; and how likely it was."""
    user, item, last = (
        torch.rand(3, count, generator=generator).pow(8) * torch.tensor([[USERS], [ITEMS], [ITEMS]])
    ).long()
    item, last = item.clamp(min=1), last.clamp(min=1)  # item 0 is padding
    likely = torch.sigmoid((user % 3 - 1) + 2 * (item % 3 - 1) + (last % 2 - 0.5))
    return user, item, last, torch.bernoulli(likely, generator=generator), likely


def train(steps: int = 200, batch: int = 4096) -> tuple[list[float], float]:
    """The loss at each step, and what it would have been in the last one for who knows the hidden tastes."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    model = Clicks()
    optimizer = optim.AdamW(model.parameters(), lr=0.02, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.02, total_steps=steps)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    losses = []
    for _ in range(steps):
        user, item, last, click, likely = draw(batch, generator)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.binary_cross_entropy_with_logits(model(user, item, last), click)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        optim.clip_grad_norm_(model.parameters(), max_norm=1.0)
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
        losses.append(loss.item())
    return losses, nn.functional.binary_cross_entropy(likely, click).item()


def main() -> None:
    losses, best = train()
    first, last = losses[0], sum(losses[-10:]) / 10
    print(f"loss {first:.3f} at first, {last:.3f} at last, {best:.3f} for who knows the hidden tastes")
    if last - best > 0.5 * (first - best):
        raise SystemExit("the model has not learned")


if __name__ == "__main__":
    main()
