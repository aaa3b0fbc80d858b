"""Evaluation protocols, one file each; hyper-parameter tables are data beside them."""

from __future__ import annotations

from ddbench import EvaluatorSpec, hookimpl
from ddbench_plugins.citations import bibtex

_HERE = "ddbench_plugins.evaluators"


@hookimpl
def ddbench_evaluators() -> list[EvaluatorSpec]:
    """Return the built-in protocols."""
    return [
        EvaluatorSpec(
            "rded",
            f"{_HERE}.rded:Rded",
            "soft labels from a teacher online, KL at T=20, CutMix, AdamW, half cosine, 300 epochs",
            paper="Sun et al., On the Diversity and Realism of Distilled Dataset, CVPR 2024",
            bibtex=bibtex("sun2024rded"),
            label_type="soft",
        ),
        EvaluatorSpec(
            "minimax",
            f"{_HERE}.minimax:Minimax",
            "hard labels, CutMix-weighted cross-entropy, SGD, ×0.2 at 2/3 and 5/6, epochs by IPC",
            paper="Gu et al., Efficient Dataset Distillation via Minimax Diffusion, CVPR 2024",
            bibtex=bibtex("gu2024minimax"),
            label_type="hard",
        ),
        EvaluatorSpec(
            "dc",
            f"{_HERE}.dc.evaluator:Dc",
            "hard labels, SGD, 300 epochs plain or 1000 with DSA, ×0.1 once, last accuracy (DC, DSA, DM, MTT)",
            paper="Zhao et al., Dataset Condensation with Gradient Matching, ICLR 2021",
            bibtex=bibtex("zhao2021dc"),
            label_type="hard",
        ),
        EvaluatorSpec(
            "datm",
            f"{_HERE}.dc.datm:Datm",
            "the soft labels of the set itself, else hard ones; DSA, SGD, 1000 epochs, ×0.1 once, last accuracy",
            paper="Guo et al., Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching,"
            " ICLR 2024",
            bibtex=bibtex("guo2024datm"),
        ),
        EvaluatorSpec(
            "idc",
            f"{_HERE}.idc:Idc",
            "hard labels, multi-formation, DSA and CutMix, SGD, ×0.2 at 2/3 and 5/6, epochs by data set",
            paper="Kim et al., Dataset Condensation via Efficient Synthetic-Data Parameterization, ICML 2022",
            bibtex=bibtex("kim2022idc"),
            label_type="hard",
        ),
        EvaluatorSpec(
            "ncfm",
            f"{_HERE}.ncfm:Ncfm",
            "hard labels, multi-formation, DSA and CutMix, AdamW, ×0.5 after each fifth, 2000 epochs",
            paper="Wang et al., Dataset Distillation with Neural Characteristic Function, CVPR 2025",
            bibtex=bibtex("wang2025ncfm"),
            label_type="hard",
        ),
        EvaluatorSpec(
            "lrs",
            f"{_HERE}.lrs.evaluator:Lrs",
            "label- and augmentation-robust scores: against random images and the whole set (HLR, IOR, LRS, ARS)",
            paper="Li et al., DD-Ranking: Rethinking the Evaluation of Dataset Distillation, 2025",
            bibtex=bibtex("li2025ddranking"),
        ),
        EvaluatorSpec(
            "fkd",
            f"{_HERE}.fkd.evaluator:Fkd",
            "soft labels of augmented batches, stored or online, KL, by SRe2L's setting of the data set",
            paper="Yin et al., Squeeze, Recover and Relabel, NeurIPS 2023",
            bibtex=bibtex("yin2023sre2l"),
            label_type="soft",
        ),
        EvaluatorSpec(
            "rd3",
            f"{_HERE}.fkd.unified:Rd3",
            "one rule for all methods: soft labels of one teacher online, KL, CutMix, Adam, cosine, 400 epochs",
            paper="Zhong et al., Rectified Decoupled Dataset Distillation, ICLR 2026",
            bibtex=bibtex("zhong2026rd3"),
            label_type="soft",
        ),
        EvaluatorSpec(
            "rethinkdc-soft",
            f"{_HERE}.fkd.unified:Rethinkdc",
            "soft labels of one teacher online, KL at T=20, CutMix, AdamW, cosine, 300 epochs",
            paper="Xiao et al., Rethinking Large-scale Dataset Compression, 2025",
            bibtex=bibtex("xiao2025rethinking"),
            label_type="soft",
        ),
        EvaluatorSpec(
            "rethinkdc-hard",
            f"{_HERE}.fkd.unified:RethinkdcHard",
            "hard labels, cross-entropy, resized crops, AdamW, cosine, 300 epochs",
            paper="Xiao et al., Rethinking Large-scale Dataset Compression, 2025",
            bibtex=bibtex("xiao2025rethinking"),
            label_type="hard",
        ),
        EvaluatorSpec(
            "g-vbsm",
            f"{_HERE}.fkd.gvbsm:GVbsm",
            "mean logits of several teachers, squared error and cross-entropy, CutMix, AdamW, cosine, 1000 epochs",
            paper="Shao et al., Generalized Large-Scale Data Condensation (G-VBSM), CVPR 2024",
            bibtex=bibtex("shao2024gvbsm"),
            label_type="soft",
        ),
        EvaluatorSpec(
            "edc",
            f"{_HERE}.fkd.edc:Edc",
            "g-vbsm with labels online, RandAugment, batches of 10 and averaged weights",
            paper="Shao et al., Elucidating the Design Space of Dataset Condensation, NeurIPS 2024",
            bibtex=bibtex("shao2024edc"),
            label_type="soft",
        ),
        EvaluatorSpec(
            "krr",
            f"{_HERE}.krr:Krr",
            "kernel ridge regression on the set in float64, the kernel of an infinitely wide network; trains none",
            paper="Nguyen et al., Dataset Meta-Learning from Kernel Ridge-Regression, ICLR 2021",
            bibtex=bibtex("nguyen2021kip"),
            label_type="real",
        ),
        EvaluatorSpec(
            "rtp",
            f"{_HERE}.rtp:Rtp",
            "hard labels of decoded images, SGD at one rate, 300 epochs, no augmentation, last accuracy",
            paper="Deng and Russakovsky, Remember the Past, NeurIPS 2022",
            bibtex=bibtex("deng2022rtp"),
            label_type="hard",
        ),
        EvaluatorSpec(
            "replay",
            f"{_HERE}.replay:Replay",
            "the stored steps of the set, in their order and with their sizes, from its initialisation",
            paper="Wang et al., Dataset Distillation, 2018",
            bibtex=bibtex("wang2018dataset"),
        ),
        EvaluatorSpec(
            "frepo",
            f"{_HERE}.frepo.evaluator:Frepo",
            "real-valued labels, squared error, one operation per batch, Adam, cosine, steps by the number of images",
            paper="Zhou et al., Dataset Distillation using Neural Feature Regression, NeurIPS 2022",
            bibtex=bibtex("zhou2022frepo"),
            label_type="real",
        ),
        EvaluatorSpec(
            "kip-nn",
            f"{_HERE}.kip_nn:KipNn",
            "real-valued labels, half the mean squared error, SGD at the largest stable rate, cosine, 5000 steps",
            paper="Nguyen et al., Dataset Distillation with Infinitely Wide Convolutional Networks, NeurIPS 2021",
            bibtex=bibtex("nguyen2021infinitely"),
            label_type="real",
        ),
        EvaluatorSpec(
            "rfad-nn",
            f"{_HERE}.rfad_nn.evaluator:RfadNn",
            "real-valued labels, scaled, squared error of a centred network, SGD, early stopping on training images",
            paper="Loo et al., Efficient Dataset Distillation using Random Feature Approximation, NeurIPS 2022",
            bibtex=bibtex("loo2022rfad"),
            label_type="real",
        ),
        EvaluatorSpec(
            "quality",
            f"{_HERE}.quality.evaluator:Quality",
            "coverage, density, precision, recall, Fréchet and kernel distance, recognition, copies; no training",
            paper="Naeem et al., Reliable Fidelity and Diversity Metrics for Generative Models, ICML 2020",
            bibtex=bibtex("naeem2020reliable"),
            label_type="hard",
            cache_version=2,
        ),
        EvaluatorSpec(
            "rded-robust",
            f"{_HERE}.robust.evaluator:RobustRded",
            "rded, and of its students calibration, worst class, corruptions and attacks",
            paper="Zhou et al., BEARD: Benchmarking the Adversarial Robustness for Dataset Distillation, 2024",
            bibtex=bibtex("zhou2024beard"),
            label_type="soft",
        ),
        EvaluatorSpec(
            "dc-robust",
            f"{_HERE}.robust.evaluator:RobustDc",
            "dc, and of its students calibration, worst class, corruptions and attacks",
            paper="Zhou et al., BEARD: Benchmarking the Adversarial Robustness for Dataset Distillation, 2024",
            bibtex=bibtex("zhou2024beard"),
            label_type="hard",
        ),
        EvaluatorSpec(
            "retrieval",
            f"{_HERE}.retrieval:Retrieval",
            "recall between test images and captions by two branches trained on the set's pairs, SGD, ×0.1 once",
            paper="Wu et al., Vision-Language Dataset Distillation, TMLR 2024",
            bibtex=bibtex("wu2024vision"),
            label_type="texts",
        ),
    ]
