"""The description of a run: its key, what it refuses, grids, and a notebook's parameters."""

import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdlib.config import ConfigError, RunConfig

TEACHER = RunConfig(
    dataset="cifar100", model="resnet18", model_args={"maxpool": True}, epochs=160, milestones=[80, 120]
)
STUDENT = TEACHER.vary(model="vgg_like", model_args={"depth": 5, "width": 32}, teacher=TEACHER, teacher_round="best")
PEOPLE = RunConfig(
    noise_kind="human", noise_labels="people.npz:worse", retraining="weight_rewinding", rewind_iteration=100
)

# These never move: results on disk, here and elsewhere, are found by them. Whoever has to change one has broken the
# promise of `RunConfig.key`; add a field with a default instead.
PINNED = [
    (RunConfig(), "44136fa355b3678a"),
    (RunConfig(noise_rate=0.5, seed=4), "960609fbc0d20708"),
    (PEOPLE, "2eee331e92cc2b45"),
    (STUDENT, "668f886fd65cee24"),
]

# For each field a value that is not the default, with whatever else it needs.
OTHERWISE: dict[str, dict[str, Any]] = {
    "dataset": {"dataset": "mnist"},
    "validation_fraction": {"validation_fraction": 0.1},
    "augment": {"augment": True},
    "noise_kind": {"noise_kind": "uniform"},
    "noise_rate": {"noise_rate": 0.1},
    "noise_labels": {"noise_kind": "human", "noise_labels": "people.npz:worse"},
    "model": {"model": "mlp"},
    "model_args": {"model_args": {"width": 2}},
    "prunable": {"prunable": "all_but_last"},
    "epochs": {"epochs": 51},
    "retrain_epochs": {"retrain_epochs": 49},
    "optimizer": {"optimizer": "adam"},
    "batch_size": {"batch_size": 65},
    "lr": {"lr": 0.051},
    "momentum": {"momentum": 0.0},
    "weight_decay": {"weight_decay": 0.0},
    "milestones": {"milestones": [35]},
    "rounds": {"rounds": 0},
    "amount": {"amount": 0.5},
    "criterion": {"criterion": "random"},
    "scope": {"scope": "layer"},
    "schedule": {"schedule": "one_shot"},
    "retraining": {"retraining": "finetune"},
    "rewind_iteration": {"retraining": "weight_rewinding", "rewind_iteration": 1},
    "control": {"control": "dense"},
    "initialisation": {"initialisation": "he2022"},
    "amount_of": {"amount_of": "all_weights"},
    "start": {"start": {}},
    "start_round": {"start": {}, "start_round": 3},
    "teacher": {"teacher": {}},
    "teacher_round": {"teacher": {}, "teacher_round": "best"},
    "alpha": {"alpha": 0.5},
    "temperature": {"temperature": 1},
    "seed": {"seed": 1},
}


@pytest.mark.parametrize(("config", "key"), PINNED)
def test_keys_never_move(config: RunConfig, key: str) -> None:
    assert config.key == key


def test_a_new_field_with_a_default_moves_no_key() -> None:
    class Grown(RunConfig):
        label_smoothing: float = 0.0

    for config, key in PINNED:
        assert Grown(**dict(config)).key == key
    assert Grown(label_smoothing=0.1).key != RunConfig().key


def test_keys_are_the_same_in_another_process() -> None:
    program = "import sys; from dsdlib.config import RunConfig; import json\n"
    program += "print([RunConfig(**json.loads(line)).key for line in sys.stdin])"
    lines = "\n".join(config.model_dump_json() for config, _ in PINNED)
    environment = os.environ | {"PYTHONHASHSEED": "4242"}
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, input=lines, capture_output=True, text=True, env=environment, check=True)
    assert said.stdout.strip() == str([key for _, key in PINNED])


def test_every_field_enters_the_key() -> None:
    assert OTHERWISE.keys() == RunConfig.model_fields.keys()
    keys = [RunConfig().key, *(RunConfig(**changes).key for changes in OTHERWISE.values())]
    assert len(set(keys)) == len(keys)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "noise_rate": st.floats(0, 1),
            "lr": st.floats(1e-9, 1e9),
            "amount": st.floats(0.001, 0.999),
            "seed": st.integers(0, 2**63 - 1),
            "model_args": st.dictionaries(st.sampled_from(["width", "depth"]), st.integers(1, 99)),
            "teacher_round": st.sampled_from(["dense", "best", 0, 3]),
        },
    )
)
def test_a_run_read_back_from_json_is_the_same_run(fields: dict[str, Any]) -> None:
    teacher = RunConfig(**{name: value for name, value in fields.items() if name != "teacher_round"})
    config = RunConfig(**fields, teacher=teacher)
    again = RunConfig.model_validate_json(config.model_dump_json())
    assert again == config and again.key == config.key and hash(again) == hash(config)


