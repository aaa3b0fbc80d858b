"""The generator: trained against a discriminator on the data set, or read from a file; and whether it can be used."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

import ddbench
from ddbench_plugins.diffusion.loop import Ema
from ddbench_plugins.matching.images import RealImages
from ddbench_plugins.methods.itgan.networks import Discriminator, Generator, generator_of, normalised, plain
from ddbench_plugins.teachers.bundled import sha256
from ddbench_plugins.teachers.files import read_state
from ddbench_plugins.teachers.observers import get_teacher, teacher_of
from ddbench_plugins.training.dsa import apply, draw
from ddbench_plugins.training.engine import Functions, Loop
from ddbench_plugins.training.numbers import moved
from ddbench_plugins.training.pixels import to_bytes
from ddbench_plugins.training.seeding import batch_indices, make_generator, seeded, stream_seed

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "generator.safetensors"
#: Images of each class that the gate looks at, and batches that set the batch norms of the averaged generator.
JUDGED, STANDING = 20, 32
_BATCH, _REAL, _LATENTS, _FAKE, _STANDING, _JUDGED = range(1, 7)


@dataclass(frozen=True)
class GanRecipe:
    """How the generator is trained; see the options of the method."""

    steps: int
    batch: int
    z: int
    width: int
    critic_steps: int
    lr: float
    ema: float


@ddbench.step(
    needs=lambda ctx, recipe, file, judge: [teacher_of(ctx, judge)],
    work=lambda ctx, recipe, file, judge: 0 if file else recipe.steps * recipe.batch * recipe.critic_steps,
)
def gan(ctx: ddbench.Context, out: ddbench.Step, recipe: GanRecipe, file: Path | None, judge: str) -> None:
    """Train a generator once for all seeds and IPCs, or take a file's, and see how many of its images are recognised.

    Args:
        recipe: how it is trained.
        file: with the generator's weights instead.
        judge: network, trained on real images, that names the generator's.
    """
    from safetensors.torch import save_file

    data = ctx.dataset
    shape = {"classes": data.num_classes, "size": data.image_size, "channels": len(data.mean)}
    seed = ddbench.derive_seed(0, "it-gan generator")
    if file:
        generator = generator_of(read_state(file), **shape).to(ctx.machine.device)
    else:
        training = Training(ctx, recipe, shape, seed)
        with ctx.progress("generator", recipe.steps) as advance:
            functions = Functions(training.step, training.state, training.restore)
            loop = Loop.of(ctx, advance, out)
            loop.run(functions, recipe.steps, name="the generator", hint="Lower method.gan_lr", every=10)
        generator = training.finished()
    labels = torch.arange(data.num_classes, device=ctx.machine.device).repeat_interleave(JUDGED)
    z = torch.randn((len(labels), generator.z), generator=make_generator(seed, _JUDGED)).to(labels.device)
    with torch.no_grad():
        images = to_bytes(torch.cat([generator(*part) for part in batches(z, labels)]).cpu(), truncate=False)
    named = get_teacher(ctx, judge, floor=False).predict(images)
    save_file({name: value.contiguous().cpu() for name, value in generator.state_dict().items()}, out.dir / WEIGHTS)
    out.info.update(
        recognised=float(np.mean(named == labels.cpu().numpy())),
        weights=sha256(out.dir / WEIGHTS),
        bytes=(out.dir / WEIGHTS).stat().st_size,
    )


def batches(z: Tensor, labels: Tensor, most: int = 500) -> zip[tuple[Tensor, Tensor]]:
    """Split latents and classes into parts of at most 500."""
    return zip(z.split(most), labels.split(most), strict=True)


def load(ctx: ddbench.Context, done: ddbench.Done) -> Generator:
    """Return the generator of a finished step, frozen, on the run's device."""
    data = ctx.dataset
    state = read_state(done.dir / WEIGHTS)
    generator = generator_of(state, classes=data.num_classes, size=data.image_size, channels=len(data.mean))
    generator.to(ctx.machine.device)
    return generator


