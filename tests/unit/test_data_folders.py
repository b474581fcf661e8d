"""Listing folders: layouts, labels, and every way in which they can be wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from edgefx.data.folders import check_labels, fingerprint, scan
from edgefx.errors import DataError
from edgefx.types import Resize


def image(path: Path, *, colour: int = 128) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (colour, 0, 0)).save(path)
    return path


def table(root: Path, text: str | bytes, *files: str) -> Path:
    for file in files:
        image(root / file)
    root.mkdir(exist_ok=True)
    (root / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


# ------------------------------------------------------------------------------------------------- layouts


def test_sub_folders_are_classes_in_sorted_order(tmp_path: Path) -> None:
    for file in ("tulip/b.PNG", "tulip/a.jpg", "daisy/x.JPEG", "rose/deep/y.webp", "rose/z.bmp"):
        image(tmp_path / file)
    data = scan(tmp_path)
    found = [(item.path.relative_to(tmp_path).as_posix(), item.label) for item in data.items]
    assert found == [
        ("daisy/x.JPEG", 0),
        ("rose/deep/y.webp", 1),
        ("rose/z.bmp", 1),
        ("tulip/a.jpg", 2),
        ("tulip/b.PNG", 2),
    ]
    assert data.class_names == ("daisy", "rose", "tulip")
    assert data.kind == "folders"
    assert data.labelled


def test_hidden_files_and_other_files_are_left_out(tmp_path: Path) -> None:
    image(tmp_path / "a" / "1.png")
    image(tmp_path / "b" / "2.png")
    image(tmp_path / ".cache" / "3.png")
    image(tmp_path / "a" / ".thumbs" / "4.png")
    shutil.copy(tmp_path / "a" / "1.png", tmp_path / "a" / "._1.png")
    for name in ("Thumbs.db", ".DS_Store", "notes.txt", "empty"):
        (tmp_path / "a" / name).write_bytes(b"x")
    data = scan(tmp_path)
    assert [item.path.name for item in data.items] == ["1.png", "2.png"]
    assert data.class_names == ("a", "b")


def test_a_file_without_suffix_counts_by_its_first_bytes(tmp_path: Path) -> None:
    for form in ("JPEG", "PNG", "WEBP", "BMP"):
        Image.new("RGB", (4, 4)).save(tmp_path / form.lower(), form)
    (tmp_path / "readme").write_text("no image")
    assert [item.path.name for item in scan(tmp_path).items] == ["bmp", "jpeg", "png", "webp"]


def test_a_flat_folder_is_unlabelled(tmp_path: Path) -> None:
    image(tmp_path / "b.png")
    image(tmp_path / "a.png")
    (tmp_path / "no-images").mkdir()
    data = scan(tmp_path)
    assert (data.kind, data.labelled, data.class_names) == ("flat", False, ())
    assert [item.path.name for item in data.items] == ["a.png", "b.png"]
    check_labels(data, 3)


def test_an_empty_class_folder_keeps_its_index(tmp_path: Path) -> None:
    image(tmp_path / "c" / "1.png")
    (tmp_path / "a").mkdir()
    assert [item.label for item in scan(tmp_path).items] == [1]


def test_labels_csv_with_indices_goes_before_folders(tmp_path: Path) -> None:
    root = table(tmp_path, "file,label,author\nz/b.png,4,me\na.png,0,you\n", "a.png", "z/b.png")
    data = scan(root)
    assert [(item.path, item.label) for item in data.items] == [(root / "z/b.png", 4), (root / "a.png", 0)]
    assert (data.kind, data.class_names) == ("csv", ())


def test_labels_csv_with_names_numbers_them_sorted(tmp_path: Path) -> None:
    root = table(tmp_path, b"\xef\xbb\xbffile, label\r\nb.png,rose\r\na.png, daisy\r\n", "a.png", "b.png")
    data = scan(root)
    assert data.class_names == ("daisy", "rose")
    assert [item.label for item in data.items] == [1, 0]


# -------------------------------------------------------------------------------------------------- ImageNet


def few_wnids(root: Path) -> Path:
    for wnid in ("n02123045", "n15075141"):  # tabby cat, toilet tissue: 281 and 999 in every ImageNet model
        image(root / wnid / "1.png")
    (root / "n01440764").mkdir()
    return root


def test_some_wnids_get_their_index_for_an_imagenet_model(tmp_path: Path) -> None:
    data = check_labels(scan(few_wnids(tmp_path)), 1000)
    assert [item.label for item in data.items] == [281, 999]
    assert data.class_names[0] == "n01440764"
    assert len(data.class_names) == 1000
    assert check_labels(data, 1000) == data


def test_a_model_trained_on_a_few_wnids_numbers_them_by_sorting(tmp_path: Path) -> None:
    data = scan(few_wnids(tmp_path))
    assert check_labels(data, 3) == data
    assert [item.label for item in data.items] == [1, 2]
    with pytest.raises(DataError, match=r"3 classes \(sub-folders\), but the model has 5"):
        check_labels(data, 5)


def test_wnids_in_labels_csv_get_their_index(tmp_path: Path) -> None:
    root = table(tmp_path / "data", "file,label\na.png,n02123045\n", "a.png")
    assert [item.label for item in check_labels(scan(root), 1000).items] == [281]


def test_a_wnid_outside_imagenet_is_an_error(tmp_path: Path) -> None:
    image(tmp_path / "data" / "n99999999" / "1.png")
    with pytest.raises(DataError, match="1 of 1 wnids are not among ImageNet's") as caught:
        check_labels(scan(tmp_path / "data"), 1000)
    assert caught.value.details == ("n99999999",)


# ------------------------------------------------------------------------------------------------- bad input


def test_missing_folder_and_file_instead_of_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        scan(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is a file, a folder of images is needed"):
        scan(image(tmp_path / "a.png"))


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the folder is empty"):
        scan(tmp_path)


def test_no_image_says_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("1.tif", "2.TIF", "readme.txt"):
        (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match=r"no image in it \(found: \.tif x 2, \.txt x 1\)"):
        scan(tmp_path)


def test_loose_images_beside_class_folders(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    image(tmp_path / "rose" / "b.png")
    with pytest.raises(DataError, match=r"both loose images \(1\) and sub-folders with images \(1\)"):
        scan(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name;label\na.png;1\n", "row 1: the columns file and label are needed, found: name;label"),
        ("", "row 1: the columns file and label are needed, found: nothing"),
        ("file,label\n", "no rows below the header"),
        ("file,label\na.png,1\nb.png,\n", "row 3: no label"),
        ("file,label\na.png,1\nb.png\n", "row 3: no label"),
        ("file,label\n,1\n", "row 2: no file"),
        ("file,label\na.png,1\nb.png,-2\n", "row 3: negative label -2 for 'b.png'"),
        ("file,label\na.png,1\nb.png,rose\n", "row 3: label 'rose' mixes"),
        ("file,label\na.png,rose\nb.png,1\n", "row 3: label '1' mixes"),
        ("file,label\na.png,1\na.png,2\n", "row 3: 'a.png' is already in row 2"),
        ("file,label\na.png,1\nc.png,1\n", "1 of 2 files it names are missing"),
        ('file,label\n"a.png,1\n', "not readable as CSV"),
        (b"file,label\n\xff\xfe.png,1\n", "not readable as CSV"),
    ],
)
def test_malformed_labels_csv(tmp_path: Path, text: str | bytes, message: str) -> None:
    root = table(tmp_path, text, "a.png", "b.png")
    with pytest.raises(DataError) as caught:
        scan(root)
    assert message in caught.value.message
    assert "labels.csv" in caught.value.message
    assert caught.value.hint


def test_missing_files_are_named_with_their_rows(tmp_path: Path) -> None:
    rows = "".join(f"{index}.png,0\n" for index in range(13))
    with pytest.raises(DataError) as caught:
        scan(table(tmp_path, f"file,label\n{rows}"))
    assert caught.value.details[0] == "row 2: 0.png"
    assert len(caught.value.details) == 11
    assert caught.value.details[-1] == "+ 3 more"


# ----------------------------------------------------------------------------------------------- the model


def test_class_count_mismatch_names_both_numbers(tmp_path: Path) -> None:
    image(tmp_path / "a" / "1.png")
    image(tmp_path / "b" / "1.png")
    (tmp_path / "lost+found").mkdir()
    data = scan(tmp_path)
    check_labels(data, 3)
    with pytest.raises(DataError, match=r"3 classes \(sub-folders\), but the model has 1000") as caught:
        check_labels(data, 1000)
    assert caught.value.details == ("lost+found: no images",)


def test_splits_instead_of_classes_get_a_hint(tmp_path: Path) -> None:
    image(tmp_path / "train" / "rose" / "1.png")
    image(tmp_path / "val" / "rose" / "1.png")
    with pytest.raises(DataError) as caught:
        check_labels(scan(tmp_path), 5)
    assert str(tmp_path / "val") in caught.value.hint


def test_labels_outside_the_models_classes(tmp_path: Path) -> None:
    data = scan(table(tmp_path, "file,label\na.png,9\nb.png,10\n", "a.png", "b.png"))
    check_labels(data, 11)
    with pytest.raises(
        DataError, match=r"labels up to 10, but the model has 10 classes \(0 to 9\)"
    ) as caught:
        check_labels(data, 10)
    assert caught.value.details == ("b.png: 10",)


def test_too_few_class_names_in_labels_csv(tmp_path: Path) -> None:
    data = scan(table(tmp_path, "file,label\na.png,rose\n", "a.png"))
    with pytest.raises(DataError, match=r"1 classes \(class names in labels.csv\), but the model has 5"):
        check_labels(data, 5)


# -------------------------------------------------------------------------------------------- fingerprint


def test_fingerprint_covers_bytes_labels_size_and_resize(tmp_path: Path) -> None:
    image(tmp_path / "x" / "a" / "1.png")
    image(tmp_path / "x" / "b" / "1.png", colour=5)

    def hashed(root: Path, *, height: int = 8, resize: Resize = Resize.STRETCH) -> str:
        return fingerprint(scan(root), height=height, width=8, resize=resize)

    first = hashed(tmp_path / "x")
    shutil.copytree(tmp_path / "x", tmp_path / "moved")
    assert hashed(tmp_path / "moved") == first
    assert hashed(tmp_path / "x", height=9) != first
    assert hashed(tmp_path / "x", resize=Resize.PAD) != first
    (tmp_path / "moved" / "b").rename(tmp_path / "moved" / "A")
    assert hashed(tmp_path / "moved") != first
    image(tmp_path / "x" / "a" / "1.png", colour=9)
    assert hashed(tmp_path / "x") != first


def test_listing_imports_no_heavy_module(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    code = (
        "import sys, pathlib\n"
        "from edgefx.data import images, calibration\nfrom edgefx import units\n"
        "from edgefx.evaluation import gates, statistics\n"
        "data = images.scan(pathlib.Path(sys.argv[1]))\n"
        "images.fingerprint(data, height=8, width=8, resize='stretch')\n"
        "heavy = {'numpy', 'PIL', 'tensorflow', 'keras'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
