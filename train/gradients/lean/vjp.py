"""The types of the lean step; what they are for is said in the docstring of this package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Optional

import tensorflow as tf

WeightGradients = dict[Any, tf.Tensor]
Vjp = Callable[[tf.Tensor, WeightGradients], Sequence[Optional[tf.Tensor]]]
OutputAndVjp = tuple[tf.Tensor, Vjp]
