"""Built-in data sets. Only their specs live here; each loader is imported when a run needs it."""

from __future__ import annotations

import ddbench
from ddbench_plugins.citations import bibtex

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
            bibtex=bibtex("alpaydin1998digits"),
            default=True,
        ),
        ddbench.DatasetSpec(
            "mnist",
            f"{_HOME}.mnist:MNIST",
            summary="70,000 grey images of handwritten digits at 28×28",
            paper="LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998",
            bibtex=bibtex("lecun1998gradient"),
        ),
        ddbench.DatasetSpec(
            "fashion-mnist",
            f"{_HOME}.mnist:FashionMNIST",
            summary="70,000 grey images of 10 kinds of clothing at 28×28",
            paper="Xiao et al., Fashion-MNIST, 2017",
            bibtex=bibtex("xiao2017fashion"),
        ),
        ddbench.DatasetSpec(
            "svhn",
            f"{_HOME}.svhn:SVHN",
            summary="99,289 colour images of house numbers' digits at 32×32",
            paper="Netzer et al., Reading Digits in Natural Images with Unsupervised Feature Learning, 2011",
            bibtex=bibtex("netzer2011reading"),
        ),
        ddbench.DatasetSpec(
            "cifar10",
            f"{_HOME}.cifar:CIFAR10",
            summary="60,000 colour images of 10 classes at 32×32",
            paper="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
            bibtex=bibtex("krizhevsky2009learning"),
        ),
        ddbench.DatasetSpec(
            "cifar100",
            f"{_HOME}.cifar:CIFAR100",
            summary="60,000 colour images of 100 classes at 32×32",
            paper="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
            bibtex=bibtex("krizhevsky2009learning"),
        ),
        *(
            ddbench.DatasetSpec(name, f"{_HOME}.imagenet:{target}", summary=summary, paper=paper, bibtex=bibtex(key))
            for name, target, summary, paper, key in _TREES
        ),
        ddbench.DatasetSpec(
            "folder:",
            f"{_HOME}.folder:Folder",
            summary="your images: folder:PATH with one folder per class, in PATH/train and PATH/test or in PATH alone",
        ),
        ddbench.DatasetSpec(
            "pairs:",
            f"{_HOME}.pairs:Pairs",
            summary="your images with captions, no classes: pairs:LIST.json (Karpathy, BLIP, COCO) or pairs:FOLDER",
        ),
        ddbench.DatasetSpec(
            "npz:",
            f"{_HOME}.npz:Npz",
            summary="your arrays: npz:FILE.npz with train_images, train_labels, …, or NAME_train.npz and NAME_test",
        ),
    ]


_HOWARD = "Howard, Imagenette, fast.ai 2019"
_KIM = "Kim et al., Dataset Condensation via Efficient Synthetic-Data Parameterization, ICML 2022"
_CAZENAVETTE = "Cazenavette et al., Dataset Distillation by Matching Training Trajectories, CVPR 2022"
_AT = "at 64×64 (paper scale: 224×224)"
#: Name, class, summary, paper and citation of what lies in ImageNet-like trees.
_TREES = (
    ("imagenette", "ImageNette", f"10 easily distinguished ImageNet classes, {_AT}", _HOWARD, "howard2019imagenette"),
    ("imagewoof", "ImageWoof", f"10 breeds of dogs, {_AT}", _HOWARD, "howard2019imagenette"),
    ("imageidc", "ImageIDC", f"the first 10 classes of imagenet-100, {_AT}", _KIM, "kim2022idc"),
    ("imagenet-100", "ImageNet100", f"IDC's 100 ImageNet classes, {_AT}", _KIM, "kim2022idc"),
    ("imagemeow", "ImageMeow", f"10 cats of ImageNet, {_AT}", _CAZENAVETTE, "cazenavette2022mtt"),
    ("imagesquawk", "ImageSquawk", f"10 birds of ImageNet, {_AT}", _CAZENAVETTE, "cazenavette2022mtt"),
    ("imagefruit", "ImageFruit", f"10 fruits of ImageNet, {_AT}", _CAZENAVETTE, "cazenavette2022mtt"),
    ("imageyellow", "ImageYellow", f"10 yellow things of ImageNet, {_AT}", _CAZENAVETTE, "cazenavette2022mtt"),
    (
        "imagenet-1k",
        "ImageNet1K",
        f"the 1,000 classes of ILSVRC 2012, {_AT}",
        "Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015",
        "russakovsky2015imagenet",
    ),
    (
        "tiny-imagenet",
        "TinyImageNet",
        "110,000 colour images of 200 ImageNet classes at 64×64",
        "Le and Yang, Tiny ImageNet Visual Recognition Challenge, 2015",
        "le2015tiny",
    ),
)
