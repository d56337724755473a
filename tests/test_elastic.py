"""ElasticTrainer: the knapsack, the timing profile, the importance, and going on with training."""

from __future__ import annotations

import gc
import itertools
import json
import re

import numpy as np
import pytest
import tensorflow as tf

from models.errors import RunError, UserError
from models.layers import selectable_layers
from models.network import Network
from models.registry import BACKBONES
from models.vit import ViTConfig, build_features
from selection.elastic import ElasticSelector, select
from selection.knapsack import backward_time, choose_tensors, solve
from selection.ranking import make_selection
from selection.registry import SelectionRequest, train_type_named
from selection.tensor_timing import tensor_profile
from tests.helpers import random_pixels, snapshot, tiny_network, whole
from train.config import RunConfig
from train.datasets import load_dataset
from train.elastic_plan import ElasticPlan
from train.optimizer import Schedule, momentum_slots
from train.plans import Job
from train.select import selection_request
from train.step_time import measure_step_times

NAME = "elastic_training"
SCHEDULE = Schedule(1e-3, 5e-4, 100)


def _request(network, rho=0.533, always_head=False, rate=1e-3, decay=5e-4, **settings):
    images = random_pixels(8, network.model.input_shape[1])
    labels = np.arange(8) % network.model.output_shape[-1]
    return SelectionRequest(
        network=network,
        rho=rho,
        always_head=always_head,
        batch_size=8,
        num_batches=1,
        sample_images=lambda count: images[:count],
        labelled_images=lambda count: (images[:count], labels[:count]),
        learning_rate=rate,
        weight_decay=decay,
        settings=settings,
    )


def _network(inputs, outputs) -> Network:
    model = tf.keras.Model(inputs, outputs)
    return Network(BACKBONES["digitnet"], model, selectable_layers(model), False)


def _allocated() -> int:
    gc.collect()
    return tf.config.experimental.get_memory_info("CPU:0")["current"]


# The knapsack.


def _brute_force(importance, weights, ways, capacity) -> float:
    best = 0.0
    for size in range(1, len(weights) + 1):
        for chosen in itertools.combinations(range(len(weights)), size):
            if ways[chosen[-1]] + sum(weights[i] for i in chosen) <= capacity:
                best = max(best, sum(importance[i] for i in chosen))
    return best


def test_knapsack_equals_brute_force_on_500_random_instances():
    generator = np.random.default_rng(0)
    empty = 0
    for _ in range(500):
        count = generator.integers(1, 11)
        importance = generator.normal(0.3, 1.0, count)
        weights = generator.integers(1, 30, count)
        steps = generator.integers(0, 12, count) * generator.integers(0, 2, count)
        ways = np.concatenate([[0], np.cumsum(steps)[:-1]])
        capacity = int(generator.integers(0, 120))
        chosen = solve(importance, weights, ways, capacity)
        best = _brute_force(importance, weights, ways, capacity)
        assert sum(importance[i] for i in chosen) == pytest.approx(best, abs=1e-12)
        assert all(importance[i] > 0 for i in chosen)
        if chosen:
            assert ways[chosen[-1]] + sum(weights[i] for i in chosen) <= capacity
        empty += not chosen
    assert 0 < empty < 250  # both kinds of instances were tried


def test_rounded_choice_never_exceeds_the_budget_and_misses_little():
    generator = np.random.default_rng(1)
    for _ in range(60):
        count = 10
        importance, t_dw = generator.normal(0.2, 1.0, count), generator.exponential(1.0, count)
        t_dy = generator.exponential(0.5, count)
        budget = generator.uniform(0.05, 1.0) * (t_dw.sum() + t_dy.sum())
        chosen = choose_tensors(importance, t_dw, t_dy, budget)
        assert backward_time(chosen, t_dw, t_dy) <= budget * (1 + 1e-9)
        ways = np.concatenate([[0.0], np.cumsum(t_dy)[:-1]])
        # Every set that rounding could not have kept out: one tick per weight and one for the way.
        sure = budget * (1 - (count + 1) / 10_000)
        assert sum(importance[i] for i in chosen) >= _brute_force(
            importance, t_dw, ways, sure
        ) - 1e-12


