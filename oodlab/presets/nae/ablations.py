"""The setting of nae/ablations: tables 6, 7 and 8, figure 12.

Imports: checks, presets.base, its own folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from oodlab import checks
from oodlab.presets.base import Experiment, Preset, explained
from oodlab.presets.nae.image_budgets import BUDGETS, PRINTED
from oodlab.presets.nae.images import image_training

HELD_OUT = 9
LATENT_PENALTY = 0.01  # off the sphere


@dataclass(frozen=True)
class Ablation:
    """In what a training differs from the base: NAE-OMI without 9, as image_training has it.

    Lengths are multiples of the base's, so that they shrink with a profile; the number of codes does not.

    Attributes:
        pre_training: Updates of the plain autoencoder; 0 begins with fresh weights.
        latent_steps: Steps of the latent chain; 0 starts visible chains at decoded draws.
        replay: Whether latent chains go on where earlier ones ended; else all start afresh.
        sphere: Whether codes lie on the unit sphere; else in R^D, where chains start from N(0, I)
            and the mean squared code is penalised.
        latent: Numbers in a code, D; None is the base's.
    """

    pre_training: float = 1.0
    latent_steps: float = 1.0
    replay: bool = True
    sphere: bool = True
    latent: int | None = None

    def __post_init__(self) -> None:
        checks.number("Ablation", "pre_training", self.pre_training, least=0)
        checks.number("Ablation", "latent_steps", self.latent_steps, least=0)
        if self.latent is not None:
            checks.whole("Ablation", "latent", self.latent, least=1)

    @property
    def tag(self) -> str:
        """What a training's name says of it, pre-training in the paper's epochs; empty for the base."""
        said = {
            f"-pre-training-{100 * self.pre_training:g}": self.pre_training != 1,
            f"-latent-steps-x{self.latent_steps:g}": self.latent_steps != 1,
            "-no-replay": not self.replay,
            "-no-sphere": not self.sphere,
            f"-codes-{self.latent}": self.latent is not None,
        }
        return "".join(word for word, is_so in said.items() if is_so)


ABLATED: Mapping[str, Mapping[Any, Ablation]] = {
    "table6": {epochs: Ablation(pre_training=epochs / 100) for epochs in (0, 10, 50, 100, 150, 200)},
    "table7": {
        "No.1": Ablation(),
        "No.2": Ablation(latent_steps=0, replay=False),
        "No.3": Ablation(latent_steps=5),
        "No.4": Ablation(replay=False),
        "No.5": Ablation(latent_steps=5, replay=False),
        "No.6": Ablation(sphere=False),
    },
    "table8": {latent: Ablation(latent=latent) for latent in (2, 4, 8, 16, 32, 64, 128, 256)},
}


@dataclass(frozen=True)
class Extent:
    """How much of the tables a profile takes.

    Attributes:
        share: Updates of normalising, as a share of those that NAE-OMI has at this profile; 1 shares the base
            with nae/holdout_digits.
        tables: Rows by table: epochs of pre-training, numbers, numbers in a code.
    """

    share: float
    tables: Mapping[str, tuple[int | str, ...]]


EXTENTS = {
    "paper": Extent(share=0.4, tables={table: tuple(rows) for table, rows in ABLATED.items()}),  # 20 of 50 epochs
    "quick": Extent(
        share=1.0,
        tables={"table6": (0, 50, 100), "table7": ("No.1", "No.2", "No.4", "No.6"), "table8": (8, 16, 32)},
    ),
    "smoke": Extent(share=1.0, tables={"table6": (0, 50, 100), "table7": ("No.1", "No.2", "No.6"), "table8": (2, 32)}),
}


def ablated_training(
    ablation: Ablation, *, in_set: str = "mnist", setting: str = "paper", profile: str = "paper"
) -> Preset:
    """Return the training of an ablation at a profile.

    What differs in nothing is the training that image_training returns, so that it is trained once for all.

    Args:
        ablation: In what it differs.
        in_set, setting: As in image_training.
        profile: One of presets.PROFILES.
    """
    base = image_training("NAE-OMI", HELD_OUT, in_set=in_set, setting=setting)
    base = base if profile == "paper" else base.at(profile)
    if ablation.latent == base.model.keywords["latent"]:
        ablation = replace(ablation, latent=None)
    return _varied(base, ablation)


def _varied(base: Preset, ablation: Ablation) -> Preset:
    """Return the base, at any profile, with an ablation."""
    share = EXTENTS[base.profile].share
    if ablation == Ablation() and share == 1:
        return base
    given = base.objective.keywords
    chain = given["latent_chain"]
    objective = {
        **given,
        "latent_chain": replace(
            chain, steps=_times(ablation.latent_steps, chain.steps), bounds=chain.bounds if ablation.sphere else None
        ),
        "restart": given["restart"] if ablation.replay else 1.0,  # every drawn state is a fresh one
        **({} if ablation.sphere else {"latent_penalty": LATENT_PENALTY}),
    }
    varied = base.changed(
        model=_codes(ablation, base),
        objective=partial(base.objective.func, **objective),
        steps=_times(share, base.steps),
    )
    return _named(replace(varied, start=_plain(base.start, ablation) if ablation.pre_training else None), ablation)


def _plain(base: Preset, ablation: Ablation) -> Preset:
    """Return the plain autoencoder that an ablation begins with."""
    own = Ablation(pre_training=ablation.pre_training, sphere=ablation.sphere, latent=ablation.latent)
    if own == Ablation():
        return base
    return _named(base.changed(model=_codes(own, base), steps=_times(own.pre_training, base.steps)), own)


def _codes(ablation: Ablation, base: Preset) -> dict[str, Any]:
    given = base.model.keywords
    return {"latent": ablation.latent or given["latent"], "sphere": ablation.sphere}


def _times(share: float, base: int) -> int:
    """Return a share of the base's number, at least 1 unless it is nothing."""
    return max(1, round(share * base)) if share else 0


