"""Earlier spellings of options are still read."""

import logging

from distill.objectives.terms.hidden_states import HiddenStates


def test_the_british_spelling_of_the_measure_is_accepted_with_a_notice(caplog):
    with caplog.at_level(logging.WARNING):
        term = HiddenStates(measure="normalised_mse")
    assert term.measure == term.settings["measure"] == "normalized_mse"
    assert caplog.messages == ["measure=normalised_mse is now called normalized_mse"]
    caplog.clear()
    HiddenStates(measure="normalized_mse")
    assert caplog.messages == []
