import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction import FeatureHasher
from sklearn.utils import murmurhash3_32

from kernels.columns.hashing import bucket_of, hash_strings

words = st.text(st.characters(codec="utf-8"), max_size=20)


@settings(deadline=None)  # the first call compiles
@given(
    st.lists(words, min_size=1, max_size=9), st.integers(1, 1 << 24), st.sampled_from([np.int32, np.int64])
)
def test_buckets_are_those_of_scikit_learns_hash(texts: list[str], n_buckets: int, wide: type) -> None:
    encoded = [text.encode() for text in texts]
    offsets = np.cumsum([0, *map(len, encoded)]).astype(wide)
    out = np.empty(len(texts))
    hash_strings(offsets, np.frombuffer(b"".join(encoded), np.uint8), n_buckets, out)
    assert out.tolist() == [abs(murmurhash3_32(text, seed=0)) % n_buckets for text in texts]
    assert out.tolist() == [bucket_of(text, n_buckets) for text in texts]


def test_a_feature_hasher_puts_a_word_into_the_same_bucket() -> None:
    hashed = FeatureHasher(16, input_type="string", alternate_sign=False).transform([["EWR"], ["é=ß"], [""]])
    assert hashed.indices.tolist() == [bucket_of(word, 16) for word in ("EWR", "é=ß", "")]


def test_strings_outside_of_the_data_have_no_bucket() -> None:
    out = np.empty(2)
    hash_strings(np.array([0, 99, 3]), np.frombuffer(b"abc", np.uint8), 8, out)
    assert np.isnan(out).all()