def test_everything_of_worth_is_chosen_where_it_fits_exactly():
    t_dw, t_dy = np.full(7, 0.1), np.array([0.3, 0.0, 0.3, 0.0, 0.3, 0.0, 9.0])
    importance = np.array([1.0, -1.0, 0.5, 0.0, 0.1, 0.2, 0.3])
    budget = 0.1 * 5 + 0.9
    assert choose_tensors(importance, t_dw, t_dy, budget) == (0, 2, 4, 5, 6)
    assert choose_tensors(importance, t_dw, t_dy, 0.0) == ()
    assert choose_tensors(-importance - 2, t_dw, t_dy, budget) == ()


# The profile.


def test_counted_profile_of_a_small_network_by_hand():
    layers = tf.keras.layers
    inputs = tf.keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2D(8, 1, groups=2, use_bias=False)(x)
    x = layers.GlobalAveragePooling2D()(x)
    profile = tensor_profile(_network(inputs, layers.Dense(5)(x)), 2)
    shapes = [tensor.shape for tensor in profile.tensors]
    # The loss first, a layer's bias before its kernel.
    assert shapes == [(5,), (8, 5), (1, 1, 2, 8), (4,), (3, 3, 4, 1), (4,), (4,), (3, 3, 3, 4)]
    by_shape = {tensor.shape: tensor for tensor in profile.tensors}
    assert by_shape[8, 5].t_dw == 2 * 2 * 8 * 5
    assert by_shape[1, 1, 2, 8].t_dw == 2 * 2 * 4 * 4 * 4 * 8 / 2
    assert by_shape[3, 3, 4, 1].t_dw == 2 * 2 * 4 * 4 * 3 * 3 * 4
    assert by_shape[3, 3, 3, 4].t_dw == 2 * 2 * 8 * 8 * 3 * 3 * 3 * 4
    # On the way: the dense kernel carries the pooling, the grouped one the fused ReLU, and the
    # depthwise one the ReLU; biases and the deepest tensor carry nothing.
    t_dy = profile.t_dy
    assert (t_dy[[0, 3, 5, 7]] == 0).all()
    assert t_dy[1] > by_shape[8, 5].t_dw
    assert t_dy[2] > by_shape[1, 1, 2, 8].t_dw
    assert t_dy[4] > by_shape[3, 3, 4, 1].t_dw
    assert t_dy[6] > 0
    assert profile.backward == pytest.approx(profile.t_dw.sum() + t_dy.sum())


def test_counted_profile_of_attention():
    inputs = tf.keras.Input((32, 32, 3))
    config = ViTConfig(patch=8, hidden=16, depth=1, heads=2, mlp=32)
    network = _network(inputs, tf.keras.layers.Dense(5)(build_features(inputs, config)))
    profile = tensor_profile(network, 3)
    assert len(profile.tensors) == sum(len(layer.variables) for layer in network.layers)
    (attention,) = (layer for layer in network.layers if layer.type == "SelfAttention")
    rows = [tensor for tensor in profile.tensors if tensor.layer == attention.index]
    assert [row.position for row in rows] == [7, 6, 5, 4, 3, 2, 1, 0]
    project, product = 2 * 3 * 17 * 16 * 16, 2 * 3 * 17 * 17 * 16
    assert [row.t_dw for row in rows if row.position % 2 == 0] == [project] * 4
    assert [row.t_dy for row in rows if row.position % 2] == [0.0] * 4
    softmax = rows[3].t_dy - 2 * product
    assert softmax > 0
    total = sum(row.t_dy for row in rows)
    # As many products and projections backwards as forwards, one pass each.
    assert total == pytest.approx(4 * project + 4 * product + softmax)


