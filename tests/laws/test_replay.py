"""Laws of the replay buffer: size, order, restarts, slots, and its way into a checkpoint."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from oodlab.samplers import Normal, ReplayBuffer, Uniform


def numbered(low: int, high: int) -> Tensor:
    """States (high - low, 1) that carry their number."""
    return torch.arange(low, high, dtype=torch.float32)[:, None]


def ring(capacity: int, *, restart: float = 0.0) -> ReplayBuffer:
    return ReplayBuffer(capacity, (1,), start=Uniform(-2.0, -1.0), restart=restart, fifo=True)


def slots(capacity: int, *, restart: float = 0.0, classes: int = 1) -> ReplayBuffer:
    return ReplayBuffer(capacity, (1,), start=Uniform(-2.0, -1.0), restart=restart, fifo=False, classes=classes)


@pytest.mark.parametrize("pushes", [1, 2, 3, 7])
def test_a_replay_ring_never_holds_more_than_its_capacity(pushes: int) -> None:
    replay = ring(10)
    for _ in range(pushes):
        start, drawn_from = replay.draw(4)
        replay.write(start, drawn_from)
    assert len(replay) == min(4 * pushes, 10)


def test_a_replay_ring_drops_the_oldest_states_first(generator: torch.Generator) -> None:
    replay = ring(10)
    for k in range(6):
        replay.write(numbered(4 * k, 4 * k + 4), torch.zeros(4, dtype=torch.long))
        kept = set(replay.draw(2000, generator=generator)[0].flatten().tolist())
        assert kept == set(range(max(0, 4 * k + 4 - 10), 4 * k + 4))  # a state is missed once in 2000 * 0.9^2000


@pytest.mark.parametrize("fifo", [True, False])
def test_the_number_of_restarted_chains_is_binomial(fifo: bool, generator: torch.Generator) -> None:
    n, restart = 20_000, 0.05
    replay = ring(50, restart=restart) if fifo else slots(50, restart=restart)
    replay.draw(50, generator=generator)
    replay.write(numbered(0, 50), torch.arange(50))
    states, drawn_from = replay.draw(n, generator=generator)
    fresh = (states < 0).flatten()
    assert abs(int(fresh.sum()) - n * restart) < 5 * math.sqrt(n * restart * (1 - restart))
    assert torch.equal(states[~fresh].flatten(), drawn_from[~fresh].float())


@pytest.mark.parametrize("restart", [0.0, 1.0])
def test_restart_zero_never_and_restart_one_always_begins_from_fresh_states(
    restart: float, generator: torch.Generator
) -> None:
    replay = ring(10, restart=restart)
    replay.write(numbered(0, 10), torch.zeros(10, dtype=torch.long))
    states, _ = replay.draw(1000, generator=generator)
    assert bool((states < 0).all()) == (restart == 1)
    assert bool((states >= 0).all()) == (restart == 0)


def test_an_empty_ring_and_full_slots_both_start_from_fresh_states(generator: torch.Generator) -> None:
    for replay in (ring(10), slots(10)):
        states, _ = replay.draw(1000, generator=generator)
        assert ((states >= -2) & (states <= -1)).all()
    assert len(ring(10)) == 0
    assert len(states.unique()) <= 10  # slots: the ten that were filled, again and again


def test_final_states_go_back_to_the_slots_they_came_from(generator: torch.Generator) -> None:
    replay = slots(6)
    replay.draw(1, generator=generator)
    before = replay.states.clone()
    replay.write(numbered(0, 5), torch.tensor([4, 1, 4, 0, 4]))
    assert replay.states[[4, 1, 0]].flatten().tolist() == [4, 1, 3]  # of equal slots the later one stays
    assert torch.equal(replay.states[[2, 3, 5]], before[[2, 3, 5]])
    assert len(replay) == 6


def test_a_state_drawn_from_the_replay_is_a_copy(generator: torch.Generator) -> None:
    for replay in (ring(4), slots(4)):
        replay.draw(4, generator=generator)
        replay.write(numbered(0, 4), torch.arange(4))
        replay.draw(4, generator=generator)[0].fill_(99)
        assert sorted(replay.states.flatten().tolist()) == [0, 1, 2, 3]


def test_classes_keep_to_their_own_slots(generator: torch.Generator) -> None:
    replay = slots(12, classes=3)
    y = torch.randint(3, (300,), generator=generator)
    for _ in range(3):
        _, drawn_from = replay.draw(300, y=y, generator=generator)
        assert torch.equal(drawn_from // 4, y)
        replay.write(y[:, None].float(), drawn_from)
    states, _ = replay.draw(300, y=y, generator=generator)
    assert torch.equal(states.flatten().long(), y)


@pytest.mark.parametrize("fifo", [True, False])
@pytest.mark.parametrize("pushes", [0, 1, 3])
def test_a_restored_replay_buffer_draws_the_same_states_as_the_uninterrupted_one(fifo: bool, pushes: int) -> None:
    def push(replay: ReplayBuffer, times: int, rng: torch.Generator) -> Tensor:
        for _ in range(times):
            states, drawn_from = replay.draw(4, generator=rng)
            replay.write(states + 1, drawn_from)
        return replay.states.clone()

    build = ring if fifo else slots
    whole, rng = build(10, restart=0.2), torch.Generator().manual_seed(0)
    push(whole, pushes, rng)
    other, other_rng = build(10, restart=0.2), torch.Generator()
    other.load_state_dict(whole.state_dict())
    other_rng.set_state(rng.get_state())
    assert len(other) == len(whole)
    assert torch.equal(push(other, 5, other_rng), push(whole, 5, rng))


@pytest.mark.parametrize("fifo", [True, False])
def test_a_draw_without_a_write_does_not_change_later_draws(fifo: bool) -> None:
    """A step that is stopped within its chain is repeated from the same random numbers."""
    once, twice = (ring if fifo else slots)(10), (ring if fifo else slots)(10)
    twice.draw(4, generator=torch.Generator().manual_seed(0))
    first, second = (replay.draw(4, generator=torch.Generator().manual_seed(0)) for replay in (once, twice))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_uniform_and_normal_starts_have_their_distributions(generator: torch.Generator) -> None:
    like = torch.empty(20_000, 3, dtype=torch.float64)
    u = Uniform(-1.0, 3.0)(like, generator)
    assert u.dtype == torch.float64
    assert u.min() >= -1
    assert u.max() <= 3
    assert abs(float(u.mean()) - 1) < 5 * 4 / math.sqrt(12 * u.numel())
    z = Normal()(like, generator)
    assert abs(float(z.var()) - 1) < 5 * math.sqrt(2 / z.numel())
    on_sphere = Normal(sphere=True)(like, generator)
    assert on_sphere.norm(dim=1) == pytest.approx(torch.ones(20_000, dtype=torch.float64), abs=1e-12)
    third = on_sphere[:, 2]  # Archimedes: uniform on [-1, 1]
    assert abs(float(third.var()) - 1 / 3) < 5 * math.sqrt(4 / 45 / len(third))


def test_replay_buffer_refuses_invalid_capacity_restart_and_classes() -> None:
    for bad, text in [
        ({"capacity": 0}, "capacity >= 1, got 0"),
        ({"capacity": 10, "classes": 3}, "multiple of classes = 3, got 10"),
        ({"capacity": 10, "restart": 1.5}, "got 1.5"),
        ({"capacity": 10, "classes": 2, "fifo": True}, "a ring has no slots"),
    ]:
        with pytest.raises(ValueError, match=text):
            ReplayBuffer(**{"shape": (1,), "start": Normal(), "restart": 0.0, "fifo": False, **bad})
    with pytest.raises(ValueError, match="at most 4 states at once, got 5"):
        ring(4).write(numbered(0, 5), torch.zeros(5, dtype=torch.long))
    with pytest.raises(ValueError, match="expects y"):
        slots(4, classes=2).draw(3)
    with pytest.raises(ValueError, match="expects y"):
        ring(4).draw(3, y=torch.zeros(3, dtype=torch.long))
