"""Retrieval between images and captions, by branches trained on the pairs of a set (Wu et al. 2023, Xu et al. 2024)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ddbench import ArrayImages, Context, DistilledSet, Evaluator, Protocol, Score, Split, UsageError, digest
from ddbench_plugins.pairs.options import PairOptions

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

    from numpy.typing import NDArray

    from ddbench import StepCall, Weights
    from ddbench_plugins.pairs.branches import Branches, Pairs, Recipe
    from ddbench_plugins.pairs.setting import Setting

#: Of a branch where the set has learned none.
RATE = 0.1
#: Epochs between two tests, where the best one is selected.
TESTS = 10


class RetrievalOptions(PairOptions):
    """Options of the evaluation; the defaults are those of LoRS' code with frozen encoders, tested once."""

    epochs: int = Field(100, ge=1, description="of the branches; LoRS trains one more than it says")
    batch_size: int = Field(128, ge=1, description="pairs per step")
    lr: float | None = Field(
        None, gt=0, description="of both branches; those learned with the set, else 0.1, when none"
    )
    text_rate: Literal["own", "image"] = Field(
        "own", description="learned rate of the text branch: its own, or the image branch's as MVL's code has it"
    )
    drop: bool = Field(True, description="divide both rates by ten in the middle")
    weight_decay: float = Field(5e-4, ge=0, description="of SGD, whose momentum is 0.9")
    loss: Literal["auto", "infonce", "wbce", "bce", "mse", "cwcl", "kl"] = Field(
        "auto", description="auto: wbce of a set with a learned similarity, else infonce"
    )
    selection: Literal["last", "best_test"] = Field(
        "last", description="test after the last epoch, or every ten epochs, of which the best counts"
    )


