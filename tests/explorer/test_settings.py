"""What can be chosen: every setting is one curve, and no choice is without runs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsdlib import RunConfig
from dsdlib.explorer.runs import Runs
from dsdlib.explorer.settings import AXES, Settings, changed, describe, differing, in_words

BASE = RunConfig(rounds=4)
KNOWN = [
    *BASE.grid(noise_rate=[0.0, 0.2, 0.5], seed=[0, 1]),
    *BASE.grid(noise_rate=[0.5], weight_decay=[1e-3, 1e-2]),
    BASE.vary(noise_rate=0.2, criterion="random"),
    BASE.vary(noise_rate=0.2, rounds=9),
    *(BASE.vary(noise_rate=0.5, seed=s, teacher=BASE.vary(noise_rate=0.5, weight_decay=0.03, seed=s)) for s in (0, 1)),
    BASE.vary(dataset="mnist", model="mlp", model_args={"width": 8}, noise_rate=0.3),
]
SETTINGS = Settings(Runs({config.key: config for config in KNOWN}))
choices = st.sampled_from(SETTINGS.choices)


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": "mnist"},
        {"model": "mlp"},
        {"model_args": {"width": 0.5}},
        {"noise_kind": "uniform"},
        {"noise_rate": 0.25},
        {"noise_rate": 0.0, "noise_kind": "human", "noise_labels": "a.npz:worst"},
        {"weight_decay": 1e-3},
        {"retraining": "reinit"},
        {"retraining": "weight_rewinding", "rewind_iteration": 7},
        {"criterion": "gradient"},
        {"scope": "layer"},
        {"schedule": "one_shot"},
        {"control": "dense"},
        {"teacher": BASE},
        {"epochs": 51},
        {"rounds": 5},
        {"initialisation": "he2022"},
        {"amount_of": "all_weights"},
        {"milestones": ()},
        {"start": BASE},
        {"lr": 0.01},
    ],
)
def test_runs_that_differ_in_anything_but_the_seed_are_different_settings(changes: dict) -> None:
    run = BASE.vary(**changes)
    assert describe(run) != describe(BASE)
    assert describe(run.vary(seed=3)) == describe(run)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"teacher": BASE}, {"teacher": BASE.vary(weight_decay=0.1)}),
        ({"teacher": BASE}, {"teacher": BASE, "alpha": 0.5}),
        ({"teacher": BASE}, {"teacher": BASE, "temperature": 2}),
        ({"teacher": BASE}, {"teacher": BASE, "teacher_round": 2}),
        ({"teacher": BASE}, {"teacher": BASE.vary(teacher=BASE)}),
        ({"start": BASE}, {"start": BASE, "start_round": 2}),
        ({"start": BASE}, {"start": BASE.vary(lr=0.1)}),
        ({"retraining": "weight_rewinding"}, {"retraining": "weight_rewinding", "rewind_iteration": 7}),
    ],
)
def test_sources_and_rewinding_points_are_told_apart(one: dict, other: dict) -> None:
    assert describe(BASE.vary(**one)) != describe(BASE.vary(**other))


def test_a_teachers_seed_is_no_difference() -> None:
    student = BASE.vary(noise_rate=0.5, seed=1, teacher=BASE.vary(noise_rate=0.5, weight_decay=0.03, seed=1))
    assert set(SETTINGS.keys(describe(student))) == {0, 1}
    assert SETTINGS.keys(describe(student))[1] == student.key


def test_a_setting_holds_its_runs_by_seed() -> None:
    keys = SETTINGS.keys(describe(BASE.vary(noise_rate=0.2)))
    assert keys == {seed: BASE.vary(noise_rate=0.2, seed=seed).key for seed in (0, 1)}
    assert SETTINGS.keys(describe(BASE.vary(noise_rate=0.9))) == {}
    assert sum(len(SETTINGS.keys(choice)) for choice in SETTINGS.choices) == len(KNOWN)


def test_runs_without_a_curve_are_left_out() -> None:
    short = [BASE.vary(rounds=rounds) for rounds in (0, 1)]
    assert Settings(Runs({run.key: run for run in short})).choices == []


def test_what_is_possible_is_what_there_are_runs_of() -> None:
    plain = describe(BASE.vary(noise_rate=0.5))
    assert SETTINGS.possible(plain, "noise_rate") == [0.0, 0.2, 0.5]
    assert SETTINGS.possible(plain, "weight_decay") == [1e-4, 1e-3, 1e-2]
    assert SETTINGS.possible(plain, "criterion") == ["magnitude"]
    assert SETTINGS.possible(plain, "dataset") == ["digits"] and SETTINGS.values("dataset") == ["digits", "mnist"]
    assert len(SETTINGS.possible(plain, "teacher")) == 2


@given(choices, st.sampled_from(list(AXES)), st.data())
def test_every_move_ends_where_there_are_runs_and_keeps_what_it_can(choice, axis, data) -> None:
    value = data.draw(st.sampled_from(SETTINGS.values(axis)))
    moved = SETTINGS.move(choice, axis, value)
    assert moved[axis] == value and SETTINGS.keys(moved)
    kept = {name for name in AXES if name == axis or moved[name] == choice[name]}
    if value in SETTINGS.possible(choice, axis):
        assert kept == set(AXES)
    lost = [
        sum(AXES[n][1] for n in differing([other, choice]) if n != axis)
        for other in SETTINGS.choices
        if other[axis] == value
    ]
    assert sum(AXES[name][1] for name in AXES if name not in kept) == min(lost)


def test_a_move_takes_the_nearest_noise_rate() -> None:
    other = describe(BASE.vary(noise_rate=0.5))
    moved = SETTINGS.move(other, "criterion", "random")
    assert moved["noise_rate"] == 0.2 and changed(other, moved) == ["Pruning criterion", "Label noise"]
    slow = Settings(
        Runs(
            {
                run.key: run
                for run in BASE.grid(noise_rate=[0.1, 0.2, 0.4])
                + BASE.grid(criterion=["random"], noise_rate=[0.1, 0.3])
            }
        )
    )
    assert slow.move(describe(BASE.vary(noise_rate=0.4)), "criterion", "random")["noise_rate"] == 0.3


def test_it_opens_with_the_longest_curves() -> None:
    assert SETTINGS.first() == describe(BASE.vary(noise_rate=0.2, rounds=9))
    short = Settings(
        Runs({config.key: config for config in KNOWN if config.rounds == 4 and config.dataset == "digits"})
    )
    first = short.first()
    assert first["noise_rate"] > 0 and first["teacher"] == "none" and len(short.keys(first)) == 2
    assert Settings(Runs()).first() is None


def test_differences_are_named_in_words() -> None:
    pair = [describe(BASE.vary(noise_rate=rate, weight_decay=decay)) for rate, decay in ((0.5, 1e-3), (0.125, 1e-4))]
    assert differing(pair) == ["noise_rate", "weight_decay"]
    assert [in_words(choice, differing(pair)) for choice in pair] == [
        "50% label noise, λ 0.001",
        "12.5% label noise, λ 0.0001",
    ]