def test_the_order_of_model_arguments_does_not_matter() -> None:
    runs = [RunConfig(model="mlp", model_args=a) for a in ({"width": 3, "depth": 2}, {"depth": 2, "width": 3})]
    assert runs[0].key == runs[1].key and len(set(runs)) == 1


def test_what_yaml_writes_is_understood() -> None:
    config = RunConfig(weight_decay="1e-3", lr="0.1", milestones=[2, "5"], epochs="20")
    assert config == RunConfig(weight_decay=0.001, lr=0.1, milestones=(2, 5), epochs=20)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epoch": 3}, r"unknown field 'epoch' \(did you mean 'epochs'\?\)"),
        ({"zzz": 3}, "unknown field 'zzz'; allowed: alpha, amount, .*weight_decay"),
        ({"teacher": {"epoch": 3}}, r"teacher = .*: unknown field 'epoch' \(did you mean 'epochs'\?\)"),
        ({"noise_rate": 1.5}, "noise_rate = 1.5: .*less than or equal to 1"),
        ({"noise_rate": -0.1}, "noise_rate = -0.1: .*greater than or equal to 0"),
        ({"alpha": 1.1}, "alpha = 1.1: .*less than or equal to 1"),
        ({"validation_fraction": 1}, "validation_fraction = 1: .*less than 1"),
        ({"lr": float("nan")}, "lr = nan: .*finite"),
        ({"weight_decay": float("inf")}, "weight_decay = inf: .*finite"),
        ({"lr": "fast"}, "lr = 'fast': .*valid number"),
        ({"lr": 0}, "lr = 0: .*greater than 0"),
        ({"temperature": 1e39}, r"temperature = 1e\+39: .*less than or equal to 10000"),
        ({"temperature": 1e-45}, "temperature = 1e-45: .*greater than or equal to 0.001"),
        ({"lr": True}, "lr = True: a truth value is not allowed here"),
        ({"seed": False}, "seed = False: a truth value"),
        ({"milestones": [True, 30]}, r"milestones = \[True, 30\]: a truth value"),
        ({"amount": 0}, "amount = 0: .*greater than 0"),
        ({"amount": 1}, "amount = 1: .*less than 1"),
        ({"rounds": -1}, "rounds = -1: .*greater than or equal to 0"),
        ({"epochs": 0}, "epochs = 0: .*greater than or equal to 1"),
        ({"epochs": 2.5}, "epochs = 2.5: .*valid integer"),
        ({"milestones": [45, 35]}, r"milestones = \[45, 35\]: must ascend and lie between 1 and epochs − 1 = 49"),
        ({"milestones": [35, 35]}, r"milestones = \[35, 35\]: must ascend"),
        ({"milestones": [0]}, r"milestones = \[0\]: .*between 1"),
        ({"epochs": 40}, r"milestones = \[35, 45\]: .*between 1 and epochs − 1 = 39"),
        ({"noise_kind": "pink"}, "noise_kind = 'pink': .*'symmetric', .*'human'"),
        ({"criterion": "luck"}, "criterion = 'luck': .*'magnitude', 'gradient' or 'random'"),
        ({"retraining": "none"}, "retraining = 'none': .*'lr_rewinding', .*'reinit'"),
        ({"prunable": "all"}, "prunable = 'all': .*'conv_and_linear'"),
        ({"rewind_iteration": 9}, "rewind_iteration = 9: only .*'weight_rewinding' uses it, not 'lr_rewinding'"),
        ({"noise_kind": "human"}, "noise_labels = None: human noise needs FILE:NAME"),
        ({"noise_labels": "a:b"}, "noise_labels = 'a:b': .*other kinds need none"),
        ({"noise_kind": "human", "noise_labels": "a:b", "noise_rate": 0.5}, "noise_rate = 0.5: .*use 0"),
        ({"teacher": {"validation_fraction": 0}, "teacher_round": "best"}, "teacher_round = 'best': .*validation"),
        ({"teacher": {"rounds": 2}, "teacher_round": 3}, "teacher_round = 3: the teacher has rounds 0 to 2"),
        ({"teacher_round": "worst"}, "teacher_round.* = 'worst': .*'dense' or 'best'"),
        ({"model_args": {"seed": 3, "width": 2}}, r"model_args \['seed'\]: already names"),
    ],
)
def test_refuses_and_says_what_is_allowed(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refusal:
        RunConfig(**fields)
    assert "pydantic" not in str(refusal.value) and "Value error" not in str(refusal.value)


def test_names_every_fault_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)rounds = -1.*amount = 2.*unknown field 'sed'"):
        RunConfig(amount=2, rounds=-1, sed=0)