@pytest.mark.parametrize("mode", ["flops", "measured"])
def test_profile_file_is_reused_only_where_it_belongs(tmp_path, mode):
    path = tmp_path / "profile.json"
    network = _two_layers()
    made = tensor_profile(network, 4, mode, str(path))
    content = json.loads(path.read_text())
    assert (content["model"], content["batch_size"], content["input_size"]) == ("digitnet", 4, 4)
    assert content["device"] and content["mode"] == mode
    content["forward"] *= 2  # a mark
    path.write_text(json.dumps(content))
    again = tensor_profile(network, 4, mode, str(path))
    assert again.forward == 2 * made.forward and again.tensors == made.tensors
    for name, value in (("device", "abacus"), ("model", "resnet50"), ("mode", "other")):
        path.write_text(json.dumps({**content, name: value}))
        tensor_profile(network, 4, mode, str(path))
        assert json.loads(path.read_text())[name] == json.loads(json.dumps(getattr(made, name)))
    assert tensor_profile(network, 2, mode, str(path)).batch_size == 2
    assert json.loads(path.read_text())["batch_size"] == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["profile.json"]


def test_measured_profile_shares_out_the_measured_passes():
    network = tiny_network()
    profile = tensor_profile(network, 8, "measured")
    counted = tensor_profile(network, 8)
    assert [t.shape for t in profile.tensors] == [t.shape for t in counted.tensors]
    assert (profile.t_dw > 0).all()
    np.testing.assert_array_equal(profile.t_dy == 0, counted.t_dy == 0)
    assert profile.backward == pytest.approx(profile.t_dw.sum() + profile.t_dy.sum())
    assert 1e-4 < profile.forward < 10 and profile.unit == "second"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[1, 2]", "is not a timing profile"),
        ('{"epoch": 1}', "is not a timing profile"),
    ],
)
def test_corrupt_or_foreign_profile_file_is_one_line_and_stays(tmp_path, text, message):
    path = tmp_path / "profile.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        tensor_profile(tiny_network(), 4, "flops", str(path))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert path.read_text() == text


@pytest.mark.parametrize("value", [None, -1.0, "fast", float("nan"), True])
def test_profile_file_with_bad_times(tmp_path, value):
    path = tmp_path / "profile.json"
    network = tiny_network()
    tensor_profile(network, 4, "flops", str(path))
    content = json.loads(path.read_text())
    content["tensors"][3]["t_dw"] = value
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="every time must be a number"):
        tensor_profile(network, 4, "flops", str(path))


def test_profile_file_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        tensor_profile(tiny_network(), 4, "flops", str(tmp_path / "no" / "profile.json"))
    with pytest.raises(UserError, match="cannot be read"):
        tensor_profile(tiny_network(), 4, "flops", str(tmp_path))


# The importance.


def _two_layers() -> Network:
    tf.keras.utils.set_random_seed(3)
    inputs = tf.keras.Input((4, 4, 3))
    x = tf.keras.layers.Rescaling(1 / 255)(inputs)
    x = tf.keras.layers.Dense(6, activation="relu")(tf.keras.layers.Flatten()(x))
    return _network(inputs, tf.keras.layers.Dense(3)(x))


def _gradients_by_hand(x, labels, weights):
    """Of the mean cross-entropy of two dense layers with a ReLU between, in float64."""
    w1, b1, w2, b2 = weights
    before = x @ w1 + b1
    hidden = np.maximum(before, 0)
    logits = hidden @ w2 + b2
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    d_logits = (shares - np.eye(3)[labels]) / len(x)
    d_before = (d_logits @ w2.T) * (before > 0)
    return [x.T @ d_before, d_before.sum(0), hidden.T @ d_logits, d_logits.sum(0)]


def test_importance_by_hand_on_two_layers():
    network = _two_layers()
    request = _request(network, rate=0.3, decay=0.05)
    images, labels = request.labelled_images(8)
    x = images.reshape(8, -1) / 255.0
    start = [variable.numpy().astype(np.float64) for variable in network.model.trainable_weights]
    steps = [
        -0.3 * (gradient + 0.05 * weight)
        for gradient, weight in zip(_gradients_by_hand(x, labels, start), start)
    ]
    after = _gradients_by_hand(x, labels, [w + step for w, step in zip(start, steps)])
    raw = np.array([-(gradient * step).sum() for gradient, step in zip(after, steps)])
    found = np.concatenate(ElasticSelector(network).importance(request))
    np.testing.assert_allclose(found, raw / np.abs(raw).max(), rtol=1e-4, atol=1e-6)
    assert np.abs(found).max() == 1.0


