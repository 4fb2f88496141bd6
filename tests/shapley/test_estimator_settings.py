import pytest

from shapley import Settings


def make(**changes):
    return Settings(**({"estimator": "tmab", "n_players": 20, "budget": 100} | changes))


def test_json_round_trip():
    settings = make(players=(7, 3, 1), top_k=2, threshold=None, depth=5, side="both")
    assert Settings.from_json(settings.to_json()) == settings
    assert settings.players == (1, 3, 7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"estimator": "kernel"}, "unknown estimator 'kernel'"),
        ({"side": "left"}, "unknown side 'left'"),
        ({"bound": "hoeffding"}, "unknown bound 'hoeffding'"),
        ({"budget": 0}, "budget must be at least 1"),
        ({"n_players": 0}, "n_players must be at least 1"),
        ({"patience": 0}, "patience must be at least 1"),
        ({"draws_per_block": 0}, "draws_per_block must be at least 1"),
        ({"seed": -1}, "must not be negative"),
        ({"delta": 1.0}, "delta must lie in"),
        ({"tol": -0.1}, "tol must not be negative"),
        ({"depth": 0}, "depth must be at least 1"),
        ({"value_range": 0.0}, "value_range must be positive"),
        ({"resolution": -1.0}, "resolution must not be negative"),
        ({"players": ()}, "players must be distinct, and at least one"),
        ({"players": (1, 1)}, "players must be distinct"),
        ({"players": (1, 20)}, r"players must lie in 0\.\.19"),
        ({"top_k": 20}, "top_k = 20 of 20 players leaves nothing to tell apart"),
        ({"top_k": 2, "players": (4, 5)}, "top_k = 2 of 2 players"),
    ],
)
def test_bad_settings_say_what_is_wrong(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_top_k_matters_to_tmab_only():
    assert make(estimator="cmcs", top_k=50).top_k == 50


@pytest.mark.parametrize("text", ["[]", '{"estimator": "cmcs"}', '{"estimator": "cmcs", "colour": 1}'])
def test_bad_json_is_refused(text):
    with pytest.raises(ValueError, match="settings"):
        Settings.from_json(text)
