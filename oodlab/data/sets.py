"""The table of data sets: one entry per set, with the way to get the set.

To add a set, add an entry; the tests loop over the table.

Imports: the other tables of oodlab.data: embedded, pictures, readers.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from oodlab.data import embedded, readers
from oodlab.data.pictures import shrink
from oodlab.data.readers import Arrays

DIGITS = tuple("0123456789")
TRAIN_TEST = {"train": {"train": True}, "test": {"train": False}}


@dataclass(frozen=True)
class SetEntry:
    """One data set of the table: shape, sizes, classes, licence, source, and how to get it.

    Exactly one of three ways to get the set is given: `embedded` (in scikit-learn),
    `download`, or `how`, which says how to prepare the files by hand.
    """

    name: str
    shape: tuple[int, ...]  # of one item: (C, H, W) or (D,)
    sizes: Mapping[str, int]  # items of the complete set in each stored part: train, val, test or all
    classes: int | None  # None: no labels, or none that this kit uses
    licence: str
    source: str
    aliases: tuple[str, ...] = ()
    first_label: int = 0
    class_names: tuple[str, ...] = ()  # of labels first_label, first_label + 1, ...; names in a file take precedence
    download: Callable[[Path, str], Arrays] | None = field(default=None, repr=False)
    embedded: Callable[[str], Arrays] | None = field(default=None, repr=False)
    megabytes: float = 0  # approximate size of the download
    how: str = ""  # what to prepare, where there is no open download

    @property
    def labels(self) -> range:
        """The class labels of the complete set."""
        return range(self.first_label, self.first_label + (self.classes or 0))


def _torchvision(class_name: str, options: Mapping[str, Mapping[str, object]] = TRAIN_TEST, **more):
    return partial(readers.torchvision_set, class_name, options, **more)


_BOTH = {"train": {"split": "train"}, "test": {"split": "test"}}
_SHRUNK = "shorter side to 32, centre square"

# fmt: off
_TABLE = (
    SetEntry(
        "fashion_mnist", (1, 28, 28), {"train": 60_000, "test": 10_000}, 10, "MIT",
        "Xiao et al. 2017, github.com/zalandoresearch/fashion-mnist", aliases=("fmnist",),
        class_names=("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                     "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        download=_torchvision("FashionMNIST"), megabytes=31,
    ),
    SetEntry(
        "mnist", (1, 28, 28), {"train": 60_000, "test": 10_000}, 10, "CC BY-SA 3.0", "LeCun et al. 1998",
        class_names=DIGITS, download=_torchvision("MNIST"), megabytes=12,
    ),
    SetEntry(
        "kmnist", (1, 28, 28), {"train": 60_000, "test": 10_000}, 10, "CC BY-SA 4.0",
        "Clanuwat et al. 2018, github.com/rois-codh/kmnist",
        class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        download=_torchvision("KMNIST"), megabytes=21,
    ),
    SetEntry(
        "notmnist", (1, 28, 28), {"train": 60_000, "test": 10_000}, 10, "MIT",
        "Bulatov 2011, in MNIST's form: github.com/davidflanagan/notMNIST-to-MNIST",
        class_names=tuple("ABCDEFGHIJ"),
        how="clone github.com/davidflanagan/notMNIST-to-MNIST and save its idx files as "
            "train.npz and test.npz: x uint8 (N, 28, 28), y 0..9 for A..J",
    ),
    SetEntry(
        "emnist", (1, 28, 28), {"train": 124_800, "test": 20_800}, 26, "public domain (NIST)",
        "Cohen et al. 2017, split `letters`", first_label=1, class_names=tuple("abcdefghijklmnopqrstuvwxyz"),
        download=_torchvision(
            "EMNIST",
            {part: {"split": "letters", **how} for part, how in TRAIN_TEST.items()},
            picture=readers.upright,
        ), megabytes=562,
    ),
    SetEntry(
        "omniglot", (1, 28, 28), {"test": 13_180}, 659, "MIT",
        "Lake et al. 2015, evaluation alphabets, inverted, 28 x 28 (as in nae)",
        download=_torchvision("Omniglot", {"test": {"background": False}}, picture=readers.white_strokes_28),
        megabytes=7,
    ),
    SetEntry(
        "cifar10", (3, 32, 32), {"train": 50_000, "test": 10_000}, 10, "none stated", "Krizhevsky 2009",
        class_names=("airplane", "automobile", "bird", "cat", "deer",
                     "dog", "frog", "horse", "ship", "truck"),
        download=_torchvision("CIFAR10"), megabytes=170,
    ),
    SetEntry(
        "cifar10_subset", (3, 32, 32), {"train": 4_500, "test": 900}, 10, "none stated",
        "a seeded draw of cifar10, for a machine that the whole set does not fit to travel to",
        class_names=("airplane", "automobile", "bird", "cat", "deer",
                     "dog", "frog", "horse", "ship", "truck"),
        how="get cifar10, and write the draw with `python -m tests.bench.gpu --pack FOLDER`, which packs it where cifar10 "
            "has no room",
    ),
    SetEntry(
        "cifar100", (3, 32, 32), {"train": 50_000, "test": 10_000}, 100, "none stated",
        "Krizhevsky 2009, fine labels",
        download=_torchvision("CIFAR100"), megabytes=169,
    ),
    SetEntry(
        "svhn", (3, 32, 32), {"train": 73_257, "test": 26_032}, 10, "non-commercial use",
        "Netzer et al. 2011, cropped digits", class_names=DIGITS,
        download=_torchvision("SVHN", _BOTH), megabytes=246,
    ),
    SetEntry(
        "textures", (3, 32, 32), {"train": 1_880, "val": 1_880, "test": 1_880}, 47, "research use",
        f"Describable Textures, Cimpoi et al. 2014, partition 1; {_SHRUNK}", aliases=("dtd",),
        download=_torchvision("DTD", {**_BOTH, "val": {"split": "val"}}, picture=shrink), megabytes=625,
    ),
    SetEntry(
        "gtsrb", (3, 32, 32), {"train": 26_640, "test": 12_630}, 43, "research use",
        f"Stallkamp et al. 2012; {_SHRUNK}",
        download=_torchvision("GTSRB", _BOTH, picture=shrink), megabytes=277,
    ),
    SetEntry(
        "celeba", (3, 32, 32), {"train": 162_770, "val": 19_867, "test": 19_962}, None,
        "non-commercial research",
        f"Liu et al. 2015, aligned; {_SHRUNK}; the download needs `pip install gdown`",
        download=_torchvision(
            "CelebA",
            {ours: {"split": theirs, "target_type": []}
             for ours, theirs in (("train", "train"), ("val", "valid"), ("test", "test"))},
            picture=shrink,
        ), megabytes=1_440,
    ),
    SetEntry(
        "lsun", (3, 32, 32), {"test": 10_000}, None, "none stated", f"Yu et al. 2015, test images; {_SHRUNK}",
        how="download test with github.com/fyu/lsun, export the pictures, and save test.npz: "
            "x uint8 (10000, 32, 32, 3), no y",
    ),
    SetEntry(
        "places365", (3, 32, 32), {"test": 36_500}, 365, "research use",
        f"Zhou et al. 2017, validation images (256 x 256 version); {_SHRUNK}", aliases=("places",),
        download=_torchvision("Places365", {"test": {"split": "val", "small": True}}, picture=shrink),
        megabytes=550,
    ),
    SetEntry(
        "inaturalist", (3, 32, 32), {"test": 10_000}, None, "non-commercial use",
        f"Van Horn et al. 2018; 10,000 plant images as chosen by Huang & Li 2021; {_SHRUNK}",
        aliases=("inat",),
        how="get the pictures linked at github.com/deeplearning-wisc/large_scale_ood and save test.npz: "
            "x uint8 (10000, 32, 32, 3), no y",
    ),
    SetEntry(
        "tiny_imagenet", (3, 32, 32), {"train": 100_000, "test": 10_000}, 200, "non-commercial research",
        "Le & Yang 2015, shrunk from 64 to 32; test is the official validation part", aliases=("tin",),
        how="download cs231n.stanford.edu/tiny-imagenet-200.zip, shrink to 32 x 32, and save train.npz and "
            "test.npz (from val): x uint8 (N, 32, 32, 3), y 0..199 in the order of wnids.txt",
    ),
    SetEntry(
        "imagenet32", (3, 32, 32), {"train": 1_281_167, "test": 50_000}, 1000, "non-commercial research",
        "Chrabaszcz et al. 2017; test is the official validation part",
        how="register at image-net.org, download the 32 x 32 files, and save train.npz and test.npz "
            "(from val): x uint8 (N, 32, 32, 3), y 0..999",
    ),
    SetEntry(
        "segment", (19,), {"all": 2_310}, 7, "CC BY 4.0",
        "UCI Statlog image segmentation (OpenML 36), raw features",
        class_names=("BRICKFACE", "CEMENT", "FOLIAGE", "GRASS", "PATH", "SKY", "WINDOW"),
        download=partial(readers.openml_table, 36), megabytes=0.3,
    ),
    SetEntry(
        "sensorless", (48,), {"all": 58_509}, 11, "CC BY 4.0", "UCI sensorless drive diagnosis, raw features",
        first_label=1,
        download=partial(
            readers.uci_text,
            "https://archive.ics.uci.edu/static/public/325/dataset+for+sensorless+drive+diagnosis.zip",
            "Sensorless_drive_diagnosis.txt",
        ), megabytes=15,
    ),
    SetEntry(
        "digits", (1, 8, 8), {"train": 1_439, "test": 358}, 10, "CC BY 4.0",
        "UCI optical digits, in scikit-learn",
        class_names=DIGITS, embedded=embedded.digits,
    ),
    SetEntry(
        "photo_patches", (3, 32, 32), {"train": 4_500, "val": 900, "test": 1_700}, 2, "CC BY",
        "scikit-learn's two sample photos, cut into patches", class_names=("china", "flower"),
        embedded=embedded.photo_patches,
    ),
    SetEntry(
        "wine", (13,), {"all": 178}, 3, "CC BY 4.0", "UCI wine, in scikit-learn", embedded=embedded.wine,
    ),
    SetEntry(
        "breast_cancer", (30,), {"all": 569}, 2, "CC BY 4.0", "UCI breast cancer Wisconsin, in scikit-learn",
        embedded=embedded.breast_cancer,
    ),
)
# fmt: on


def _key(name: str) -> str:
    """Return a name's letters and digits in lower case: Fashion-MNIST, fashion_mnist and FashionMNIST are the same."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


_BY_KEY = {_key(name): entry for entry in _TABLE for name in (entry.name, *entry.aliases)}


def table() -> tuple[SetEntry, ...]:
    """Return every entry of the table of data sets."""
    return _TABLE


def find_entry(name: str) -> SetEntry | None:
    """Return the entry of the set that has this name or alias, or None."""
    return _BY_KEY.get(_key(name))


def entry(name: str) -> SetEntry:
    """Return the entry of the set that has this name or alias; case, - and _ do not matter.

    Raises:
        ValueError: there is no such set; the message names the nearest one.
    """
    if not isinstance(name, str):
        raise ValueError(f"data expects the name of a set, got {name!r}: `oodlab data` lists the sets.")
    found = find_entry(name)
    if found is None:
        near = difflib.get_close_matches(_key(name), _BY_KEY, n=1)
        hint = f"did you mean {_BY_KEY[near[0]].name}?" if near else "`oodlab data` lists the sets."
        raise ValueError(f"data expects the name of a set, got {name!r}: {hint}")
    return found