def test_weights_are_restored_bit_for_bit():
    network = tiny_network("digits")
    before = snapshot(network)
    selection = select(_request(network, rate=0.01), NAME)
    for weight, old in zip(snapshot(network), before):
        np.testing.assert_array_equal(weight, old)
    assert selection.num_selected


def test_weights_are_restored_after_an_interruption():
    network = tiny_network("digits")
    selector = ElasticSelector(network)
    before = snapshot(network)
    calls = []

    def interrupted(*batch):
        calls.append([weight.numpy() for weight in network.model.trainable_weights])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return gradients(*batch)

    gradients, selector._gradients = selector._gradients, interrupted
    with pytest.raises(KeyboardInterrupt):
        selector.importance(_request(network))
    assert any((first != second).any() for first, second in zip(*calls))
    for weight, old in zip(snapshot(network), before):
        np.testing.assert_array_equal(weight, old)


def test_importance_that_is_not_finite_names_the_layer():
    network = tiny_network()
    with pytest.raises(RunError, match="layer 0 .stem_conv. is not finite"):
        select(_request(network, rate=1e30), NAME)


# The selection.


def _chosen(selection) -> set:
    return {(row.index, position) for row in selection.layers for position in row.variables}


def _step_share(profile, chosen) -> float:
    """Time of a step on ``chosen`` over that of a full step, added up again."""
    took, way, reached = 0.0, 0.0, 0.0
    for tensor in profile.tensors:
        if (tensor.layer, tensor.position) in chosen:
            took, reached = took + tensor.t_dw, way
        way += tensor.t_dy
    full = profile.forward + sum(tensor.t_dw + tensor.t_dy for tensor in profile.tensors)
    return (profile.forward + took + reached) / full


@pytest.mark.parametrize("rho", [0.4, 0.533, 0.8])
def test_step_on_the_choice_fits_rho(rho):
    network = tiny_network("digits")
    selection = select(_request(network, rho), NAME)
    profile = tensor_profile(network, 8)
    share = _step_share(profile, _chosen(selection))
    assert rho - 0.2 < share <= rho + 1e-9
    assert selection.figures["predicted_time_ratio"] == pytest.approx(share)
    budget = selection.figures["backward_budget"]
    forward = selection.figures["forward_share"]
    assert forward + budget * (1 - forward) == pytest.approx(rho)
    assert selection.samples == 8 and selection.seconds > 0 and selection.rho == rho


def test_rho_1_selects_every_tensor_of_positive_importance():
    network = tiny_network("digits")
    selector = ElasticSelector(network)
    request = _request(network, 1.0, rate=0.03)
    importance = selector.importance(request)
    positive = {
        (layer, position)
        for layer, values in enumerate(importance)
        for position, value in enumerate(values)
        if value > 0
    }
    selection = selector.select(request, NAME)
    assert _chosen(selection) == positive
    assert 0 < len(positive) < sum(map(len, importance))  # the large step went too far for some
    for row, values in zip(selection.layers, importance):
        assert row.score == max(values)
    assert sorted(row.rank for row in selection.layers) == list(range(1, len(importance) + 1))


@pytest.mark.parametrize("rho", [0.0, 0.1, 0.3])
def test_rho_without_backward_time_names_one_that_works(rho):
    network = tiny_network("digits")
    with pytest.raises(UserError, match="no time for a backward pass") as caught:
        select(_request(network, rho), NAME)
    assert "\n" not in str(caught.value)
    smallest = float(re.search(r"at least (0\.\d+)", str(caught.value)).group(1))
    assert rho < smallest < 0.5
    profile = tensor_profile(network, 8)
    ones = np.ones(len(profile.tensors))
    assert choose_tensors(ones, profile.t_dw, profile.t_dy, profile.budget(smallest))
    select(_request(network, smallest), NAME)
    with pytest.raises(UserError):
        select(_request(network, smallest - 2e-4), NAME)


