"""Training against plain PyTorch, and the rules of a run: independence, masks, retraining, teachers."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.utils.data import DataLoader, TensorDataset

from dsdlib import data, models
from dsdlib.config import RunConfig
from dsdlib.distillation import distillation_gradient, distillation_loss
from dsdlib.engine.build import build
from dsdlib.engine.loop import Callbacks, evaluate, train
from dsdlib.engine.network import Network, _flat, _shaped
from dsdlib.engine.rounds import _costs, measure, run_rounds
from dsdlib.engine.stack import Stack
from dsdlib.engine.step import Recipe, TrainingData
from dsdlib.geometry import learning_distance
from dsdlib.noise import labels_for
from dsdlib.seeding import torch_generator

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
LENET = RunConfig(epochs=2, milestones=(1,), rounds=2, noise_rate=0.2, model_args={"width": 0.1})
VGG = LENET.vary(model="vgg_like", model_args={"depth": 2, "width": 4}, batch_size=256)


def carried(*configs, teachers=()):
    """A stack, and each round's state and rows."""
    stack = Stack(list(configs), CPU, teachers)
    rounds = []
    run_rounds(stack, stack.fresh(), 0, lambda round_, state, rows: rounds.append((state, rows)))
    return stack, [state for state, _ in rounds], [rows for _, rows in rounds]


def vector(network):
    return parameters_to_vector(network.parameters()).detach().clone()


def fast_layout(network):
    """Convolutions sum in another order in another memory layout, and training amplifies the last bit."""
    parameters = dict(network.named_parameters())
    return {n: _shaped(_flat(p), p.shape) if p.ndim == 4 else p for n, p in parameters.items()}


