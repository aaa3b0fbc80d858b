from ddbench_plugins.datasets.listing import File, Files
from hypothesis import given
from hypothesis import strategies as st

name = st.text("ab.é 0", min_size=1, max_size=8)
number = st.integers(-1, 2**60)


@st.composite
def files(draw):
    folder = "/" + "/".join(draw(st.lists(name, max_size=3)))
    inner = draw(st.lists(name, max_size=2))
    own = draw(name)
    return File(draw(st.integers(0, 999)), "/".join(["n1", *inner, own]), f"{folder}/{own}", draw(number), draw(number))


@given(st.lists(files(), max_size=20))
def test_columns_give_back_the_files(found):
    kept = Files(found)
    assert list(kept) == found and len(kept) == len(found)
    assert list(kept.places) == [file.place for file in found]
    assert list(kept.ids) == [file.id for file in found] and kept.labels.tolist() == [file.label for file in found]
    assert not found or kept[-1] == found[-1]
