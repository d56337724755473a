"""Flags that would be ignored are refused, and the refusal names both sides."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from common.errors import UserError
from reproduce.item import Options
from selection.registry import TRAIN_TYPES, train_type_named
from train.config.command_line import parse_args
from train.config.flag_combinations import RULES
from train.config.run_config import RunConfig

DIGITS = ["--model_name", "digitnet", "--dataset_name", "digits"]

FILLED = "--train_type betti_knapsack_train --knapsack memory --memory_budget 9"

REFUSED = {
    "--keep_head": "--keep_head goes with --model_name PATH, a model from a file, not with",
    "--preprocessing tf": "goes with --model_name PATH, a model from a file, not with --mo",
    "--keep_head --model_name x.h5 --head always": "--head always does not go with --keep_head",
    "--fisher tinytrain": "--train_type fisher_training, or with --stability, not with --train_ty",
    "--head_epochs 2 --select_only": "does nothing with --select_only, which selects from the head",
    "--head_epochs 2 --stability 2": "does not go with --stability, which compares selections",
    "--budget_for training": "--budget_for training goes with --memory_budget",
    "--fill_budget": "--fill_budget goes with --memory_budget",
    "--fill_budget --memory_budget 9 --knapsack memory --train_type betti_knapsack_train": (
        "--fill_budget goes with train types that take one after another (act_norm_betti_train"
    ),
    "--knapsack memory --memory_budget 9": "goes with --train_type betti_knapsack_train, not with",
    "--knapsack memory --train_type betti_knapsack_train": "goes with --memory_budget, which it",
    "--memory_budget 9 --train_type betti_knapsack_train": "does not go with --knapsack time, the",
    f"{FILLED} --profile measured": "does nothing with --knapsack memory or measured_memory",
    f"{FILLED} --profile_file p.json": "does nothing with --knapsack memory or measured_memory",
    f"{FILLED} --plan": "has nothing to vary with --knapsack memory or measured_memory",
    "--interval 3 --train_type lisa": "elastic_training or prune_training, not with --train_type l",
    "--rho_ch 0.5 --train_type cka_change_train": "take channels (act_norm_betti_train, no_norm_",
    "--aggregation sum --train_type two_nn_train": "count Betti numbers (act_norm_betti_train, n",
    "--selection_mode pairs --train_type fps_training": "pool activations (act_norm_betti_train, n",
    "--memory_budget 9 --train_type prune_training": "can keep to one (act_norm_betti_train, no_no",
    "--selection_file x --train_type trady": "select once, not with --train_type trady_training",
    "--interval 3": "elastic_training or prune_training, not with --train_type act_norm_betti",
    "--profile measured": "elastic_training or betti_knapsack_train, not with --train_type act_",
    "--profile_file p.json": "elastic_training or betti_knapsack_train, not with --train_type act_",
    "--lora_rank 8": "--lora_rank 8 goes with --train_type lora_training, not with --train_type a",
    "--lora_rank 0 --train_type lora_training": "--lora_rank 0 is out of range: it must be at l",
    "--rho_ch 0.5 --train_type lora": "--rho_ch 0.5 goes with train types that take channels (act",
    "--export litert_training --train_type lora": "does not go with --train_type lora_training, wh",
    "--step_times": "--train_type elastic_training, not with --train_type act_norm_betti",
    "--prune l1": "--train_type prune_training, not with --train_type act_norm_betti_train",
    "--prune_ratio 0.5": "--train_type prune_training, not with --train_type act_norm_betti_train",
    "--aggregation sum --train_type fisher": "Betti numbers (act_norm_betti_train, no_norm_",
    "--selection_mode pairs --train_type last_k_training": "not with --train_type last_k_training",
    "--homology ripser --train_type fisher": "not with --train_type fisher_training",
    "--homology closed_form --selection_file x": "--homology closed_form has nothing to choose",
    "--selection_batches 3 --train_type fisher": "not with --train_type fisher_training",
    "--rho_ch 0.5 --train_type last_k_training": "not with --train_type last_k_training",
    "--selection_mode pairs --aggregation sum": "does nothing with --aggregation sum",
    "--selection_seed 1 --train_type full_training": "look at images (act_norm_betti_train, no_no",
    "--rho 0.3 --train_type full_training": "--rho 0.3 goes with act_norm_betti_train, no_norm_be",
    "--prune l1 --interval 3 --train_type prunetrain": "--interval 3 does nothing with --prune l1",
    "--prune l1 --prune_ratio 0.4 --train_type prunetrain": "does nothing with --prune l1",
    "--select_at_epoch 2 --train_type elastic_training": "select once, not with --train_type elas",
    "--select_at_epoch 9 --num_epochs 2": "--select_at_epoch 9 leaves no epoch to train what is s",
    "--select_at_epoch 2 --num_epochs 2": "--num_epochs is 2",
    "--head_learning_rate 0.1": "--head_learning_rate 0.1 goes with --head_epochs",
    "--head_epochs 2 --select_at_epoch 1": "--head_epochs 2 does not go with --select_at_epoch",
    "--head_epochs 2 --train_type prunetrain": "does not go with --train_type prune_training",
    "--head_epochs 2 --num_epochs 0": "to train the head alone, use --train_type traditional_tl",
    "--head_epochs 2 --rho 0": "--rho 0 selects nothing",
    "--head_epochs 2 --reuse_runs runs": "does not go with --head_epochs, after which is selected",
    "--warmup_epochs 2 --num_epochs 2": "--warmup_epochs 2 leaves no epoch in which the learning",
    "--warmup_epochs 2 --select_only": "does nothing with --select_only or --plan",
    "--clip_norm 1 --clip_adaptive 0.01": "--clip_adaptive 0.01 stands in place of --clip_norm",
    "--clip_norm 0": "--clip_norm must be above 0",
    "--learning_rate tune": "--learning_rate tune goes with --validation_split, by which the rates",
    "--learning_rate tune --validation_split 0.1 --select_at_epoch 1": "which trains everything",
    "--learning_rate tune --validation_split 0.1 --train_type prunetrain": "which puts other net",
    "--learning_rate tune --validation_split 0.1 --num_epochs 0": "has no epoch to tune",
    "--learning_rate tuned": "argument --learning_rate: invalid",
    "--validation_split 0.1 --select_only": "does nothing with --select_only or --plan",
    "--validation_split 1": "--validation_split 1.0 is out of range: it must be between 0 and 0.9",
    "--shift_severity 4": "--shift_severity 4 goes with --shift, and not with negative",
    "--shift_severity 4 --shift negative": "not with negative, which has no degrees",
    "--shift_severity 6 --shift blur": "it must be between 1 and 5",
    "--shift_seed 1 --shift blur": "--shift_seed 1 goes with --shift noise: the others draw no",
    "--select_at_epoch 2 --select_only": "does nothing with --select_only or --plan",
    "--save_weights best --plan": "does nothing with --select_only or --plan",
    "--selection_file x --train_type prunetrain": "select once, not with --train_type prune_train",
    "--selection_file x --train_type elastic_training": "select once, not with --train_type elasti",
    "--selection_file x --rho 0.3": "--rho 0.3 has nothing to choose when --selection_file is",
    "--selection_file x --head always": "--head always has nothing to choose",
    "--selection_file x --stability 3": "--stability 3 has nothing to choose",
    "--selection_file x --select_only": "--select_only has nothing to choose",
    "--memory_budget 9 --train_type elastic_training": "can keep to one (act_norm_betti_train",
    "--memory_budget 9 --rho 0.2": "--memory_budget 9 stands in place of --rho: give one of them",
    "--memory_budget 9 --selection_file x": "--memory_budget 9 has nothing to choose",
    "--memory_budget 9 --select_at_epoch 1": "does not go with --select_at_epoch, which trains",
    "--memory_budget 9 --stability 2": "compares selections of one size: use --rho",
    "--plan --train_type full_training": "has nothing to vary unless the train type uses rho",
    "--stability 1": "it must be 0 or at least 2",
    "--checkpoint_every 3 --select_only": "does nothing with --select_only or --plan",
    "--skip_bad_images": "goes with --dataset_name folder, not with --dataset_name digits",
    "--skip_bad_images --dataset_name cifar10": "goes with --dataset_name folder, not with --data",
    "--cache_features float32": "goes with --rotation 0 or --augment_draws: else no image has",
    "--cache_features float16 --rotation 0 --frozen stock": "goes with --frozen lean",
    "--augment_draws 2 --select_only": "does nothing with --select_only or --plan",
    "--recompute none --frozen stock": "goes with --frozen lean: the stock step keeps everything",
    "--reuse_runs runs --train_type prunetrain": "select once, not with --train_type prune_traini",
    "--reuse_runs runs --select_at_epoch 1": "does not go with --select_at_epoch, which trains",
    "--test_split 0.2": "--test_split 0.2 is a share, which goes with --dataset_name folder (TFDS",
    "--split_seed 1 --dataset_name folder": "goes with --validation_split, or with --test_split",
    "--export keras --select_only": "does nothing with --select_only or --plan",
    "--export_batch 3 --export tflite": "goes with --export litert_training",
    "--download": "goes with TFDS data sets, not with --dataset_name digits",
    "--download --dataset_name folder": "goes with TFDS data sets, not with --dataset_name folder",
    "--data_dir x": "--data_dir x goes with data sets that lie in a folder, not with --dataset_nam",
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_flag_that_does_nothing_is_refused(words):
    with pytest.raises(UserError) as caught:
        parse_args([*DIGITS, *words.split()])
    assert REFUSED[words] in str(caught.value)
    assert "\n" not in str(caught.value)


GO_TOGETHER = (
    "--fisher tinytrain --train_type fisher",
    "--fisher tinytrain --stability 2",
    "--interval 3 --train_type elastic_training --profile measured --profile_file p.json",
    "--prune l1 --train_type prunetrain",
    "--prune_ratio 0.5 --interval 2 --train_type prunetrain",
    "--aggregation sum --selection_batches 4",
    "--aggregation sum --homology closed_form --rho_ch 0.5",
    "--selection_seed 1 --train_type fisher",
    "--rho 0 --num_epochs 0",
    "--select_at_epoch 1 --num_epochs 2",
    "--selection_file x --train_type full_training --select_at_epoch 1",
    "--memory_budget 9 --train_type last_k_training",
    f"{FILLED}",
    "--train_type betti_knapsack_train --knapsack measured_memory --memory_budget 9",
    "--train_type betti_knapsack_train --profile measured --rho 0.5",
    "--train_type two_nn_train --selection_mode pairs --selection_batches 3",
    "--train_type fps_training --selection_batches 3 --memory_budget 9",
    "--train_type trady_training --rho_ch 0.5 --memory_budget 9",
    "--train_type lora_training --lora_rank 8 --memory_budget 9 --export tflite",
    "--dataset_name folder --data_dir x",
    "--dataset_name cifar10 --data_dir x",
    "--dataset_name folder --test_split 0.2 --split_seed 1",
    "--head_epochs 3 --head_learning_rate 0.02 --warmup_epochs 2 --clip_norm 1",
    "--learning_rate tune --validation_split 0.25 --split_seed 1 --clip_adaptive 0.01",
    "--shift noise --shift_severity 5 --shift_seed 2",
)


@pytest.mark.parametrize("words", GO_TOGETHER)
def test_flags_that_go_together_do(words):
    config = parse_args([*DIGITS, *words.split()])
    for flag, value in zip(words.split()[::2], words.split()[1::2]):
        found = getattr(config, flag[2:])
        assert (
            found == train_type_named(value).name
            if flag == "--train_type"
            else (str(found) == value or found == float(value))
        )


def test_every_rule_is_tried():
    tried = {word[2:] for words in REFUSED for word in words.split() if word.startswith("--")}
    assert {flag for rule in RULES for flag in rule.flags} <= tried | {"plan"}
    assert {flag for rule in RULES for flag in rule.flags} <= {f.name for f in fields(RunConfig)}


@pytest.mark.parametrize("train_type", TRAIN_TYPES)
def test_the_configuration_of_any_run_can_be_used_again(train_type, tmp_path):

    config = parse_args([*DIGITS, "--train_type", train_type])
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config.to_json()))
    assert parse_args(["--config", str(path)]) == config


def test_flags_for_every_run_reach_those_they_are_for():
    options = Options(flags={"selection_mode": "pairs", "data_dir": "x", "eval_every": 5})
    betti, full = (
        options.spec("digitnet", dataset, method).flags
        for dataset, method in (("folder", "act_norm_betti_train"), ("digits", "full_training"))
    )
    assert betti["selection_mode"] == "pairs" and "selection_mode" not in full
    assert "data_dir" in betti and "data_dir" not in full
    assert betti["eval_every"] == full["eval_every"] == 5
