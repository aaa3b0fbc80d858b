"""ZCA recipes: ways to whiten images that papers use, no two of which give the same pixels."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

from ddbench.errors import unknown
from ddbench.keys import digest

if TYPE_CHECKING:
    from ddbench.plugin.datasets import Dataset

#: The method whose released code whitens so; MTT's is FTD's and DATM's as well.
RecipeName = Literal["kip", "rfad", "frepo", "rtp", "mtt"]
#: Raised when the same recipe gives other numbers.
VERSION = 1


@dataclass(frozen=True)
class ZcaRecipe:
    """How images are whitened: x ↦ (x − mean) V (E + λ)^−½ Vᵀ with the moments V E Vᵀ of training images.

    Attributes:
        standardised: subtract channels' means and divide by their standard deviations first, as measured on the
            training images, which are in [0, 1]; "rounded": to the four digits of published constants.
        per_image: then subtract each image's own mean and divide by its L2 norm.
        centred: subtract the mean training image, also from other images; the moments are then the covariance.
        ridge: λ, as a share of the moments' mean diagonal, or as it is where ``absolute``.
        full_rank: directions beyond the number of images keep the factor 1.
        held_out: training images at the end that are not used, at most a tenth of them.
    """

    standardised: Literal["", "exact", "rounded"] = ""
    per_image: bool = False
    centred: bool = False
    ridge: float = 0.1
    absolute: bool = False
    full_rank: bool = False
    held_out: int = 0

    @classmethod
    def of(cls, name: str, dataset: Dataset) -> ZcaRecipe:
        """Return a recipe by name; SVHN has its own in two papers.

        Raises:
            UsageError: there is no such recipe.
        """
        if name not in RECIPES:
            raise unknown("ZCA recipe", name, tuple(RECIPES))
        return replace(RECIPES[name], **(SVHN.get(name, {}) if dataset.name == "svhn" else {}))


#: kip: google-research kip/nn_training.ipynb; rfad: yolky/RFAD data.py and run_distillation.py; frepo: yongchaoz/FRePo
#: lib/dataset; rtp: RememberThePast utils/data_utils.py; mtt: mtt-distillation utils.py (kornia's ZCAWhitening).
RECIPES = {
    "kip": ZcaRecipe(standardised="exact", per_image=True, full_rank=True, held_out=5000),
    "rfad": ZcaRecipe(standardised="exact"),
    "frepo": ZcaRecipe(standardised="rounded", centred=True, full_rank=True),
    "rtp": ZcaRecipe(per_image=True),
    "mtt": ZcaRecipe(centred=True, absolute=True),
}
SVHN: dict[str, dict[str, Any]] = {"rfad": {"per_image": True}, "rtp": {"ridge": 100.0}}


@dataclass(frozen=True)
class Whitened:
    """What pixels in space ``zca`` are.

    Attributes:
        recipe: name of the ZCA recipe, one of :data:`RECIPES`.
        fingerprint: digest of the recipe with the training images that it is fitted on.
    """

    recipe: str
    fingerprint: str

    @classmethod
    def by(cls, recipe: str, dataset: Dataset) -> Self:
        """Return what images are that were whitened by a recipe for a data set.

        Raises:
            UsageError: there is no such recipe.
        """
        about = [dataset.fingerprint, dataset.image_size, dataset.channels, len(dataset.train)]
        return cls(recipe, digest([VERSION, asdict(ZcaRecipe.of(recipe, dataset)), about])[:16])
