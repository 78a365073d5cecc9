"""Numbers of a table as text, whatever their scale."""

import numpy as np
import pandas as pd
import pytest

from analyses.report.digits import decimals, table, written


@pytest.mark.parametrize(
    "largest, text",
    [
        (1.3e-5, "0.000013"),
        (4.24e-4, "0.00042"),
        (0.0123, "0.012"),
        (0.42, "0.42"),
        (3.3, "3.30"),
        (24.0, "24.00"),
        (177.25, "177.2"),
        (1234.5, "1234"),
        (98765.4, "98765"),
    ],
)
def test_the_largest_number_has_two_digits_or_more_and_the_others_follow_it(largest, text):
    places = decimals([0.0, -largest, largest / 7, np.nan])
    assert written(largest, places) == text and written(-largest, places) == f"-{text}"


def test_missing_numbers_are_dashes_and_nothing_has_no_sign():
    assert [written(value, 2) for value in (None, np.nan, pd.NA, -1e-9, 0)] == [
        "–",
        "–",
        "–",
        "0.00",
        "0.00",
    ]
    assert decimals([]) == decimals([np.nan, np.inf]) == decimals([0.0]) == decimals([1e-12]) == 2


def test_a_table_shares_its_decimals():
    shown = table(pd.DataFrame({"one": [0.0213, np.nan], "other": [-0.0004, 0.0]}))
    assert shown.to_numpy().tolist() == [["0.021", "0.000"], ["–", "0.000"]]