def plain_training(network, config, x, y, mask, rng, teacher=None, first=0, last=10**9):
    """One round as anyone would write it with PyTorch's own parts, from iteration ``first`` to before ``last``."""
    how = {"lr": config.lr, "weight_decay": config.weight_decay}
    if config.optimizer == "adam":
        optimizer = torch.optim.Adam(network.parameters(), betas=(config.momentum, 0.999), **how)
    else:
        optimizer = torch.optim.SGD(network.parameters(), momentum=config.momentum, **how)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(config.milestones), gamma=0.1)
    parts = mask.split([p.numel() for p in network.parameters()])
    masks = [part.view_as(p) for part, p in zip(parts, network.parameters(), strict=True)]
    steps = -(-len(x) // config.batch_size)
    iteration = 0
    network.train()
    for _ in range(config.epochs):
        if iteration + steps > first:
            order = torch.randperm(len(x), generator=rng)
            images = data.augmented(x, rng) if config.augment else x
            loader = DataLoader(TensorDataset(images, y), config.batch_size, sampler=order.tolist())
            for number, (inputs, labels) in enumerate(loader, iteration):
                if first <= number < last:
                    logits = functional_call(network, fast_layout(network), inputs)
                    loss = cross_entropy(logits, labels)
                    if teacher is not None:
                        t, alpha = config.temperature, config.alpha
                        soft = softmax(teacher(inputs).detach() / t, dim=1)
                        taught = kl_div(log_softmax(logits / t, dim=1), soft, reduction="batchmean")
                        loss = alpha * t**2 * taught + (1 - alpha) * loss
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    with torch.no_grad():
                        for p, m in zip(network.parameters(), masks, strict=True):
                            p.mul_(m)
        schedule.step()
        iteration += steps


def some_mask(network, seed):
    """A third of the weight matrices' entries pruned."""
    rng = torch.Generator().manual_seed(seed)
    parts = [torch.rand(p.shape, generator=rng) > (0.33 if p.ndim > 1 else -1) for p in network.parameters()]
    return torch.cat([part.flatten() for part in parts]).double()


@pytest.mark.parametrize("taught", [False, True], ids=["labels", "teacher"])
@pytest.mark.parametrize(
    ("config", "runs", "n"),
    [
        (LENET.vary(epochs=8, milestones=(4, 6)), 2, 1000),
        (LENET.vary(epochs=8, milestones=(), momentum=0.0, weight_decay=0.01), 1, 1000),
        (LENET.vary(epochs=8, milestones=(4, 6), optimizer="adam", lr=0.001), 2, 1000),
        (VGG.vary(epochs=4, milestones=(2,), batch_size=64), 1, 150),
        (VGG.vary(epochs=3, milestones=(2,), batch_size=64, augment=True), 1, 150),
    ],
    ids=["lenet", "plain SGD", "Adam", "vgg", "vgg augmented"],
)
def test_training_equals_a_plain_pytorch_loop(config, runs, n, taught):
    digits = data.load("digits")
    x = digits.train_x.double()
    configs = [
        config.vary(
            lr=config.lr * 2**r, weight_decay=config.weight_decay * 5**r, alpha=0.8 - r / 2, temperature=10 - 7 * r
        )
        for r in range(runs)
    ]
    configs = [c.vary(seed=r) for r, c in enumerate(configs)]
    rows = torch.stack([torch.randperm(1297, generator=torch.Generator().manual_seed(r))[:n] for r in range(runs)])
    labels = torch.stack([digits.train_y[row].roll(r) for r, row in enumerate(rows)])
    networks = [models.build(c.model, (1, 8, 8), 10, c.model_args, c.seed).double() for c in configs]
    teachers = [models.build("mlp", (1, 8, 8), 10, {"width": 9}, r).double() for r in range(runs)] if taught else None
    masks = torch.stack([some_mask(network, r) for r, network in enumerate(networks)])
    weights = torch.stack([vector(network) for network in networks])
    network = Network(models.build(config.model, (1, 8, 8), 10, config.model_args, 99).double())
    network.set_buffers(dict(networks[0].named_buffers()))

    def values(name):
        return torch.tensor([getattr(c, name) for c in configs], dtype=torch.float64)

    recipe = Recipe(
        config.epochs,
        config.batch_size,
        config.momentum,
        config.milestones,
        config.augment,
        *map(values, ("lr", "weight_decay", "alpha", "temperature")),
        config.optimizer,
    )
    lessons = TrainingData(x, rows, labels, teachers or ())
    learned = train(network, weights, masks, lessons, recipe, [torch_generator(c.seed, "order", 0) for c in configs])
    for r, (plain, c) in enumerate(zip(networks, configs, strict=True)):
        vector_to_parameters(weights[r] * masks[r], plain.parameters())
        rng, teacher = torch_generator(c.seed, "order", 0), teachers[r] if taught else None
        plain_training(plain, c, x[rows[r]], labels[r], masks[r], rng, teacher)
        assert (learned[r] - weights[r] * masks[r]).abs().max() > 0.02
        torch.testing.assert_close(learned[r], vector(plain), atol=1e-8, rtol=1e-6)
    for name, buffer in networks[-1].named_buffers():
        torch.testing.assert_close(network.buffers()[name], buffer, atol=1e-8, rtol=1e-6)


def test_distillation_loss_is_torchs_kl_div_times_the_squared_temperature_in_value_and_gradient():
    rng = torch.Generator().manual_seed(0)
    student, teacher = 5 * torch.randn(2, 3, 7, 10, generator=rng, dtype=torch.float64)
    student.requires_grad_()
    temperature = torch.tensor([1.0, 4.0, 10.0], dtype=torch.float64)
    loss = distillation_loss(student, teacher, temperature)
    expected = torch.stack(
        [
            t**2 * kl_div(log_softmax(s / t, 1), softmax(u / t, 1), reduction="batchmean")
            for s, u, t in zip(student, teacher, temperature, strict=True)
        ]
    )
    torch.testing.assert_close(loss, expected, atol=1e-12, rtol=1e-10)
    gradients = [torch.autograd.grad(total.sum(), student, retain_graph=True)[0] for total in (loss, expected)]
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=1e-10)
    assert distillation_loss(teacher, teacher, temperature).abs().max() < 1e-12
    (slope,) = torch.autograd.grad(distillation_loss(student, teacher, temperature).sum(), student)
    torch.testing.assert_close(distillation_gradient(student.mT, teacher.mT, temperature).mT, slope)


def rows_alike(a, b):
    """Two rows of measures, without the time they took; nan equals nan."""
    a, b = ({k: str(v) for k, v in row.items() if k != "seconds"} for row in (a, b))
    return a == b


