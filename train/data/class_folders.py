"""The data set "folder": image files in DATA_DIR/SPLIT/CLASS, the same classes in every split.

TensorFlow and TFDS, whose ImageFolder reads them, are imported only where data is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from common.errors import UserError
from train.data.image_store import ImageSet
from train.data.tfds_source import TfdsSource, require_split

if TYPE_CHECKING:
    import tensorflow_datasets as tfds

LAYOUT = "data_dir/train/CLASS/*.jpg and data_dir/test/CLASS/*.jpg"


class ClassFolders(TfdsSource):
    """The splits of a folder of class folders.

    Args:
        data_dir: the folder.
        cache: folder for decoded images.

    Raises UserError: no such folder, or no image in it.
    """

    _data_files = "*/*/*"

    def __init__(self, data_dir: Optional[str], cache: Path) -> None:
        super().__init__("folder", _open_folder(data_dir), cache)

    def _require_images(self, split: str, flag: str) -> None:
        """A whole split: TFDS' ImageFolder knows no slices."""
        require_split(list(self._builder.info.splits), split, flag, self.name)
        super()._require_images(split, flag)

    def _check_training_images(self, train: ImageSet, split: str) -> None:
        """A class without training images is a stray folder: tfds.ImageFolder counts any as one."""
        names = self.class_names
        counts = np.bincount(train.labels, minlength=len(names))
        missing = [name for name, count in zip(names, counts) if count == 0]
        if missing:
            raise UserError(
                f"no image in {split} of class {', '.join(missing[:5])}: every folder in "
                f"--data_dir/*/ is a class and needs images in {split}"
            )

    def _decoders(self) -> Any:
        """ImageFolder takes none."""
        return None

    def _broken_place(self, split: str, done: int) -> str:  # noqa: ARG002
        """Which file stopped the decoding: TensorFlow's message does not say."""
        import tensorflow as tf

        for path in sorted(Path(self._builder.data_path).glob(self._data_files)):
            try:
                if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
                    tf.io.decode_image(path.read_bytes(), channels=3)
            except tf.errors.InvalidArgumentError:
                return str(path)
        return str(self._builder.data_path)


def _open_folder(data_dir: Optional[str]) -> tfds.ImageFolder:
    import tensorflow_datasets as tfds

    if not data_dir or not Path(data_dir).expanduser().is_dir():
        raise UserError(f"data set 'folder' needs --data_dir with {LAYOUT}, got {data_dir}")
    builder = tfds.ImageFolder(str(Path(data_dir).expanduser()))
    if not builder.info.splits.total_num_examples:
        raise UserError(f"no .jpg, .jpeg or .png image in {data_dir}; expected {LAYOUT}")
    return builder
