"""Backbones, and what a selectable layer of a built network is."""

from common.environment import prepare_tensorflow

prepare_tensorflow()  # in time for whoever imports a part of this project, and no command of it