STACKED = [
    LENET.vary(seed=3, noise_rate=0.4),
    LENET.vary(seed=4, noise_rate=0.4, noise_kind="pairflip"),
    LENET.vary(seed=3, noise_rate=0.0, lr=0.2),
    LENET.vary(seed=7, noise_kind="uniform", weight_decay=0.0),
    LENET.vary(seed=3, noise_kind="asymmetric", weight_decay=0.01, lr=0.01),
]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"criterion": "gradient", "retraining": "weight_rewinding", "rewind_iteration": 20},
        {"criterion": "random", "retraining": "reinit", "batch_size": 100},
        {"model": "mlp", "model_args": {"depth": 3, "width": 33}, "retraining": "finetune", "prunable": "all_but_last"},
    ],
    ids=["magnitude", "gradient", "random", "mlp"],
)
def test_a_run_is_the_same_to_the_last_bit_in_any_stack_and_every_time(changes):
    configs = [config.vary(**changes) for config in STACKED]
    _, together, rows = carried(*configs)
    for run, config in enumerate(configs):
        for _ in range(1 + (run == 0)):  # the first one twice
            _, alone, own_rows = carried(config)
            for round_ in range(3):
                assert torch.equal(together[round_].weights[run], alone[round_].weights[0])
                assert torch.equal(together[round_].masks[run], alone[round_].masks[0])
                assert rows_alike(rows[round_][run], own_rows[round_][0])
    assert not any(torch.equal(together[2].weights[a], together[2].weights[b]) for a in range(5) for b in range(a))


def test_a_network_with_batchnorm_trains_the_same_twice_and_differently_from_another_seed():
    first, again, other = (carried(VGG.vary(seed=seed)) for seed in (0, 0, 1))
    for round_ in range(3):
        assert torch.equal(first[1][round_].weights, again[1][round_].weights)
        assert rows_alike(first[2][round_][0], again[2][round_][0])
        buffers = first[1][round_].buffers
        assert all(torch.equal(buffers[name], b) for name, b in again[1][round_].buffers.items())
        assert not torch.equal(first[1][round_].weights, other[1][round_].weights)
    assert len(buffers) == 12


@pytest.mark.parametrize("retraining", ["lr_rewinding", "weight_rewinding", "finetune", "reinit"])
def test_pruned_weights_are_exactly_zero_after_every_step(retraining, monkeypatch):
    seen = []
    real = train

    def watched(network, weights, masks, *more):
        *more, engine, callbacks = more

        def watch(now):
            seen.append(bool((now[masks == 0] == 0).all()) and bool((now[masks == 1] != 0).any()))

        assert set(callbacks.before_step) <= {0}
        return real(network, weights, masks, *more, engine, Callbacks(dict.fromkeys(range(2 * 17), watch)))

    monkeypatch.setattr("dsdlib.engine.stack.train", watched)
    config = LENET.vary(retraining=retraining, weight_decay=0.01)
    stack, states, rows = carried(config)
    assert len(seen) == 3 * 2 * 17
    assert all(seen)
    for round_, state in enumerate(states):
        zeros = int((state.weights[0, stack.prunable] == 0).sum())
        assert zeros == int((state.masks == 0).sum()) == stack.remaining[0] - stack.remaining[round_]
        assert rows[round_][0]["remaining_weights"] == stack.remaining[round_]
        assert (state.weights[0, ~stack.prunable] != 0).all()


def spied(config, monkeypatch):
    """A run's rounds, and what each round's training was called with: weights, first iteration, recipe."""
    calls, real = [], train

    def spy(network, weights, masks, data, recipe, generators, engine, callbacks):
        count = []
        calls.append({"weights": (weights * masks)[0].clone(), "recipe": recipe, "steps": count})
        calls[-1]["buffers"] = network.buffers()

        def counted(iteration):
            def visit(now):
                count.append(iteration)
                callbacks.before_step.get(iteration, lambda now: None)(now)

            return visit

        everywhere = {iteration: counted(iteration) for iteration in range(10_000)}
        return real(network, weights, masks, data, recipe, generators, engine, Callbacks(everywhere))

    monkeypatch.setattr("dsdlib.engine.stack.train", spy)
    return *carried(config), calls