def test_always_head_adds_the_head():
    network = tiny_network("digits")
    plain, added = (select(_request(network, 0.4, always), NAME) for always in (False, True))
    head = {(network.head.index, position) for position in range(2)}
    assert _chosen(added) == _chosen(plain) | head
    profile = tensor_profile(network, 8)
    share = _step_share(profile, _chosen(added))
    assert added.figures["predicted_time_ratio"] == pytest.approx(share)


def test_selections_leave_nothing_behind():
    network = tiny_network("digits")
    cache = {}
    request = _request(network, cache=cache)
    select(request, NAME)
    selector = cache["elastic"]
    allocated = []
    for _ in range(10):
        select(request, NAME)
        allocated.append(_allocated())
    assert cache["elastic"] is selector
    assert selector._gradients.experimental_get_tracing_count() == 1
    assert allocated[-1] <= allocated[0]


# The measured step times.


def _batch():
    return tf.constant(random_pixels(8), tf.float32), tf.constant(np.arange(8) % 5, tf.int64)


def test_step_times_leave_the_network_and_memory_alone():
    network = tiny_network("digits")
    head = whole(network, network.head.variables)
    before, times, allocated = snapshot(network), [], []
    for _ in range(3):
        times.append(measure_step_times(network, head, SCHEDULE, _batch()))
        allocated.append(_allocated())
    for weight, old in zip(snapshot(network), before):
        np.testing.assert_array_equal(weight, old)
    assert allocated[-1] <= allocated[0]
    for one in times:
        ratio = one["selected_seconds"] / one["full_seconds"]
        assert one["measured_time_ratio"] == ratio > 0
    assert min(one["measured_time_ratio"] for one in times) < 0.8  # the head alone


def test_step_times_restore_the_weights_after_an_error():
    network = tiny_network("digits")
    kernel = network.head.variables[0]
    kernel.assign(tf.fill(kernel.shape, np.nan))
    before = [weight.tobytes() for weight in snapshot(network)]
    with pytest.raises(RunError, match="loss is nan"):
        measure_step_times(network, whole(network, [kernel]), SCHEDULE, _batch())
    assert [weight.tobytes() for weight in snapshot(network)] == before


# Going on with training.


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits", 32)


def _job(network, data, select_layers) -> Job:
    config = RunConfig(
        model_name="digitnet",
        dataset_name="digits",
        train_type=NAME,
        rho=0.533,
        interval=2,
        learning_rate=0.01,
    ).resolved()
    return Job(config, network, data, Schedule(0.01, 5e-4, 200), select_layers)


def _given_choices(network, choices):
    """A ``Job.select`` that gives one choice after another: per choice, {layer: positions}."""
    remaining = iter(choices)

    def select_layers(_):
        choice = next(remaining)
        positions = [choice.get(index, ()) for index in range(len(network.layers))]
        return make_selection(network.layers, positions, train_type=NAME, figures={"given": 1.0})

    return select_layers


def _train(stage, steps=2):
    stage.trainer.train_epoch([_batch()] * steps, lambda *_: None)


def _momentum(trainer, variable) -> np.ndarray:
    index = [other.ref() for other in trainer.variables].index(variable.ref())
    return momentum_slots(trainer.optimizer, trainer.variables)[index].numpy()


