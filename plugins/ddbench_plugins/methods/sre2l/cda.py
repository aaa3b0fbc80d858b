"""CDA: SRe2L whose crops are the whole image at first and then smaller and smaller (Yin & Shen 2024)."""

from __future__ import annotations

from pydantic import Field

from ddbench_plugins.methods.sre2l.crops import Curriculum
from ddbench_plugins.methods.sre2l.distiller import SRe2L, Sre2lOptions


class CdaOptions(Sre2lOptions):
    """Options of CDA; milestone=0 is SRe2L."""

    crop: bool = Field(True, description=Sre2lOptions.model_fields["crop"].description)
    curriculum: Curriculum = Field(
        "cosine",
        description="how the smallest area of a crop falls from the whole image to 8 %; step: all at once at the"
        " milestone",
    )
    milestone: float = Field(
        1.0, ge=0, le=1, description="fraction of the iterations after which it stays at 8 %; 0: always, as SRe2L"
    )


class CDA(SRe2L):
    """Curriculum data synthesis."""

    Options = CdaOptions
    presets = ("presets.toml", "cda.toml")
