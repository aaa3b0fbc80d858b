"""Evaluation protocols, one file each; hyper-parameter tables are data beside them."""

from __future__ import annotations

from ddbench import EvaluatorSpec, hookimpl

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
            bibtex="@inproceedings{sun2024rded, title={On the Diversity and Realism of Distilled Dataset: An Efficient "
            "Dataset Distillation Paradigm}, author={Sun, Peng and Shi, Bei and Yu, Daiwei and Lin, Tao}, "
            "booktitle={CVPR}, year={2024}}",
            label_type="soft",
        ),
        EvaluatorSpec(
            "minimax",
            f"{_HERE}.minimax:Minimax",
            "hard labels, CutMix-weighted cross-entropy, SGD, ×0.2 at 2/3 and 5/6, epochs by IPC",
            paper="Gu et al., Efficient Dataset Distillation via Minimax Diffusion, CVPR 2024",
            bibtex="@inproceedings{gu2024minimax, title={Efficient Dataset Distillation via Minimax Diffusion}, "
            "author={Gu, Jianyang and Vahidian, Saeed and Kungurtsev, Vyacheslav and Wang, Haonan and Jiang, Wei and "
            "You, Yang and Chen, Yiran}, booktitle={CVPR}, year={2024}}",
            label_type="hard",
        ),
        EvaluatorSpec(
            "dc",
            f"{_HERE}.dc.evaluator:Dc",
            "hard labels, SGD, 300 epochs plain or 1000 with DSA, ×0.1 once, last accuracy (DC, DSA, DM, MTT)",
            paper="Zhao et al., Dataset Condensation with Gradient Matching, ICLR 2021",
            bibtex="@inproceedings{zhao2021dc, title={Dataset Condensation with Gradient Matching}, author={Zhao, Bo "
            "and Mopuri, Konda Reddy and Bilen, Hakan}, booktitle={ICLR}, year={2021}}",
            label_type="hard",
        ),
        EvaluatorSpec(
            "idc",
            f"{_HERE}.idc:Idc",
            "hard labels, multi-formation, DSA and CutMix, SGD, ×0.2 at 2/3 and 5/6, epochs by data set",
            paper="Kim et al., Dataset Condensation via Efficient Synthetic-Data Parameterization, ICML 2022",
            bibtex="@inproceedings{kim2022idc, title={Dataset Condensation via Efficient Synthetic-Data "
            "Parameterization}, author={Kim, Jang-Hyun and Kim, Jinuk and Oh, Seong Joon and Yun, Sangdoo and Song, "
            "Hwanjun and Jeong, Joonhyun and Ha, Jung-Woo and Song, Hyun Oh}, booktitle={ICML}, year={2022}}",
            label_type="hard",
        ),
        EvaluatorSpec(
            "lrs",
            f"{_HERE}.lrs.evaluator:Lrs",
            "label- and augmentation-robust scores: against random images and the whole set (HLR, IOR, LRS, ARS)",
            paper="Li et al., DD-Ranking: Rethinking the Evaluation of Dataset Distillation, 2025",
            bibtex="@misc{li2025ddranking, title={DD-Ranking: Rethinking the Evaluation of Dataset Distillation}, "
            "author={Li, Zekai and others}, year={2025}, eprint={2505.13300}, archivePrefix={arXiv}}",
        ),
        EvaluatorSpec(
            "fkd",
            f"{_HERE}.fkd.evaluator:Fkd",
            "soft labels of augmented batches, stored or online, KL, by SRe2L's setting of the data set",
            paper="Yin et al., Squeeze, Recover and Relabel, NeurIPS 2023",
            bibtex="@inproceedings{yin2023sre2l, title={Squeeze, Recover and Relabel: Dataset Condensation at ImageNet "
            "Scale From A New Perspective}, author={Yin, Zeyuan and Xing, Eric and Shen, Zhiqiang}, "
            "booktitle={NeurIPS}, year={2023}}",
            label_type="soft",
        ),
    ]
