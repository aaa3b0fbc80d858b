"""Class lists: counts, order and names, against what the field publishes."""

import pytest
from ddbench_plugins.datasets import names
from ddbench_plugins.datasets.cifar import CIFAR10, CIFAR100
from ddbench_plugins.datasets.imagenet import sources

#: List → number of classes, first, last, and labels by synset that are known.
KNOWN = {
    "imagenette": (10, "n01440764", "n03888257", {"n02979186": 2, "n03417042": 6}),
    "imagewoof": (10, "n02096294", "n02105641", {"n02086240": 4, "n02115641": 7, "n02099601": 8}),
    "imageidc": (10, "n02869837", "n01773797", {"n13037406": 4, "n04517823": 6}),
    "imagenet-100": (100, "n02869837", "n02090622", {"n02086240": 58, "n01820546": 35, "n04418357": 67}),
    "imagemeow": (10, "n02123045", "n02127052", {"n02129604": 6, "n02128757": 8}),
    "imagesquawk": (10, "n01806143", "n01819313", {"n01518878": 7}),
    "imagefruit": (10, "n07753275", "n07742313", {"n07749582": 4}),
    "imageyellow": (10, "n02206856", "n01531178", {"n04146614": 5, "n01773157": 8}),
    "tiny-imagenet": (200, "n01443537", "n12267677", {"n02099601": 26, "n03930313": 129, "n04596742": 174}),
    "imagenet-1k": (1000, "n01440764", "n15075141", {"n02869837": 452, "n02123045": 281, "n13037406": 993}),
}
NAMES = {
    "n01440764": "tench",
    "n02869837": "bonnet",
    "n02096294": "Australian terrier",
    "n02119022": "red fox",
    "n03888257": "parachute",
    "n12267677": "acorn",
    "n15075141": "toilet tissue",
    "n02086240": "Shih-Tzu",
}


@pytest.mark.parametrize("name", KNOWN)
def test_each_list_has_its_published_order(name):
    count, first, last, places = KNOWN[name]
    found = names.class_list(name)
    ids = list(found)
    assert (len(ids), ids[0], ids[-1]) == (count, first, last)
    assert {synset: ids.index(synset) for synset in places} == places
    assert {key: value for key, value in found.items() if key in NAMES} == {
        key: value for key, value in NAMES.items() if key in found
    }
    assert all(found.values())


def test_every_list_has_a_source_and_every_source_a_list():
    assert set(sources()) == set(KNOWN) == {*names.synsets(), "imagenet-1k"}


def test_which_lists_are_sorted_as_class_folders_are():
    """MinimaxDiffusion (misc/class_*.txt), IDC (misc/class100.txt) and MTT (utils.py) label by position in a list."""
    in_order = {name for name in KNOWN if list(names.class_list(name)) == sorted(names.class_list(name))}
    assert in_order == {"imagenette", "tiny-imagenet", "imagenet-1k"}
    idc = list(names.class_list("imageidc"))
    assert idc == list(names.class_list("imagenet-100"))[:10]
    assert [sorted(idc).index(name) for name in idc] == [5, 0, 4, 3, 9, 2, 7, 8, 6, 1]
    woof = list(names.class_list("imagewoof"))
    assert [sorted(woof).index(name) for name in woof] == [5, 4, 8, 2, 0, 3, 1, 9, 6, 7]


def test_subsets_are_of_imagenets_thousand_and_have_its_names():
    whole = names.class_list("imagenet-1k")
    for name, source in sources().items():
        listed = names.class_list(name)
        if source.get("subset"):
            assert listed.items() <= whole.items(), name
        assert all(names.lemma(key) == value for key, value in listed.items()), name


def test_the_published_positions_among_the_thousand():
    """IDC's and MTT's lists as indices of ImageNet-1K."""
    position = {synset: i for i, synset in enumerate(names.imagenet())}
    for name, wanted in {
        "imagewoof": [193, 182, 258, 162, 155, 167, 159, 273, 207, 229],
        "imageidc": [452, 64, 374, 236, 993, 176, 882, 904, 503, 74],
        "imagemeow": [281, 282, 283, 284, 285, 291, 292, 290, 289, 287],
        "imagesquawk": [84, 130, 88, 144, 145, 22, 96, 9, 100, 89],
        "imagefruit": [953, 954, 949, 950, 951, 957, 952, 945, 943, 948],
        "imageyellow": [309, 986, 954, 951, 987, 779, 599, 291, 72, 11],
    }.items():
        assert [position[synset] for synset in names.class_list(name)] == wanted, name


def test_timms_table_is_the_one_that_teachers_are_matched_by():
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    assert names.imagenet() == info.label_names()
    assert names.lemma("n02119022") == info.label_name_to_description("n02119022").partition(",")[0]
    assert names.lemma("n00000000") == "n00000000"


def test_cifars_classes():
    assert CIFAR10.ids[:2] == ("airplane", "automobile")
    assert len(set(CIFAR100.ids)) == 100
    assert list(CIFAR100.ids) == sorted(CIFAR100.ids)
    assert (CIFAR100.ids[1], CIFAR100.ids[99]) == ("aquarium_fish", "worm")
