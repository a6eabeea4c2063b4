"""Loading of data: table of sets, split rule, held-out classes, damaged files, own data, downloads and stand-ins."""

import inspect
import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import torch
import torchvision.datasets
from PIL import Image

from oodlab import data
from oodlab.data import loading, readers, sets
from oodlab.data.arrays import read_npz
from oodlab.data.rows import tenths
from oodlab.study import Task

PARTS = [(entry.name, part) for entry in data.table() for part in entry.sizes]


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Empty folders as search path and cache: nothing on this machine is seen."""
    prepared, cache = tmp_path / "prepared", tmp_path / "cache"
    prepared.mkdir()
    monkeypatch.setenv("OODLAB_DATA", str(prepared))
    monkeypatch.setenv("OODLAB_CACHE", str(cache))
    return prepared, cache


def save(path: Path, **arrays: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path


def images(n: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (n, *shape)).astype(np.uint8)


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# The table


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_every_available_set_has_the_shapes_types_labels_and_sizes_of_the_table(name: str, part: str) -> None:
    entry = data.entry(name)
    try:
        split = data.load(name, part, download=False)
    except FileNotFoundError as missing:
        pytest.skip(str(missing))

    assert split.x.shape == (len(split), *entry.shape)
    assert split.x.dtype == (torch.uint8 if len(entry.shape) == 3 else torch.float32)
    assert split.y.shape == (len(split),)
    assert split.y.dtype == torch.int64
    labels = split.y.unique().tolist()
    assert set(labels) <= {-1, *entry.labels} or entry.classes is None
    assert len(split) <= entry.sizes[part]
    if split.info.partial:
        assert f"{len(split):,} of {entry.sizes[part]:,}" in split.info.caption
    else:
        assert len(split) == entry.sizes[part]
        assert len(labels) == (entry.classes or 1)
    assert len(split.info.class_names) in (0, entry.classes)
    assert split.info.record == f"{name}/{part}"


@pytest.mark.parametrize("entry", data.table(), ids=lambda entry: entry.name)
def test_every_entry_of_the_table_of_sets_states_its_source_and_licence(entry: data.SetEntry) -> None:
    assert [bool(entry.embedded), bool(entry.download), bool(entry.how)].count(True) == 1
    assert entry.licence
    assert entry.source
    assert (entry.megabytes > 0) == bool(entry.download)
    assert set(entry.sizes) <= {"train", "val", "test"} or set(entry.sizes) == {"all"}
    assert len(entry.class_names) in (0, entry.classes)


@pytest.mark.parametrize("spelling", ["dtd", "DTD", "Textures", "Fashion-MNIST", "FashionMNIST", "tiny-imagenet"])
def test_names_of_sets_have_aliases_and_may_be_spelled_differently(spelling: str) -> None:
    assert data.entry(spelling).name in ("textures", "fashion_mnist", "tiny_imagenet")


def test_torchvision_knows_every_class_and_option_that_the_table_names() -> None:
    for entry in data.table():
        if entry.download and entry.download.func is readers.torchvision_set:
            class_name, options = entry.download.args
            assert set(options) == set(entry.sizes)
            for chosen in options.values():
                kind = getattr(torchvision.datasets, class_name)
                own, base = (
                    inspect.signature(kind.__init__).parameters,
                    inspect.signature(kind.__mro__[1]).parameters,
                )
                assert {"root", "download", *chosen} <= {*own, *base}


# Which rows


def test_train_val_and_test_are_disjoint_complete_and_stratified_by_class() -> None:
    everything = data.load("wine", "all")
    parts = {split: data.load("wine", split) for split in ("train", "val", "test")}

    rows = [tuple(row) for part in parts.values() for row in part.x.tolist()]
    assert sorted(rows) == sorted(tuple(row) for row in everything.x.tolist())
    assert torch.equal(data.load("wine", "train-val").x, parts["train"].x)
    for label in range(3):
        total = int((everything.y == label).sum())
        for split, share in (("train", 0.8), ("val", 0.1), ("test", 0.1)):
            assert abs(int((parts[split].y == label).sum()) - share * total) < 1.7  # at most 1 row per tenth


def test_the_split_rule_never_changes() -> None:
    """Another numpy or another machine must choose the same rows, because results depend on the split."""
    # RandomState(1).permutation(12) is 2 3 4 10 1 6 0 7 11 9 8 5, dealt as 0 1 2 3 4 5 6 7 8 9 0 1
    assert tenths(np.zeros(12, dtype=np.int64)).tolist() == [6, 4, 0, 1, 2, 1, 5, 7, 0, 9, 3, 8]


def test_holding_out_a_class_moves_no_row_between_train_val_and_test() -> None:
    test = {tuple(row) for row in data.load("wine", "test").x.tolist()}

    held = data.load("wine", "test", without=1)

    assert {tuple(row) for row in held.x.tolist()} <= test
    assert set(held.y.tolist()) == {0, 2}


def test_val_is_cut_from_train_for_a_set_without_val(roots: tuple[Path, Path]) -> None:
    x, y = images(1000, 28, 28), np.arange(1000) % 10
    save(roots[0] / "mnist" / "train.npz", x=x, y=y)

    train, rest, val = (data.load("mnist", split) for split in ("train", "train-val", "val"))

    assert [len(part) for part in (train, rest, val)] == [1000, 900, 100]
    rows = {part: {image.numpy().tobytes() for image in split.x} for part, split in (("r", rest), ("v", val))}
    assert not rows["r"] & rows["v"]
    assert val.y.bincount().tolist() == [10] * 10
    save(roots[0] / "mnist" / "val.npz", x=x[:7], y=y[:7])
    assert [len(data.load("mnist", split)) for split in ("train-val", "val")] == [1000, 7]


def test_photo_patches_of_train_val_and_test_share_no_pixel() -> None:
    spans = sorted(sets.embedded.PATCH_REGIONS.values())

    assert all(left[1] <= right[0] for left, right in pairwise(spans))
    seen = {
        split: {patch.numpy().tobytes() for patch in data.load("photo_patches", split).x} for split in ("val", "test")
    }
    assert not seen["val"] & seen["test"]


def test_digits_keep_the_pixel_values_of_scikit_learn_up_to_rounding() -> None:
    bunch = sklearn.datasets.load_digits()
    both = [data.load("digits", split) for split in ("train", "test")]

    ink = torch.cat([split.x for split in both]).double() * 16 / 255
    assert (ink - ink.round()).abs().max() < 0.04
    assert ink.round().sum() == bunch.images.sum()


def test_classes_are_held_out_or_selected_by_number_or_by_name() -> None:
    assert set(data.load("digits", without=9).y.tolist()) == set(range(9))
    assert set(data.load("digits", without=["0", 9]).y.tolist()) == set(range(1, 9))
    assert set(data.load("digits", only="3").y.tolist()) == {3}
    both = len(data.load("digits", only=3)) + len(data.load("digits", without=3))
    assert both == len(data.load("digits"))


def test_labels_that_start_at_one_keep_their_numbers(roots: tuple[Path, Path]) -> None:
    save(roots[0] / "emnist" / "test.npz", x=images(26, 28, 28), y=np.arange(1, 27))

    assert data.load("emnist", "test", only="a").y.tolist() == [1]
    with pytest.raises(ValueError, match=r"got \[0\]: its classes are 1..26"):
        data.load("emnist", "test", without=0)


def test_a_subsample_is_seeded_nested_and_balanced_on_request() -> None:
    small, large = (data.load("digits", n=n, seed=4) for n in (50, 100))
    assert torch.equal(small.x, data.load("digits", n=50, seed=4).x)
    assert not torch.equal(small.x, data.load("digits", n=50, seed=5).x)
    rows = {image.numpy().tobytes() for image in large.x}
    assert all(image.numpy().tobytes() in rows for image in small.x)

    assert data.load("digits", n=100, balanced=True).y.bincount().tolist() == [10] * 10
    counts = data.load("digits", "test", balanced=True).y.bincount()
    assert counts.unique().tolist() == [int(data.load("digits", "test").y.bincount().min())]


def test_the_record_of_a_split_states_set_part_classes_and_subsample_in_one_form() -> None:
    record = data.load("Digits", "train", without=[9, "1"], n=80, seed=3, balanced=True).info.record
    assert record == "digits/train(without=1+9, n=80, balanced, seed=3)"
    assert data.load("digits", "test", only=0).info.record == "digits/test(only=0)"
    assert data.load("digits", "test", seed=7).info.record == "digits/test"  # a seed that draws nothing


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "minst"}, "got 'minst': did you mean mnist?"),
        ({"name": "zzzzzz"}, "`oodlab data` lists the sets"),
        ({"name": "digits", "split": "tset"}, "a split of train, val, train-val, test or all, got 'tset'"),
        ({"name": "digits", "split": "all"}, "a split of digits: train, val, train-val, test; got 'all'"),
        ({"name": "digits", "without": 10}, r"got \[10\]: its classes are 0..9"),
        ({"name": "digits", "without": range(10)}, "at most 9 of the 10 classes in without, got 10"),
        ({"name": "digits", "without": 1, "only": 2}, "without or only, got both"),
        ({"name": "wine", "only": "clas_1"}, "did you mean 'class_1'?"),
        ({"name": "digits", "n": 5000}, "expects n <= 1439, got 5000"),
        ({"name": "digits", "n": 0}, "n >= 1, got 0"),
        ({"name": "digits", "n": 5, "balanced": True}, "multiple of the 10 classes"),
        ({"name": "wine", "split": "test", "n": 30, "balanced": True}, "in the smallest class"),
    ],
)
def test_wrong_arguments_of_load_raise_errors_that_state_the_allowed_values(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data.load(**arguments)


# Files


def test_an_error_of_missing_files_names_the_searched_folders_and_how_to_get_the_set(roots: tuple[Path, Path]) -> None:
    with pytest.raises(FileNotFoundError, match="oodlab data mnist` downloads it") as caught:
        data.load("mnist", download=False)
    assert str(roots[0] / "mnist") in str(caught.value)
    assert str(roots[1] / "mnist") in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"no open download: .*github.com/fyu/lsun.*OODLAB_DATA"):
        data.load("lsun", "test")
    with pytest.raises(FileNotFoundError, match="no open download"):
        data.fetch("lsun")
    with pytest.raises(ValueError, match="it is embedded"):
        data.fetch("digits")


def test_a_relative_search_path_survives_a_change_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "here" / "mine" / "test.npz", x=images(3, 4, 4))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OODLAB_DATA", os.pathsep.join(["nowhere", "here"]))
    assert data.search_path() == (tmp_path / "nowhere", tmp_path / "here")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    split = data.load("mine", "test")

    assert len(split) == 3
    assert split.info.record == "own:mine/test"


def test_files_in_the_search_path_are_preferred_to_files_in_the_cache(roots: tuple[Path, Path]) -> None:
    for root, n in zip(roots, (2, 3), strict=True):
        save(root / "mnist" / "test.npz", x=images(n, 28, 28), y=np.zeros(n, dtype=np.int64))
    assert data.load("mnist", "test").info.origin == "prepared"
    (roots[0] / "mnist" / "test.npz").unlink()
    assert data.load("mnist", "test").info.origin == "download"


def test_a_damaged_data_file_raises_an_error_or_loads_the_same_values(tmp_path: Path) -> None:
    x, y = images(20, 6, 6), np.arange(20) % 2
    path = save(tmp_path / "mine.npz", x=x, y=y)
    whole = path.read_bytes()
    damaged = [whole[: len(whole) * k // 10] for k in range(10)]  # truncated; the first one is empty
    for position in range(0, len(whole), 13):
        damaged.append(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])

    named = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            split = data.load(path, "all")
        except ValueError as error:
            assert str(path) in str(error)
            named += 1
        else:  # the byte was a date or the like
            assert torch.equal(split.x, torch.from_numpy(x)[:, None])
            assert split.y.tolist() == y.tolist()
    assert named >= 10 + 0.7 * (len(damaged) - 10)


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x03\x04"])
def test_a_data_file_that_is_not_npz_raises_an_error_with_its_name(roots: tuple[Path, Path], content: bytes) -> None:
    path = roots[0] / "mnist" / "train.npz"
    path.parent.mkdir()
    path.write_bytes(content)

    with pytest.raises(ValueError, match=r"mnist.train\.npz cannot be read as an npz file .*copy or fetch it again"):
        data.load("mnist")


def test_a_data_file_that_differs_from_the_table_of_sets_raises_an_error_with_its_name(
    roots: tuple[Path, Path],
) -> None:
    path = roots[0] / "mnist" / "test.npz"
    save(path, x=images(4, 32, 32), y=np.arange(4))
    with pytest.raises(ValueError, match=r"mnist expects items of shape \(1, 28, 28\), got \(1, 32, 32\)"):
        data.load("mnist", "test")
    save(path, x=images(4, 28, 28), y=np.arange(4) + 8)
    with pytest.raises(ValueError, match=r"expects labels 0..9 \(or -1 for none\), got \[10, 11\]"):
        data.load("mnist", "test")
    save(path, images=images(4, 28, 28))
    with pytest.raises(ValueError, match=r"an array named x, got \['images'\]"):
        data.load("mnist", "test")
    save(path.with_name("all.npz"), x=images(4, 28, 28))
    with pytest.raises(ValueError, match=r"either all.npz or its parts, got test, all"):
        data.load("mnist", "test")


def test_holding_out_classes_of_unlabelled_items_is_refused(roots: tuple[Path, Path]) -> None:
    save(roots[0] / "svhn" / "test.npz", x=images(4, 32, 32, 3))
    split = data.load("svhn", "test")
    assert split.y.tolist() == [-1] * 4
    assert split.info.caption == "svhn/test: 4 items, from a partial set (4 of 26,032)"
    with pytest.raises(ValueError, match="its items have no labels"):
        data.load("svhn", "test", without=1)


# Own data


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 3), (3, 5, 6), (5, 6, 1), (1, 5, 6)])
def test_images_of_any_axis_order_become_channels_first(shape: tuple[int, ...]) -> None:
    x = images(4, *shape)

    split = data.from_arrays(x, name="mine")

    channels = 3 if 3 in shape else 1
    assert split.x.shape == (4, channels, 5, 6)
    last = x if len(shape) == 3 and shape[-1] in (1, 3) else x.reshape(4, channels, 5, 6).transpose(0, 2, 3, 1)
    assert np.array_equal(split.x.permute(0, 2, 3, 1), last.reshape(4, 5, 6, channels))
    x[:] = 0
    assert split.x.any()  # a copy


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((2, 4, 4)), None, r"uint8 values 0..255, got float64: .*\(x \* 255\)"),
        (np.full((2, 3), np.nan), None, "got 6 NaN or infinite entries .* in 2 of 2 rows"),
        (np.full((1, 1), 1e300), None, "1 NaN or infinite"),
        (np.zeros((2, 3, 4, 3), dtype=np.uint8), None, "both ends could be the channels"),
        (np.zeros((2, 4, 4, 4), dtype=np.uint8), None, "neither end is 1 or 3 channels"),
        (np.zeros((2, 784), dtype=np.uint8), None, "reshape flattened images"),
        (np.zeros((0, 3)), None, r"with no size 0, got \(0, 3\)"),
        (np.array([["a"]]), None, "real numbers, got dtype <U1"),
        (np.zeros((2, 3)), [0], r"y as 2 integers, one per item of x, got int64 \(1,\)"),
        (np.zeros((2, 3)), [0.5, 1], "number the classes 0, 1"),
    ],
)
def test_from_arrays_refuses_arrays_of_wrong_shape_or_type_and_says_what_to_do(
    x: np.ndarray, y: list | None, message: str
) -> None:
    with pytest.raises(ValueError, match=f"mine.* expects .*{message}"):
        data.from_arrays(x, y, name="mine")


def test_from_arrays_accepts_tables_of_any_real_numbers() -> None:
    split = data.from_arrays(torch.arange(6).reshape(3, 2), [0, 1, 0])

    assert split.x.dtype == torch.float32
    assert split.x.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_load_accepts_the_path_of_an_npz_file_in_place_of_a_name(tmp_path: Path) -> None:
    x, y = np.arange(200.0).reshape(100, 2), np.arange(100) % 2
    path = save(tmp_path / "mine.npz", x=x, y=y, class_names=np.array(["low", "high"]))

    assert [len(data.load(str(path), split)) for split in ("all", "train", "val", "test")] == [
        100,
        80,
        10,
        10,
    ]
    held = data.load(path, "all", without="high")
    assert held.y.tolist() == [0] * 50
    assert held.info.record == "own:mine/all(without=1)"
    with pytest.raises(FileNotFoundError, match="does not exist"):
        data.load(tmp_path / "yours.npz")
    assert len(data.load(save(tmp_path / "set" / "test.npz", x=x).parent, "test")) == 100
    with pytest.raises(ValueError, match=r"got 'train': it holds test"):
        data.load(tmp_path / "set")


def test_from_folder_makes_a_labelled_set_from_one_folder_of_images_per_class(tmp_path: Path) -> None:
    pixels = images(4, 6, 8, 3)
    for i, label in enumerate(["dog", "cat", "cat", "dog"]):
        (tmp_path / "pets" / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[i]).save(tmp_path / "pets" / label / f"{i}.png")
    (tmp_path / "pets" / "notes.txt").write_text("not a picture")

    split = data.from_folder(tmp_path / "pets")

    assert split.info.class_names == ("cat", "dog")
    assert split.y.tolist() == [0, 0, 1, 1]
    assert np.array_equal(split.x.permute(0, 2, 3, 1), pixels[[1, 2, 0, 3]])
    assert data.from_folder(tmp_path / "pets", size=4).x.shape == (4, 3, 4, 4)
    assert torch.equal(data.load(tmp_path / "pets", "all").x, split.x)

    (tmp_path / "gray").mkdir()
    Image.fromarray(pixels[0, :, :, 0]).save(tmp_path / "gray" / "a.png")
    assert data.from_folder(tmp_path / "gray").x.shape == (1, 1, 6, 8)
    Image.fromarray(pixels[0, :5]).save(tmp_path / "gray" / "b.png")
    with pytest.raises(ValueError, match=r"2 sizes .* size=32"):
        data.from_folder(tmp_path / "gray")
    (tmp_path / "gray" / "c.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"1 of 3 files cannot be read as a picture .*c\.png"):
        data.from_folder(tmp_path / "gray")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        data.from_folder(tmp_path / "nothing")


def test_a_photo_is_resized_by_its_shorter_side_and_cropped_to_the_centre() -> None:
    wide = np.zeros((64, 192, 3), dtype=np.uint8)
    wide[:, 64:128] = 200  # the centre square

    small = np.asarray(readers_shrink(Image.fromarray(wide)))

    assert small.shape == (32, 32, 3)
    assert (small[:, 3:-3] == 200).all()


def readers_shrink(image: Image.Image) -> Image.Image:
    return data.entry("textures").download.keywords["picture"](image)


# Downloads, with a fake in torchvision's place


class FakeDownload:
    """What a torchvision data set does, without a network."""

    made: list[dict] = []  # noqa: RUF012  the tests read it

    def __init__(self, root: str, download: bool, **options: object) -> None:
        FakeDownload.made.append(options)
        (Path(root) / "raw-archive").write_bytes(b"raw")
        self.x = images(20 if options.get("train") else 10, 28, 28)

    def __len__(self) -> int:
        return len(self.x)

    def __iter__(self):
        return ((Image.fromarray(x), 1 + i % 10) for i, x in enumerate(self.x))


@pytest.fixture
def fake(roots: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """EMNIST and KMNIST of 20 + 10 images, in torchvision's place."""
    FakeDownload.made = []
    for name, key, changes in (
        ("KMNIST", "kmnist", {"first_label": 1}),
        ("EMNIST", "emnist", {"classes": 10, "class_names": tuple("abcdefghij")}),
    ):
        monkeypatch.setattr(torchvision.datasets, name, FakeDownload)
        small = replace(data.entry(key), sizes={"train": 20, "test": 10}, **changes)
        monkeypatch.setitem(sets._BY_KEY, key, small)
    return roots


