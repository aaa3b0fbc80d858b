"""Captioners: what text-guided methods pair with the training images."""

from __future__ import annotations

from ddbench import CaptionerSpec, hookimpl
from ddbench_plugins.citations import bibtex


@hookimpl
def ddbench_captioners() -> list[CaptionerSpec]:
    """Return the built-in captioners."""
    return [
        CaptionerSpec(
            name="attributes",
            target="ddbench_plugins.captioners.attributes:Attributes",
            summary="describes what can be measured (colours, light, strokes, form); needs no model",
        ),
        CaptionerSpec(
            name="traits",
            target="ddbench_plugins.captioners.traits:Traits",
            summary="says what a network trained on the images sees (wings, wheels, fur) and what can be measured",
            paper="Lampert, Nickisch, Harmeling, Learning to Detect Unseen Object Classes, CVPR 2009",
            bibtex=bibtex("lampert2009attributes"),
        ),
        CaptionerSpec(
            name="llava",
            target="ddbench_plugins.captioners.llava:Llava",
            summary="LLaVA 1.5 7B with VLCP's prompt; needs its weights and, in practice, a GPU",
            paper="Liu et al., Improved Baselines with Visual Instruction Tuning, CVPR 2024",
            bibtex=bibtex("liu2024llava15"),
        ),
        CaptionerSpec(
            name="file",
            target="ddbench_plugins.captioners.from_file:FromFile",
            summary="reads captions you already have from a metadata.jsonl (file_name, text)",
        ),
    ]
