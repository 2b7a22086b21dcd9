"""Training a student to give the teacher's vectors: batches, loss, checkpoints. Runs on a GPU or on a CPU.

Two losses: one minus the cosine to the teacher's vector, and the KL divergence of each text's similarities to
the others of its batch from the teacher's, with the student on one side and on both. Batches can be made of groups
of similar texts, the hard cases of a ranking: TAS-B, Hofstätter et al. (SIGIR 2021). An interrupted run goes on
where it stopped.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from export.network import pad

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tokenizers import Tokenizer
    from torch.optim import Optimizer

_BATCH_TOKENS: Final = {"cpu": 2048, "cuda": 131_072}
_WARMUP: Final = 0.02
_TOKENIZED_AT_ONCE: Final = 20_000
_SHOWN_EVERY: Final = 50
_SAVED_EVERY: Final = 300.0
_MEANS_ROUNDS: Final = 3
_MASKED: Final = -1e4


class Student(Protocol):
    """A module that learns. mixed: whether its products may be in bfloat16."""

    mixed: bool

    def __call__(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids [n, tokens] and which of them count -> unit vectors [n, dim]."""
        ...

    def optimizers(self, rate: float) -> list[Optimizer]:
        """What changes its parameters, each of them once."""
        ...


@dataclass(frozen=True)
class Settings:
    """How to train.

    temperature: what similarities are divided by before their KL divergence: smaller where cosines lie closer
    together. minutes: the training ends after so many at the latest, all its runs together. topic: similar texts that
    go into a batch together; 1 draws them at random. length_power: a text weighs as its tokens to this power; at 0 the
    short ones, which are most, decide alone. together: of a batch, the share of texts in one language, if languages
    are known.
    """

    steps: int
    batch: int = 512
    rate: float = 1e-3
    kl: float = 0.3
    temperature: float = 0.05
    seed: int = 0
    minutes: float = float("inf")
    topic: int = 1
    length_power: float = 0.5
    together: float = 0.75


class Kinds(NamedTuple):
    """Of each text, by number: its language, and the center that its vector lies around. centers: float32 [n, dim]."""

    languages: NDArray[np.int64]
    around: NDArray[np.int64]
    centers: NDArray[np.float32]


