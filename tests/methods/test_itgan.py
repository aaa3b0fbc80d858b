"""IT-GAN: a generator, latents that give back training images, and more informative ones (Zhao and Bilen 2022)."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import ddbench
from ddbench.experiment import dependencies
from ddbench.experiment.pipeline import distil, prepare_method
from ddbench.plugin.options import Preset
from ddbench.testing.conformance import check_method
from ddbench.testing.toy import toy_dataset

torch = pytest.importorskip("torch")
from ddbench_plugins.matching.images import RealImages  # noqa: E402
from ddbench_plugins.methods.itgan.gan import GanRecipe, Training  # noqa: E402
from ddbench_plugins.methods.itgan.matching import Informing, Inversion, LatentImages, Settings  # noqa: E402
from ddbench_plugins.methods.itgan.networks import Discriminator, Generator, generator_of, normalised, plain  # noqa: E402
from ddbench_plugins.networks import convnet  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch import nn  # noqa: E402

SHAPE = {"classes": 3, "size": 8, "channels": 3}
SETTINGS = Settings(batch=2, precision="fp32", seed=5)
QUICK = {
    **{"gan_steps": 3, "gan_batch": 6, "gan_width": 1, "z": 4, "recognised": 0, "judge": "convnet-1"},
    **{
        "inversion_steps": 3,
        "inversion_network": "convnet-1",
        "iterations": 3,
        "network": "convnet-1",
        "batch_real": 4,
    },
}


def _generator(seed=0):
    torch.manual_seed(seed)
    return Generator(z=4, width=8, **SHAPE).eval().requires_grad_(False)


def _network(number=0):
    torch.manual_seed(number)
    return convnet.build(in_channels=3, image_size=8, num_classes=3, depth=2, width=4)


def _images(generator=None, ipc=2, lr=0.01):
    real = RealImages(toy_dataset(per_class=6, channels=3))
    z = torch.randn((3 * ipc, 4), generator=torch.Generator().manual_seed(1))
    partners = torch.cat([real.members(label)[:ipc] for label in range(3)])
    return LatentImages(z, ipc, lr, generator or _generator(), real, partners)


def _informing(images, r, strategy=()):
    return Informing(images, SETTINGS, _network, r=r, batch_real=4, strategy=strategy)


# The networks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "blocks"), [(8, 1), (16, 2), (28, 3), (32, 3), (64, 4)])
def test_sides(size, blocks):
    generator = Generator(z=4, width=4, classes=2, size=size, channels=1)
    images = generator(torch.randn(3, 4), torch.tensor([0, 1, 1])).detach()
    assert images.shape == (3, 1, size, size)
    assert len(generator.blocks) == blocks
    assert 0 <= float(images.min()) <= float(images.max()) <= 1
    assert Discriminator(width=4, classes=2, size=size, channels=1)(images, torch.tensor([0, 1, 1])).shape == (3,)


def test_the_spectral_norm_is_written_into_the_weights():
    torch.manual_seed(0)
    trained = normalised(Generator(z=4, width=8, **SHAPE)).eval()
    z, labels = torch.randn(3, 4), torch.tensor([0, 1, 2])
    before = trained(z, labels)
    assert float(torch.linalg.matrix_norm(trained.linear.weight.detach(), 2)) == pytest.approx(1, abs=0.1)
    loaded = generator_of(plain(trained).state_dict(), **SHAPE)
    torch.testing.assert_close(loaded(z, labels), before)


def test_a_generator_of_another_data_set_is_refused():
    state = _generator().state_dict()
    with pytest.raises(ddbench.ModelError, match="has 3 classes and 3 channels, the data set 10 and 3"):
        generator_of(state, classes=10, size=8, channels=3)
    with pytest.raises(ddbench.ModelError, match="do not fit a generator of 32 pixels"):
        generator_of(state, classes=3, size=32, channels=3)
    with pytest.raises(ddbench.ModelError, match="not the state of a generator"):
        generator_of({"weight": torch.zeros(1)}, classes=3, size=8, channels=3)


def test_the_average_of_the_generator_is_kept_and_a_resumed_training_ends_alike():
    machine = SimpleNamespace(device="cpu", precision="fp32")
    ctx = SimpleNamespace(dataset=toy_dataset(channels=3), machine=machine, checkpoint=None, checkpoint_seconds=60)

    def training(ema=0.9):
        return Training(ctx, GanRecipe(3, 6, 4, 2, 2, 1e-2, ema), SHAPE, seed=3)

    straight, first, second = training(), training(), training()
    for number in range(3):
        straight.step(number)
    first.step(0)
    second.restore(first.state())
    for number in (1, 2):
        second.step(number)
    wanted, found = straight.finished().state_dict(), second.finished().state_dict()
    assert all(torch.equal(value, found[name]) for name, value in wanted.items())
    begun = plain(training().generator).state_dict()
    assert not torch.equal(wanted["output.weight"], begun["output.weight"])


# The latents ------------------------------------------------------------------------------------------------------


def test_normalised_images_are_those_shown():
    images = _images()
    made = torch.cat([images.made(label, torch.arange(2)) for label in range(3)]).detach()
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (images.real.mean, images.real.std))
    torch.testing.assert_close(made * std + mean, images.shown)


@pytest.mark.parametrize("kind", ["inversion", "informing"])
def test_a_latent_of_its_partner_has_nothing_to_gain(kind, monkeypatch):
    images = _images()
    monkeypatch.setattr(images, "partners_of", lambda label, chosen: images.made(label, chosen).detach())
    work = Inversion(images, SETTINGS, _network()) if kind == "inversion" else _informing(images, r=1.0)
    loss = work._loss(0, 0, torch.arange(2))
    assert float(loss.detach()) == 0
    assert not torch.autograd.grad(loss, images.images)[0].any()


class _Linear(nn.Module):
    """Images that are linear in 192 numbers: any image has a latent."""

    def forward(self, z, labels):
        return (z @ self.basis).view(-1, 3, 8, 8)

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.basis = torch.linalg.qr(torch.randn((192, 192), generator=generator))[0]


def test_partners_are_kept_where_nothing_else_counts():
    real = RealImages(toy_dataset(per_class=6, channels=3))
    z = torch.zeros(6, 192)
    images = LatentImages(z, 2, 0.1, _Linear(), real, torch.cat([real.members(label)[:2] for label in range(3)]))
    network = _network()
    work = Informing(images, SETTINGS, lambda number: network, r=1.0, batch_real=4, strategy=())
    losses = [float(work.step(number)) for number in range(60)]
    assert losses[-1] < 0.05 * losses[0]


def test_the_loss_by_hand():
    images, r = _images(), 0.3
    loss = _informing(images, r)._loss(1, 2, torch.tensor([1, 0]))
    network = _network(2 * 3 + 1)
    made = network.embed(images.made(1, torch.tensor([1, 0]))).detach()
    partners = network.embed(images.partners_of(1, torch.tensor([1, 0])))
    close = ((made - partners) ** 2).sum(1).mean()
    from ddbench_plugins.methods.itgan.matching import _REAL
    from ddbench_plugins.training.seeding import make_generator

    real = network.embed(images.real.draw(1, 4, make_generator(SETTINGS.seed, _REAL, 3, 2)))
    wanted = r * close + (1 - r) * ((made.mean(0) - real.mean(0)) ** 2).sum()
    assert float(loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)


def test_classes_go_as_if_each_had_an_optimiser_of_its_own():
    together, alone = _images(), _images()
    work = _informing(together, 0.5)
    optimisers = []
    latents = [alone.of_class(label).detach().clone().requires_grad_() for label in range(3)]
    optimisers = [torch.optim.Adam([z], 0.01) for z in latents]
    other = _informing(alone, 0.5)
    for number in range(3):
        work.step(number)
        for label in (2, 0, 1):
            alone.of_class = lambda label: latents[label]
            optimisers[label].zero_grad()
            from ddbench_plugins.methods.itgan.matching import _CHOICE
            from ddbench_plugins.training.seeding import make_generator

            order = torch.randperm(2, generator=make_generator(SETTINGS.seed, _CHOICE, number + 1, label + 1))
            other._loss(label, number, order).backward()
            optimisers[label].step()
    torch.testing.assert_close(together.images.detach(), torch.cat(latents).detach())


# The method -------------------------------------------------------------------------------------------------------


def _prepared(ctx, preset="", ipc=2, data=None, **options):
    ctx = replace(ctx, _dataset=data or toy_dataset(per_class=6, channels=3), explicit={"method": options})
    return prepare_method(replace(ctx, preset=Preset.parse(preset)), "it-gan", ipc, 0)


def test_a_file_of_another_data_set_is_refused_beforehand(ctx, tmp_path):
    save_file(Generator(z=4, width=8, **SHAPE | {"classes": 5}).state_dict(), tmp_path / "five.safetensors")
    with pytest.raises(ddbench.ModelError, match="has 5 classes and 3 channels, the data set 3 and 3"):
        _prepared(ctx, **QUICK, generator_file=str(tmp_path / "five.safetensors"))


def test_the_weights_in_a_file_count_and_not_its_place(ctx, tmp_path):
    def key(path, seed):
        torch.manual_seed(seed)
        save_file(Generator(z=4, width=8, **SHAPE).state_dict(), tmp_path / path)
        method, mine, entry = _prepared(ctx, **QUICK, generator_file=str(tmp_path / path))
        return mine.depends(dependencies.artifact(method, mine, entry, 1))

    (tmp_path / "sub").mkdir()
    first = key("one.safetensors", 0)
    assert key("one.safetensors", 1) != first
    assert key("sub/one.safetensors", 0) == first


def test_stages_share_a_generator_that_stays_as_it_is(ctx):
    made = {}
    for latents in ("random", "inverted", "informative"):
        made[latents] = distil(_prepared(ctx, **QUICK, latents=latents)).content
        assert made[latents].space == "unit"
        assert made[latents].extra["latents"] == {"numbers": 24, "bytes": 96}
    assert len(list((ctx.store.root / "gan").iterdir())) == 1
    assert len({content.extra["generator"]["weights"] for content in made.values()}) == 1
    assert not np.array_equal(made["random"].images, made["inverted"].images)
    assert not np.array_equal(made["informative"].images, made["inverted"].images)
    file = next((ctx.store.root / "gan").glob("*/generator.safetensors"))
    own = distil(_prepared(ctx, **QUICK, generator_file=str(file))).content
    assert np.array_equal(own.images, made["informative"].images)


def test_images_that_are_not_recognised_stop_the_run(ctx):
    with pytest.raises(
        ddbench.ModelError, match=r"names the class of \d+% of the generator's images, fewer than the 100%"
    ):
        distil(_prepared(ctx, **QUICK | {"recognised": 1.0, "latents": "random"}))


def test_trained_networks_can_take_the_place_of_random_ones(ctx):
    random = distil(_prepared(ctx, **QUICK)).content
    trained = distil(_prepared(ctx, **QUICK, networks="trained", pool=1)).content
    assert not np.array_equal(random.images, trained.images)


def test_settings_of_the_authors_command_and_what_the_cpu_scale_shrinks(ctx, digits):
    cifar = replace(digits, name="cifar10", image_size=32)
    paper = _prepared(ctx, "paper", data=cifar)[1].options
    assert (paper.inversion_steps, paper.inversion_lr, paper.inversion_batch) == (5000, 0.1, 100)
    assert (paper.iterations, paper.lr_z, paper.batch, paper.batch_real, paper.r) == (10000, 0.001, 1250, 1250, 0.001)
    assert (paper.z, paper.gan_width, paper.networks, paper.latents) == (128, 64, "random", "informative")
    hundred = _prepared(ctx, "paper", data=replace(cifar, name="cifar100"))[1].options
    assert (hundred.batch, hundred.batch_real) == (500, 500)
    shrunk = {name for name, _, _ in _prepared(ctx, data=cifar)[1].resolved.shrunk}
    assert {"gan_steps", "gan_width", "z", "inversion_steps", "iterations", "batch_real", "network"} <= shrunk


def test_it_conforms(ctx):
    check_method(ctx.plugins.get("method", "it-gan").spec, options=QUICK)
