"""The comparison sees what differs, and nothing else."""

import unittest

from compare import printed_alike, same_hits


class Printed(unittest.TestCase):
    def test_numbers_within_the_tolerance_and_other_spaces(self):
        self.assertTrue(printed_alike("[[ 0.500001  2.]]", "[[0.500002 2. ]]"))
        self.assertTrue(printed_alike("{'a': [7e-06], 'b': -1}", "{'a': [0.000007], 'b': -1}"))

    def test_other_numbers_other_text_fewer_numbers(self):
        self.assertFalse(printed_alike("[0.50002]", "[0.50005]"))
        self.assertFalse(printed_alike("[0.5]", "[-0.5]"))
        self.assertFalse(printed_alike("{'sparse': 1, 'dense': 1}", "{'dense': 1, 'sparse': 1}"))
        self.assertFalse(printed_alike("[1.0, 2.0]", "[1.0]"))


class Hits(unittest.TestCase):
    LIST = [[3, 0.9], [1, 0.8], [2, 0.8], [7, 0.1]]

    def test_equals_may_change_places(self):
        self.assertTrue(same_hits(self.LIST, self.LIST))
        self.assertTrue(same_hits([[3, 0.9], [2, 0.8], [1, 0.8], [8, 0.1]], self.LIST))

    def test_another_order_another_score_another_length(self):
        self.assertFalse(same_hits([[1, 0.9], [3, 0.8], [2, 0.8], [7, 0.1]], self.LIST))
        self.assertFalse(same_hits([[3, 0.9], [1, 0.8], [2, 0.8], [7, 0.2]], self.LIST))
        self.assertFalse(same_hits([[8, 0.9], [1, 0.8], [2, 0.8], [7, 0.1]], self.LIST))
        self.assertFalse(same_hits(self.LIST[:3], self.LIST))
