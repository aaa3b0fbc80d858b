"""Built-in distillation methods. Only their specs live here; each method is imported when a run needs it."""

from __future__ import annotations

import ddbench

_HOME = "ddbench_plugins.methods"


@ddbench.hookimpl
def ddbench_methods() -> list[ddbench.MethodSpec]:
    """Return the built-in methods."""
    return [
        ddbench.MethodSpec(
            "vlcp",
            f"{_HOME}.vlcp.distiller:VLCP",
            summary="diffusion guided by category prototypes of images and of their captions",
            paper="Zou et al., Dataset Distillation via Vision-Language Category Prototype, ICCV 2025",
            bibtex=_VLCP,
        ),
        ddbench.MethodSpec("random", f"{_HOME}.random:Random", summary="random real images of each class"),
        ddbench.MethodSpec(
            "herding",
            f"{_HOME}.herding:Herding",
            summary="real images whose mean feature follows the class mean",
            paper="Welling, Herding Dynamical Weights to Learn, ICML 2009",
            bibtex=_HERDING,
        ),
        ddbench.MethodSpec(
            "k-center",
            f"{_HOME}.kcenter:KCenter",
            summary="real images that leave no training image far from one of them",
            paper="Sener and Savarese, Active Learning for Convolutional Neural Networks, ICLR 2018",
            bibtex=_K_CENTER,
        ),
        ddbench.MethodSpec(
            "k-means",
            f"{_HOME}.kmeans:KMeans",
            summary="k-means centres of the pixels of each class, or the real images nearest to them",
            paper="Wang et al., Dataset Distillation, 2018 (baseline)",
            bibtex=_K_MEANS,
        ),
        ddbench.MethodSpec(
            "d4m",
            f"{_HOME}.d4m.distiller:D4M",
            summary="diffusion guided by prototypes of latents and by the classes' names",
            paper="Su et al., D4M: Dataset Distillation via Disentangled Diffusion Model, CVPR 2024",
            bibtex=_D4M,
        ),
        ddbench.MethodSpec(
            "rded",
            f"{_HOME}.rded.distiller:RDED",
            summary="the crops of real images that a teacher finds most realistic, stitched together",
            paper="Sun et al., On the Diversity and Realism of Distilled Dataset, CVPR 2024",
            bibtex=_RDED,
        ),
        ddbench.MethodSpec(
            "sre2l",
            f"{_HOME}.sre2l.distiller:SRe2L",
            summary="images recovered from noise by a teacher's labels and batch-norm statistics",
            paper="Yin et al., Squeeze, Recover and Relabel, NeurIPS 2023",
            bibtex=_SRE2L,
        ),
        ddbench.MethodSpec(
            "dm",
            f"{_HOME}.dm.distiller:DM",
            summary="images whose mean features in random networks are those of their class",
            paper="Zhao and Bilen, Dataset Condensation with Distribution Matching, WACV 2023",
            bibtex=_DM,
        ),
        ddbench.MethodSpec(
            "dc",
            f"{_HOME}.dc.distiller:DC",
            summary="images that give networks the gradients that real images of their class give",
            paper="Zhao et al., Dataset Condensation with Gradient Matching, ICLR 2021",
            bibtex=_DC,
        ),
        ddbench.MethodSpec(
            "dsa",
            f"{_HOME}.dc.distiller:DSA",
            summary="dc with real and synthetic images augmented alike",
            paper="Zhao and Bilen, Dataset Condensation with Differentiable Siamese Augmentation, ICML 2021",
            bibtex=_DSA,
        ),
        ddbench.MethodSpec(
            "dit",
            f"{_HOME}.dit.distiller:DiT",
            summary="samples of a class-conditional diffusion transformer",
            paper="Peebles and Xie, Scalable Diffusion Models with Transformers, ICCV 2023 (baseline of minimax)",
            bibtex=_DIT,
        ),
        ddbench.MethodSpec(
            "minimax",
            f"{_HOME}.minimax.distiller:Minimax",
            summary="a diffusion transformer fine-tuned to represent its data and to vary, then sampled",
            paper="Gu et al., Efficient Dataset Distillation via Minimax Diffusion, CVPR 2024",
            bibtex=_MINIMAX,
            cache_version=2,
        ),
        ddbench.MethodSpec(
            "mtt",
            f"{_HOME}.mtt.distiller:MTT",
            summary="images on which training follows the path of training on real ones, with a learned learning rate",
            paper="Cazenavette et al., Dataset Distillation by Matching Training Trajectories, CVPR 2022",
            bibtex=_MTT,
        ),
        ddbench.MethodSpec(
            "idc-1",
            f"{_HOME}.idc.distiller:IDCOne",
            summary="images that give networks in training on real images the gradients of their class (IDC-I)",
            paper="Kim et al., Dataset Condensation via Efficient Synthetic-Data Parameterization, ICML 2022",
            bibtex=_IDC,
        ),
        ddbench.MethodSpec(
            "idc",
            f"{_HOME}.idc.distiller:IDC",
            summary="idc-1 with several training images in each stored one (multi-formation)",
            paper="Kim et al., Dataset Condensation via Efficient Synthetic-Data Parameterization, ICML 2022",
            bibtex=_IDC,
        ),
        ddbench.MethodSpec("full", f"{_HOME}.full:Full", summary="the whole training set: the upper bound"),
    ]