def _named(varied: Preset, ablation: Ablation) -> Preset:
    """Return a training under the name of its ablation, with the sources of its own numbers."""
    where = {
        "steps": "tables 6 to 8: 20 epochs of normalising; of the plain autoencoder: table 6",
        "objective.latent_chain": "table 11; steps: table 7",
        "objective.restart": "released: replay ratio 0.95; 1 is table 7's lack of a replay",
        "model.latent": "table 8; of the base released: 32",
    }
    own = explained(varied, {**varied.sources, **where})
    penalty = f"objective.latent_penalty: in R^D; {LATENT_PENALTY:g}, as released for two dimensions"
    open_ones = () if ablation.sphere else (penalty, "the latent chain's step and noise in R^D: those on the sphere")
    name = f"{varied.name.replace('/images/', '/ablations/')}{ablation.tag}"
    return replace(varied, name=name, sources=own, unstated=(*varied.unstated, *open_ones))


# -------------------------------------------------------------------------------------- the experiment

_SHRINKS = ("model", "objective", "batches", "optimiser", "schedule", "steps", "probe", "probes")


def _whole(ablation: Ablation, setting: str) -> Preset:
    """Return an ablation's training that shrinks, under one name, to what ablated_training returns at a profile."""
    base = image_training("NAE-OMI", HELD_OUT, setting=setting)
    small = {profile: _varied(base.at(profile), ablation) for profile in BUDGETS}
    whole = _varied(base, ablation).changed(profiles=_fields(small))
    if whole.start is None:
        return whole
    starts = {profile: training.start for profile, training in small.items()}
    return replace(whole, start=whole.start.changed(profiles=_fields(starts)))


def _fields(small: Mapping[str, Preset]) -> dict[str, dict[str, Any]]:
    return {profile: {name: getattr(training, name) for name in _SHRINKS} for profile, training in small.items()}


def _experiment(name: str, setting: str) -> Experiment:
    ablations = dict.fromkeys(ablation for rows in ABLATED.values() for ablation in rows.values())
    quick, extent = BUDGETS["quick"], EXTENTS["quick"]
    rows = {table: ", ".join(map(str, taken)) for table, taken in extent.tables.items()}
    return Experiment(
        name=name,
        runs={ablation.tag.removeprefix("-") or "base": _whole(ablation, setting) for ablation in ablations},
        seeds=1,
        settings={"tables": EXTENTS["paper"].tables, "test_images": 10_000},
        sources={
            "seeds": "the tables have no spread",
            "settings.tables": "tables 6, 7 and 8",
            "settings.test_images": "all",
        },
        unstated=(
            "How many runs a number of tables 6 to 8 is of: they have no spread.",
            "Whether table 8 changed anything with the number of codes: here the networks' last and first layers only.",
            "Table 7 without the sphere: codes in R^D, N(0, I) as their start, the mean squared code penalised with "
            f"{LATENT_PENALTY:g}; the plain autoencoder is trained in R^D, too, without penalty.",
            "Lengths of table 7's latent chains shrink with a profile: 0, 1 and 5 times the base's.",
        ),
        profiles={
            profile: {
                "settings": {"tables": EXTENTS[profile].tables, **({"test_images": 300} if profile == "smoke" else {})}
            }
            for profile in BUDGETS
        },
        shrinks={
            "paper": "Conv28 networks on 28 x 28 pixels as printed, 20 epochs of normalising.",
            "quick": f"Quick profile: rows {rows['table6']} of table 6, {rows['table7']} of table 7 and {rows['table8']} of table 8; "
            f"the base has {quick.told(('AE', 'NAE-OMI'))}. "
            f"Printed: {PRINTED}, but 7,600 updates of normalising.",
            "smoke": "Smoke profile: 3 updates of a tiny network, to show that everything runs; the numbers mean nothing.",
        },
    )


ABLATIONS = _experiment("nae/ablations", "paper")
ABLATIONS_RELEASED = _experiment("nae/ablations_released", "released")
