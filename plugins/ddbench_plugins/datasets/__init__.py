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
            "mnist",
            f"{_HOME}.mnist:MNIST",
            summary="70,000 grey images of handwritten digits at 28×28",
            paper="LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998",
            bibtex=_MNIST,
        ),
        ddbench.DatasetSpec(
            "fashion-mnist",
            f"{_HOME}.mnist:FashionMNIST",
            summary="70,000 grey images of 10 kinds of clothing at 28×28",
            paper="Xiao et al., Fashion-MNIST, 2017",
            bibtex=_FASHION,
        ),
        ddbench.DatasetSpec(
            "svhn",
            f"{_HOME}.svhn:SVHN",
            summary="99,289 colour images of house numbers' digits at 32×32",
            paper="Netzer et al., Reading Digits in Natural Images with Unsupervised Feature Learning, 2011",
            bibtex=_SVHN,
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
        *(
            ddbench.DatasetSpec(name, f"{_HOME}.imagenet:{target}", summary=summary, paper=paper, bibtex=bibtex)
            for name, target, summary, paper, bibtex in _TREES
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

_MNIST = """@article{lecun1998gradient,
  title = {Gradient-Based Learning Applied to Document Recognition},
  author = {LeCun, Yann and Bottou, L{\\'e}on and Bengio, Yoshua and Haffner, Patrick},
  journal = {Proceedings of the IEEE},
  volume = {86},
  number = {11},
  pages = {2278--2324},
  year = {1998}
}"""

_SVHN = """@inproceedings{netzer2011reading,
  title = {Reading Digits in Natural Images with Unsupervised Feature Learning},
  author = {Netzer, Yuval and Wang, Tao and Coates, Adam and Bissacco, Alessandro and Wu, Bo and Ng, Andrew Y.},
  booktitle = {NIPS Workshop on Deep Learning and Unsupervised Feature Learning},
  year = {2011}
}"""

_IMAGENET = """@article{russakovsky2015imagenet,
  title = {{ImageNet} Large Scale Visual Recognition Challenge},
  author = {Russakovsky, Olga and Deng, Jia and Su, Hao and Krause, Jonathan and Satheesh, Sanjeev and Ma, Sean and
    Huang, Zhiheng and Karpathy, Andrej and Khosla, Aditya and Bernstein, Michael and Berg, Alexander C. and
    Fei-Fei, Li},
  journal = {International Journal of Computer Vision},
  volume = {115},
  number = {3},
  pages = {211--252},
  year = {2015}
}"""

_IDC = """@inproceedings{kim2022dataset,
  title = {Dataset Condensation via Efficient Synthetic-Data Parameterization},
  author = {Kim, Jang-Hyun and Kim, Jinuk and Oh, Seong Joon and Yun, Sangdoo and Song, Hwanjun and Jeong, Joonhyun and
    Ha, Jung-Woo and Song, Hyun Oh},
  booktitle = {International Conference on Machine Learning},
  year = {2022}
}"""

_MTT = """@inproceedings{cazenavette2022dataset,
  title = {Dataset Distillation by Matching Training Trajectories},
  author = {Cazenavette, George and Wang, Tongzhou and Torralba, Antonio and Efros, Alexei A. and Zhu, Jun-Yan},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year = {2022}
}"""

_TINY = """@techreport{le2015tiny,
  title = {Tiny {ImageNet} Visual Recognition Challenge},
  author = {Le, Ya and Yang, Xuan},
  institution = {Stanford University, CS 231N},
  year = {2015}
}"""

_HOWARD = "Howard, Imagenette, fast.ai 2019"
_KIM = "Kim et al., Dataset Condensation via Efficient Synthetic-Data Parameterization, ICML 2022"
_CAZENAVETTE = "Cazenavette et al., Dataset Distillation by Matching Training Trajectories, CVPR 2022"
_AT = "at 64×64 (paper scale: 224×224)"
#: Name, class, summary, paper and citation of what lies in ImageNet-like trees.
_TREES = (
    ("imagenette", "ImageNette", f"10 easily told ImageNet classes, {_AT}", _HOWARD, _IMAGENETTE),
    ("imagewoof", "ImageWoof", f"10 breeds of dogs, {_AT}", _HOWARD, _IMAGENETTE),
    ("imageidc", "ImageIDC", f"the first 10 classes of imagenet-100, {_AT}", _KIM, _IDC),
    ("imagenet-100", "ImageNet100", f"IDC's 100 ImageNet classes, {_AT}", _KIM, _IDC),
    ("imagemeow", "ImageMeow", f"10 cats of ImageNet, {_AT}", _CAZENAVETTE, _MTT),
    ("imagesquawk", "ImageSquawk", f"10 birds of ImageNet, {_AT}", _CAZENAVETTE, _MTT),
    ("imagefruit", "ImageFruit", f"10 fruits of ImageNet, {_AT}", _CAZENAVETTE, _MTT),
    ("imageyellow", "ImageYellow", f"10 yellow things of ImageNet, {_AT}", _CAZENAVETTE, _MTT),
    (
        "imagenet-1k",
        "ImageNet1K",
        f"the 1,000 classes of ILSVRC 2012, {_AT}",
        "Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, IJCV 2015",
        _IMAGENET,
    ),
    (
        "tiny-imagenet",
        "TinyImageNet",
        "110,000 colour images of 200 ImageNet classes at 64×64",
        "Le and Yang, Tiny ImageNet Visual Recognition Challenge, 2015",
        _TINY,
    ),
)