def dense_after(config, steps):
    """The dense network after exactly so many steps of plain training in round 0."""
    stack = Stack([config], CPU)
    network = models.build(config.model, (1, 8, 8), 10, config.model_args, config.seed)
    x, y = stack.data.x[stack.data.rows[0]], stack.data.labels[0]
    everything = torch.ones(len(vector(network)))
    plain_training(network, config, x, y, everything, torch_generator(config.seed, "order", 0), last=steps)
    return network


@pytest.mark.filterwarnings("ignore:Detected call of:UserWarning")  # the plain schedule, where no step is taken
@pytest.mark.parametrize("config", [LENET, VGG], ids=["lenet", "vgg"])
@pytest.mark.parametrize("steps", [0, 1, 7])
def test_weight_rewinding_goes_back_to_the_dense_training_after_exactly_t_steps(config, steps, monkeypatch):
    config = config.vary(retraining="weight_rewinding", rewind_iteration=steps, seed=5)
    total = config.epochs * -(-1037 // config.batch_size)
    stack, states, _, calls = spied(config, monkeypatch)
    network = dense_after(config, steps)
    if steps:  # a step more or less is no matter of rounding, which max-pools of equal pixels amplify
        assert (vector(dense_after(config, steps - 1)) - vector(network)).abs().max() > 2e-3
    for round_ in (1, 2):
        begun = calls[round_]
        torch.testing.assert_close(begun["weights"], vector(network) * states[round_].masks[0], atol=5e-4, rtol=1e-4)
        if steps == 0:
            assert torch.equal(begun["weights"], stack.initial[0] * states[round_].masks[0])
        assert begun["steps"] == list(range(steps, total))
        for name, buffer in network.named_buffers():
            torch.testing.assert_close(begun["buffers"][name], buffer, atol=5e-4, rtol=1e-4)
    x, y = stack.data.x[stack.data.rows[0]], stack.data.labels[0]
    vector_to_parameters(calls[2]["weights"], network.parameters())
    plain_training(network, config, x, y, states[2].masks[0], torch_generator(5, "order", 2), first=steps)
    torch.testing.assert_close(states[2].weights[0], vector(network), atol=1e-4, rtol=1e-3)


def test_learning_rate_rewinding_goes_on_from_the_weights_with_the_whole_schedule(monkeypatch):
    _, states, _, calls = spied(VGG, monkeypatch)
    for round_ in (1, 2):
        before = states[round_ - 1]
        assert torch.equal(calls[round_]["weights"], (before.weights * states[round_].masks)[0])
        assert all(torch.equal(b, before.buffers[name]) for name, b in calls[round_]["buffers"].items())
        assert calls[round_]["recipe"].lr.tolist() == pytest.approx([0.05])
        assert [calls[round_]["recipe"].lr_factor(epoch) for epoch in (0, 1)] == pytest.approx([1, 0.1])
        assert calls[round_]["steps"] == list(range(10))


def test_finetuning_goes_on_from_the_weights_at_the_last_learning_rate(monkeypatch):
    config = LENET.vary(retraining="finetune", epochs=3, milestones=(1, 2))
    _, states, _, calls = spied(config, monkeypatch)
    assert [calls[0]["recipe"].lr_factor(epoch) for epoch in range(3)] == pytest.approx([1, 0.1, 0.01])
    for round_ in (1, 2):
        assert torch.equal(calls[round_]["weights"], (states[round_ - 1].weights * states[round_].masks)[0])
        recipe = calls[round_]["recipe"]
        assert [recipe.lr.item() * recipe.lr_factor(epoch) for epoch in range(3)] == pytest.approx([0.0005] * 3)


@pytest.mark.parametrize("config", [LENET, VGG], ids=["lenet", "vgg"])
def test_reinitialisation_draws_new_weights_each_round_and_forgets_the_old(config, monkeypatch):
    stack, states, _, calls = spied(config.vary(retraining="reinit"), monkeypatch)
    draws = [vector(build(config, draw)) for draw in range(3)]
    for round_ in range(3):
        assert torch.equal(calls[round_]["weights"], draws[round_] * states[round_].masks[0])
        assert all(torch.equal(b, stack.initial_buffers[name]) for name, b in calls[round_]["buffers"].items())
    matrices = [stack.network.parameters(draw.unsqueeze(0)) for draw in draws]
    for name, shape in zip(stack.network.names, stack.network.shapes, strict=True):
        if len(shape) > 1:
            assert not any((matrices[a][name] == matrices[b][name]).any() for a, b in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("augment", [False, True], ids=["looked up", "asked anew"])
@pytest.mark.parametrize("config", [LENET, VGG], ids=["lenet", "vgg"])
def test_a_students_teacher_answers_as_the_teachers_module_does_in_evaluation(config, augment):
    teachers = [build(VGG.vary(seed=9 + r)) for r in range(2)]
    for teacher in teachers:  # so that BatchNorm's two modes differ
        teacher.train()(3 + 2 * torch.randn(64, 1, 8, 8))
    configs = [config.vary(teacher=LENET, alpha=1.0, augment=augment, seed=r) for r in range(2)]
    if config is VGG:
        configs, teachers = configs[:1], teachers[:1]
    stack = Stack(configs, CPU, teachers)
    positions = torch.stack([torch.randperm(1037)[:50] for _ in configs])
    x = stack.data.x[stack.data.rows.gather(1, positions)]
    x = torch.stack([data.augmented(images, torch.Generator().manual_seed(0)) for images in x]) if augment else x
    answers = stack.data.teacher_logits(positions, x)
    expected = torch.stack([t.eval()(images).detach() for t, images in zip(teachers, x, strict=True)])
    torch.testing.assert_close(answers, expected, atol=1e-5, rtol=1e-4)
    assert not answers.requires_grad
    weights = stack.advance(stack.fresh(), 0).weights
    stack.data.labels = (stack.data.labels + 1) % 10  # with alpha = 1, labels teach nothing
    stack.data.stored_teacher_logits = None  # asked anew for each batch
    torch.testing.assert_close(stack.advance(stack.fresh(), 0).weights, weights, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("config", [LENET, VGG], ids=["lenet", "vgg"])
def test_measures_equal_the_plain_modules_accuracy_and_loss(config):
    stack, states, rows = carried(config.vary(seed=1))
    network = build(config)
    for state, (row,) in zip(states, rows, strict=True):
        tensors = stack.tensors(state, 0)
        network.load_state_dict({k: v for k, v in tensors.items() if not k.startswith("mask.")})
        network.eval()
        digits, labels = stack.dataset, labels_for(config.vary(seed=1), stack.dataset)
        with torch.no_grad():
            for name, x, y in (
                ("train", digits.train_x[labels.train_rows], labels.train_labels),
                ("validation", digits.train_x[labels.validation_rows], labels.validation_labels),
                ("test", digits.test_x, digits.test_y),
            ):
                logits = network(x)
                right = (logits.argmax(1) == y).double()
                assert row[f"{name}_accuracy"] == pytest.approx(right.mean().item(), abs=1e-12)
                assert row[f"{name}_loss"] == pytest.approx(cross_entropy(logits, y).item(), rel=1e-4)
                if name == "train":
                    wrong = labels.corrupted
                    assert row["train_accuracy_corrupted"] == pytest.approx(right[wrong].mean().item())
                    assert row["train_accuracy_clean"] == pytest.approx(right[~wrong].mean().item())
                    assert row["corrupted_fraction"] == pytest.approx(207 / 1037)
        moved = (vector(build(config.vary(seed=1))) - vector(network)).norm().item()
        assert row["learning_distance"] == pytest.approx(moved, rel=1e-5)


def test_evaluation_in_batches_is_that_of_all_at_once_and_of_nothing_is_empty():
    network = Network(build(LENET))
    weights = torch.stack([vector(build(LENET.vary(seed=s))) for s in (0, 1)])
    x, y = data.load("digits").test_x, data.load("digits").test_y.expand(2, -1)
    small, whole = (evaluate(network.forward_function(weights), x, None, y, batch_size=b) for b in (77, 10**6))
    torch.testing.assert_close(small[0], whole[0])
    assert torch.equal(small[1], whole[1])
    assert small[0].shape == small[1].shape == (2, 500)
    assert evaluate(network.forward_function(weights), x, y[:, :0], y[:, :0])[0].shape == (2, 0)


def test_evaluation_uses_batchnorms_running_statistics_whatever_mode_the_module_is_in():
    module, digits = build(VGG), data.load("digits")
    module.train()(3 + 2 * digits.train_x)
    network = Network(module)
    before = network.buffers()
    answer = network.forward_function(vector(module).unsqueeze(0))
    loss, _, _ = evaluate(answer, digits.test_x, None, digits.test_y.unsqueeze(0))
    expected = cross_entropy(module.eval()(digits.test_x), digits.test_y, reduction="none").detach()
    torch.testing.assert_close(loss[0], expected, atol=1e-5, rtol=1e-4)
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.buffers().items())


def test_learning_distance_is_the_euclidean_norm_with_pruned_weights_as_zeros():
    initial = torch.tensor([[3.0, 4.0, 1.0], [1.0, 1.0, 1.0]])
    learned = torch.tensor([[0.0, 0.0, 1.0], [1.0, -1.0, 0.0]])
    assert learning_distance(initial, learned).tolist() == pytest.approx([5.0, 5**0.5])


@pytest.mark.parametrize("steps", [0, 16, 17, 20, 33])
def test_training_cost_counts_the_images_that_each_round_trains_on(steps):
    config = LENET.vary(retraining="weight_rewinding", rewind_iteration=steps)
    stack = Stack([config], CPU)
    state = stack.fresh()
    per_image = 3 * (64 * 30 + 30 * 10 + 10 * 10)
    sizes = 2 * [*[64] * 16, 13]  # 1,037 images in batches of 64, twice
    assert _costs(stack, state, 0)["train_flops"].item() == per_image * 2 * 1037
    for name in ("train_flops", "train_flops_sparse"):
        assert _costs(stack, state, 1)[name].item() == pytest.approx(per_image * sum(sizes[steps:]))


def test_a_state_restored_from_its_tensors_goes_on_as_if_nothing_had_happened():
    for configs in (STACKED[:2], [VGG]):
        stack, states, rows = carried(*configs)
        fresh = Stack(configs, CPU)
        state = fresh.restore([stack.tensors(states[1], run) for run in range(len(configs))])
        state = fresh.advance(state, 2)
        assert torch.equal(state.weights, states[2].weights)
        assert torch.equal(state.masks, states[2].masks)
        assert all(map(rows_alike, measure(fresh, state, 2), rows[2]))


def test_a_diverging_run_is_reported_and_still_pruned_exactly():
    with pytest.warns(UserWarning, match="diverged in round [01]"):
        stack, states, _ = carried(LENET.vary(lr=1e20, rounds=1))
    assert int((states[1].masks == 0).sum()) == stack.remaining[0] - stack.remaining[1]


def test_only_sequences_of_linear_layers_and_activations_share_a_stack():
    assert Network(build(LENET)).stackable
    assert not Network(build(VGG)).stackable
    assert not Network(nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.BatchNorm1d(2))).stackable
    with pytest.raises(ValueError, match="a stack of one"):
        Stack([VGG, VGG.vary(seed=1)], CPU)


RELU = nn.ReLU()


@pytest.mark.parametrize(
    ("layers", "stackable"),
    [
        ([nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 10)], True),
        ([nn.Identity(), nn.Flatten(), nn.Flatten(), nn.Linear(64, 10)], True),
        ([nn.Linear(64, 10)], True),
        ([nn.Flatten(), nn.Linear(64, 5), RELU, nn.Linear(5, 5), RELU, nn.Linear(5, 10)], False),  # one module, twice
        ([nn.Linear(8, 5), nn.ReLU(), nn.Flatten(), nn.Linear(40, 10)], False),  # works on rows of an image
        ([nn.Flatten(1, 2), nn.Flatten(), nn.Linear(64, 10)], False),
        ([nn.Flatten(), nn.Linear(64, 10), nn.Softmax(1)], False),
    ],
)
def test_only_a_plain_sequence_is_stacked(layers, stackable):
    network = Network(nn.Sequential(*layers))
    assert network.stackable is stackable
    parameters = {name: p.detach().unsqueeze(0) for name, p in network.module.named_parameters()}
    x = torch.randn(1, 3, 64) if isinstance(layers[0], nn.Linear) and stackable else torch.randn(1, 3, 1, 8, 8)
    torch.testing.assert_close(network(parameters, x)[0], network.module(x[0]))
