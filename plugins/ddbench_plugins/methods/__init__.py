"""Built-in distillation methods. Only their specs live here; each method is imported when a run needs it."""

from __future__ import annotations

import ddbench
from ddbench_plugins.citations import bibtex

_HOME = "ddbench_plugins.methods"


@ddbench.hookimpl
def ddbench_models() -> list[ddbench.ShippedModel]:
    """Return the teachers and diffusion models that come with ddbench."""
    from ddbench_plugins.diffusion.small.bundled import bundled_model, bundled_models
    from ddbench_plugins.teachers.bundled import bundled_teachers

    return [
        *(ddbench.ShippedModel("teacher", *named, "tools/bundle_teacher.py") for named in bundled_teachers()),
        *(
            ddbench.ShippedModel("diffusion model", name, bundled_model(name), "tools/bundle_diffusion.py")
            for name in bundled_models()
        ),
    ]


@ddbench.hookimpl
def ddbench_methods() -> list[ddbench.MethodSpec]:
    """Return the built-in methods."""
    return [
        ddbench.MethodSpec(
            "vlcp",
            f"{_HOME}.vlcp.distiller:VLCP",
            summary="diffusion guided by category prototypes of images and of their captions",
            paper="Zou et al., Dataset Distillation via Vision-Language Category Prototype, ICCV 2025",
            bibtex=bibtex("zou2025vlcp"),
        ),
        ddbench.MethodSpec("random", f"{_HOME}.random:Random", summary="random real images of each class"),
        ddbench.MethodSpec(
            "herding",
            f"{_HOME}.herding:Herding",
            summary="real images whose mean feature follows the class mean",
            paper="Welling, Herding Dynamical Weights to Learn, ICML 2009",
            bibtex=bibtex("welling2009herding"),
        ),
        ddbench.MethodSpec(
            "k-center",
            f"{_HOME}.kcenter:KCenter",
            summary="real images that leave no training image far from one of them",
            paper="Sener and Savarese, Active Learning for Convolutional Neural Networks, ICLR 2018",
            bibtex=bibtex("sener2018active"),
        ),
        ddbench.MethodSpec(
            "k-means",
            f"{_HOME}.kmeans:KMeans",
            summary="k-means centres of the pixels of each class, or the real images nearest to them",
            paper="Wang et al., Dataset Distillation, 2018 (baseline)",
            bibtex=bibtex("wang2018dataset"),
        ),
        ddbench.MethodSpec(
            "forgetting",
            f"{_HOME}.coresets.distillers:Forgetting",
            summary="real images that a training forgets most often, or least often",
            paper="Toneva et al., An Empirical Study of Example Forgetting during Deep Neural Network Learning,"
            " ICLR 2019",
            bibtex=bibtex("toneva2019forgetting"),
        ),
        ddbench.MethodSpec(
            "el2n",
            f"{_HOME}.coresets.distillers:EL2N",
            summary="real images with the largest, or smallest, error early in training",
            paper="Paul et al., Deep Learning on a Data Diet, NeurIPS 2021",
            bibtex=bibtex("paul2021diet"),
        ),
        ddbench.MethodSpec(
            "grand",
            f"{_HOME}.coresets.distillers:GraNd",
            summary="real images with the largest, or smallest, gradients early in training",
            paper="Paul et al., Deep Learning on a Data Diet, NeurIPS 2021",
            bibtex=bibtex("paul2021diet"),
        ),
        ddbench.MethodSpec(
            "ccs",
            f"{_HOME}.coresets.distillers:CCS",
            summary="real images of all margins, without the hardest (coverage-centric selection)",
            paper="Zheng et al., Coverage-centric Coreset Selection for High Pruning Rates, ICLR 2023",
            bibtex=bibtex("zheng2023ccs"),
        ),
        ddbench.MethodSpec(
            "d4m",
            f"{_HOME}.d4m.distiller:D4M",
            summary="diffusion guided by prototypes of latents and by the classes' names",
            paper="Su et al., D4M: Dataset Distillation via Disentangled Diffusion Model, CVPR 2024",
            bibtex=bibtex("su2024d4m"),
        ),
        ddbench.MethodSpec(
            "rded",
            f"{_HOME}.rded.distiller:RDED",
            summary="the crops of real images that a teacher finds most realistic, stitched together",
            paper="Sun et al., On the Diversity and Realism of Distilled Dataset, CVPR 2024",
            bibtex=bibtex("sun2024rded"),
        ),
        ddbench.MethodSpec(
            "sre2l",
            f"{_HOME}.sre2l.distiller:SRe2L",
            summary="images recovered from noise by a teacher's labels and batch-norm statistics",
            paper="Yin et al., Squeeze, Recover and Relabel, NeurIPS 2023",
            bibtex=bibtex("yin2023sre2l"),
        ),
        ddbench.MethodSpec(
            "cda",
            f"{_HOME}.sre2l.cda:CDA",
            summary="sre2l with crops that are the whole image at first and then smaller and smaller",
            paper="Yin and Shen, Dataset Distillation via Curriculum Data Synthesis in Large Data Era, TMLR 2024",
            bibtex=bibtex("yin2024cda"),
        ),
        ddbench.MethodSpec(
            "dwa",
            f"{_HOME}.sre2l.dwa:DWA",
            summary="sre2l from real images, by a teacher whose weights were adjusted to them",
            paper="Du et al., Diversity-Driven Synthesis: Enhancing Dataset Distillation through Directed Weight"
            " Adjustment, NeurIPS 2024",
            bibtex=bibtex("du2024dwa"),
        ),
        ddbench.MethodSpec(
            "delt",
            f"{_HOME}.sre2l.delt:DELT",
            summary="cda from real images, some of which are optimised later and so less",
            paper="Shen et al., DELT: A Simple Diversity-driven EarlyLate Training for Dataset Distillation, CVPR 2025",
            bibtex=bibtex("shen2025delt"),
            cache_version=2,
        ),
        ddbench.MethodSpec(
            "g-vbsm",
            f"{_HOME}.sre2l.gvbsm:GVBSM",
            summary="sre2l by several teachers in turn and the statistics of all their layers",
            paper="Shao et al., Generalized Large-Scale Data Condensation via Various Backbone and Statistical"
            " Matching, CVPR 2024",
            bibtex=bibtex("shao2024gvbsm"),
            cache_version=2,
        ),
        ddbench.MethodSpec(
            "edc",
            f"{_HOME}.sre2l.edc:EDC",
            summary="g-vbsm from real images, to the statistics of their classes as well",
            paper="Shao et al., Elucidating the Design Space of Dataset Condensation, NeurIPS 2024",
            bibtex=bibtex("shao2024edc"),
            cache_version=2,
        ),
        ddbench.MethodSpec(
            "dm",
            f"{_HOME}.dm.distiller:DM",
            summary="images whose mean features in random networks are those of their class",
            paper="Zhao and Bilen, Dataset Condensation with Distribution Matching, WACV 2023",
            bibtex=bibtex("zhao2023dm"),
        ),
        ddbench.MethodSpec(
            "idm",
            f"{_HOME}.dm.idm:IDM",
            summary="dm with several images in each, in networks in training, which also name them",
            paper="Zhao et al., Improved Distribution Matching for Dataset Condensation, CVPR 2023",
            bibtex=bibtex("zhao2023idm"),
            cache_version=2,
        ),
        ddbench.MethodSpec(
            "ncfm",
            f"{_HOME}.dm.ncfm:NCFM",
            summary="dm on the characteristic functions of features, in networks between random and trained",
            paper="Wang et al., Dataset Distillation with Neural Characteristic Function, CVPR 2025",
            bibtex=bibtex("wang2025ncfm"),
            cache_version=2,
        ),
        ddbench.MethodSpec(
            "cafe",
            f"{_HOME}.cafe.distiller:CAFE",
            summary="images whose features are those of their class at every level of networks in training",
            paper="Wang et al., CAFE: Learning to Condense Dataset by Aligning Features, CVPR 2022",
            bibtex=bibtex("wang2022cafe"),
            cache_version=2,
        ),
        ddbench.MethodSpec(
            "dc",
            f"{_HOME}.dc.distiller:DC",
            summary="images that give networks the gradients that real images of their class give",
            paper="Zhao et al., Dataset Condensation with Gradient Matching, ICLR 2021",
            bibtex=bibtex("zhao2021dc"),
        ),
        ddbench.MethodSpec(
            "dsa",
            f"{_HOME}.dc.distiller:DSA",
            summary="dc with the same augmentation of real and synthetic images",
            paper="Zhao and Bilen, Dataset Condensation with Differentiable Siamese Augmentation, ICML 2021",
            bibtex=bibtex("zhao2021dsa"),
        ),
        ddbench.MethodSpec(
            "dcc",
            f"{_HOME}.dc.dcc:DCC",
            summary="dc on the gradient of all classes together, in which only what tells them apart is left",
            paper="Lee et al., Dataset Condensation with Contrastive Signals, ICML 2022",
            bibtex=bibtex("lee2022dcc"),
        ),
        ddbench.MethodSpec(
            "dsac",
            f"{_HOME}.dc.dcc:DSAC",
            summary="dcc with the same augmentation of real and synthetic images",
            paper="Lee et al., Dataset Condensation with Contrastive Signals, ICML 2022",
            bibtex=bibtex("lee2022dcc"),
        ),
        ddbench.MethodSpec(
            "it-gan",
            f"{_HOME}.itgan.distiller:ITGAN",
            summary="latents of a generator, moved until their images have the features of their class",
            paper="Zhao and Bilen, Synthesizing Informative Training Samples with GAN, 2022",
            bibtex=bibtex("zhao2022itgan"),
        ),
        ddbench.MethodSpec(
            "dit",
            f"{_HOME}.dit.distiller:DiT",
            summary="samples of a class-conditional diffusion transformer",
            paper="Peebles and Xie, Scalable Diffusion Models with Transformers, ICCV 2023 (baseline of minimax)",
            bibtex=bibtex("peebles2023dit"),
        ),
        ddbench.MethodSpec(
            "minimax",
            f"{_HOME}.minimax.distiller:Minimax",
            summary="a diffusion transformer fine-tuned to represent its data and to vary, then sampled",
            paper="Gu et al., Efficient Dataset Distillation via Minimax Diffusion, CVPR 2024",
            bibtex=bibtex("gu2024minimax"),
            cache_version=2,
        ),
        ddbench.MethodSpec(
            "mgd3",
            f"{_HOME}.mgd3.distiller:MGD3",
            summary="samples of a diffusion transformer, each led to a mode of its class",
            paper="Chan-Santiago et al., MGD3: Mode-Guided Dataset Distillation using Diffusion Models, ICML 2025",
            bibtex=bibtex("chansantiago2025mgd3"),
        ),
        ddbench.MethodSpec(
            "cao2",
            f"{_HOME}.cao2.distiller:CaO2",
            summary="samples of a diffusion transformer that a classifier chooses, their latents refined",
            paper="Wang et al., CaO2: Rectifying Inconsistencies in Diffusion-Based Dataset Distillation, ICCV 2025",
            bibtex=bibtex("wang2025cao2"),
        ),
        ddbench.MethodSpec(
            "d3hr",
            f"{_HOME}.d3hr.distiller:D3HR",
            summary="images denoised from groups of latents that are like their class after DDIM inversion",
            paper="Zhao et al., Taming Diffusion for Dataset Distillation with High Representativeness, ICML 2025",
            bibtex=bibtex("zhao2025d3hr"),
        ),
        ddbench.MethodSpec(
            "igd",
            f"{_HOME}.igd.distiller:IGD",
            summary="samples of a diffusion transformer, led by a classifier's gradients and apart from each other",
            paper="Chen et al., Influence-Guided Diffusion for Dataset Distillation, ICLR 2025",
            bibtex=bibtex("chen2025igd"),
        ),
        ddbench.MethodSpec(
            "mtt",
            f"{_HOME}.mtt.distiller:MTT",
            summary="images on which training follows the path of training on real ones, with a learned learning rate",
            paper="Cazenavette et al., Dataset Distillation by Matching Training Trajectories, CVPR 2022",
            bibtex=bibtex("cazenavette2022mtt"),
        ),
        ddbench.MethodSpec(
            "ftd",
            f"{_HOME}.mtt.ftd:FTD",
            summary="mtt with experts on flat paths, and the average of its images",
            paper="Du et al., Minimizing the Accumulated Trajectory Error to Improve Dataset Distillation, CVPR 2023",
            bibtex=bibtex("du2023ftd"),
        ),
        ddbench.MethodSpec(
            "datm",
            f"{_HOME}.mtt.datm:DATM",
            summary="ftd's experts matched from easy to hard epochs, with soft labels learned beside the images",
            paper="Guo et al., Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching,"
            " ICLR 2024",
            bibtex=bibtex("guo2024datm"),
        ),
        ddbench.MethodSpec(
            "idc-1",
            f"{_HOME}.idc.distiller:IDCOne",
            summary="images that give networks in training on real images the gradients of their class (IDC-I)",
            paper="Kim et al., Dataset Condensation via Efficient Synthetic-Data Parameterization, ICML 2022",
            bibtex=bibtex("kim2022idc"),
        ),
        ddbench.MethodSpec(
            "idc",
            f"{_HOME}.idc.distiller:IDC",
            summary="idc-1 with several training images in each stored one (multi-formation)",
            paper="Kim et al., Dataset Condensation via Efficient Synthetic-Data Parameterization, ICML 2022",
            bibtex=bibtex("kim2022idc"),
        ),
        ddbench.MethodSpec(
            "dream",
            f"{_HOME}.idc.dream:DREAM",
            summary="idc on the real images nearest to the centres of their class",
            paper="Liu et al., DREAM: Efficient Dataset Distillation by Representative Matching, ICCV 2023",
            bibtex=bibtex("liu2023dream"),
        ),
        ddbench.MethodSpec(
            "dd",
            f"{_HOME}.dd.distiller:DD",
            summary="images on which a few plain steps, in an order and with learned sizes, train a network",
            paper="Wang et al., Dataset Distillation, 2018",
            bibtex=bibtex("wang2018dataset"),
        ),
        ddbench.MethodSpec(
            "sldd",
            f"{_HOME}.dd.distiller:SLDD",
            summary="dd with learned labels, also of fewer images than classes",
            paper="Sucholutsky and Schonlau, Soft-Label Dataset Distillation and Text Dataset Distillation, IJCNN 2021",
            bibtex=bibtex("sucholutsky2021soft"),
        ),
        ddbench.MethodSpec(
            "kip",
            f"{_HOME}.kernel.kip:KIP",
            summary="images by which kernel ridge regression names training images, in closed form",
            paper="Nguyen et al., Dataset Meta-Learning from Kernel Ridge-Regression, ICLR 2021",
            bibtex=bibtex("nguyen2021kip"),
        ),
        ddbench.MethodSpec(
            "ls",
            f"{_HOME}.kernel.label_solve:LabelSolve",
            summary="random real images with the labels that serve kernel ridge regression best (Label Solve)",
            paper="Nguyen et al., Dataset Meta-Learning from Kernel Ridge-Regression, ICLR 2021",
            bibtex=bibtex("nguyen2021kip"),
        ),
        ddbench.MethodSpec(
            "frepo",
            f"{_HOME}.frepo.distiller:FRePo",
            summary="images and labels for regression on the features of networks that are trained on them",
            paper="Zhou et al., Dataset Distillation using Neural Feature Regression, NeurIPS 2022",
            bibtex=bibtex("zhou2022frepo"),
        ),
        ddbench.MethodSpec(
            "rfad",
            f"{_HOME}.rfad.distiller:RFAD",
            summary="images for ridge regression with a ConvNet's kernel, approximated by random networks",
            paper="Loo et al., Efficient Dataset Distillation using Random Feature Approximation, NeurIPS 2022",
            bibtex=bibtex("loo2022rfad"),
        ),
        ddbench.MethodSpec(
            "rtp",
            f"{_HOME}.rtp.distiller:RTP",
            summary="bases that all classes share, and coefficients, by differentiating through trainings",
            paper="Deng and Russakovsky, Remember the Past: Distilling Datasets into Addressable Memories for Neural"
            " Networks, NeurIPS 2022",
            bibtex=bibtex("deng2022rtp"),
        ),
        ddbench.MethodSpec(
            "mvl",
            f"{_HOME}.mvl.distiller:MVL",
            summary="pairs of images and text vectors on which two branches follow the path of training on real pairs",
            paper="Wu et al., Vision-Language Dataset Distillation, TMLR 2024",
            bibtex=bibtex("wu2024vision"),
            cache_version=2,
        ),
        ddbench.MethodSpec(
            "lors",
            f"{_HOME}.mvl.distiller:LoRS",
            summary="mvl with a learned, low-rank similarity of all images and texts",
            paper="Xu et al., Low-Rank Similarity Mining for Multimodal Dataset Distillation, ICML 2024",
            bibtex=bibtex("xu2024lors"),
        ),
        ddbench.MethodSpec("full", f"{_HOME}.full:Full", summary="the whole training set: the upper bound"),
    ]
