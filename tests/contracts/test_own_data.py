"""A user's own files are read as they are meant, or refused in words that help."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from oodlab import data


def picture(path: Path, value: int = 0, mode: str = "L", **saved: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (6, 4), value).save(path, **saved)
    return path


def table(n: int = 30) -> np.ndarray:
    return np.random.RandomState(0).normal(size=(n, 3))


# ------------------------------------------------------------------------------------------------- classes


def test_a_class_has_the_same_number_in_a_split_that_lacks_others(tmp_path: Path) -> None:
    names = np.array(["cat", "dog", "bird"])
    for split, y in {"train": [0, 1, 2, 2], "test": [1, 2, 2, 1]}.items():
        (tmp_path / "pets").mkdir(exist_ok=True)
        np.savez(tmp_path / "pets" / f"{split}.npz", x=table(4), y=np.array(y), class_names=names)
    dogs = data.load(tmp_path / "pets", "test", only="dog")
    assert dogs.y.tolist() == [1, 1]
    assert data.load(tmp_path / "pets", "test", without="dog").y.tolist() == [2, 2]


def test_class_names_that_do_not_fit_the_labels_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "pets.npz", x=table(4), y=np.array([1, 2, 3, 3]), class_names=np.array(["cat", "dog", "bird"]))
    with pytest.raises(
        ValueError, match=r"expects labels 0\.\.2 for its 3 class names, got 3: .* number the classes from 0"
    ):
        data.load(tmp_path / "pets.npz", "all")


def test_texts_and_bytes_become_class_names(tmp_path: Path) -> None:
    split = data.from_arrays(table(4), ["dog", "cat", "dog", "cat"])
    assert split.info.class_names == ("cat", "dog") and split.y.tolist() == [1, 0, 1, 0]
    np.savez(tmp_path / "pets.npz", x=table(4), y=np.array([0, 1, 0, 1]), class_names=np.array([b"cat", b"dog"]))
    assert data.load(tmp_path / "pets.npz", "all", only="dog").info.class_names == ("cat", "dog")


def test_labels_under_another_name_are_refused_instead_of_ignored(tmp_path: Path) -> None:
    np.savez(tmp_path / "pets.npz", x=table(4), labels=np.array([0, 1, 0, 1]))
    with pytest.raises(ValueError, match=r"expects labels named y, got an array named labels: .* y=labels"):
        data.load(tmp_path / "pets.npz", "all")


def test_items_without_a_label_are_not_among_those_without_a_class(tmp_path: Path) -> None:
    """Nobody knows whether such an item is of the class that is held out."""
    np.savez(tmp_path / "pets.npz", x=table(6), y=np.array([-1, 0, 1, 2, 1, -1]))
    assert data.load(tmp_path / "pets.npz", "all", without=1).y.tolist() == [0, 2]
    assert len(data.load(tmp_path / "pets.npz", "all")) == 6


# ------------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("label", ["y", "Target", "species"])
def test_a_csv_is_read_and_says_which_column_is_the_label(label: str, tmp_path: Path, capsys) -> None:
    frame = pd.DataFrame(table(), columns=["a", "b", "c"])
    frame[label] = ["x", "y", "x"] * 10
    frame.to_csv(tmp_path / "own.csv")  # with a first column that counts the rows
    split = data.load(tmp_path / "own.csv", "all")
    assert split.x.shape == (30, 3) and split.info.class_names == ("x", "y")
    assert split.y.tolist() == [0, 1, 0] * 10
    assert f"own.csv: 30 rows, 3 columns of numbers, column '{label}' is the label" in capsys.readouterr().out
    assert len(data.load(tmp_path / "own.csv", "train")) == 24


def test_an_npy_file_is_a_table_without_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "own.npy", table())
    split = data.load(tmp_path / "own.npy", "all")
    assert torch.equal(split.x, torch.from_numpy(table()).float()) and (split.y == -1).all()


def test_a_parquet_file_is_read_or_the_error_names_the_package(tmp_path: Path) -> None:
    file = tmp_path / "own.parquet"
    file.write_bytes(b"PAR1")
    with pytest.raises((ImportError, ValueError), match=r"pyarrow|cannot be read as a table"):
        data.load(file, "all")


def test_a_table_with_two_columns_of_text_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1.0, 2.0], "city": ["x", "y"], "name": ["u", "v"]}).to_csv(tmp_path / "own.csv", index=False)
    with pytest.raises(ValueError, match=r"at most one column of labels, got city, name"):
        data.load(tmp_path / "own.csv", "all")


def test_no_message_advises_to_delete_a_users_file(tmp_path: Path) -> None:
    for name in ("own.npz", "own.npy", "own.csv"):
        (tmp_path / name).write_bytes(b"\x00\xff broken")
        with pytest.raises(ValueError, match=re.escape(name)) as refusal:
            data.load(tmp_path / name, "all")
        assert "delete" not in str(refusal.value), refusal.value


def test_columns_that_float32_would_flatten_are_named(tmp_path: Path) -> None:
    seconds = 1.7e9 + np.arange(30.0)
    with pytest.raises(
        ValueError, match=r"got column 1, the first with values near 1\.7e\+09 that vary by 8\.66: subtract"
    ):
        data.from_arrays(np.stack([table()[:, 0], seconds], axis=1))
    shifted = data.from_arrays(np.stack([table()[:, 0], seconds - seconds.min()], axis=1))
    assert shifted.x[:, 1].tolist() == list(range(30))
    data.from_arrays(np.stack([table()[:, 0], np.full(30, 1.7e9)], axis=1))  # a constant column has no differences


@pytest.mark.parametrize(
    ("images", "advice"),
    [
        (np.full((2, 4, 4), 200), r"pass x\.astype\('uint8'\)"),
        (np.full((2, 4, 4), 0.5), r"lie in \[0, 1\]: pass \(x \* 255\)"),
        (np.full((2, 4, 4), 200.0), r"lie in 0\.\.255: pass x\.round"),
        (np.full((2, 4, 4), -1.0), r"lie in -1\.\.-1: bring them to 0\.\.255"),
    ],
)
def test_the_advice_for_images_of_another_type_fits_their_values(images: np.ndarray, advice: str) -> None:
    with pytest.raises(ValueError, match=advice):
        data.from_arrays(images)


# ----------------------------------------------------------------------------------------------- pictures


def test_a_tree_with_train_and_test_is_read_by_split_with_one_numbering(tmp_path: Path) -> None:
    for i, place in enumerate(("train/cat/1", "train/dog/1", "train/dog/2", "test/dog/1", "test/emu/1")):
        picture(tmp_path / f"{place}.png", i)
    train, test = (data.load(tmp_path, split) for split in ("train", "test"))
    assert train.info.class_names == test.info.class_names == ("cat", "dog", "emu")
    assert train.y.tolist() == [0, 1, 1] and test.y.tolist() == [1, 2]
    assert train.x[:, 0, 0, 0].tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"with train, test|with test, train"):
        data.from_folder(tmp_path)
    with pytest.raises(ValueError, match=r"got 'all': it holds test, train"):
        data.load(tmp_path, "all")


def test_folders_named_by_numbers_count_by_value(tmp_path: Path) -> None:
    for number in (*range(0, 2), *range(3, 12)):
        picture(tmp_path / str(number) / "a.png", number)
    split = data.from_folder(tmp_path)
    assert split.y.tolist() == split.x[:, 0, 0, 0].tolist()
    assert split.info.class_names[10] == "10"
    assert data.load(tmp_path, "all", only=2 + 8).x[0, 0, 0, 0] == 10


def test_sixteen_bits_keep_their_greys(tmp_path: Path, capsys) -> None:
    values = np.array([[0, 257 * 100], [257 * 200, 65535]], dtype=np.uint16)
    for name in ("a.png", "b.tif"):
        Image.fromarray(values).save(tmp_path / name)
    split = data.from_folder(tmp_path)
    assert split.x.shape == (2, 1, 2, 2) and split.x[0, 0].tolist() == split.x[1, 0].tolist() == [[0, 100], [200, 255]]
    assert "2 of 16 bits, divided by 257" in capsys.readouterr().out


def test_pictures_of_floats_are_refused_by_name(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 0.5, dtype=np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(ValueError, match=r"float\.tif .*mode F, 32 bits, which have no fixed black and white"):
        data.from_folder(tmp_path)


def test_pictures_are_turned_as_their_orientation_says(tmp_path: Path, capsys) -> None:
    pixels = np.zeros((4, 6), dtype=np.uint8)
    pixels[:, :3] = 255  # bright on the left; turned by 90 degrees clockwise, bright at the top
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    split = data.from_folder(tmp_path)
    assert split.x.shape == (1, 1, 6, 4)
    assert split.x[0, 0, 0].tolist() == [255] * 4 and split.x[0, 0, -1].tolist() == [0] * 4
    assert "1 turned by their EXIF orientation" in capsys.readouterr().out


def test_transparent_parts_do_not_show_hidden_colours(tmp_path: Path, capsys) -> None:
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "a.png")
    assert (data.from_folder(tmp_path).x == 255).all()
    assert "1 with transparent parts, laid on white" in capsys.readouterr().out


def test_other_formats_are_read_and_what_is_left_out_is_said(tmp_path: Path, capsys) -> None:
    picture(tmp_path / "a.png", 10)
    picture(tmp_path / "b.jfif", 20, format="JPEG")
    frames = [Image.new("L", (6, 4), value) for value in (30, 90)]
    frames[0].save(tmp_path / "c.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "d.heic").write_bytes(b"")
    split = data.from_folder(tmp_path)
    assert split.x[:, 0, 0, 0].tolist() == [10, 20, 30]
    said = capsys.readouterr().out
    assert "1 with several frames, of which the first counts" in said
    assert "1 not read, as their suffix is that of no picture: d.heic" in said


def test_all_broken_pictures_of_a_folder_are_named_at_once(tmp_path: Path) -> None:
    picture(tmp_path / "good.png")
    damaged = bytearray((tmp_path / "good.png").read_bytes())
    damaged[40] ^= 255  # in a chunk: a SyntaxError of Pillow's
    (tmp_path / "chunk.png").write_bytes(damaged)
    (tmp_path / "header.ppm").write_bytes(b"P6\nx y\n255\n")  # a ValueError
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"3 of 4 files cannot be read") as refusal:
        data.from_folder(tmp_path)
    for name in ("chunk.png", "header.ppm", "empty.jpg"):
        assert name in str(refusal.value)


def test_a_huge_picture_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    with pytest.raises(ValueError, match=r"huge\.png \(DecompressionBomb"):
        data.from_folder(tmp_path)
