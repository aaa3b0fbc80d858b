"""MNIST and Fashion-MNIST."""

from __future__ import annotations

from pathlib import Path

from ddbench_plugins.datasets.digits import NAMES
from ddbench_plugins.datasets.idx import IdxFiles


class MNIST(IdxFiles):
    """MNIST: grey 28×28 handwritten digits."""

    name = "mnist"
    names = NAMES
    stats = ((0.1307,), (0.3081,))
    flip = False
    torchvision_class = "MNIST"
    checksums = {  # noqa: RUF012 (never changed)
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    }
    instructions = (
        "Put the four files train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and"
        " t10k-labels-idx1-ubyte.gz of https://ossci-datasets.s3.amazonaws.com/mnist/ into mnist/ in a data folder."
    )


class FashionMNIST(IdxFiles):
    """Fashion-MNIST: grey 28×28 images of clothes."""

    name = "fashion-mnist"
    names = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
    stats = ((0.2861,), (0.3530,))
    torchvision_class = "FashionMNIST"
    elsewhere = (Path("/usr/share/datasets/fashion-mnist"),)  # Debian's package dataset-fashion-mnist
    checksums = {  # noqa: RUF012 (never changed)
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    }
    instructions = (
        "Install the Debian package dataset-fashion-mnist, or put the four files train-images-idx3-ubyte.gz,"
        " train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz of"
        " https://github.com/zalandoresearch/fashion-mnist into fashion-mnist/ in a data folder."
    )