class Retrieval(Evaluator):
    """Trains two branches on a set's pairs, and ranks all captions of the test split by each image and vice versa.

    The headline is the share of images whose first caption is their own (TR@1). A set's texts are the vectors that it
    holds, else the captions of the training images that it consists of, else its prompts, else what the captioner says
    of its images.
    """

    Options = RetrievalOptions
    presets = "retrieval.toml"
    default_repeats = 5
    needs_network = False

    def check(self, ctx: Context, holds: Collection[str]) -> None:
        """Refuse texts of another encoder, one of images that cannot be used, and a captioner of no test images."""
        from ddbench_plugins.pairs.encoders import check_image_encoder
        from ddbench_plugins.pairs.identity import about_texts

        check_image_encoder(ctx, ctx.options)
        if "captioner" in ctx.resolved.explicit:  # the default fits, and needs no torch to be looked at
            from ddbench_plugins.pairs.features import check_captioner

            check_captioner(ctx, ctx.options.captioner)
        told = [name for name in holds if name.startswith("texts:")]
        if told and about_texts(ctx, ctx.options) not in told:
            raise UsageError(
                f"The texts of {ctx.method} will be vectors of another encoder than {_name(ctx.options.text_encoder)},"
                " or pooled otherwise.",
                hint="Name one text_encoder, and one pooling, of method and eval.",
            )

    def identity(self, ctx: Context) -> Mapping[str, Any]:
        """Return which weights encode images and texts, in place of their folders."""
        from ddbench_plugins.pairs.identity import identity

        return identity(ctx, ctx.options)

    def weights(self, ctx: Context) -> list[Weights]:
        """Return the models of hubs that are read."""
        from ddbench_plugins.pairs.encoders import published_weights

        return published_weights(ctx.options)

    def needs(self, ctx: Context, distilled: DistilledSet, repeat: int) -> list[StepCall]:
        """Return features and text vectors of both splits, and of the set where nothing says what it shows."""
        from ddbench_plugins.pairs.features import steps, text_vectors_of

        own = _source(ctx, distilled) == "captioner"
        return [
            *steps(ctx, ctx.options, test=True),
            *([text_vectors_of(_as_training(ctx, distilled), ctx.options, "train")] if own else []),
        ]

    def protocol(self, ctx: Context, distilled: DistilledSet) -> Protocol:
        """Everything the numbers depend on."""
        from ddbench_plugins.pairs.encoders import pooling
        from ddbench_plugins.pairs.features import text_vectors_of
        from ddbench_plugins.pairs.identity import identity

        options: RetrievalOptions = ctx.options
        weights = identity(ctx, options)
        _check_texts(ctx, distilled)
        head = options.trained == "head"
        return Protocol(
            {
                "network": ctx.network,
                "label_type": "texts",
                "selection": options.selection,
                "image_encoder": [options.image_encoder, weights["image_encoder"]],
                "text_encoder": [_name(options.text_encoder), weights["text_encoder"], pooling(options)],
                "trained": ["image head" if head else "image encoder", "text head"],
                **({"width": options.width} if head else {}),
                "standardise": options.standardise,
                "captioner": options.captioner,
                "words": options.words,
                "test_captions": text_vectors_of(ctx, options, "test").done().info["texts"],
                "texts": "vectors of the set, else captions of its training images, its prompts, or the captioner's",
                "epochs": options.epochs,
                "batch_size": options.batch_size,
                "optimiser": "SGD, momentum 0.9",
                "weight_decay": options.weight_decay,
                "lr": options.lr or f"{Protocol.LEARNED}, else {RATE}",
                "text_rate": options.text_rate,
                "schedule": f"×0.1 after {options.epochs // 2 + 1} epochs" if options.drop else "constant",
                "loss": options.loss if options.loss != "auto" else "WBCE by the set's similarity, else InfoNCE",
                "temperature": 0.07,
                "augmentation": [],
                "image_size": ctx.dataset.image_size,
            }
        )

    def evaluate(self, ctx: Context, distilled: DistilledSet, repeat: int) -> Score:
        """Train the branches on the set, and test."""
        from ddbench_plugins.pairs.branches import Training
        from ddbench_plugins.pairs.setting import Setting
        from ddbench_plugins.training.engine import Loop

        options, seed = ctx.options, ctx.seed("retrieval", repeat)
        _check_texts(ctx, distilled)
        setting = Setting(ctx, options, seed)
        branches = setting.branches(seed)
        recipe = recipe_of(options, distilled)
        training = Training(branches, _pairs(ctx, distilled, setting), recipe, seed)
        tests: list[tuple[int, dict[str, float], NDArray[Any]]] = []

        def test(done: int) -> None:
            if done == options.epochs or (options.selection == "best_test" and done % TESTS == 1):
                tests.append((done, *_tested(ctx, setting, branches, seed)))

        with ctx.progress("branches", options.epochs) as advance:
            # An interrupted training begins again: it takes seconds, and its tests are not in its state.
            training.run(Loop(ctx.machine.device, ctx.machine.precision, progress=advance), test)
        _, figures, correct = tests[-1]
        several = len(tests) > 1
        rates = {"learning_rate": recipe.lr_image, "text_learning_rate": recipe.lr_text}
        return Score(
            last=float(correct.mean()),
            best=max(float(drawn.mean()) for _, _, drawn in tests) if several else None,
            correct=correct,
            curve=[(done, float(drawn.mean())) for done, _, drawn in tests],
            metrics={
                **figures,
                **({"best_r_mean": max(found["r_mean"] for _, found, _ in tests)} if several else {}),
                **(rates if distilled.texts is not None and not options.lr else {}),
            },
        )


def recipe_of(options: RetrievalOptions, distilled: DistilledSet) -> Recipe:
    """Return how branches are trained on a set."""
    from ddbench_plugins.pairs.branches import Recipe

    # A rate without texts is that of a classifier, which another method has learned.
    image_rate, own = (distilled.learning_rate, distilled.texts.learning_rate) if distilled.texts else (None, None)
    image = options.lr or image_rate or RATE
    return Recipe(
        epochs=options.epochs,
        batch_size=options.batch_size,
        lr_image=image,
        lr_text=image if options.text_rate == "image" else options.lr or own or RATE,
        loss=options.loss if options.loss != "auto" else "infonce" if distilled.similarity is None else "wbce",
        momentum=0.9,
        weight_decay=options.weight_decay,
        drop_at=options.epochs // 2 + 1 if options.drop else None,
    )


def _tested(ctx: Context, setting: Setting, branches: Branches, seed: int) -> tuple[dict[str, float], NDArray[Any]]:
    """Return the figures of the test split, and which images find a caption of theirs first, equals being drawn."""
    import numpy as np

    from ddbench_plugins.pairs.branches import cosines
    from ddbench_plugins.pairs.features import captioned
    from ddbench_plugins.pairs.ranking import alike, class_hits, hits, recalls

    images, texts = setting.embed(branches, "test")
    known, labels = captioned(ctx, setting.options, "test"), ctx.dataset.test.labels
    scores = cosines(images, texts).numpy()
    owners = known.owners.numpy()
    own = owners[None] == np.arange(len(images))[:, None]
    figures = recalls(scores, own)
    if len(set(known.texts)) < len(known.texts):  # else the same
        figures |= {f"group_{name}": value for name, value in recalls(scores, alike(own, known.texts)).items()}
    if ctx.dataset.num_classes > 1:
        figures |= class_hits(scores, labels, labels[owners])
    drawn = np.random.default_rng(seed).random(len(images)) < hits(scores, own, 1)
    return figures, drawn


