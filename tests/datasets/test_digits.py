import subprocess
import sys

import numpy as np
from ddbench_plugins.datasets.digits import enlarge, read_digits


def test_digits_are_scikit_learns(digits):
    from sklearn.datasets import load_digits

    theirs = load_digits()
    images, labels = read_digits()
    assert (images == theirs.images).all()
    assert (labels == theirs.target).all()
    assert len(digits.train) + len(digits.test) == len(images) == 1797


def test_the_split_is_fixed_and_stratified(digits):
    assert (len(digits.train), len(digits.test)) == (1437, 360)
    assert not set(digits.train.ids) & set(digits.test.ids)
    shares = np.array(digits.test.counts(10)) / (np.array(digits.train.counts(10)) + digits.test.counts(10))
    assert np.abs(shares - 0.2).max() < 0.01
    # Pinned: these images are the test set of every record on digits.
    assert digits.test.ids[:3] == ("00005", "00008", "00014")
    assert digits.fingerprint[:16] == "8209629dc6fd0f17"
    _, labels = read_digits()
    assert (labels[[int(i) for i in digits.train.ids]] == digits.train.labels).all()


def test_facts(digits):
    assert digits.name == "digits"
    assert (digits.image_size, digits.channels, digits.flip) == (16, 1, False)
    assert digits.class_ids == tuple("0123456789")
    assert digits.class_names[:3] == ("zero", "one", "two")
    images, _ = digits.arrays("train")
    assert images.shape == (1437, 16, 16, 1)
    assert abs(images.mean() / 255 - digits.mean[0]) < 1e-4
    assert abs(images.std() / 255 - digits.std[0]) < 1e-4
    assert "seed 0" in digits.origin
    assert "1,437" in digits.origin
    assert "/" not in digits.origin


def test_enlarging_is_bilinear():
    images, _ = read_digits()
    from PIL import Image

    for image, mine in zip(images[:20], enlarge(images[:20]), strict=True):
        exact = Image.fromarray(image.astype(np.float32) * 255 / 16).resize((16, 16), Image.Resampling.BILINEAR)
        assert np.abs(np.asarray(exact) - mine[..., 0]).max() <= 1
    assert enlarge(np.full((1, 8, 8), 16)).min() == 255


def test_loading_digits_imports_neither_scikit_learn_nor_torch():
    code = (
        "import sys, ddbench; d = ddbench.load_dataset('digits');"
        "print(len(d.train), [m for m in ('sklearn', 'torch', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1) == ["1437", "[]\n"]
