"""The conformance checks of ddbench, and what only this method promises."""

import ddbench_hello
import numpy as np

from ddbench.testing.conformance import check_method
from ddbench.testing.toy import toy_dataset

(SPEC,) = ddbench_hello.ddbench_methods()


def test_it_keeps_the_contract():
    check_method(SPEC)


def test_a_group_of_one_is_a_training_image():
    distilled = check_method(SPEC, options={"group": 1})
    images, _ = toy_dataset().arrays("train")
    assert all((image == images).all((1, 2, 3)).any() for image in distilled.images)


def test_larger_groups_have_less_contrast():
    contrast = [float(np.std(check_method(SPEC, options={"group": n}).images)) for n in (1, 8)]
    assert contrast[1] < contrast[0]
