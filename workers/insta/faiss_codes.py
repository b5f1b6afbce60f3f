"""FAISS over an index's mapped vectors: nothing is copied, its float16 codes are our rows, byte for byte."""

import importlib
import importlib.util
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray


def has_faiss() -> bool:
    return importlib.util.find_spec("faiss") is not None


def load_faiss() -> Any:
    """The module, whichever release is installed."""
    with warnings.catch_warnings():  # SWIG's types have no __module__
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module("faiss")


def scalar_index(vectors: NDArray[np.float16]) -> Any:
    """An IndexScalarQuantizer of inner products over (N, d), which must outlive it."""
    faiss = load_faiss()
    index = faiss.IndexScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    codes = np.asarray(vectors).reshape(-1).view(np.uint8)
    if len(codes):
        try:
            view = faiss.MaybeOwnedVectorUInt8.create_view
            index.codes = view(faiss.swig_ptr(codes), codes.nbytes, index.codes.owner)
        except (AttributeError, TypeError):  # another release of FAISS: it gets a copy
            faiss.copy_array_to_vector(codes, index.codes)
    index.ntotal = len(vectors)
    return index