def _pairs(ctx: Context, distilled: DistilledSet, setting: Setting) -> Pairs:
    """Return the pairs of a set as the branches take them."""
    import torch

    from ddbench_plugins.pairs.branches import Pairs
    from ddbench_plugins.pairs.encoders import pooling
    from ddbench_plugins.pairs.features import captioned, cleaned, vectors_of
    from ddbench_plugins.training.students import training_tensors

    options, data = setting.options, ctx.dataset
    if distilled.whole:
        known = setting.captions
        return Pairs(setting.real("train"), known.owners, setting.texts(known.vectors))
    match _source(ctx, distilled):
        case "vectors":
            assert distilled.texts is not None
            vectors = torch.from_numpy(distilled.texts.embeddings)
        case "source":
            places = {name: place for place, name in enumerate(data.train.ids)}
            first = _first(setting.captions.owners.tolist())
            chosen = [first[places[name]] for name in distilled.source_ids or ()]
            vectors = setting.captions.vectors[chosen]
        case "prompts":
            prompts = [
                text if options.words is None else cleaned(text, options.words) for text in distilled.prompts or ()
            ]
            vectors = torch.from_numpy(vectors_of(ctx, options.text_encoder, pooling(options), prompts))
        case _:
            known = captioned(_as_training(ctx, distilled), options, "train")
            first = _first(known.owners.tolist())
            vectors = known.vectors[[first[place] for place in range(len(distilled.images))]]
    images, _ = training_tensors(distilled, data, data.image_size)
    with torch.no_grad():
        inputs = torch.cat([setting.inputs(part.to(setting.device)) for part in images.split(64)])
    similarity = None if distilled.similarity is None else torch.from_numpy(distilled.similarity.matrix())
    return Pairs(
        lambda rows: inputs[rows.to(setting.device)],
        torch.arange(len(images)),
        setting.texts(vectors),
        None if similarity is None else similarity.to(setting.device),
    )


def _source(ctx: Context, distilled: DistilledSet) -> str:
    """Return where the texts of a set come from."""
    if distilled.texts is not None:
        return "vectors"
    if distilled.source_ids and set(distilled.source_ids) <= set(ctx.dataset.train.ids):
        return "source"
    return "prompts" if distilled.prompts and all(text.strip() for text in distilled.prompts) else "captioner"


def _as_training(ctx: Context, distilled: DistilledSet) -> Context:
    """Return the run with a set's images as its training split, which is what captioners describe."""
    from ddbench_plugins.training.pixels import to_bytes
    from ddbench_plugins.training.students import training_tensors

    data = ctx.dataset
    images, _ = training_tensors(distilled, data, data.image_size)
    shown = images.permute(0, 2, 3, 1).numpy() if distilled.space == "rgb_uint8" else to_bytes(images, truncate=False)
    split = Split(ArrayImages(shown), distilled.labels, tuple(f"{place:06d}" for place in range(len(shown))))
    about = [data.fingerprint, "set", digest(split.checksum())]
    return ctx.with_dataset(replace(data, train=split, fingerprint=digest(about)))


def _check_texts(ctx: Context, distilled: DistilledSet) -> None:
    """Refuse vectors that another encoder made.

    Raises:
        UsageError: they were.
    """
    from ddbench_plugins.pairs.encoders import pooling
    from ddbench_plugins.pairs.identity import identity

    made, options = distilled.texts, ctx.options
    if made is None:
        return
    mine = (identity(ctx, options)["text_encoder"], pooling(options))
    if (made.weights, made.pooling) != mine:
        raise UsageError(
            f"The texts of this set are vectors of {made.encoder} ({made.pooling}, weights {made.weights}), not of"
            f" {_name(options.text_encoder)} ({mine[1]}, weights {mine[0]}).",
            hint=f"-o eval.text_encoder={made.encoder} -o eval.pooling={made.pooling}",
        )


def _name(encoder: str) -> str:
    return encoder.rstrip("/").rpartition("/")[2] or encoder


def _first(owners: list[int]) -> dict[int, int]:
    """Return the place of the first caption of each image."""
    return {owner: place for place, owner in reversed(list(enumerate(owners)))}
