"""Street View House Numbers: cropped digits at 32×32."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddbench_plugins.datasets.arrays import Part
from ddbench_plugins.datasets.digits import NAMES
from ddbench_plugins.datasets.published import Published, opened


class SVHN(Published):
    """SVHN's cropped digits: ``train`` and ``test``, without the ``extra`` images; label 0 is the digit zero."""

    name = "svhn"
    ids = tuple("0123456789")
    names = NAMES
    stats = ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970))
    flip = False
    files = ("train_32x32.mat", "test_32x32.mat")
    what = "files"
    url = "http://ufldl.stanford.edu/housenumbers/{train,test}_32x32.mat"

    def read(self, folder: Path, *, download: bool) -> tuple[Part, Part]:
        """Open the files, in which torchvision has turned label 10 into 0."""
        train, test = (
            Part(np.ascontiguousarray(data.data.transpose(0, 2, 3, 1)), data.labels.astype(np.int64))
            for data in opened("SVHN", folder, ({"split": "train"}, {"split": "test"}), download=download)
        )
        return train, test
