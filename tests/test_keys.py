from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddbench.keys import canonical, derive_seed, digest, digest_bytes

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)


@given(plain)
def test_canonical_is_json_and_a_fixed_point(value):
    text = canonical(value)
    assert canonical(json.loads(text)) == text


@given(st.dictionaries(st.text(max_size=6), plain, max_size=6))
def test_key_does_not_depend_on_order(mapping):
    assert digest(mapping) == digest(dict(reversed(mapping.items())))


@given(plain, plain)
def test_equal_keys_mean_equal_content(a, b):
    assert (digest(a) == digest(b)) == (canonical(a) == canonical(b))


def test_one_and_one_point_zero_are_the_same_setting():
    assert digest({"strength": 1}) == digest({"strength": 1.0})


def test_whole_numbers_are_the_same_as_long_as_a_float_counts_by_ones():
    assert canonical(float(2**53 - 1)) == canonical(2**53 - 1) == str(2**53 - 1)
    assert canonical(-float(2**53 - 1)) == str(1 - 2**53)
    assert canonical(0.1) == "0.1" and canonical(True) == "true" != canonical(1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_nan_in_a_key(value):
    with pytest.raises(ValueError, match="no place in a key"):
        digest([value])


@pytest.mark.parametrize("value", [object(), {1: 2}, b"bytes", {1, 2}])
def test_only_plain_data_makes_a_key(value):
    with pytest.raises(TypeError):
        digest(value)


@given(st.integers(0, 2**31), st.text(max_size=8), st.integers(0, 99))
def test_seeds_are_31_bits_and_repeatable(base, role, index):
    seed = derive_seed(base, role, index)
    assert 0 <= seed < 2**31
    assert seed == derive_seed(base, role, index)


def test_roles_and_indices_are_independent():
    seeds = {derive_seed(base, role, i) for base in range(3) for role in ("student", "latents") for i in range(50)}
    assert len(seeds) == 300


def test_borders_between_chunks_count():
    assert digest_bytes(b"ab", b"c") != digest_bytes(b"a", b"bc")
