"""Built-in data sets. Only their specs live here; each loader is imported when a run needs it."""

from __future__ import annotations

import ddbench

_HOME = "ddbench_plugins.datasets"


@ddbench.hookimpl
def ddbench_datasets() -> list[ddbench.DatasetSpec]:
    """Return the built-in data sets."""
    return [
        ddbench.DatasetSpec(
            "digits",
            f"{_HOME}.digits:Digits",
            summary="scikit-learn's 1,797 real handwritten digits at 16×16; needs no download",
            paper="Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI 1998",
            bibtex=_DIGITS,
            default=True,
        ),
        ddbench.DatasetSpec(
            "fashion-mnist",
            f"{_HOME}.fashion:FashionMNIST",
            summary="70,000 grey images of 10 kinds of clothing at 28×28",
            paper="Xiao et al., Fashion-MNIST, 2017",
            bibtex=_FASHION,
        ),
        ddbench.DatasetSpec(
            "cifar10",
            f"{_HOME}.cifar:CIFAR10",
            summary="60,000 colour images of 10 classes at 32×32",
            paper="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
            bibtex=_CIFAR,
        ),
        ddbench.DatasetSpec(
            "cifar100",
            f"{_HOME}.cifar:CIFAR100",
            summary="60,000 colour images of 100 classes at 32×32",
            paper="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
            bibtex=_CIFAR,
        ),
        ddbench.DatasetSpec(
            "imagenette",
            f"{_HOME}.imagenette:ImageNette",
            summary="10 easily told ImageNet classes, at 64×64 (paper scale: 224×224)",
            paper="Howard, Imagenette, fast.ai 2019",
            bibtex=_IMAGENETTE,
        ),
        ddbench.DatasetSpec(
            "folder:",
            f"{_HOME}.folder:Folder",
            summary="your images: folder:PATH with one folder per class, in PATH/train and PATH/test or in PATH alone",
        ),
        ddbench.DatasetSpec(
            "npz:",
            f"{_HOME}.npz:Npz",
            summary="your arrays: npz:FILE.npz with train_images, train_labels, …, or NAME_train.npz and NAME_test",
        ),
    ]


_DIGITS = """@misc{alpaydin1998digits,
  title = {Optical Recognition of Handwritten Digits},
  author = {Alpaydin, Ethem and Kaynak, Cenk},
  year = {1998},
  howpublished = {UCI Machine Learning Repository},
  doi = {10.24432/C50P49}
}"""

_FASHION = """@article{xiao2017fashion,
  title = {Fashion-{MNIST}: a Novel Image Dataset for Benchmarking Machine Learning Algorithms},
  author = {Xiao, Han and Rasul, Kashif and Vollgraf, Roland},
  journal = {arXiv preprint arXiv:1708.07747},
  year = {2017}
}"""

_CIFAR = """@techreport{krizhevsky2009learning,
  title = {Learning Multiple Layers of Features from Tiny Images},
  author = {Krizhevsky, Alex},
  institution = {University of Toronto},
  year = {2009}
}"""

_IMAGENETTE = """@misc{howard2019imagenette,
  title = {Imagenette: A smaller subset of 10 easily classified classes from {ImageNet}},
  author = {Howard, Jeremy},
  year = {2019},
  url = {https://github.com/fastai/imagenette}
}"""