def test_a_set_is_downloaded_once_checked_and_kept_whole(fake: tuple[Path, Path]) -> None:
    prepared, cache = fake
    save(prepared / "other" / "test.npz", x=images(2, 4, 4))
    before = listing(prepared)

    train, test = data.load("kmnist", "train"), data.load("kmnist", "test")

    assert len(FakeDownload.made) == 2  # one for each part; test came with train
    assert np.array_equal(train.x[:, 0], images(20, 28, 28))
    assert test.info.origin == "download"
    assert sorted(listing(cache)) == ["kmnist/test.npz", "kmnist/train.npz"]  # no raw files, no halves
    assert data.fetch("kmnist") == [cache / "kmnist" / "train.npz", cache / "kmnist" / "test.npz"]
    assert len(FakeDownload.made) == 2
    assert listing(prepared) == before  # the search path is only read
    assert data.state("kmnist").kind == "present"


def test_emnist_images_are_turned_upright_only_when_torchvision_downloaded_the_set(fake: tuple[Path, Path]) -> None:
    prepared, _ = fake
    assert np.array_equal(data.load("emnist", "test").x[:, 0], images(10, 28, 28).transpose(0, 2, 1))

    save(prepared / "emnist" / "test.npz", x=images(10, 28, 28), y=np.arange(10) + 1)
    assert np.array_equal(data.load("emnist", "test").x[:, 0], images(10, 28, 28))


