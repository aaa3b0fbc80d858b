import numpy as np
import pytest
from PIL import ImageStat

from ddbench.errors import UsageError
from ddbench.figures.gallery import GAP, contact_sheet, displayable, prompt_sheet
from ddbench.plugin.contracts import DistilledSet

NAMES = ("zero", "one", "two")


def make(ipc=2, side=16, channels=1, space="rgb_uint8", prompts=None, classes=3):
    rng = np.random.default_rng(0)
    shape = (classes * ipc, side, side, channels)
    images = (
        rng.integers(0, 256, shape).astype(np.uint8)
        if space == "rgb_uint8"
        else rng.normal(size=shape).astype(np.float32)
    )
    return DistilledSet(images, np.repeat(np.arange(classes), ipc), space, prompts=prompts)


def test_tiny_images_are_enlarged_by_a_whole_factor_without_blur():
    images = np.zeros((3, 16, 16, 3), np.uint8)
    images[:, :8] = (255, 0, 0)
    sheet = contact_sheet([DistilledSet(images, np.arange(3))], NAMES)
    colours = {colour for _, colour in sheet.getcolors(10**6)}
    assert (255, 0, 0) in colours and (0, 0, 0) in colours
    assert not any(r not in (0, 255) and g == b == 0 for r, g, b in colours)  # nothing between red and black
    assert sum(count for count, colour in sheet.getcolors(10**6) if colour == (255, 0, 0)) == 3 * 48 * 24


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 32, 224])
def test_grey_and_rgb_of_any_size(channels, side):
    sheet = contact_sheet([make(side=side, channels=channels)], NAMES)
    assert sheet.mode == "RGB"
    assert sheet.height < 3 * (128 + GAP) + 60


def test_long_titles_go_on_in_further_lines_instead_of_moving_sets_apart():
    short, long = (
        contact_sheet([make()] * 2, NAMES, [title] * 2) for title in ("a", "a method with " + "an option, " * 30)
    )
    assert long.width < 2 * short.width and long.height > short.height


def test_sets_stand_side_by_side_with_titles():
    one = contact_sheet([make()], NAMES, ["random"])
    two = contact_sheet([make(), make(ipc=5)], NAMES, ["random", "vlcp"])
    assert two.width > one.width and two.height == one.height
    with pytest.raises(UsageError, match="1 titles"):
        contact_sheet([make(), make()], NAMES, ["random"])
    with pytest.raises(UsageError, match="at least one"):
        contact_sheet([], NAMES)


def test_many_classes_and_images_are_limited():
    names = [f"class {number}" for number in range(1000)]
    many = DistilledSet(np.zeros((1000, 8, 8, 1), np.uint8), np.arange(1000))
    sheet = contact_sheet([many], names)
    assert sheet.height < 40 * 50 + 100
    wide = contact_sheet([make(ipc=50)], NAMES)
    assert wide.width < 10 * 50 + 200


def test_float_spaces_are_made_visible_and_left_unchanged():
    unit = DistilledSet(np.array([[[[-0.5]]], [[[0.5]]], [[[1.5]]]], np.float32), np.arange(3), "unit")
    assert displayable(unit, [0, 1, 2], None).ravel().tolist() == [0, 128, 255]
    assert unit.images.min() == -0.5
    raw = np.array([0.0, 0.25, 1.0], np.float32).reshape(3, 1, 1, 1)
    normalized = DistilledSet((raw - 0.4) / 0.2, np.arange(3), "normalized")
    assert displayable(normalized, [0, 1, 2], ([0.4], [0.2])).ravel().tolist() == [0, 64, 255]
    for space in ("normalized", "zca"):
        sheet = contact_sheet([make(space=space)], NAMES)
        assert max(ImageStat.Stat(sheet).stddev) > 20


def test_a_constant_float_set_can_be_drawn():
    constant = DistilledSet(np.zeros((3, 8, 8, 1), np.float32), np.arange(3), "zca")
    assert displayable(constant, [0], None).max() == 0


def test_a_class_without_images_leaves_its_row_empty():
    sheet = contact_sheet([make(classes=2)], NAMES)
    assert sheet.height > 3 * 48


def test_prompts_stand_beside_their_images():
    long = "a round zero drawn with one thick closed stroke that leans to the right " * 3
    sheet = prompt_sheet(make(prompts=(long,) * 6), NAMES, per_class=2)
    short = prompt_sheet(make(prompts=("a zero",) * 6), NAMES, per_class=2)
    assert sheet.height > short.height
    with pytest.raises(UsageError, match="no prompts"):
        prompt_sheet(make(), NAMES)


def test_what_prototypes_stand_for_is_drawn_between_image_and_text():
    texts = ("a zero",) * 6
    plain = prompt_sheet(make(prompts=texts), NAMES, per_class=2, text_width=200)
    red = np.zeros((3, 16, 16, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
    members = {label: [red, red[:1]] for label in range(3)}
    sheet = prompt_sheet(make(prompts=texts), NAMES, per_class=2, text_width=200, members=members)
    tile = 48
    assert sheet.height == plain.height and sheet.width - plain.width == 3 * (tile + GAP) + 12
    drawn = (np.asarray(sheet) == (255, 0, 0)).all(-1)
    assert drawn.sum() == 3 * (3 + 1) * tile * tile


def test_the_same_set_gives_the_same_picture():
    assert contact_sheet([make()], NAMES).tobytes() == contact_sheet([make()], NAMES).tobytes()