def test_is_frozen_and_varies_by_copy() -> None:
    config = RunConfig()
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 1
    assert config.vary(seed=1).seed == 1 and config.seed == 0
    with pytest.raises(ConfigError, match="milestones"):
        config.vary(epochs=10)


def test_a_grid_is_the_product_with_the_last_axis_fastest() -> None:
    runs = RunConfig().grid(noise_rate=[0.5, 0.0], seed=range(3))
    assert [(run.noise_rate, run.seed) for run in runs] == [(r, s) for r in (0.5, 0.0) for s in range(3)]
    assert RunConfig(seed=7).grid() == [RunConfig(seed=7)]


@pytest.mark.parametrize("values", [[], 3, "abc"])
def test_a_grid_refuses_an_axis_without_values(values: Any) -> None:
    with pytest.raises(ConfigError, match=r"seed = .*: a grid needs a list with at least one value"):
        RunConfig().grid(noise_rate=[0.1], seed=values)


def test_columns_name_model_arguments_and_the_teachers_key() -> None:
    row = STUDENT.columns()
    assert (row["key"], row["teacher"], row["teacher_round"]) == (STUDENT.key, TEACHER.key, "best")
    assert (row["depth"], row["width"], row["milestones"]) == (5, 32, "80 120")
    assert "model_args" not in row and RunConfig().columns()["teacher_round"] is None
    assert RunConfig(model_args={"sizes": [3, 4]}).columns()["sizes"] == "[3, 4]"


@pytest.mark.parametrize("epochs", [(10, 3), (3, 10)], ids=["shorter", "longer"])
def test_milestones_beyond_the_shorter_of_both_trainings_are_refused(epochs):
    both = {"epochs": epochs[0], "retrain_epochs": epochs[1]}
    for milestones in ((3,), (1, 5)):
        with pytest.raises(ConfigError, match=rf"milestones = \[{', '.join(map(str, milestones))}\]: .*= 2$"):
            RunConfig(**both, milestones=milestones)
    run = RunConfig(**both, milestones=(1, 2))
    assert [run.epochs_of(round_) for round_ in (0, 1, 2)] == [epochs[0], epochs[1], epochs[1]]


def test_milestones_are_refused_by_the_field_that_limits_them() -> None:
    with pytest.raises(ConfigError, match="lie between 1 and retrain_epochs − 1 = 2"):
        RunConfig(epochs=10, retrain_epochs=3, milestones=[5])


def test_a_start_needs_the_round_and_the_validation_data_that_are_asked_of_it(tiny):
    with pytest.raises(ConfigError, match="start_round = 3: the start has rounds 0 to 2"):
        tiny.vary(start=tiny, start_round=3)
    with pytest.raises(ConfigError, match=r"start_round = 'best': .*the start has none"):
        tiny.vary(start=tiny.vary(validation_fraction=0), start_round="best")
    assert tiny.vary(start=tiny, start_round=2).key != tiny.vary(start=tiny, start_round=1).key


@pytest.mark.parametrize("role", ["start", "teacher"])
@pytest.mark.parametrize("round_", ["best", 0, 3])
def test_a_round_of_no_run_is_refused_as_it_would_make_a_second_key(role: str, round_: int | str) -> None:
    with pytest.raises(ConfigError, match=f"{role}_round = {round_!r}: there is no {role}; leave it at 'dense'"):
        RunConfig(**{f"{role}_round": round_})
    source = RunConfig(rounds=3)
    with pytest.raises(ConfigError, match=f"{role}_round = {round_!r}: there is no {role}"):
        RunConfig(**{role: source, f"{role}_round": round_}).vary(**{role: None})
    assert RunConfig(**{f"{role}_round": "dense"}).key == RunConfig().key