def test_a_download_that_differs_from_the_table_of_sets_is_not_kept(
    fake: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sets._BY_KEY, "kmnist", replace(data.entry("kmnist"), sizes={"train": 21, "test": 10}))

    with pytest.raises(OSError, match=r"= \(21, \(1, 28, 28\), 10\), got \(20, \(1, 28, 28\), 10\)"):
        data.fetch("kmnist")
    assert listing(fake[1]) == {}


def test_a_failed_download_raises_an_error_and_leaves_no_file(
    fake: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(root: str, download: bool, **options: object) -> None:
        (Path(root) / "half-an-archive").write_bytes(b"raw")
        raise RuntimeError("Error downloading train-images")

    monkeypatch.setattr(torchvision.datasets, "KMNIST", fail)
    with pytest.raises(ConnectionError, match=r"Error downloading train-images.*Try again by `oodlab data kmnist`"):
        data.load("kmnist")
    assert listing(fake[1]) == {}


def test_a_crash_while_writing_leaves_no_data_file_under_the_final_name(
    fake: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(file, **arrays: np.ndarray) -> None:
        file.write(b"PK half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez_compressed", half)
    with pytest.raises(KeyboardInterrupt):
        data.fetch("kmnist")
    assert listing(fake[1]) == {}


def test_tables_are_read_from_openml_and_uci(roots: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    real = inspect.signature(sklearn.datasets.fetch_openml)

    def openml(**arguments: object) -> sklearn.utils.Bunch:
        real.bind(**arguments)
        target = np.array(
            [["sky", "brickface", "grass", "path", "cement", "window", "foliage"][i % 7] for i in range(2310)]
        )
        return sklearn.utils.Bunch(data=np.arange(2310 * 19.0).reshape(2310, 19), target=target)

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", openml)
    split = data.load("segment", "all", only="SKY")
    assert split.y.tolist() == [5] * 330
    assert split.x[0, 0] == 0

    def archive(url: str, download_root: str, filename: str) -> None:
        rows = np.column_stack([np.zeros((22, 48)), np.arange(22) % 11 + 1])
        np.savetxt(Path(download_root) / "Sensorless_drive_diagnosis.txt", rows)

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", archive)
    monkeypatch.setitem(sets._BY_KEY, "sensorless", replace(data.entry("sensorless"), sizes={"all": 22}))
    assert data.load("sensorless", "all").y.tolist() == [*range(1, 12)] * 2


# State and auto


def test_state_tells_embedded_present_downloadable_and_by_hand_sets_apart(roots: tuple[Path, Path]) -> None:
    assert data.state("digits").kind == "embedded"
    assert data.state("dtd") == data.State(
        "textures", "downloadable", "`oodlab data textures` downloads it (625 MB)", 625_000_000
    )
    assert data.state("lsun").kind == "by hand"
    path = save(roots[0] / "kmnist" / "test.npz", x=images(3, 28, 28), y=np.arange(3))
    state = data.state("kmnist")
    assert (state.kind, state.nbytes) == ("present", path.stat().st_size)
    assert state.detail == "test; no train: `oodlab data kmnist` downloads it (21 MB)"


def test_importing_data_does_not_import_the_heavy_libraries() -> None:
    heavy = ("torchvision", "sklearn", "matplotlib", "PIL")
    code = f"import sys, oodlab.data; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Tasks


def test_a_task_without_files_uses_stand_ins_resized_to_its_shape(roots: tuple[Path, Path]) -> None:
    task = Task("fashion_mnist", ("mnist", "kmnist"), shape=(1, 28, 28))
    played = task.here()
    assert (played.inside, played.stand_in_for, played.outside) == ("photo_patches", "fashion_mnist", ("digits",))
    inputs = played.load(n=50)
    for split in (inputs.test, inputs.outside["digits"]):
        assert (split.x.shape, split.x.dtype) == ((50, 1, 28, 28), torch.uint8)
        assert "as 1x28x28" in split.info.caption
    assert "stand-in for fashion_mnist" in task.sentence


def test_a_task_uses_the_available_outside_sets_and_names_the_absent_ones(roots: tuple[Path, Path]) -> None:
    for name in ("fashion_mnist", "mnist"):
        for part in ("train", "test"):
            save(roots[0] / name / f"{part}.npz", x=images(20, 28, 28), y=np.arange(20) % 10)
    task = Task("fmnist", ("mnist", "kmnist"), shape=(1, 28, 28))
    played = task.here()
    assert (played.outside, played.stand_in_for) == (("mnist",), "")
    inputs = played.load(n=12, seed=3)
    assert len(inputs.test) == len(inputs.outside["mnist"]) == 12
    assert "left out: kmnist (oodlab data kmnist)" in task.sentence
    assert torch.equal(inputs.test.x, played.load(n=12, seed=3).test.x)
    with pytest.raises(FileNotFoundError, match="got none of emnist, kmnist"):
        Task("fashion_mnist", ("kmnist", "emnist")).here()
    with pytest.raises(ValueError, match="sets outside of fmnist, got it among them"):
        Task("fmnist", ("FashionMNIST",))


def test_a_data_file_is_read_once_and_changes_to_a_loaded_split_stay_in_that_split(
    roots: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(roots[0] / "kmnist" / "test.npz", x=images(30, 28, 28), y=np.arange(30) % 10)
    calls = []
    monkeypatch.setattr(loading, "read_npz", lambda file: calls.append(file) or read_npz(file))
    first = data.load("kmnist", "test")
    first.x.zero_()
    first.y.zero_()
    again = data.load("kmnist", "test")
    assert len(calls) == 1
    assert np.array_equal(again.x[:, 0], images(30, 28, 28)) and again.y.tolist() == [i % 10 for i in range(30)]
    save(path, x=images(20, 28, 28), y=np.arange(20) % 10)
    assert len(data.load("kmnist", "test")) == 20
    assert len(calls) == 2
