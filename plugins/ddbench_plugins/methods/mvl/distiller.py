"""MVL, and LoRS with a learned similarity: vision-language dataset distillation by matching two trajectories."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

import ddbench
from ddbench_plugins.matching.options import PixelOptions
from ddbench_plugins.methods.selection import ipc_of
from ddbench_plugins.pairs.options import PairOptions
from ddbench_plugins.training.whitening import refuse_whitening

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from torch import Tensor

    from ddbench_plugins.methods.mvl.experts import ExpertRecipe
    from ddbench_plugins.methods.mvl.matching import Rank, SyntheticPairs
    from ddbench_plugins.pairs.setting import Setting

#: No text vector has more numbers.
WIDEST = 2**16
Loss = Literal["infonce", "wbce", "bce", "mse", "cwcl", "kl"]


class MvlOptions(PixelOptions, PairOptions):
    """Options of MVL; the defaults are those of the released command for 100 pairs of Flickr30k."""

    # Experts
    experts: int = Field(20, ge=1, description="trainings on the real pairs")
    train_epochs: int = Field(10, ge=1, description="epochs of each expert")
    expert_lr: float = Field(0.1, gt=0, description="learning rate of both branches (SGD without momentum or decay)")
    expert_batch: int = Field(128, ge=1, description="pairs per step of the experts")

    # Matching
    iterations: int = Field(50_000, ge=1, description="segments of experts that are matched, one after the other")
    syn_steps: int = Field(8, ge=1, description="steps on the synthetic pairs per segment")
    expert_epochs: int = Field(1, ge=1, description="epochs of an expert per segment")
    max_start_epoch: int = Field(2, ge=1, description="segments begin before this epoch of an expert")
    batch_syn: int = Field(100, ge=1, description="synthetic pairs per step; all where there are fewer")
    lr_img: float = Field(1000.0, gt=0, description="learning rate of the pixels (SGD, momentum 0.5)")
    lr_text: float = Field(1000.0, gt=0, description="learning rate of the text vectors")
    lr_lr: float = Field(1e-2, ge=0, description="learning rate of the branches' rates")
    lr_init: float = Field(0.1, gt=0, description="what these rates begin as")
    min_rate: float = Field(
        1e-3, ge=0, description="where they are stopped; at 0 they are not, and one that is not positive ends the run"
    )
    inner_loss: Loss = Field("infonce", description="loss of the steps on synthetic pairs")
    inner_scale: float = Field(
        math.log(1 / 0.07),
        gt=0,
        description="by which cosines are multiplied in these steps; MVL's code leaves out the exponential of 2.66,"
        " which gives the 14.29 of all other trainings",
    )
    inner_dropout: bool = Field(False, description="dropout in these steps, drawn anew in each")
    gradient: Literal["unrolled", "tesla"] = Field(
        "unrolled", description="through all steps, or as if a step did not depend on those before it"
    )


class LorsOptions(MvlOptions):
    """Options of LoRS; the defaults are those of the released script for 99 pairs of Flickr30k."""

    iterations: int = Field(3000, ge=1, description=MvlOptions.model_fields["iterations"].description)
    batch_syn: int = Field(20, ge=1, description=MvlOptions.model_fields["batch_syn"].description)
    lr_img: float = Field(100.0, gt=0, description=MvlOptions.model_fields["lr_img"].description)
    lr_text: float = Field(100.0, gt=0, description=MvlOptions.model_fields["lr_text"].description)
    inner_loss: Loss = Field("wbce", description=MvlOptions.model_fields["inner_loss"].description)
    inner_scale: float = Field(1 / 0.07, gt=0, description="by which cosines are multiplied in these steps")
    rank: int = Field(10, ge=1, description="r of the similarity diag(a) + α/r · L Rᵀ")
    alpha: float = Field(3.0, gt=0, description="its α")
    lr_similarity: float = Field(10.0, ge=0, description="learning rate of a, L and R")
    merge: bool = Field(
        False, description="divide both branches' distances by the sum of those of the start, but not for the rates"
    )
    mix: float = Field(
        0.0,
        ge=0,
        description="parameter of the Beta distribution by which pairs are mixed (RepBlend); 0 for not",
    )


class MVL(ddbench.Distiller):
    """Vision-language dataset distillation."""

    Options: ClassVar[type[MvlOptions]] = MvlOptions
    presets: ClassVar[tuple[str, ...]] = ("mvl.toml",)
    #: Whether every inner step draws from all pairs, as MVL's code, or from those that none before it had, as LoRS'.
    anew: ClassVar[bool] = True

    def holds(self, ctx: ddbench.Context) -> tuple[str, ...]:
        """Return that there are texts, and whose vectors they are."""
        from ddbench_plugins.pairs.identity import about_texts

        return ("texts", about_texts(ctx, ctx.options))

    def check(self, ctx: ddbench.Context) -> None:
        """Refuse whitened images, encoders that cannot be matched, and segments that experts do not have."""
        from ddbench_plugins.pairs.encoders import check_image_encoder

        refuse_whitening(ctx, "MVL and LoRS")
        self.recipe(ctx)
        check_image_encoder(ctx, ctx.options, trajectory=True)

    def identity(self, ctx: ddbench.Context) -> Mapping[str, Any]:
        """Return which weights encode images and texts, in place of their folders."""
        from ddbench_plugins.pairs.identity import identity

        return identity(ctx, ctx.options)

    def weights(self, ctx: ddbench.Context) -> list[ddbench.Weights]:
        """Return the models of hubs that are read."""
        from ddbench_plugins.pairs.encoders import published_weights

        return published_weights(ctx.options)

    def needs(self, ctx: ddbench.Context) -> list[ddbench.StepCall]:
        """Return features and text vectors, and the experts, which all budgets and distillation seeds share."""
        from ddbench_plugins.methods.mvl.experts import pair_expert
        from ddbench_plugins.pairs.features import steps

        recipe = self.recipe(ctx)
        experts = [pair_expert.of(ctx, recipe, number) for number in range(recipe.count)]
        return [*steps(ctx, ctx.options, test=False), *experts]

    def work(self, ctx: ddbench.Context) -> float:
        """Images that go through the encoder."""
        options: MvlOptions = ctx.options
        return options.iterations * ctx.dataset.num_classes * (ctx.ipc or 1)

    @staticmethod
    def recipe(ctx: ddbench.Context) -> ExpertRecipe:
        """Return how experts are trained."""
        from ddbench_plugins.methods.mvl.experts import ExpertRecipe
        from ddbench_plugins.pairs.encoders import place

        options: MvlOptions = ctx.options
        if options.max_start_epoch - 1 + options.expert_epochs > options.train_epochs:
            raise ddbench.UsageError(
                f"Experts of {options.train_epochs} epochs have no segments of {options.expert_epochs} that begin"
                f" before epoch {options.max_start_epoch}.",
                hint="Raise method.train_epochs, or lower method.max_start_epoch.",
            )
        pairs = {name: getattr(options, name) for name in PairOptions.model_fields}
        pairs |= {name: place(pairs[name]) for name in ("image_file", "text_encoder")}
        return ExpertRecipe(options.train_epochs, options.expert_lr, options.expert_batch, pairs, options.experts)

    def distill(self, ctx: ddbench.Context) -> ddbench.DistilledSet:
        """Return the pairs: normalised images, not clamped, with text vectors and the rates of both branches."""
        import torch

        from ddbench_plugins.matching.optimise import optimise
        from ddbench_plugins.methods.mvl.experts import pair_expert
        from ddbench_plugins.methods.mvl.matching import PairMatching, Rates, Settings, SyntheticPairs
        from ddbench_plugins.pairs.branches import Flat
        from ddbench_plugins.pairs.encoders import with_batch_norm
        from ddbench_plugins.pairs.setting import Setting
        from ddbench_plugins.training.recipe import from_options

        options, data, recipe = ctx.options, ctx.dataset, self.recipe(ctx)
        setting = Setting(ctx, options, 0)
        branches = setting.branches(0).eval()
        try:
            flat = Flat(branches.image), Flat(branches.text)
        except ValueError as error:
            raise with_batch_norm(options.image_encoder) from error
        experts = [pair_expert(ctx, recipe, number).dir for number in range(recipe.count)]
        mean, std = (torch.tensor(values, device=setting.device).view(1, -1, 1, 1) for values in (data.mean, data.std))
        pixels, labels, vectors = self.initial(ctx, setting)
        similarity = self.similarity(ctx, len(pixels))
        rates = Rates(
            options.lr_img,
            options.lr_text,
            options.lr_lr,
            getattr(options, "lr_similarity", 0.0),
            options.lr_init,
            options.min_rate,
        )

        def told(pairs: SyntheticPairs) -> dict[str, Any]:
            return self.told(ctx, setting, pairs)

        images = (pixels.to(setting.device) - mean) / std
        pairs = SyntheticPairs(images, labels, setting.texts(vectors), rates, similarity, told)
        settings = from_options(
            Settings,
            options,
            seed=ctx.seed("mvl steps"),
            anew=self.anew,
            merge=getattr(options, "merge", False),
            mix=getattr(options, "mix", 0.0),
        )
        work = PairMatching(pairs, experts, flat, lambda now: setting.inputs(now * std + mean), settings)
        return optimise(ctx, "matching pairs", work, pairs, iterations=options.iterations)

    def initial(self, ctx: ddbench.Context, setting: Setting) -> tuple[Tensor, Tensor, Tensor]:
        """Return training images [N, C, S, S] in the [0, 1] scale, their labels, and a caption's vector [N, D] of each.

        As many of each class, in class order; the last classes have fewer where not all have a place.
        """
        import numpy as np
        import torch

        data, known = ctx.dataset, setting.captions
        ddbench.check_ipc(data, ipc_of(ctx))
        counts = self.counts(ctx, known.vectors.shape[1])
        chosen: list[int] = []
        for label, count in enumerate(counts):
            members = data.train.of_class(label)
            chosen += members[ctx.rng("mvl images", label).permutation(len(members))[:count]].tolist()
        owners, draw = known.owners.numpy(), ctx.rng("mvl captions")
        captions = [int(draw.choice(np.flatnonzero(owners == place))) for place in chosen]
        images = torch.from_numpy(data.train.images.batch(chosen, data.image_size)).permute(0, 3, 1, 2)
        return images.float() / 255, torch.tensor(data.train.labels[chosen]), known.vectors[captions]

    def counts(self, ctx: ddbench.Context, width: int) -> list[int]:
        """Return the number of pairs of each class; ``width`` is that of a text vector."""
        return [ipc_of(ctx)] * ctx.dataset.num_classes

    def similarity(self, ctx: ddbench.Context, count: int) -> Rank | None:
        """Return the similarity as it begins, where one is learned."""
        return None

    def told(self, ctx: ddbench.Context, setting: Setting, pairs: SyntheticPairs) -> dict[str, Any]:
        """Return what the set holds besides images and labels."""
        from ddbench_plugins.pairs.encoders import pooling
        from ddbench_plugins.pairs.identity import identity
        from ddbench_plugins.training.pixels import finite

        options = ctx.options
        vectors = finite(pairs.texts.detach().cpu() * setting.scales[1], "the texts").numpy()
        image, text = pairs.rates.detach().tolist()
        weights = identity(ctx, options)["text_encoder"]
        return {
            "texts": ddbench.Texts(vectors, _name(options.text_encoder), weights, pooling(options), text),
            "learning_rate": image,
            "prompts": _nearest(vectors, setting),
        }


class LoRS(MVL):
    """Low-rank similarity mining: the similarity of images and texts is learned with them, and paid for in pairs."""

    Options = LorsOptions
    presets = ("mvl.toml", "lors.toml")
    anew = False

    def holds(self, ctx: ddbench.Context) -> tuple[str, ...]:
        """Return that there are texts, whose vectors they are, and a similarity."""
        return (*super().holds(ctx), "similarity")

    def check(self, ctx: ddbench.Context) -> None:
        """Refuse what MVL refuses, and a budget without room for a pair, however wide its text."""
        super().check(ctx)
        self.counts(ctx, WIDEST)

    def counts(self, ctx: ddbench.Context, width: int) -> list[int]:
        """Return as many pairs as have room beside their similarity, the last classes having one less."""
        data, ipc = ctx.dataset, ipc_of(ctx)
        pair = data.image_size**2 * data.channels + width
        total = min(ipc * data.num_classes * pair // (pair + 2 * ctx.options.rank + 1), ipc * data.num_classes)
        if not total:
            raise ddbench.UsageError("There is no room for a pair with its similarity.", hint="Raise --ipc.")
        each, more = divmod(total, data.num_classes)
        return [each + (label < more) for label in range(data.num_classes)]

    def similarity(self, ctx: ddbench.Context, count: int) -> Rank:
        """Return the identity."""
        from ddbench_plugins.methods.mvl.matching import Rank

        options = ctx.options
        return Rank.begun(count, options.rank, options.alpha, ctx.seed("lors similarity"), ctx.machine.device)

    def told(self, ctx: ddbench.Context, setting: Setting, pairs: SyntheticPairs) -> dict[str, Any]:
        """Return what the set holds besides images and labels."""
        from ddbench_plugins.training.pixels import finite

        assert pairs.similarity is not None
        parts = (finite(part.detach().cpu().numpy().copy(), "the similarity") for part in pairs.similarity[:3])
        a, left, right = parts
        similarity = ddbench.Similarity(a, left, right, pairs.similarity.alpha)
        return super().told(ctx, setting, pairs) | {"similarity": similarity, "counted": "numbers"}


def _nearest(vectors: np.ndarray, setting: Setting) -> tuple[str, ...]:
    """Return the training caption that is nearest to each vector by its cosine, for reading."""
    import torch

    from ddbench_plugins.pairs.branches import cosines

    known = setting.captions
    places = cosines(torch.from_numpy(vectors), known.vectors).argmax(1).tolist()
    return tuple(known.texts[place] for place in places)


def _name(encoder: str) -> str:
    return encoder.rstrip("/").rpartition("/")[2] or encoder