_VLCP = """@inproceedings{zou2025vlcp,
  title = {Dataset Distillation via Vision-Language Category Prototype},
  author = {Zou, Yawen and Li, Guang and Su, Duo and Wang, Zi and Yu, Jun and Zhang, Chao},
  booktitle = {ICCV},
  year = {2025}
}"""

_HERDING = """@inproceedings{welling2009herding,
  title = {Herding Dynamical Weights to Learn},
  author = {Welling, Max},
  booktitle = {ICML},
  year = {2009}
}"""

_K_CENTER = """@inproceedings{sener2018active,
  title = {Active Learning for Convolutional Neural Networks: A Core-Set Approach},
  author = {Sener, Ozan and Savarese, Silvio},
  booktitle = {ICLR},
  year = {2018}
}"""

_K_MEANS = """@article{wang2018dataset,
  title = {Dataset Distillation},
  author = {Wang, Tongzhou and Zhu, Jun-Yan and Torralba, Antonio and Efros, Alexei A.},
  journal = {arXiv preprint arXiv:1811.10959},
  year = {2018}
}"""

_D4M = """@inproceedings{su2024d4m,
  title = {{D4M}: Dataset Distillation via Disentangled Diffusion Model},
  author = {Su, Duo and Hou, Junjie and Gao, Weizhi and Tian, Yingjie and Tang, Bowen},
  booktitle = {CVPR},
  year = {2024}
}"""

_RDED = """@inproceedings{sun2024rded,
  title = {On the Diversity and Realism of Distilled Dataset: An Efficient Dataset Distillation Paradigm},
  author = {Sun, Peng and Shi, Bei and Yu, Daiwei and Lin, Tao},
  booktitle = {CVPR},
  year = {2024}
}"""

_SRE2L = """@inproceedings{yin2023sre2l,
  title = {Squeeze, Recover and Relabel: Dataset Condensation at ImageNet Scale From A New Perspective},
  author = {Yin, Zeyuan and Xing, Eric and Shen, Zhiqiang},
  booktitle = {NeurIPS},
  year = {2023}
}"""

_DM = """@inproceedings{zhao2023dm,
  title = {Dataset Condensation with Distribution Matching},
  author = {Zhao, Bo and Bilen, Hakan},
  booktitle = {WACV},
  year = {2023}
}"""

_DC = """@inproceedings{zhao2021dc,
  title = {Dataset Condensation with Gradient Matching},
  author = {Zhao, Bo and Mopuri, Konda Reddy and Bilen, Hakan},
  booktitle = {ICLR},
  year = {2021}
}"""

_DSA = """@inproceedings{zhao2021dsa,
  title = {Dataset Condensation with Differentiable Siamese Augmentation},
  author = {Zhao, Bo and Bilen, Hakan},
  booktitle = {ICML},
  year = {2021}
}"""

_DIT = """@inproceedings{peebles2023dit,
  title = {Scalable Diffusion Models with Transformers},
  author = {Peebles, William and Xie, Saining},
  booktitle = {ICCV},
  year = {2023}
}"""

_MTT = """@inproceedings{cazenavette2022mtt,
  title = {Dataset Distillation by Matching Training Trajectories},
  author = {Cazenavette, George and Wang, Tongzhou and Torralba, Antonio and Efros, Alexei A. and Zhu, Jun-Yan},
  booktitle = {CVPR},
  year = {2022}
}"""

_IDC = """@inproceedings{kim2022idc,
  title = {Dataset Condensation via Efficient Synthetic-Data Parameterization},
  author = {Kim, Jang-Hyun and Kim, Jinuk and Oh, Seong Joon and Yun, Sangdoo and Song, Hwanjun and Jeong, Joonhyun
    and Ha, Jung-Woo and Song, Hyun Oh},
  booktitle = {ICML},
  year = {2022}
}"""

_MINIMAX = """@inproceedings{gu2024minimax,
  title = {Efficient Dataset Distillation via Minimax Diffusion},
  author = {Gu, Jianyang and Vahidian, Saeed and Kungurtsev, Vyacheslav and Wang, Haonan and Jiang, Wei and You, Yang
    and Chen, Yiran},
  booktitle = {CVPR},
  year = {2024}
}"""