@dataclass(frozen=True)
class Tokens:
    """The token ids of many texts, one after the other. offsets: int64 [texts + 1]."""

    flat: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[str], tokenizer: Tokenizer) -> Tokens:
        """Tokenize texts, special tokens included."""
        parts, lengths = [np.empty(0, dtype=np.int32)], []
        for start in range(0, len(texts), _TOKENIZED_AT_ONCE):
            found = tokenizer.encode_batch(list(texts[start : start + _TOKENIZED_AT_ONCE]))
            lengths += [len(text) for text in found]
            parts.append(np.concatenate([np.array(text.ids, dtype=np.int32) for text in found]))
        return cls(np.concatenate(parts), np.cumsum([0, *lengths]))

    def chosen(self, rows: NDArray[np.int64]) -> Tokens:
        """Only these texts, in this order."""
        lengths = np.diff(self.offsets)[rows]
        return Tokens(np.concatenate([self[row] for row in rows]), np.cumsum([0, *lengths]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[np.int32]:
        return self.flat[self.offsets[row] : self.offsets[row + 1]]


def train(
    student: nn.Module, tokens: Tokens, vectors: NDArray[np.floating], settings: Settings, checkpoint: Path,
    minutes: float = float("inf"), kinds: Kinds | None = None,
) -> bool:  # fmt: skip
    """Train `student` in place on texts and the teacher's vectors [n, dim]; whether the training is finished.

    kinds: of texts in many languages, whose cosines are those of the vectors less their center. checkpoint: the file
    to go on from, if it is there, and to write every five minutes and at the end. minutes: when this run stops.
    """
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    device = next(student.parameters()).device
    optimizers = student.optimizers(settings.rate)
    rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    step, before = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        student.load_state_dict(state["student"])
        for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        step, before = state["step"], state["seconds"]
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    order = _Order(vectors, settings, kinds.languages if kinds else None)
    lengths = np.diff(tokens.offsets).astype(np.float32)
    start = saved = time.monotonic()

    def save() -> None:
        fresh = checkpoint.with_suffix(".part")
        kept = [optimizer.state_dict() for optimizer in optimizers]
        state = {"student": student.state_dict(), "optimizers": kept, "step": step}
        torch.save(state | {"seconds": before + time.monotonic() - start}, fresh)
        fresh.rename(checkpoint)

    while True:
        spent = time.monotonic() - start
        done = step / settings.steps if settings.steps else 1.0
        progress = max(done, (before + spent) / (60 * settings.minutes))
        if progress >= 1 or spent >= 60 * minutes:
            break
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate * min(1.0, progress / _WARMUP + 1e-3, (1 - progress) / (1 - _WARMUP))
        rows = order.rows(step)
        target = torch.from_numpy(vectors[rows].astype(np.float32)).to(device)
        weights = torch.from_numpy(lengths[rows] ** settings.length_power).to(device)
        center = torch.from_numpy(kinds.centers[kinds.around[rows]]).to(device) if kinds else None
        found = _loss(_forward(student, tokens, rows), target, weights / weights.sum(), settings, center)
        student.zero_grad(set_to_none=True)
        found.backward()
        for optimizer in optimizers:
            optimizer.step()
        step += 1
        if step % _SHOWN_EVERY == 0 or step == settings.steps:
            minutes_spent = (before + spent) / 60
            print(
                f"step {step}, {progress:.1%}, loss {found.item():.4f}, {minutes_spent:.1f} min", flush=True
            )
        if time.monotonic() - saved > _SAVED_EVERY:
            save()
            saved = time.monotonic()
    save()
    return progress >= 1


@torch.no_grad()
def encode(student: nn.Module, tokens: Tokens) -> NDArray[np.float32]:
    """Texts -> the student's unit vectors, float32 [n, dim]."""
    step = 1024
    parts = [
        _forward(student, tokens, np.arange(start, min(start + step, len(tokens)))).cpu().numpy()
        for start in range(0, len(tokens), step)
    ]
    return np.concatenate(parts)


class _Order:
    """The rows of each step: every text once before any comes again, similar ones, or of a language, side by side."""

    def __init__(
        self, vectors: NDArray[np.floating], settings: Settings, languages: NDArray[np.int64] | None = None
    ) -> None:
        self._vectors, self._settings, self._languages = vectors, settings, languages
        self._each = max(1, len(vectors) // settings.batch)
        self._epoch, self._rows = -1, np.empty(0, dtype=np.int64)

    def rows(self, step: int) -> NDArray[np.int64]:
        epoch, part = divmod(step, self._each)
        if epoch != self._epoch:
            rng = np.random.default_rng([self._settings.seed, epoch])
            self._rows = rng.permutation(len(self._vectors))
            if self._settings.topic > 1:
                groups = self._groups(self._rows, rng)
                self._rows = np.concatenate([groups[n] for n in rng.permutation(len(groups))])
            if self._languages is not None:
                self._rows = self._by_language(self._rows, self._languages[self._rows], rng)
            self._epoch = epoch
        return self._rows[part * self._settings.batch : (part + 1) * self._settings.batch]

    def _by_language(
        self, rows: NDArray[np.int64], languages: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Batches with a share of texts in one language; the others are of any."""
        size = self._settings.batch
        own = round(self._settings.together * size)
        any_of = rng.random(len(rows)) < 1 - own / size
        parts, rest = [], [rows[any_of]]
        for language in np.unique(languages):
            some = rows[~any_of & (languages == language)]
            whole = len(some) // own
            parts += np.split(some[: whole * own], whole) if whole else []
            rest.append(some[whole * own :])
        others = rng.permutation(np.concatenate(rest))
        batches = [parts[number] for number in rng.permutation(len(parts))]
        found = [
            np.concatenate([batch, others[number * (size - own) : (number + 1) * (size - own)]])
            for number, batch in enumerate(batches)
        ]
        return np.concatenate([*found, others[len(batches) * (size - own) :]])

    def _groups(self, rows: NDArray[np.int64], rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """Halve `rows` as two means do, again and again, until the parts are small."""
        if len(rows) <= self._settings.topic:
            return [rows]
        vectors, half = self._vectors[rows].astype(np.float32), len(rows) // 2
        one, other = vectors[rng.integers(len(rows), size=2)]
        for _ in range(_MEANS_ROUNDS):
            order = np.argpartition(vectors @ (one - other), half)
            one, other = vectors[order[half:]].mean(0), vectors[order[:half]].mean(0)
        return self._groups(rows[order[:half]], rng) + self._groups(rows[order[half:]], rng)


def _forward(student: nn.Module, tokens: Tokens, rows: NDArray[np.int64]) -> Tensor:
    """The vectors of `rows`, in their order, computed in groups of texts of similar length."""
    device = next(student.parameters()).device
    lengths = (tokens.offsets[1:] - tokens.offsets[:-1])[rows]
    order = np.argsort(-lengths, kind="stable")
    parts, start = [], 0
    while start < len(order):
        stop = start + max(1, _BATCH_TOKENS[device.type] // int(lengths[order[start]]))
        ids, mask = pad([tokens[row] for row in rows[order[start:stop]]], device)
        with torch.autocast(device.type, torch.bfloat16, enabled=student.mixed):
            parts.append(student(ids, mask).float())
        start = stop
    return torch.cat(parts)[torch.from_numpy(np.argsort(order)).to(device)]


def _loss(
    found: Tensor, target: Tensor, weights: Tensor, settings: Settings, center: Tensor | None = None
) -> Tensor:
    """The loss of texts' vectors [n, dim]; weights [n] sum to 1. center: [n, dim], of each."""
    if center is None:
        each = 1 - (found * target).sum(1)
    else:
        each = 1 - functional.cosine_similarity(found - center, target - center)
    if settings.kl and len(found) > 1:
        itself = torch.eye(len(found), dtype=torch.bool, device=found.device)

        def similarities(one: Tensor, other: Tensor) -> Tensor:
            return (one @ other.T / settings.temperature).masked_fill(itself, _MASKED)

        wanted = similarities(target, target).softmax(1)
        for other in (target, found):
            spread = functional.kl_div(similarities(found, other).log_softmax(1), wanted, reduction="none")
            each = each + settings.kl * spread.sum(1)
    return (weights * each).sum()