def test_new_choice_goes_on_with_step_and_momentum(digits):
    network = tiny_network("digits")
    stays, goes, comes = (network.layers[i].variables[0] for i in (18, 17, 16))
    choices = [{18: (0,), 17: (0,)}, {18: (0,), 16: (0,)}]
    plan = ElasticPlan(_job(network, digits, _given_choices(network, choices)))
    first = plan.first_stage()
    _train(first)
    assert plan.next_stage(first, 2) is first
    _train(first)
    kept = _momentum(first.trainer, stays)
    before = snapshot(network)
    second = plan.next_stage(first, 3)
    for weight, old in zip(snapshot(network), before):
        np.testing.assert_array_equal(weight, old)
    assert second.trainer.steps_taken == first.trainer.steps_taken == 4
    assert int(second.trainer.optimizer.iterations) == 4
    np.testing.assert_array_equal(_momentum(second.trainer, stays), kept)
    assert np.abs(kept).max() > 0
    assert (_momentum(second.trainer, comes) == 0).all()
    frozen = goes.numpy()
    _train(second)
    np.testing.assert_array_equal(goes.numpy(), frozen)
    assert np.abs(_momentum(second.trainer, comes)).max() > 0
    for stage in (first, second):
        assert stage.selection.figures["given"] == 1.0
        assert stage.selection.figures["measured_time_ratio"] > 0


def test_same_choice_keeps_the_trainer_and_none_keeps_the_stage(digits):
    network = tiny_network("digits")
    choice = {18: (0, 1)}
    plan = ElasticPlan(_job(network, digits, _given_choices(network, [choice, choice, {}])))
    first = plan.first_stage()
    second = plan.next_stage(first, 3)
    assert second.trainer is first.trainer and second.selection is not first.selection
    assert second.selection.figures == first.selection.figures
    assert plan.next_stage(second, 4) is second
    assert plan.next_stage(second, 5) is second  # nothing of worth: go on as before


def test_nothing_worth_training_is_an_error(digits):
    network = tiny_network("digits")
    plan = ElasticPlan(_job(network, digits, _given_choices(network, [{}])))
    with pytest.raises(RunError, match="smaller --learning_rate"):
        plan.first_stage()


def test_given_selection_is_kept(digits):
    network = tiny_network("digits")
    given = _given_choices(network, [{18: (0, 1)}])(network)
    plan = ElasticPlan(_job(network, digits, _given_choices(network, [])), given)
    stage = plan.first_stage()
    assert stage.selection is given
    assert plan.next_stage(stage, 3) is stage


def test_memory_does_not_grow_with_the_number_of_selections(digits):
    """Twelve re-selections, alternately of two choices that need as much memory as each other."""
    network = tiny_network("digits")
    first, second = {18: (0,), 14: (0,)}, {18: (0,), 14: (1,)}
    gamma, beta = network.layers[14].variables
    assert gamma.shape == beta.shape
    choices = [first, second] * 7
    plan = ElasticPlan(_job(network, digits, _given_choices(network, choices)))
    stage = plan.first_stage()
    trainers, allocated = set(), []
    for epoch in range(3, 27, 2):
        stage = plan.next_stage(stage, epoch)
        trainers.add(id(stage.trainer.optimizer))
        _train(stage, 1)
        allocated.append(_allocated())
    assert len(allocated) == 12
    assert max(allocated[2:]) <= allocated[1] + 4096, allocated


def test_real_selections_through_the_registry(digits):
    network = tiny_network("digits")
    cache = {}

    def select_layers(chosen_from):
        request = selection_request(job.config, chosen_from, digits, cache=cache)
        return train_type_named(NAME).select(request)

    job = _job(network, digits, select_layers)
    plan = ElasticPlan(job)
    stage = plan.first_stage()
    allocated = []
    for epoch in range(2, 14):
        _train(stage, 3)
        before = snapshot(network)
        stage = plan.next_stage(stage, epoch)
        trained = {part.variable.ref() for part in stage.trainer.trained}
        _train(stage, 1)
        for weight, old in zip(network.model.weights, before):
            if weight.ref() not in trained:
                np.testing.assert_array_equal(weight.numpy(), old)
        allocated.append(_allocated())
    figures = stage.selection.figures
    assert figures["predicted_time_ratio"] <= 0.533 + 1e-9
    assert 0 < figures["measured_time_ratio"] < 2
    assert cache["elastic"]._gradients.experimental_get_tracing_count() == 1
    slots = sum(int(np.prod(v.shape)) for v in network.model.trainable_weights) * 4
    assert max(allocated) <= allocated[0] + slots, allocated