class Training:
    """Hinge loss, both sides augmented (DiffAugment), Adam, and an average of the generator's weights."""

    def __init__(self, ctx: ddbench.Context, recipe: GanRecipe, shape: dict[str, int], seed: int) -> None:
        self.recipe, self.seed, self.device = recipe, seed, torch.device(ctx.machine.device)
        self.data, self.loop = ctx.dataset, Loop.of(ctx)
        self.real = RealImages(ctx.dataset, device=ctx.machine.device)
        self.labels = torch.tensor(ctx.dataset.train.labels)
        with seeded(seed):
            generator = normalised(Generator(z=recipe.z, width=4 * recipe.width, **shape))
            discriminator = normalised(Discriminator(width=4 * recipe.width, **shape))
        layout = torch.channels_last
        self.generator = generator.to(self.device, memory_format=layout)
        self.discriminator = discriminator.to(self.device, memory_format=layout)
        self.parameters = list(self.generator.parameters())
        adam = [torch.optim.Adam(network.parameters(), recipe.lr, (0.0, 0.999)) for network in self.networks]
        self.adam = dict(zip(("generator", "discriminator"), adam, strict=True))
        self.ema = Ema(self.parameters, recipe.ema)

    @property
    def networks(self) -> tuple[torch.nn.Module, torch.nn.Module]:
        """Both sides."""
        return self.generator, self.discriminator

    def step(self, number: int) -> dict[str, float]:
        """Take ``critic_steps`` steps of the discriminator and one of the generator; return their losses."""
        for turn in range(self.recipe.critic_steps):
            x, labels = self._real(number * self.recipe.critic_steps + turn)
            with torch.no_grad(), self.loop.autocast():
                fake = self._fake(labels, number, turn)
            scores = [
                self._scores(image, labels, stream, number, turn)
                for stream, image in ((_REAL, x), (_FAKE, fake.float()))
            ]
            critic = F.relu(1 - scores[0]).mean() + F.relu(1 + scores[1]).mean()
            self._take(critic, "discriminator")
        labels = self._real(number * self.recipe.critic_steps)[1]
        with self.loop.autocast():
            fake = self._fake(labels, number, self.recipe.critic_steps)
        loss = -self._scores(fake, labels, _FAKE, number, self.recipe.critic_steps).mean()
        self._take(loss, "generator")
        self.ema.update(self.parameters)
        return {"loss": float(loss.detach()), "critic": float(critic.detach())}

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        adam = {f"adam {name}": optimiser.state_dict() for name, optimiser in self.adam.items()}
        sides = {"generator": self.generator.state_dict(), "discriminator": self.discriminator.state_dict()}
        return {**sides, **adam, "ema": self.ema.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        for name, optimiser in self.adam.items():
            optimiser.load_state_dict(state[f"adam {name}"])
        self.ema.load_state_dict(state["ema"])

    @torch.no_grad()
    def finished(self) -> Generator:
        """Return the averaged generator, its batch norms with statistics of its own."""
        self.ema.copy_to(self.parameters)
        averaged = plain(copy.deepcopy(self.generator).eval())
        for module in averaged.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None  # the mean over all batches
        averaged.train()
        for number in range(STANDING):
            generator = make_generator(self.seed, _STANDING, number + 1)
            labels = torch.randint(self.data.num_classes, (self.recipe.batch,), generator=generator)
            z = torch.randn((self.recipe.batch, self.recipe.z), generator=generator)
            averaged(moved(z, self.device), moved(labels, self.device))
        assert isinstance(averaged, Generator)
        averaged.eval().requires_grad_(False)
        return averaged

    def _real(self, number: int) -> tuple[Tensor, Tensor]:
        """Return a batch of real images in [−1, 1] and their classes."""
        positions = batch_indices(len(self.labels), self.recipe.batch, number, stream_seed(self.seed, _BATCH))
        std, mean = (torch.tensor(v, device=self.device).view(1, -1, 1, 1) for v in (self.real.std, self.real.mean))
        return (self.real.at(positions) * std + mean) * 2 - 1, moved(self.labels[positions], self.device)

    def _fake(self, labels: Tensor, number: int, turn: int) -> Tensor:
        z = torch.randn(
            (len(labels), self.recipe.z), generator=make_generator(self.seed, _LATENTS, number + 1, turn + 1)
        )
        made: Tensor = self.generator(moved(z, self.device), labels) * 2 - 1
        return made

    def _scores(self, x: Tensor, labels: Tensor, stream: int, number: int, turn: int) -> Tensor:
        """Return the discriminator's scores of augmented images: colour, translation and cutout, drawn per image."""
        generator = make_generator(self.seed, stream, number + 1, turn + 1)
        drawn = [draw(operator, len(x), x.shape[-1], generator) for operator in ("color", "crop", "cutout")]
        with self.loop.autocast():
            shown = apply(x, moved(drawn, self.device)).contiguous(memory_format=torch.channels_last)
            scores: Tensor = self.discriminator(shown, labels)
        return scores.float()

    def _take(self, loss: Tensor, side: str) -> None:
        optimiser = self.adam[side]
        optimiser.zero_grad()
        loss.backward(inputs=[p for group in optimiser.param_groups for p in group["params"]])
        optimiser.step()
